"""What a rule says about an alert: the rule is found by name and labels, its templates are filled from the labels.

Prometheus keeps no annotations with the history of ``ALERTS``. A value that was measured then is not known any more
and is told as such; what only Prometheus can work out (queries, conditions, loops) is left out the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Stand where a number or a text stood that is not kept.
VALUE, TEXT = "(value unknown)", "(not kept)"
#: What an alert is unless its monitor says that it is silenced.
FIRING = "firing"
_TAG = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_LABEL = re.compile(r"(?:\$labels|\.Labels)\.(\w+)")
_OPENS = re.compile(r"(if|range|with|define|block)\b")
_QUOTED = re.compile(r'"([^"\\]*)"|`([^`]*)`')
#: Functions of Prometheus' templates that only change how a text looks.
_FORMS: Mapping[str, Callable[[str], str]] = {
    "title": str.title,
    "toUpper": str.upper,
    "toLower": str.lower,
    "safeHtml": str,
    "print": str,
}


@dataclass(frozen=True)
class Rule:
    """An alerting rule. ``interval`` is its group's, in milliseconds."""

    alert: str
    interval: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Rendered:
    """What Prometheus or Alertmanager itself says about an alert that fires now."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    status: str = FIRING


class Rules:
    """The rules of today, by alert."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_alert: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_alert.setdefault(rule.alert, []).append(rule)

    def of(self, labels: Mapping[str, str]) -> list[Rule]:
        """The rules that an alert with these labels may come from, the one with the most labels in common first.
        A rule that adds other labels than these is none of them; a label that is a template fits any."""
        found = [rule for rule in self._by_alert.get(labels.get("alertname", ""), []) if _fits(rule, labels)]
        return sorted(found, key=lambda rule: -len(rule.labels))

    def interval(self, labels: Mapping[str, str]) -> int:
        """Milliseconds between two evaluations: of several rules the longest, 0 for an alert of none."""
        return max((rule.interval for rule in self.of(labels)), default=0)

    def annotations(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The annotations of an alert with these labels; none where its rule is gone."""
        rules = self.of(labels)
        if not rules:
            return {}
        measured = {key: value for key, value in labels.items() if key != "alertname" and key not in rules[0].labels}
        return {name: fill(text, labels, measured) for name, text in rules[0].annotations.items()}


def rendered(labels: Mapping[str, str], known: Sequence[Rendered]) -> Rendered | None:
    """What was said about the alert with these labels: the same name, no other value wherever both have a label, and
    the most labels in common. Prometheus may add labels on the way to Alertmanager, and take some away."""
    fitting = [
        one
        for one in known
        if one.labels.get("alertname") == labels.get("alertname")
        and all(labels.get(key, value) == value for key, value in one.labels.items())
    ]
    return max(fitting, key=lambda one: len(one.labels.keys() & labels.keys()), default=None)


def fill(template: str, labels: Mapping[str, str], all_labels: Mapping[str, str] | None = None) -> str:
    """A template of Prometheus with the labels filled in; a missing label is empty, as Prometheus has it.

    ``all_labels`` is what ``{{ $labels }}`` as a whole shows, which leaves out what the rule itself adds.
    """
    out: list[str] = []
    at, depth, trim = 0, 0, False
    for tag in _TAG.finditer(template):
        before = template[at : tag.start()]
        before = before.lstrip() if trim else before
        if depth == 0:
            out.append(before.rstrip() if tag[1] else before)
        at, trim = tag.end(), bool(tag[3])
        word = tag[2]
        if _OPENS.match(word):
            depth += 1
        elif word.split(" ")[0] == "end" and depth:
            depth -= 1
            out += [TEXT] if depth == 0 else []
        elif depth == 0:
            out.append(_said(word, labels, labels if all_labels is None else all_labels))
    if depth:
        return "".join([*out, TEXT])
    rest = template[at:]
    return "".join([*out, rest.lstrip() if trim else rest])


def _said(expression: str, labels: Mapping[str, str], all_labels: Mapping[str, str]) -> str:
    """One ``{{ expression }}`` outside conditions and loops."""
    if expression.startswith("/*") or re.match(r"\$\w+\s*:?=", expression):
        return ""
    if re.search(r"\$value\b|\.Value\b", expression):
        return VALUE
    first, *pipes = [part.strip() for part in expression.split("|")]
    if first in ("$labels", ".Labels") and not pipes:
        return f"map[{' '.join(f'{key}:{value}' for key, value in sorted(all_labels.items()))}]"
    if label := _LABEL.fullmatch(first):
        text = labels.get(label[1], "")
    elif quoted := _QUOTED.fullmatch(first):
        text = quoted[1] or quoted[2] or ""
    else:
        return TEXT
    for pipe in pipes:
        if pipe not in _FORMS:
            return TEXT
        text = _FORMS[pipe](text)
    return text


def _fits(rule: Rule, labels: Mapping[str, str]) -> bool:
    return all("{{" in value or labels.get(key) == value for key, value in rule.labels.items())
