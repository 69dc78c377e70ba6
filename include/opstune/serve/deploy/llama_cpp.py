"""llama.cpp's own server on the GGUF: its command line, here and in a container.

Not ``python -m llama_cpp.server``: it builds its grammar from the schema in Python, and a label with a quote in it,
which an alert may well have, ends the whole process.
"""

from __future__ import annotations

from pathlib import Path

from opstune.serve.deploy.base import Release
from opstune.settings import ServeSettings

PORT = 8080


def command(release: Release, settings: ServeSettings, port: int = PORT) -> list[str]:
    """What starts a server here that answers to the version's name."""
    return ["llama-server", *arguments(release, settings, release.shipped, "127.0.0.1", port)]


def arguments(release: Release, settings: ServeSettings, folder: Path, host: str, port: int) -> list[str]:
    """``folder`` is where the server finds the GGUF and its chat template."""
    together = settings.deploy.parallel
    return [
        *("--model", str(folder / "model.gguf")),
        *("--alias", release.name),
        *("--jinja", "--chat-template-file", str(folder / "chat_template.jinja")),
        # The context is divided among the requests that are answered at once.
        *("--parallel", str(together), "--ctx-size", str(together * settings.context_tokens)),
        *("--predict", str(settings.max_new_tokens)),
        *("--threads", str(settings.threads)),
        *("--temp", "0"),
        *("--no-ui", "--offline"),
        *("--host", host, "--port", str(port)),
    ]
