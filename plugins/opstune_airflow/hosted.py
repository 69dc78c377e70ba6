"""The train stage whoever trains: a training at a provider is waited for in the triggerer, and takes no worker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from opstune_airflow import assets, settings, tasks
from opstune_airflow.hosted_waiting import CONNECTION, HostedTrigger
from opstune_airflow.operators import TrainOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from opstune.pipeline import Run

#: The trigger ends the wait by itself; this is for a triggerer that does not run.
_MARGIN: Final = timedelta(minutes=30)


class TrainAnywhereOperator(TrainOperator):
    """Trains here, as its parent does, or begins the job at the profile's provider and waits for it.

    The job's id is kept in the run's work folder: a retry or a cleared task goes on with the same job.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from opstune.train import load_profile

        run = tasks.open_run(self.plan)
        if not load_profile(run.settings.train.profile).hosted:
            return super().execute(context)
        from opstune import pipeline
        from opstune.artifacts import Ref

        run = self._connected(context, run)
        if job := pipeline.begin_hosted(run, Ref.model_validate(self.refs["dataset"])):
            asked = run.settings.train.hosted
            wait = timedelta(hours=asked.wait_hours)
            self.log.info("The job %s runs at the provider; this task waits for it without a worker.", job)
            trigger = HostedTrigger(job, (datetime.now(UTC) + wait).isoformat(), asked.poll_seconds)
            self.defer(trigger=trigger, method_name="resume", timeout=wait + _MARGIN)
        return self._finish(run)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Bring back what the job made.

        Raises:
            InputError: the key or the connection was taken away meanwhile.
            ServiceDown: the job has not ended in ``train.hosted.wait_hours``. It goes on, and a retry waits again.
            TrainerFailed, DataError: the job failed, and why.
        """
        from opstune.errors import InputError, ServiceDown

        if problem := event.get("problem"):
            raise InputError(problem)
        self.log.info("%s", event["told"])
        if event["late"]:
            todo = "The job goes on there, and a retry waits for it again."
            raise ServiceDown(f"{event['told']}, and the wait has ended", "train.hosted.wait_hours", todo)
        return self._finish(self._connected(context, tasks.open_run(self.plan)))

    def _finish(self, run: Run) -> dict[str, Any]:
        from opstune import pipeline
        from opstune.artifacts import Ref

        ref = pipeline.run_training(run, Ref.model_validate(self.refs["dataset"]), started=self._remember)
        assets.describe(assets.ADAPTER, sha256=ref.sha256, **ref.counts)
        return ref.model_dump()

    def _connected(self, context: Context, run: Run) -> Run:
        """The run with the provider's connection, which no other stage asks for."""
        names = [settings.MLFLOW, *settings.STORE_KEYS, CONNECTION]
        return replace(run, settings=settings.load(context["params"], names))
