"""remediation: an alert → the function that fixes it and its parameters, or ``none``."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from opstune.skills.base import Json, Scores, closed_object, render_record
from opstune.skills.functions import NONE, functions


class RemediationContext(BaseModel):
    """An alert as its monitor sends it, in the order in which a model reads it.

    What most often decides stands last, next to the answer, where a small model finds it best.
    ``reason`` is the monitor's own class of the cause in a word, as events of Kubernetes carry it.
    """

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str] = Field(default_factory=dict)
    summary: str = ""
    description: str = ""
    alert: str = Field(min_length=1)
    severity: str = ""
    status: str = ""
    reason: str = ""


class RemediationAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    function: str
    parameters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _as_in_catalogue(self) -> RemediationAnswer:
        known = functions()
        if self.function not in known:
            raise ValueError(
                f"function {self.function!r} is not in functions.yaml; add it there or map it to one that is"
            )
        if set(self.parameters) != set(known[self.function]):
            raise ValueError(
                f"{self.function} takes the parameters {known[self.function]}, got {sorted(self.parameters)}"
            )
        return self


class Remediation:
    """Keys follow the function, values come from this alert's labels: no other pod can be restarted."""

    name = "remediation"
    context_model = RemediationContext
    answer_model = RemediationAnswer

    @property
    def metrics(self) -> tuple[str, ...]:
        each = sorted({f"parameter_{name}" for parameters in functions().values() for name in parameters})
        return ("correct", "function", "parameters", "false_positive", "false_negative", *each)

    def render(self, context: Mapping[str, Any]) -> str:
        return render_record("which function fixes this alert?", context)

    def schema(self, context: Mapping[str, Any]) -> Json:
        """One alternative a function; a function whose parameters this alert cannot fill is left out."""
        values = sorted({str(value) for value in context.get("labels", {}).values()})
        choices = []
        for function, parameters in functions().items():
            if parameters and not values:
                continue
            filled = closed_object({name: {"enum": values} for name in parameters})
            choices.append(closed_object({"function": {"const": function}, "parameters": filled}))
        return {"oneOf": choices}

    def label(self, answer: Mapping[str, Any]) -> str:
        return str(answer["function"])

    def score(self, expected: Mapping[str, Any], predicted: Mapping[str, Any] | None) -> Scores:
        """``parameters`` counts where the function is right and takes some: all of them right. Beside it
        stands ``parameter_<name>`` for each of them. Values are compared without spaces around them and in
        Unicode NFC, the form that every model is asked in.

        ``false_positive`` counts where no action is right, ``false_negative`` where one is. An invalid answer
        proposes nothing that could be executed: where an action is right it misses that and its parameters,
        and where none is it is no false positive, but wrong.
        """
        function = (predicted or {}).get("function")
        right = function == expected["function"]
        wanted, given = _normalised(expected["parameters"]), _normalised((predicted or {}).get("parameters", {}))
        same = right and given == wanted
        scores = {"correct": same, "function": right}
        if expected["function"] == NONE:
            scores["false_positive"] = function not in (NONE, None)
        else:
            scores["false_negative"] = function in (NONE, None)
            if expected["parameters"] and (right or predicted is None):
                scores["parameters"] = same
                scores |= {f"parameter_{name}": given.get(name) == value for name, value in wanted.items()}
        return scores


def _normalised(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: unicodedata.normalize("NFC", value).strip() for name, value in parameters.items()}
