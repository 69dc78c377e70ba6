"""Which version of an example counts when people have annotated it: theirs, whenever the source tells its own again.

The store keeps what people said as an example of the source ``label_studio``. ``joined`` reads it and the record that
it is about as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from opstune.examples import Example

SOURCE: Final = "label_studio"
#: The key of ``metadata`` under which an annotation names its record.
KEY: Final = "annotation"

#: What people decide about an example, with the context in which they decided it.
_THEIRS = ("context", "answer", "outcome", "human_validated", "rating", "annotator", "corrections", "notes")


def joined(examples: Iterable[Example]) -> list[Example]:
    """Every example once, in the order given, as people have answered it where they have.

    An answered example keeps its own id, source and group, so it stays on its side of the split. It keeps the context
    that people saw, too: after the record changed, answer and context still belong together. Annotations without an
    answer (skipped, "cannot say", undecided, withdrawn) leave their example alone.
    """
    records, said = [], {}
    for example in examples:
        if example.source != SOURCE:
            records.append(example)
        elif example.human_validated:
            said[example.metadata[KEY]["record"]["id"]] = example
    return [_as_answered(record, said.pop(record.id, None)) for record in records] + [
        _alone(answer) for answer in said.values()
    ]


def _as_answered(record: Example, answer: Example | None) -> Example:
    if answer is None:
        return record
    update: dict[str, Any] = {name: getattr(answer, name) for name in _THEIRS}
    return record.model_copy(update={**update, "metadata": {**record.metadata, KEY: answer.metadata[KEY]}})


def _alone(answer: Example) -> Example:
    """An answer whose record the store has lost speaks for itself."""
    about = answer.metadata[KEY]["record"]
    return answer.model_copy(update={name: about[name] for name in ("id", "source", "source_id")})
