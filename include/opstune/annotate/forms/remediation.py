"""Remediation review: whether anything should be run about an alert, which function, and with what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opstune.annotate.forms.base import CANNOT_SAY, Choice, Given, Json, Reading, case_of, chosen, written
from opstune.examples import Example
from opstune.settings import config_dir, read_model
from opstune.skills.functions import NONE, Catalogue, functions

_RUN, _LEAVE = "run a function", "leave it alone"
_PARAMETER = re.compile(r"\s*([\w.-]+)\s*[:=]\s*(\S.*?)\s*")


class RemediationReview:
    """The label is the function with its parameters: a restart of the wrong pod is no agreement."""

    name = "remediation"
    skill = "remediation"

    def catalogues(self) -> dict[str, Sequence[Choice]]:
        catalogue = read_model(config_dir() / "functions.yaml", Catalogue)
        return {"functions": [Choice(name, function.does) for name, function in catalogue.functions.items()]}

    def shown(self, example: Example) -> Json:
        return {"case": case_of(example), "title": str(example.context.get("alert", ""))}

    def prefilled(self, answer: Mapping[str, Any], example: Example) -> list[Json]:
        function = str(answer.get("function") or "")
        if not function or function == NONE:
            return chosen("action", _LEAVE if function else "")
        labels = example.context.get("labels") or {}
        odd = {name: value for name, value in (answer.get("parameters") or {}).items() if labels.get(name) != value}
        told = "\n".join(f"{name}: {value}" for name, value in odd.items())
        return [*chosen("action", _RUN), *chosen("function", function), *written("parameters", told)]

    def read(self, given: Given, proposal: Mapping[str, Any], example: Example) -> Reading:
        action, function = given.choice("action"), given.choice("function")
        if action == CANNOT_SAY:
            return Reading(CANNOT_SAY)
        if action not in (_RUN, _LEAVE):
            return Reading(fault="nothing was chosen")
        if action == _RUN and function not in functions():
            return Reading(fault=f"the function {function!r} is not in functions.yaml" if function else "no function")
        rating, notes = given.stars("quality"), given.text("evidence")
        if action == _LEAVE:
            return Reading(NONE, {"function": NONE, "parameters": {}}, rating, notes)
        parameters, fault = _parameters(function, given.text("parameters"), example.context.get("labels") or {})
        if fault:
            return Reading(fault=fault)
        label = f"{function}({', '.join(f'{name}={value}' for name, value in parameters.items())})"
        return Reading(label, {"function": function, "parameters": parameters}, rating, notes)

    def same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return dict(one) == dict(other)


def _parameters(function: str, text: str, labels: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The function's parameters, from what was written and else from the labels of the same names, or a fault.

    A value that no label holds is refused: the model chooses among the labels' values.
    """
    told = [(line, _PARAMETER.fullmatch(line)) for line in text.splitlines() if line.strip()]
    if odd := next((line for line, match in told if not match), None):
        return {}, f"{odd!r} is not a line `name: value`"
    asked = {match[1]: match[2] for _, match in told if match}
    found = {name: asked.get(name, str(labels.get(name, ""))) for name in functions()[function]}
    for name, value in found.items():
        if not value:
            return {}, f"{function} needs {name}, which no label gives; write `{name}: value`"
        if value not in map(str, labels.values()):
            return {}, f"{name} is {value!r}, which is no label's value of this alert"
    return found, ""
