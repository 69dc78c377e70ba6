"""The trainer as a pod in Kubernetes: the same command on the same files, on a volume that the workers share.

The task stays the parent. It writes the spec, follows the pod's log, judges its end and seals what came of
it, so the pod holds no key and no connection, and a retry is the same whether the trainer ran here or there.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException, PodNotFoundException
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from opstune.errors import (
    AccessDenied,
    ConfigError,
    OpstuneError,
    OutOfHostMemory,
    ServiceDown,
    TrainerFailed,
    TrainerKilled,
    causes,
)
from opstune.train import Ended, Hear, base_folder, needs, progress
from opstune_airflow import local_config

if TYPE_CHECKING:
    from airflow.sdk import Context

    from opstune.settings import PodSettings, Settings
    from opstune.train import Profile

CONNECTION: Final = "opstune_kubernetes"
CONTAINER: Final = "trainer"
#: Seconds from SIGTERM to SIGKILL. A Python that is a container's first process does not end at SIGTERM.
_GRACE: Final = 3
_READ: Final = (60, 300)  # seconds to connect, and of silence before the log is asked for again


class Pod:
    """A ``Place``: the trainer's pod, as ``settings.pod`` says."""

    def __init__(self, settings: Settings, profile: Profile, context: Context, connection: str | None) -> None:
        refuse(settings, profile)
        self._settings, self._profile, self._context, self._connection = settings, profile, context, connection
        self._operator: TrainerPod | None = None
        self._stopped = False

    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path, hear: Hear) -> Ended:
        with output.open("a") as file:

            def line(text: str) -> None:
                if progress.read(text):
                    hear(text)
                else:
                    file.write(text)
                    file.flush()

            options = pod_options(self._settings.pod, self._settings.train.devices, self._profile)
            options["env_vars"] = {**options["env_vars"], **environment}
            python = ["python" if part == sys.executable else part for part in command]
            self._operator = TrainerPod(
                task_id=CONTAINER, hear=line, cmds=python, kubernetes_conn_id=self._connection, **options
            )
            try:
                if not self._stopped:
                    self._operator.execute_sync(self._context)
                return Ended(-15 if self._stopped else 0)
            except (AirflowException, ApiException, ConfigException, HTTPError) as error:
                return Ended(-15) if self._stopped else ended(self._operator.remote_pod, error)

    def stop(self) -> None:
        self._stopped = True
        if self._operator:
            self._operator.on_kill()


class TrainerPod(KubernetesPodOperator):
    """Airflow's own operator; what its pod says goes to the training's parent, not line by line into the task's log.

    It joins a pod that an earlier attempt left running: its worker died, the pod did not.
    """

    def __init__(self, *, hear: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self._hear = hear

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        made = super().get_or_create_pod(pod_request_obj, context)
        if self._killed:  # while it was made: on_kill found no pod yet
            self.pod = made
            self.on_kill()
            raise AirflowException("stopped while the pod was made")
        self.log.info("The trainer is pod %s in namespace %s.", made.metadata.name, made.metadata.namespace)
        return made

    def await_pod_completion(self, pod: k8s.V1Pod) -> None:  # type: ignore[override]  # there it is wrapped for retries
        """Hear the log until the container has ended; a connection that breaks, or a login that expires, is renewed."""
        since, heard, refused = None, time.monotonic(), False
        while True:
            try:
                for raw in self.pod_manager.read_pod_logs(
                    pod, self.base_container_name, since_seconds=since, follow=True, _request_timeout=_READ
                ):
                    heard, refused = time.monotonic(), False
                    self._hear(raw.decode(errors="replace"))
                if not self.pod_manager.container_is_running(pod, self.base_container_name):
                    return
            except HTTPError as error:
                self.log.info("The pod's log broke off (%s) and is asked for again.", type(error).__name__)
            except ApiException as error:
                if error.status != 401 or refused:
                    raise
                refused = True
                self._refresh_cached_properties()  # type: ignore[no-untyped-call]
            since = math.ceil(time.monotonic() - heard) + 2  # what is heard twice says the same
            time.sleep(1)


def refuse(settings: Settings, profile: Profile) -> None:
    """Tell at once all that keeps the pod from seeing what the worker sees.

    Raises:
        ConfigError: no image, or a folder that is on none of the volumes.
    """
    pod = settings.pod
    faults = [] if pod.image else ["pod.image is empty: write the image that Dockerfile builds"]
    for what, folder in (("OPSTUNE_HOME", settings.home), ("the base model", base_folder(profile).resolve())):
        in_image = folder.is_relative_to(local_config.REPOSITORY / "include")
        if not in_image and not any(folder.is_relative_to(claim.path) for claim in pod.claims):
            faults.append(f"{what} ({folder}) is on none of pod.claims: the pod would not see it")
    if faults:
        todo = "Correct the section pod of opstune.yaml; paths must be the same in the pod and on the workers."
        raise ConfigError("; ".join(faults), "train.place: pod", todo)


def pod_options(asked: PodSettings, devices: int, profile: Profile) -> dict[str, Any]:
    """The arguments of KubernetesPodOperator, but for command, connection and the trainer's own environment."""
    cpu_only = not asked.gpu_resource
    needed = needs.host_bytes(needs.sizes(base_folder(profile), profile), profile, cpu_only) / 1e9
    memory = f"{math.ceil(((asked.memory_gb or needed) + asked.shared_memory_gb) * 1000)}M"
    gpus = {} if cpu_only else {asked.gpu_resource: str(devices)}
    volumes, mounts = _volumes(asked)
    visible = "" if cpu_only else ",".join(str(number) for number in range(devices))
    return {
        "name": "opstune-trainer",
        "base_container_name": CONTAINER,
        "namespace": asked.namespace,
        "image": asked.image,
        "image_pull_secrets": [k8s.V1LocalObjectReference(name) for name in asked.image_pull_secrets],
        "service_account_name": asked.service_account,
        "automount_service_account_token": False,
        "container_resources": k8s.V1ResourceRequirements(
            requests={"cpu": f"{asked.cpu:g}", "memory": memory, **gpus}, limits={"memory": memory, **gpus}
        ),
        "volumes": volumes,
        "volume_mounts": mounts,
        "node_selector": asked.node_selector,
        "tolerations": [k8s.V1Toleration(**one.model_dump(exclude_none=True)) for one in asked.tolerations],
        "security_context": k8s.V1PodSecurityContext(run_as_user=asked.user, fs_group=asked.user)
        if asked.user
        else None,
        "container_security_context": k8s.V1SecurityContext(
            allow_privilege_escalation=False, capabilities=k8s.V1Capabilities(drop=["ALL"])
        ),
        # A container sees every core of its node, and would start a thread for each.
        "env_vars": {
            "OMP_NUM_THREADS": str(math.ceil(asked.cpu)),
            "CUDA_VISIBLE_DEVICES": visible,
            **asked.environment,
        },
        "schedule_timeout_seconds": round(asked.start_minutes * 60),
        "startup_timeout_seconds": round(asked.start_minutes * 60),
        "termination_grace_period": _GRACE,
        "log_events_on_failure": True,
        "log_pod_spec_on_failure": False,
        "deferrable": False,
        "durable": True,
    }


def ended(pod: k8s.V1Pod | None, error: BaseException) -> Ended:
    """How a pod's trainer ended, from what Kubernetes says of the pod, or else from the operator's exception."""
    status = pod.status if pod else None
    name = pod.metadata.name if pod else "the trainer's pod"
    states = [one.state for one in (status.container_statuses or ()) if one.name == CONTAINER] if status else []
    last = states[0].terminated if states and states[0] else None
    if status and status.reason:  # Evicted, Preempting, NodeLost, Terminated, ...
        what = f"Kubernetes ended pod {name} ({status.reason}): {status.message or 'it does not say why'}"
        return Ended(-9, cause=TrainerKilled(what))
    if last and last.reason == "OOMKilled":
        return Ended(-9, cause=OutOfHostMemory(f"pod {name} ran over its memory limit and was killed (OOMKilled)"))
    if last and last.reason in ("ContainerCannotRun", "StartError"):
        todo = "Is pod.image the one that Dockerfile builds?"
        return Ended(
            1, cause=TrainerFailed(f"pod {name} could not start the trainer: {last.message}", "pod.image", todo)
        )
    if last and last.exit_code:
        return Ended(128 - last.exit_code if last.exit_code > 128 else last.exit_code)
    return Ended(1, cause=_outside(error, name))


def _outside(error: BaseException, name: str) -> OpstuneError:
    for one in causes(error):
        if isinstance(one, PodNotFoundException) or (isinstance(one, ApiException) and one.status == 404):
            return TrainerKilled(f"pod {name} is gone: somebody deleted it, or its node went away")
        if isinstance(one, ApiException) and one.status in (401, 403):
            todo = "It takes get, list, create, patch and delete of pods, get of pods/log and list of events there."
            return AccessDenied(f"Kubernetes refused: {one.status} {one.reason}", CONNECTION, todo)
        if isinstance(one, ConfigException):
            return ConfigError(f"no cluster is known: {one}", CONNECTION, f"Make the connection {CONNECTION}.")
        if isinstance(one, PodLaunchFailedException | PodLaunchTimeoutException):
            todo = (
                "The pod's events above say why: no node with free GPUs, an image that cannot be pulled, or a volume."
            )
            return ServiceDown(f"pod {name} did not start: {one}", "Kubernetes", todo)
    return ServiceDown(f"Kubernetes: {type(error).__name__}: {error}", CONNECTION, "Look at the cluster's own log.")


def _volumes(asked: PodSettings) -> tuple[list[k8s.V1Volume], list[k8s.V1VolumeMount]]:
    claims = sorted({claim.claim for claim in asked.claims})
    volumes = [
        k8s.V1Volume(
            name=f"claim-{number}", persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim)
        )
        for number, claim in enumerate(claims)
    ]
    mounts = [
        k8s.V1VolumeMount(name=f"claim-{claims.index(one.claim)}", mount_path=str(one.path), read_only=one.read_only)
        for one in asked.claims
    ]
    if asked.shared_memory_gb:
        size = f"{math.ceil(asked.shared_memory_gb * 1000)}M"
        memory = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=size)
        volumes.append(k8s.V1Volume(name="shared-memory", empty_dir=memory))
        mounts.append(k8s.V1VolumeMount(name="shared-memory", mount_path="/dev/shm"))
    return volumes, mounts
