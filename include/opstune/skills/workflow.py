"""workflow: a failure that comes again and again, and what people did by hand → a drafted automation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from opstune.skills.base import Json, Scores, as_texts, closed_object, list_of, render_record
from opstune.skills.functions import NONE, functions

#: What an automation does between its functions.
VERBS = {
    "check": "look whether something holds, and go on",
    "wait": "wait for a time or until something holds",
    "notify": "tell a channel",
    "approve": "wait for a person's yes",
    "page": "call the person on duty",
    "revert": "undo what the steps before did",
    "stop": "end, and leave all as it is",
}
#: Two drafts do the same from this similarity of their functions in order on: of five steps one may differ.
SAME_ORDER = 0.8


class WorkflowContext(BaseModel):
    """What recurs. ``signals`` is what was seen with it → how often; ``manual_steps`` what people did, in order."""

    model_config = ConfigDict(extra="allow")

    failure: str = Field(min_length=1)
    frequency: str = ""
    signals: Annotated[dict[str, str] | list[str], BeforeValidator(as_texts)] = Field(default_factory=list)
    manual_steps: list[str] = Field(min_length=1)


class Step(BaseModel):
    """A function of the catalogue or one of ``VERBS``; ``when`` is its condition or object in words."""

    model_config = ConfigDict(extra="forbid")

    function: str
    when: str = ""

    @field_validator("function")
    @classmethod
    def _is_known(cls, function: str) -> str:
        if function not in known():
            raise ValueError(f"{function!r} is no function of functions.yaml and none of {', '.join(VERBS)}")
        return function


class WorkflowAnswer(BaseModel):
    """``rollback`` is what happens when a step fails: an automation without one is not drafted."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    trigger: str = Field(min_length=1)
    steps: list[Step] = Field(min_length=1)
    rollback: Step


class Workflow:
    """Steps are functions that exist, the trigger is a signal that was seen."""

    name = "workflow"
    context_model = WorkflowContext
    answer_model = WorkflowAnswer
    metrics = ("correct", "steps", "trigger", "rollback")

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("draft an automation for this failure", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        step = closed_object({"function": {"enum": known()}, "when": {"type": "string", "maxLength": 120}})
        signals = list(context.get("signals", ()))
        properties = {
            "name": {"type": "string", "minLength": 1, "maxLength": 60},
            "trigger": {"enum": signals} if signals else {"type": "string", "minLength": 1, "maxLength": 120},
            "steps": list_of(step, most=12, least=1),
            "rollback": step,
        }
        return closed_object(properties)

    def label(self, answer: Mapping[str, Any]) -> str:
        """The first function of the catalogue that it calls, or its first verb."""
        called = _functions(answer)
        return next((function for function in called if function not in VERBS), called[0])

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``correct`` is trigger and steps. Whether a draft could run at all is evaluation's ``valid_json``."""
        if predicted is None:
            return dict.fromkeys(("correct", "steps", "trigger", "rollback"), False)
        steps = in_order(_functions(expected), _functions(predicted)) >= SAME_ORDER
        trigger = predicted["trigger"] == expected["trigger"]
        rollback = predicted["rollback"]["function"] == expected["rollback"]["function"]
        return {"correct": steps and trigger, "steps": steps, "trigger": trigger, "rollback": rollback}


def known() -> list[str]:
    """Every function that a step may name."""
    return [*(name for name in functions() if name != NONE), *VERBS]


def in_order(expected: Sequence[str], found: Sequence[str]) -> float:
    """Share of matching steps, in order (Ratcliff and Obershelp's 2M/T), 0 to 1."""
    return SequenceMatcher(None, list(expected), list(found), autojunk=False).ratio()


def _functions(answer: Mapping[str, Any]) -> list[str]:
    return [str(step["function"]) for step in answer["steps"]]
