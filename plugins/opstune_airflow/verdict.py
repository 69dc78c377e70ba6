"""A verdict, shown everywhere a person may look: task log, XCom, asset event and the run's note."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from opstune_airflow import assets, run_note

if TYPE_CHECKING:
    from opstune.artifacts import Ref
    from opstune.evaluate import Verdict

log = logging.getLogger(__name__)

_NEXT = {
    "promote": "The later stages go on.",
    "reject": "Nothing is promoted; the later stages are skipped and the champion stays.",
    "insufficient_data": "Nobody can say yet, so nothing is promoted; the later stages are skipped and the champion stays.",
}


def show(ref: Ref, verdict: Verdict, what: str) -> bool:
    """Tell the verdict on ``what`` (``the challenger``); true when it is to be promoted."""
    for line in verdict.lines:
        log.info("%s", _line(line))
    sentence = f"{what}: {verdict.verdict}. {verdict.sentence}".replace("_", " ")
    log.info("%s %s Report: %s", sentence, _NEXT[verdict.verdict], ref.path / "report.html")
    task = get_current_context()["ti"]
    task.xcom_push(key="verdict", value={"verdict": verdict.verdict, "sentence": verdict.sentence})
    task.xcom_push(key=run_note.KEY, value=f"{sentence} {_NEXT[verdict.verdict]}")
    assets.describe(assets.VERDICT, verdict=verdict.verdict, sentence=verdict.sentence, sha256=ref.sha256)
    return verdict.verdict == "promote"


def _line(line: Any) -> str:
    passed = {True: "passed", False: "MISSED", None: "cannot say"}[line.passed]
    return (
        f"{passed:<10}  {line.skill} {line.metric}: {_number(line.value)} of n={line.n}, bound {_number(line.bound)}, "
        f"gate {_number(line.threshold)}, base {_number(line.base)}, champion {_number(line.champion)}. {line.reason}"
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
