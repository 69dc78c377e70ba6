"""What a form is, and the values of controls as Label Studio keeps them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from opstune import skills
from opstune.examples import Example
from opstune.skills.base import render_record

Json = dict[str, Any]

CANNOT_SAY = "cannot say"
#: The object that every control of our pages is about.
SHOWN = "case"


class Choice(NamedTuple):
    """One entry of a catalogue: what is chosen, and what it means."""

    value: str
    hint: str = ""


@dataclass(frozen=True)
class Reading:
    """One person's answer. ``label`` is what two people must agree on; ``answer`` is none where nobody could tell.

    ``fault`` says why it cannot be read as an answer; then nothing else counts.
    """

    label: str = ""
    answer: Json | None = None
    rating: int | None = None
    notes: str = ""
    fault: str = ""
    ratings: Mapping[str, int] | None = None


class Form(Protocol):
    """One labelling page and its reading. Pure: no server, no clock."""

    @property
    def name(self) -> str: ...

    @property
    def skill(self) -> str: ...

    def catalogues(self) -> dict[str, Sequence[Choice]]:
        """The choices that the page leaves open as ``{name}``."""
        ...

    def shown(self, example: Example) -> Json:
        """The task's data: ``case``, what it is called (``title``), and what else this page shows."""
        ...

    def prefilled(self, answer: Mapping[str, Any], example: Example) -> list[Json]:
        """What the controls say before a person has touched them, from an answer that is known or predicted."""
        ...

    def read(self, given: Given, proposal: Mapping[str, Any], example: Example) -> Reading:
        """What a person said. ``proposal`` is the answer that the page showed, empty when it showed none."""
        ...

    def same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether two answers under one label teach the same."""
        ...


class Given:
    """The values of one annotation, by control."""

    def __init__(self, result: Sequence[Mapping[str, Any]]) -> None:
        self._values: dict[str, Mapping[str, Any]] = {
            str(part["from_name"]): part.get("value") or {} for part in result if part.get("from_name")
        }

    def choices(self, control: str) -> list[str]:
        return [str(choice) for choice in self._values.get(control, {}).get("choices") or ()]

    def choice(self, control: str) -> str:
        """The one choice, or an empty text."""
        return next(iter(self.choices(control)), "")

    def text(self, control: str) -> str:
        found = self._values.get(control, {}).get("text") or ()
        return "\n".join([found] if isinstance(found, str) else map(str, found)).strip()

    def stars(self, control: str) -> int | None:
        found = self._values.get(control, {}).get("rating")
        return int(found) if found else None


def chosen(control: str, *values: str) -> list[Json]:
    """A choice as a result, or nothing for no value."""
    picked = [value for value in values if value]
    return [_result(control, "choices", {"choices": picked})] if picked else []


def written(control: str, text: str) -> list[Json]:
    """A text as a result, or nothing for an empty one."""
    return [_result(control, "textarea", {"text": [text]})] if text else []


def rated(control: str, stars: int) -> list[Json]:
    """A rating as a result."""
    return [_result(control, "rating", {"rating": stars})]


def case_of(example: Example, leave_out: Collection[str] = ()) -> str:
    """The example's context for people, as the model reads it."""
    context = {key: value for key, value in example.context.items() if key not in leave_out}
    return skills.get(example.skill).render(context).partition("\n")[2]


def lines_of(record: Mapping[str, Any]) -> str:
    """A record for people: ``key: value`` lines, blocks indented, empty ones left out."""
    return render_record("", record).partition("\n")[2]


def _result(control: str, kind: str, value: Json) -> Json:
    return {"from_name": control, "to_name": SHOWN, "type": kind, "value": value}
