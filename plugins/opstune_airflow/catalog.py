"""The names that DAGs share: owner, tags, pools, queues, a run's folder, stages, and what to do when one fails."""

from __future__ import annotations

import re
from typing import Final

OWNER: Final = "platform-team"
TAGS: Final = ("opstune", "collect", "annotate", "retrain", "scheduled", "model")
GPU_POOL: Final = "gpu"
GPU_QUEUE: Final = "gpu"
RETRAINS: Final = ("retrain_weekly", "retrain_monthly")
DAGS: Final = ("collect", "annotate", *RETRAINS)

WHEN_IT_FAILS: Final[dict[str, str]] = {
    "turn": "It only waits: one retrain at a time. Its log names the run it waits for. If that run hangs, mark it "
    "failed.",
    "collect": "A source did not answer, or its records do not fit its mapping. `opstune sources check` tells which "
    "and why. What was read is kept; clear the task and it goes on from the watermark. `annotation` is red "
    "when people were waited for too long and `annotate.when_late` is `stop`.",
    "annotate": "Label Studio did not answer or refused its token, or a labelling page has a fault: the log says "
    "which. Nothing is lost, the next hour goes on. A project that `waits` is green: its log names whose labels "
    "differ on what.",
    "dataset": "Too few usable examples, one class crowding out the rest, or a file that changed after it was "
    "written. The log says which number missed which limit of `opstune.yaml`.",
    "train": "The last lines of the log say what broke, what was saved and what comes next. By itself, from the last "
    "complete checkpoint, it goes on after: out of memory (half the batch), a killed trainer, a full disk (ten "
    "minutes later), and once each a faulty driver (another device) and a diverged loss (half the learning rate). "
    "Not after bad data and bugs.",
    "evaluate": "A model could not be measured or attacked, which says nothing about the model. Clear the task once "
    "the cause is mended.",
    "gate": "A rejected model does **not** fail here: the run stays green, later tasks are skipped, and the reason is "
    "in the run's note, in this task's log and in the report. Red means `gates.yaml` or the evaluation is broken.",
    "convert": "The merge, the GGUF or its second measurement broke. A file that ships but measures worse than what "
    "was tested is a rejection, not a failure.",
    "register": "The tracking server or the keys. Nothing has been promoted. Clear the task: registering twice makes "
    "one version. `approval` that waits is not a fault: somebody must answer it under Required Actions.",
    "deploy": "Red before promotion, the champion is the one from before; after an outage while switching it may be "
    "the new one. `opstune models list` shows who it is; clear the task, nothing is done twice; "
    "`opstune models promote` moves it by hand.",
}


def run_folder(dag_id: str, run_id: str) -> str:
    """Under what name a DAG run's files stand in ``runs/``: ``retrain_weekly-scheduled-2026-11-02T03-00-00``."""
    plain = re.sub(r"\+00:00$", "", run_id)
    return f"{dag_id}-{re.sub(r'[^A-Za-z0-9.]+', '-', plain)}"


def doc_md(intro: str, stages: tuple[str, ...]) -> str:
    """The page behind a DAG's Docs button."""
    rows = "\n".join(f"| `{stage}` | {WHEN_IT_FAILS[stage]} |" for stage in stages)
    return f"{intro.strip()}\n\n**Owner:** {OWNER}\n\n| red stage | what to do |\n| --- | --- |\n{rows}\n"
