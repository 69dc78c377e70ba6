"""The trainer's pod as Kubernetes would get it: what is configured is what stands in it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.client import models as k8s

from opstune import settings
from opstune.errors import ConfigError, TrainerKilled
from opstune.settings import Settings
from opstune.train import load_profile
from opstune_airflow.pod import CONTAINER, TrainerPod, ended, pod_options, refuse

ASKED: dict[str, Any] = {
    "image": "registry.example.com/opstune:1",
    "image_pull_secrets": ["registry"],
    "namespace": "training",
    "service_account": "trainer",
    "user": 50000,
    "claims": [
        {"claim": "opstune", "path": "/var/lib/opstune"},
        {"claim": "hub", "path": "/var/lib/hub", "read_only": True},
    ],
    "cpu": 6.5,
    "memory_gb": 48,
    "node_selector": {"gpu": "h200"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "environment": {"HF_HOME": "/var/lib/hub"},
}


def asked(pod: dict[str, Any] = ASKED, **train: Any) -> Settings:
    return settings.load({"pod": pod, "train": {"place": "pod", **train}})


def made(found: Settings) -> dict[str, Any]:
    """The pod that Airflow's operator makes of it, as JSON, having gone through the client's own models."""
    options = pod_options(found.pod, found.train.devices, load_profile("tiny"))
    operator = TrainerPod(task_id=CONTAINER, hear=print, cmds=["python", "-m", "opstune.train", "spec.json"], **options)
    client = ApiClient()
    sent = client.sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    read = client.deserialize(SimpleNamespace(data=json.dumps(sent)), "V1Pod")
    assert client.sanitize_for_serialization(read) == sent
    return dict(sent)


def test_the_pod_is_what_is_configured() -> None:
    pod = made(asked(devices=2))
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert pod["metadata"]["namespace"] == "training" and pod["metadata"]["name"].startswith("opstune-trainer-")
    assert container["image"] == ASKED["image"] and container["command"] == [
        "python",
        "-m",
        "opstune.train",
        "spec.json",
    ]
    memory = "56000M"  # what is asked for, and what lies in /dev/shm counts as memory
    assert container["resources"] == {
        "requests": {"cpu": "6.5", "memory": memory, "nvidia.com/gpu": "2"},
        "limits": {"memory": memory, "nvidia.com/gpu": "2"},
    }
    claims = {
        one["name"]: one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "emptyDir" not in one
    }
    mounts = {one["mountPath"]: (claims.get(one["name"]), one.get("readOnly")) for one in container["volumeMounts"]}
    assert mounts == {
        "/var/lib/opstune": ("opstune", False), "/var/lib/hub": ("hub", True), "/dev/shm": (None, None)
    }  # fmt: skip
    assert spec["nodeSelector"] == {"gpu": "h200"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["imagePullSecrets"] == [{"name": "registry"}] and spec["serviceAccountName"] == "trainer"
    assert spec["restartPolicy"] == "Never" and spec["terminationGracePeriodSeconds"] < 5
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment == {"HF_HOME": "/var/lib/hub", "OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0,1"}


def test_the_pod_has_no_more_rights_than_it_needs() -> None:
    spec = made(asked())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsUser": 50000, "fsGroup": 50000}
    context = spec["containers"][0]["securityContext"]
    assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_cpu_cluster_is_asked_for_no_gpu_and_the_profile_says_how_much_memory() -> None:
    found = asked({**ASKED, "gpu_resource": "", "memory_gb": None, "shared_memory_gb": 0})
    [container] = made(found)["spec"]["containers"]
    needed = f"{math.ceil(load_profile('tiny').needs.memory_gb * 1000)}M"
    assert container["resources"]["limits"] == {"memory": needed}
    assert {"name": "CUDA_VISIBLE_DEVICES", "value": ""} in container["env"] or {
        "name": "CUDA_VISIBLE_DEVICES"
    } in container["env"]


def test_what_the_pod_could_not_see_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPSTUNE_HOME", "/var/lib/opstune/home")
    refuse(asked(), load_profile("tiny"))  # the embedded base is in the image
    monkeypatch.setenv("OPSTUNE_HOME", str(tmp_path))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    outside = load_profile("tiny").model_copy(update={"base": str(tmp_path / "base")})
    with pytest.raises(ConfigError) as raised:
        refuse(asked({**ASKED, "image": None}), outside)
    for words in (
        "pod.image is empty",
        f"OPSTUNE_HOME ({tmp_path}) is on none of",
        f"the base model ({tmp_path}/base)",
    ):
        assert words in raised.value.what


@pytest.mark.parametrize(
    ("reason", "exit_code", "expected"),
    [("Error", 3, 3), ("Error", 137, -9), ("Error", 143, -15), ("Error", 1, 1), ("OOMKilled", 137, -9)],
)
def test_an_exit_code_is_told_as_a_process_of_ours_would(reason: str, exit_code: int, expected: int) -> None:
    state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=exit_code, reason=reason))
    status = k8s.V1ContainerStatus(
        name=CONTAINER, state=state, image="x", image_id="x", ready=False, restart_count=0
    )  # fmt: skip
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="p"), status=k8s.V1PodStatus(container_statuses=[status]))
    assert ended(pod, RuntimeError()).code == expected


@pytest.mark.parametrize("reason", ["Evicted", "Preempting", "NodeLost", "Terminated"])
def test_a_pod_that_kubernetes_ended_is_a_killed_trainer(reason: str) -> None:
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="p"), status=k8s.V1PodStatus(reason=reason, message="why"))
    assert isinstance(ended(pod, RuntimeError()).cause, TrainerKilled)


def test_kubernetes_is_imported_only_where_a_pod_is_asked_for() -> None:
    program = (
        "import sys, opstune_airflow.operators; print([n for n in sys.modules if n.split('.')[0] == 'kubernetes'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "[]"
