"""The wait of a retrain for people: deferred, so that it takes no worker, and with an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator

from opstune_airflow import run_note, settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from opstune.settings import Settings

#: The trigger ends the wait by itself; this is for a triggerer that does not run.
_MARGIN: Final = timedelta(minutes=30)


class AnnotationWait(BaseOperator):
    """Waits until people have answered what is open in Label Studio, where the form asks for it; passes ``reports`` on.

    Before the wait it asks people about what was just collected, after it it takes what they have answered. Not asked
    to wait, or without Label Studio, it ends at once. Label Studio may be down for a while: the wait goes on.
    """

    template_fields = ("reports",)

    def __init__(self, *, reports: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reports = reports

    def execute(self, context: Context) -> list[Any]:
        if not context["params"]["wait_for_annotation"]:
            return list(self.reports)
        found = self._settings(context)
        if found.connection(settings.LABEL_STUDIO) is None:
            self._note(context, f"There is no connection {settings.LABEL_STUDIO}, so nobody was waited for.")
            return list(self.reports)
        from opstune_airflow.waiting import AnnotationTrigger

        goal, missing = self._ask(found)
        if missing:
            wait = timedelta(hours=found.annotate.wait_hours)
            end = (datetime.now(UTC) + wait).isoformat()
            trigger = AnnotationTrigger(goal, end, found.annotate.poll_seconds)
            self.defer(trigger=trigger, method_name="resume", timeout=wait + _MARGIN)
        self.log.info("nothing is open in Label Studio, so there is nothing to wait for")
        self._take(found)
        return list(self.reports)

    def resume(self, context: Context, event: dict[str, Any]) -> list[Any]:
        """Go on after the wait, or stop as annotate.when_late says.

        Raises:
            InputError: the token or the connection was taken away meanwhile.
            DataError: the wait ended before people were done, and annotate.when_late is ``stop``.
            ServiceDown: Label Studio went away just now; tried again.
        """
        from opstune.errors import DataError, InputError, OutsideError

        if problem := event.get("problem"):
            raise InputError(problem)
        found = self._settings(context)
        self.log.info("%s", event["told"])
        if event["late"]:
            told = f"People were waited for {found.annotate.wait_hours:g} hours: {event['told']}"
            if found.annotate.when_late == "stop":
                todo = "Answer what is open and clear this task, or let annotate.when_late be go_on."
                raise DataError(told, "annotate.wait_hours", todo)
            self._note(context, f"{told}. The retrain went on with what there was.")
        try:
            self._take(found)
        except OutsideError as error:
            if not event["late"]:
                raise
            self.log.warning("%s What was taken before is there.", error)
        return list(self.reports)

    def _ask(self, found: Settings) -> tuple[dict[str, int] | None, int]:
        """Ask people about what is new; how many tasks must be done in each project, and how many are missing."""
        from opstune import annotate, pipeline
        from opstune.errors import OutsideError

        try:
            for project in annotate.project_names():
                pipeline.push_annotation(project, found)
            now = pipeline.annotation_progress(found)
        except OutsideError as error:
            self.log.warning("%s The wait begins without an answer.", error)
            return None, 1
        goal = {one.project: one.total for one in now}
        self.log.info("%s", annotate.progress_told(now, goal))
        return goal, annotate.missing(now, goal)

    def _take(self, found: Settings) -> None:
        from opstune import annotate, pipeline

        for project in annotate.project_names():
            pipeline.pull_annotation(project, found)

    def _settings(self, context: Context) -> Settings:
        return settings.load(context["params"], settings.ANNOTATION)

    def _note(self, context: Context, told: str) -> None:
        self.log.warning("%s", told)
        context["ti"].xcom_push(key=run_note.KEY, value=told)
