"""``deploy``: from a registered version to one that answers, or to files from which others let it answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from opstune import settings as configuration
from opstune.cli.models import ME, Who
from opstune.cli.output import AsJson, show

_BUILD = {
    "docker": "docker build --tag {image} {folder}",
    "kubernetes": "kubectl apply --kustomize {folder}",
}


def deploy(
    version: Annotated[str, typer.Argument(help="A registered version.")],
    to: Annotated[
        Literal["local", "ollama", "vllm", "llama-cpp", "docker", "kubernetes"],
        typer.Option(help="Where it answers; docker and kubernetes are written as files."),
    ] = "local",
    out: Annotated[Path | None, typer.Option(help="Folder of those files; left out: OPSTUNE_HOME/deploy.")] = None,
    who: Who = ME,
    why: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put a version where it answers, question it there, make it the champion.

    Production asks it only after it answered as the tested file does. Going back is deploying the version before.
    """
    from opstune import pipeline

    settings = configuration.load()
    if to in _BUILD:
        ref = pipeline.write_deployment(to, version, settings, out or settings.home / "deploy" / version / to)
        image = f"{settings.serve.deploy.image.repository}:{version}"
        command = _BUILD[to].format(image=image, folder=ref.path)
        written = {"version": version, "to": to, "folder": str(ref.path), "sha256": ref.sha256, "next": command}
        show(written, as_json, [f"[bold]{image}[/]: {to} files written to {ref.path}", f"next: {command}"])
        return
    done = pipeline.deploy_to(to, version, settings, who=who, why=why or f"opstune deploy --to {to}")
    value = {
        "version": version,
        "to": to,
        "champion_before": done.before,
        "steps": list(done.steps),
        "seconds": round(done.seconds, 1),
    }
    show(value, as_json, _words(version, to, done.before))


def _words(version: str, to: str, before: str | None) -> str:
    was = "as before" if before == version else f"before: {before}" if before else "the first"
    where = "opstune ask" if to == "local" else to
    return f"[bold]{version}[/] answers: {where}. It is the champion ({was})."
