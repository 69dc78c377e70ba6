"""A person's yes before a model that passed its gate is registered and deployed, with the gate's table before them.

Airflow's own approval: the task waits without a slot, a person answers on its page, and no answer in time is a no.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.hitl import ApprovalOperator

from opstune_airflow import reports, run_note, settings, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context

    from opstune.evaluate import Verdict
    from opstune.settings import ApprovalSettings

_SUBJECT: Final = "Approve this model?"  # Airflow's list cuts longer ones
_ASKED: Final = "approval.sha256"  # in the run's folder: the verdict that its question shows
_COLUMNS: Final = ("line", "n", "value", "bound", "threshold", "base", "champion", "passed")


class Approval(ApprovalOperator):
    """Asks where the form or ``approval.required`` says so, and otherwise ends at once. A no skips what follows."""

    template_fields = ("subject", "body", "plan", "shipped")

    def __init__(self, *, plan: Any, shipped: Any, **kwargs: Any) -> None:
        super().__init__(subject=_SUBJECT, defaults=self.REJECT, **kwargs)
        self.plan, self.shipped = plan, shipped

    def execute(self, context: Context) -> Any:
        asked = settings.load(context["params"]).approval
        if not (asked.required or context["params"]["approval"]):
            self.log.info("Nobody is asked: neither the form nor approval.required wants it.")
            return None
        from opstune.artifacts import Ref
        from opstune.pipeline import read_verdict
        from opstune.pipeline.run import refuse_foreign

        ref = Ref.model_validate(self.shipped["shipped_verdict"])
        retrain = tasks.open_run(self.plan)
        refuse_foreign(retrain, ref)
        _refuse_other_figures(retrain.folder / _ASKED, ref.sha256)
        run = context["dag_run"]
        link = reports.url(run.dag_id, run.run_id, ref.path.name)
        self.body = body(self.plan, read_verdict(ref), link, context["params"]["deploy"], asked, datetime.now(UTC))
        self.assigned_users = [{"id": user, "name": user} for user in asked.users] or None
        self.response_timeout = timedelta(hours=asked.hours)
        self.log.info("Waiting for a person, at most %g hours; asked: %s", asked.hours, asked.users or "anybody")
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after a yes; after a no, or none in time, skip what follows. Who said it stands in the run's note."""
        if "error" not in event:
            context["ti"].xcom_push(key=run_note.KEY, value=told(event, self.APPROVE))
        return super().execute_complete(context, event)


def _refuse_other_figures(file: Path, verdict: str) -> None:
    """Airflow keeps a question as it was first asked, also when its task is cleared: nobody may approve old figures.

    Raises:
        InputError: this run's question shows another verdict.
    """
    from opstune import artifacts
    from opstune.errors import InputError

    if file.is_file() and file.read_text() != verdict:
        what = "the model was measured again after the question was asked, and Airflow would show the old figures"
        raise InputError(what, str(file), "Trigger a new run: its question has the new ones.")
    artifacts.write_text(file, verdict)


def body(
    plan: dict[str, Any], verdict: Verdict, link: str, deploy: bool, asked: ApprovalSettings, now: datetime
) -> str:
    """What a person reads before they decide, as Markdown: the verdict, what an answer does, and the gate's table."""
    from opstune.evaluate import gate_table

    alarms_first = sorted(gate_table(verdict), key=lambda row: row["passed"] == "yes")
    rows = [[_cell(row[column]) for column in _COLUMNS] for row in alarms_first]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [list(_COLUMNS), ["---"] * len(_COLUMNS), *rows])
    yes = "registers it and makes it the champion" if deploy else "registers it; the form said not to deploy it"
    who = " or ".join(asked.users) or "Whoever may change this DAG's tasks"
    until = now + timedelta(hours=asked.hours)
    return (
        f"**{verdict.sentence.replace('Promoted: ', 'The gate lets it through: ', 1)}**\n\n"
        f"The file that ships was measured: run `{plan['id']}`, a {plan['mode']} retrain. "
        f"[The whole report]({link}) shows the worst answers and what is newly broken.\n\n"
        f"- **Approve** {yes}.\n"
        f"- **Reject** ends the run: nothing is registered and the champion stays.\n"
        f"- {who} may answer until {until:%A %-d %B %Y, %H:%M} UTC. No answer by then is a no.\n\n"
        f"{table}\n"
    )


def told(event: dict[str, Any], approve: str) -> str:
    """The answer as a sentence for the run's note."""
    who = (event.get("responded_by_user") or {}).get("name")
    if event["chosen_options"][0] == approve:
        return f"Approved by {who}."
    stays = "Nothing is registered, and the champion stays."
    return f"Rejected by {who}. {stays}" if who else f"Nobody approved it in time. {stays}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
