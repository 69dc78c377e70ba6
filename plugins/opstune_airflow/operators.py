"""The stages that are more than a function: waiting for a turn, and work on a leased device."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from opstune_airflow import assets, catalog, lease, run_note, settings, tasks, turn

if TYPE_CHECKING:
    from airflow.sdk import Context

    from opstune.artifacts import Ref
    from opstune.pipeline import Run
    from opstune.train import Place, Trainer


class TurnSensor(BaseSensorOperator):
    """Waits, holding no slot, until no other retrain runs; returns the plan that every stage follows.

    The plan is ``{id, mode}``. The mode is settled here, once: an incremental retrain without a
    champion to go on from becomes a full one.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(mode="reschedule", poke_interval=10, timeout=24 * 3600, **kwargs)

    def poke(self, context: Context) -> PokeReturnValue:
        task, run = context["ti"], context["dag_run"]
        monthly = task.get_dr_count("retrain_monthly", states=["running", "queued"]) > 0
        when = run.logical_date or run.run_after
        if reason := turn.yields_to_monthly(run.dag_id, run.run_type == "scheduled", when, monthly):
            task.xcom_push(key=run_note.KEY, value=reason)
            raise AirflowSkipException(reason)
        found = settings.load(context["params"], [settings.MLFLOW, *settings.STORE_KEYS])
        busy = turn.take(found.home, run.dag_id, run.run_id, tasks.state_of)
        if busy:
            self.log.info("One retrain at a time: waiting for %s to end.", busy)
            return PokeReturnValue(False)
        name = catalog.run_folder(run.dag_id, run.run_id)
        return PokeReturnValue(True, {"id": name, "mode": self._mode(context, name, found)})

    def _mode(self, context: Context, name: str, found: Any) -> str:
        asked = str(context["params"]["mode"])
        if asked == "incremental":
            from opstune.pipeline import Run

            if Run(name, "incremental", found).parent is None:
                reason = "There is no champion to go on from, so this incremental retrain became a full one."
                self.log.info("%s", reason)
                context["ti"].xcom_push(key=run_note.KEY, value=reason)
                return "full"
        return asked


class DeviceOperator(BaseOperator):
    """A stage that needs devices: its slots of the gpu pool are how many, the lease says which."""

    template_fields = ("plan", "refs")

    def __init__(self, *, plan: Any, refs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(pool=catalog.GPU_POOL, queue=catalog.GPU_QUEUE, **kwargs)
        self.plan = plan
        self.refs = refs

    def execute(self, context: Context) -> dict[str, Any]:
        from opstune.artifacts import Ref

        run = tasks.open_run(self.plan)
        refs = {name: Ref.model_validate(ref) for name, ref in self.refs.items()}
        with self.devices(run, f"{context['ti'].task_id} of {run.id}") as environment:
            ref = self.work(run, refs, environment)
        self.log.info("%s  %s", ref.path, "  ".join(f"{name} {value:g}" for name, value in ref.counts.items()))
        return ref.model_dump()

    def devices(self, run: Run, holder: str) -> AbstractContextManager[dict[str, str]]:
        return lease.device(run.settings.home / "leases", holder, count=self.pool_slots)

    def work(self, run: Run, refs: dict[str, Ref], environment: dict[str, str]) -> Ref:
        raise NotImplementedError


class TrainOperator(DeviceOperator):
    """Trains in a child process, or in a pod, which ends with the task whichever way the task ends."""

    _trainer: Trainer | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"pool_slots": settings.train_devices(), **kwargs})

    def devices(self, run: Run, holder: str) -> AbstractContextManager[dict[str, str]]:
        from opstune.errors import ConfigError

        if run.settings.train.devices != self.pool_slots:
            what = f"this worker reads train.devices {run.settings.train.devices}, the DAG processor {self.pool_slots}"
            raise ConfigError(what, "train.devices", "Give both the same opstune.yaml and environment.")
        if run.settings.train.place == "pod":
            return contextlib.nullcontext({})  # Kubernetes gives each pod devices of its own
        return super().devices(run, holder)

    def work(self, run: Run, refs: dict[str, Ref], environment: dict[str, str]) -> Ref:
        from opstune import pipeline

        ref = pipeline.run_training(run, refs["dataset"], self._remember, environment, place=self._pod(run))
        assets.describe(assets.ADAPTER, sha256=ref.sha256, **ref.counts)
        return ref

    def on_kill(self) -> None:
        self.log.warning(
            "Told to stop: the task was marked, cleared or given to another worker, or this worker shuts down. The "
            "trainer is ended and its last checkpoint stays: another attempt, or clearing the task, goes on from there."
        )
        if self._trainer:
            self._trainer.stop()

    def _pod(self, run: Run) -> Place | None:
        from opstune.train import load_profile

        profile = load_profile(run.settings.train.profile)
        if run.settings.train.place != "pod" or profile.hosted:
            return None
        from opstune_airflow import pod  # Kubernetes' client: only where a pod is asked for

        connection = pod.CONNECTION if settings.has_connection(pod.CONNECTION) else None
        return pod.Pod(run.settings, profile, get_current_context(), connection)

    def _remember(self, trainer: Trainer) -> None:
        self._trainer = trainer


class EvaluateOperator(DeviceOperator):
    """Base, champion and challenger on the test set, in this process on the leased device."""

    def work(self, run: Run, refs: dict[str, Ref], environment: dict[str, str]) -> Ref:
        os.environ.update(environment)  # before anything opens the device
        from opstune import pipeline

        return pipeline.evaluate(run, refs["dataset"], refs["adapter"])


class RedTeamOperator(DeviceOperator):
    """The same models under attack, in this process on the leased device."""

    def work(self, run: Run, refs: dict[str, Ref], environment: dict[str, str]) -> Ref:
        os.environ.update(environment)  # before anything opens the device
        from opstune import pipeline

        return pipeline.red_team(run, refs["dataset"], refs["adapter"])
