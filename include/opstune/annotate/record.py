"""One example as a task: what leaves the house, scrubbed, and how answers about it find back to what was scrubbed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

from opstune.annotate.forms.base import Form, Json, lines_of
from opstune.artifacts import fingerprint
from opstune.examples import Example

#: An example without secrets and with pseudonyms; the dataset's own, passed in by the pipeline.
Scrub = Callable[[Example], Example]

#: Keys of a task's data that are ours on every page.
ID, RECORD, STALE, NOTICE = "opstune_id", "record", "stale", "notice"
#: Who gave the answer that a task shows, where it was not a model.
BY_RECORD = "the record"
LOOK_AGAIN = (
    "This record changed after it was annotated. Please look again: correct the answer and update it; where it still "
    "holds, give the stars anew and update."
)

_TOKEN = re.compile(r"[\w.@%+-]+(?::[\w.@%+-]+)*|\s+|[^\w\s]")
_SECRET = "<secret:"


@dataclass(frozen=True)
class Record:
    """An example beside its scrubbed self, seen through a form."""

    example: Example
    clean: Example
    form: Form

    @cached_property
    def shown(self) -> Json:
        return self.form.shown(self.clean)

    @property
    def title(self) -> str:
        return str(self.shown["title"])

    @cached_property
    def fingerprint(self) -> str:
        """Changes with what people are asked about, not with how it is shown: sixteen hex digits over the scrubbed
        record."""
        return fingerprint([self.clean.context, self.clean.answer, self.clean.outcome])[:16]

    def task(self, proposal: Mapping[str, Any], by: str, why: str) -> Json:
        """The task's data. ``proposal`` is the scrubbed answer that is shown, ``by`` who gave it."""
        failed = by == BY_RECORD and self.clean.outcome == "failure"
        source = f"from {by}{'; it was tried and failed' if failed else ''}"
        told = f"{lines_of(proposal)}\n\n{source}" if proposal else "Nobody knows yet."
        ours = {ID: self.example.id, RECORD: self.fingerprint, NOTICE: "", STALE: {}}
        return {**self.shown, "proposal": told, "answer": dict(proposal), "by": by, "why": why, **ours}

    def restored(self, value: Any) -> Any:
        """A value with the pseudonyms of this record turned back, so that answer and context name the same things.

        The dataset scrubs both again, together. A secret stays hidden: nothing tells two of them apart.
        """
        return _replace(value, self._pseudonyms)

    @cached_property
    def _pseudonyms(self) -> dict[str, str]:
        """Pseudonym → what it stands for, learned from the texts of this record."""
        fields = ("context", "answer", "source_id", "group_id", "notes")
        found: dict[str, str] = {}
        for name in fields:
            pairs = zip(_texts(getattr(self.example, name)), _texts(getattr(self.clean, name)), strict=False)
            for real, clean in pairs:
                if real != clean:
                    found.update(_differences(real, clean))
        return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _differences(real: str, clean: str) -> Iterator[tuple[str, str]]:
    before, after = _TOKEN.findall(real), _TOKEN.findall(clean)
    for change, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        pseudonym = "".join(after[k:m])
        if change == "replace" and _SECRET not in pseudonym and "secret" not in after[k:m]:
            yield pseudonym, "".join(before[i:j])


def _replace(value: Any, pseudonyms: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        if not pseudonyms:
            return value
        listed = "|".join(re.escape(name) for name in sorted(pseudonyms, key=len, reverse=True))
        return re.sub(rf"(?<![\w.])(?:{listed})(?![\w]|\.\d)", lambda match: pseudonyms[match[0]], value)
    if isinstance(value, Mapping):
        return {name: _replace(item, pseudonyms) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, pseudonyms) for item in value]
    return value
