"""What is written for others to run: a build context, manifests that Kubernetes' own models accept, command lines."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from opstune import settings
from opstune.errors import IntegrityError
from opstune.export.modelfile import families, modelfile
from opstune.serve.deploy import Release, write_files
from opstune.serve.deploy import modelfile as reading
from opstune.settings import ServeSettings


@pytest.fixture
def serve() -> ServeSettings:
    return settings.load().serve


@pytest.fixture
def version(tmp_path: Path) -> Release:
    folder = tmp_path / "1.2.0"
    for name in ("gguf/model.gguf", "gguf/chat_template.jinja", "gguf/key.pem", "adapter/adapter_config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"r": 12}' if name.endswith(".json") else name)
    return Release("opstune", "1.2.0", folder, "Qwen/Qwen2-7B-Instruct", ("remediation",))


def instructions(dockerfile: str) -> dict[str, list[str]]:
    """Instruction → its arguments, in order, of a Dockerfile without comments and continued lines."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        found.setdefault(name, []).append(rest)
    return found


def test_an_image_holds_the_signed_bytes_runs_as_nobody_and_tells_its_health(
    version: Release, serve: ServeSettings, tmp_path: Path
) -> None:
    ref = write_files("docker", version, serve, tmp_path / "docker")
    found = instructions((ref.path / "Dockerfile").read_text())
    assert re.fullmatch(r"\S+:\S+", found["FROM"][0]) and not found["FROM"][0].endswith(":latest")
    assert found["USER"] == ["10001:10001"] and "/health" in found["HEALTHCHECK"][0]
    assert version.digest() in found["RUN"][0] and "sha256sum --check --strict" in found["RUN"][0]
    command = json.loads(found["CMD"][0])
    assert command[command.index("--alias") + 1] == "opstune:1.2.0"
    assert (ref.path / "model.gguf").read_bytes() == version.gguf.read_bytes()


def test_nothing_but_the_model_and_its_template_reaches_an_image(
    version: Release, serve: ServeSettings, tmp_path: Path
) -> None:
    ref = write_files("docker", version, serve, tmp_path / "docker")
    names = {file.name for file in ref.path.iterdir()}
    assert names == {"Dockerfile", ".dockerignore", "model.gguf", "chat_template.jinja", "manifest.json"}
    kept = [line for line in (ref.path / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert kept == ["*", "!model.gguf", "!chat_template.jinja"]


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_files_of_the_same_version_are_written_once_and_a_changed_one_is_refused(
    version: Release, serve: ServeSettings, tmp_path: Path, kind: str
) -> None:
    first = write_files(kind, version, serve, tmp_path / kind)
    before = {file: file.stat().st_mtime_ns for file in first.path.iterdir()}
    assert write_files(kind, version, serve, tmp_path / kind) == first
    assert {file: file.stat().st_mtime_ns for file in first.path.iterdir()} == before
    changed = next(file for file in sorted(first.path.iterdir()) if file.suffix in ("", ".yaml"))
    changed.write_text(changed.read_text() + "\n")
    with pytest.raises(IntegrityError, match=re.escape(changed.name)):
        write_files(kind, version, serve, tmp_path / kind)


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    found = [yaml.safe_load((folder / name).read_text()) for name in names]
    return {manifest["kind"]: manifest for manifest in found}


def unknown(value: Any, kind: str, path: str = "") -> list[str]:
    """Every field that the models of Kubernetes' own client do not know, and required ones that are missing."""
    if outer := re.fullmatch(r"(list|dict)(?:\[|\()(?:str, )?(.+?)(?:\]|\))", kind):
        items = enumerate(value) if outer[1] == "list" else value.items()
        return [fault for key, item in items for fault in unknown(item, outer[2], f"{path}.{key}")]
    if not hasattr(client, kind):
        plain = {"str": str, "int": int, "bool": bool, "object": object}.get(kind, object)
        return [] if isinstance(value, plain) else [f"{path}: {value!r} is no {kind}"]
    model = getattr(client, kind)
    fields = {theirs: model.openapi_types[ours] for ours, theirs in model.attribute_map.items()}
    faults = [f"{path}.{name}: no such field" for name in value if name not in fields]
    try:
        model(**{ours: value[theirs] for ours, theirs in model.attribute_map.items() if theirs in value})
    except ValueError as error:
        faults.append(f"{path}: {error}")
    known = {name: inner for name, inner in value.items() if name in fields}
    return faults + [fault for name, item in known.items() for fault in unknown(item, fields[name], f"{path}.{name}")]


def test_every_manifest_is_what_kubernetes_own_models_accept(
    version: Release, serve: ServeSettings, tmp_path: Path
) -> None:
    found = manifests(write_files("kubernetes", version, serve, tmp_path / "k8s").path)
    kinds = {"Deployment": "V1Deployment", "Service": "V1Service", "ServiceAccount": "V1ServiceAccount"}
    for kind, model in {**kinds, "NetworkPolicy": "V1NetworkPolicy"}.items():
        assert unknown(found[kind], model, kind) == []
    found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    del found["Service"]["spec"]["ports"][0]["port"]
    assert unknown(found["Deployment"], "V1Deployment") == [
        ".spec.template.spec.containers.0.livenesProbe: no such field"
    ]
    assert "must not be `None`" in unknown(found["Service"], "V1Service")[0]


def test_the_pods_run_one_version_without_rights_and_are_found_by_the_service(
    version: Release, serve: ServeSettings, tmp_path: Path
) -> None:
    found = manifests(write_files("kubernetes", version, serve, tmp_path / "k8s").path)
    deployment, pod = found["Deployment"], found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "opstune:1.2.0" and pod["metadata"]["labels"]["app.kubernetes.io/version"] == "1.2.0"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] and not pod["spec"]["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"] == "513Mi"
    selected = found["Service"]["spec"]["selector"]
    assert selected == deployment["spec"]["selector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    # A rollout replaces pods of another version only if what selects them is the same for every version.
    assert not any("version" in name for name in selected)


@pytest.mark.parametrize(("rank", "asked"), [(12, "16"), (16, "16"), (33, "64")])
def test_vllm_is_given_base_and_adapter_under_the_versions_name(
    version: Release, serve: ServeSettings, rank: int, asked: str
) -> None:
    vllm = importlib.import_module("opstune.serve.deploy.vllm")
    (version.adapter / "adapter_config.json").write_text(json.dumps({"r": rank}))
    command = vllm.command(version, serve)
    assert command[:3] == ["vllm", "serve", "Qwen/Qwen2-7B-Instruct"]
    assert f"opstune:1.2.0={version.adapter}" in command and f"opstune:prod={version.adapter}" in command
    assert command[command.index("--max-lora-rank") + 1] == asked
    (version.adapter / "adapter_config.json").unlink()
    whole = vllm.command(version, serve)
    assert whole[2] == str(version.adapter) and "--enable-lora" not in whole


def test_a_rank_that_vllm_has_no_kernel_for_is_refused(version: Release, serve: ServeSettings) -> None:
    vllm = importlib.import_module("opstune.serve.deploy.vllm")
    (version.adapter / "adapter_config.json").write_text(json.dumps({"r": 1024}))
    with pytest.raises(IntegrityError, match="rank"):
        vllm.command(version, serve)


@pytest.mark.parametrize("family", families("<|end|>"), ids=lambda family: family.name)
def test_a_modelfile_is_read_as_it_was_written(family: Any, tmp_path: Path) -> None:
    file = tmp_path / "Modelfile"
    file.write_text(modelfile(family, 'Say "JSON".\nNothing else.', 4096))
    found = reading.read(file)
    assert (found.template, found.system) == (family.template, 'Say "JSON".\nNothing else.')
    assert found.parameters == {"stop": list(family.stops), "num_ctx": 4096, "temperature": 0}


@pytest.mark.parametrize(
    "line", ["ADAPTER ./adapter.gguf", 'MESSAGE user "hello"', "from x"], ids=lambda line: line.split()[0]
)
def test_an_instruction_that_would_be_lost_on_the_way_to_ollama_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "Modelfile"
    file.write_text(f"FROM ./model.gguf\n{line}\n")
    with pytest.raises(IntegrityError, match=line.split()[0]):
        reading.read(file)


def test_parameters_are_read_back_as_ollama_shows_them() -> None:
    shown = (
        'num_ctx                        2048\nstop                           "<|im_end|>"\nstop "a b"\ntemperature 0.5'
    )
    assert reading.parameters_of_show(shown) == {"num_ctx": 2048, "stop": ["<|im_end|>", "a b"], "temperature": 0.5}
