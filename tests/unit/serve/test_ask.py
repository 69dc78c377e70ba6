from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from opstune.engines.base import Answer, Case
from opstune.errors import InputError
from opstune.serve import ask
from opstune.serve import engine as engines
from opstune.settings import ServeSettings


class Parrot:
    """Answers with what it was asked, and tells which file it is."""

    def __init__(self, gguf: Path) -> None:
        self.name = str(gguf)

    def answer(
        self, cases: Sequence[Case], *, constrained: bool, on_progress: Callable[[int, int], None] | None = None
    ) -> list[Answer]:
        assert constrained
        return [Answer(f"{self.name}: {case.skill} {dict(case.context)}", None, 1, 0.0) for case in cases]


@pytest.mark.parametrize("given", ["1.0.0", "1.0.0/gguf/model.gguf"])
def test_a_version_or_a_gguf_answers_under_the_skills_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    gguf = tmp_path / "1.0.0" / "gguf" / "model.gguf"
    gguf.parent.mkdir(parents=True)
    gguf.touch()
    monkeypatch.setattr(engines, "load", lambda file, settings: Parrot(file))
    said = ask(tmp_path / given, "triage", {"title": "it burns"}, ServeSettings())
    assert said.text == f"{gguf}: triage {{'title': 'it burns'}}"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.gguf is not there"):
        ask(tmp_path, "triage", {"title": "it burns"}, ServeSettings())
