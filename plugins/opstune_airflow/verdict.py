"""A verdict, shown everywhere a person may look: task log, XCom, asset event and the run's note."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from airflow.sdk import get_current_context

from opstune_airflow import assets, reports, run_note

if TYPE_CHECKING:
    from opstune.artifacts import Ref
    from opstune.evaluate import Verdict

log = logging.getLogger(__name__)

_STAYS: Final = "Nothing is promoted: the later stages are skipped and the champion stays."


def show(ref: Ref, verdict: Verdict, what: str) -> bool:
    """Tell the verdict on ``what`` (``the challenger``); true when it is to be promoted."""
    from opstune.evaluate import gate_table

    for row, line in zip(gate_table(verdict), verdict.applying, strict=True):
        log.info("%s. %s", ", ".join(f"{key} {value}" for key, value in row.items()), line.reason)
    promoted = verdict.verdict == "promote"
    about, sentence = f"Verdict on {what}", verdict.sentence + ("" if promoted else f" {_STAYS}")
    log.info("%s. %s Report: %s", about, sentence, ref.path / "report.html")
    context = get_current_context()
    task, run = context["ti"], context["dag_run"]
    task.xcom_push(key="verdict", value={"verdict": verdict.verdict, "sentence": verdict.sentence})
    report = reports.url(run.dag_id, run.run_id, ref.path.name)
    task.xcom_push(key=run_note.KEY, value=f"[{about}]({report}). {sentence}")
    assets.describe(assets.VERDICT, verdict=verdict.verdict, sentence=verdict.sentence, sha256=ref.sha256)
    return promoted
