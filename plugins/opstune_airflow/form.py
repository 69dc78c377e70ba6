"""The trigger form of a retrain. Every field does something; an empty one leaves the configuration alone."""

from __future__ import annotations

from typing import Final

from airflow.sdk import Param

from opstune_airflow import settings

_DATA: Final = "What to learn from: empty fields are what opstune.yaml says"
_TRAINING: Final = "How to train: empty fields are what the profile says"


def fields(mode: str) -> dict[str, Param]:
    """The form, with ``mode`` as this DAG's default. Fields without a section stand open, the others fold away."""
    profiles = settings.profile_names()
    return {
        "mode": Param(
            mode,
            type="string",
            enum=["incremental", "full"],
            values_display={
                "incremental": "incremental: go on from the champion with what is new",
                "full": "full: start from the base model with everything",
            },
            title="Mode",
            description="Incremental takes a fraction of the time. Without a champion it becomes a full retrain.",
        ),
        "profile": Param(
            None,
            type=["null", "string"],
            enum=[None, *profiles],
            values_display={"null": "as configured"},
            title="Model profile",
            description="The base model and how it is trained, a file of config/profiles.",
        ),
        "deploy": Param(
            True,
            type="boolean",
            title="Deploy",
            description="Make the model the champion if it passes the gate. Off: it is registered and waits.",
        ),
        "approval": Param(
            False,
            type="boolean",
            title="Ask for approval",
            description="A model that passes its gate waits until somebody says yes or no under Required Actions; no "
            "answer in time is a no. Off: nobody is asked, unless opstune.yaml always wants it (approval.required).",
        ),
        "wait_for_annotation": Param(
            False,
            type="boolean",
            title="Wait for annotation",
            description="Wait, without a worker, until people have answered in Label Studio what is open now, for "
            "annotate.wait_hours at most. Off: take what has been answered so far.",
        ),
        **days_back(),
        "minimum": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Fewest examples",
            description="The run stops with words when fewer usable examples than this are left after cleaning.",
            section=_DATA,
        ),
        "maximum": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Most examples",
            description="When there are more than this, the newest are taken.",
            section=_DATA,
        ),
        "epochs": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            maximum=100,
            title="Epochs",
            description="How often training goes through the data.",
            section=_TRAINING,
        ),
        "learning_rate": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            maximum=1,
            title="Learning rate",
            description="Lower it when a run diverged.",
            section=_TRAINING,
        ),
        "max_steps": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Stop after this many steps",
            description="For drills: a model trained for one step is rejected by the gate, which is the point.",
            section=_TRAINING,
        ),
    }


def days_back() -> dict[str, Param]:
    """The one field that a collection has too."""
    return {
        "days_back": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=3650,
            title="Read history again, days back",
            description="Empty: only what is new since the last collection. A number reads that many days again, "
            "which picks up records that were corrected late. Nothing is ever counted twice.",
            section=_DATA,
        )
    }
