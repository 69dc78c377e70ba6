from __future__ import annotations

from collections.abc import Sequence

import pytest

from opstune.errors import ExportError
from opstune.export.modelfile import CHATML, Message, family_of, modelfile


def test_a_family_is_recognised_by_what_its_template_renders() -> None:
    assert family_of(CHATML.render, "system") is CHATML


def test_a_template_that_adds_anything_of_its_own_is_refused() -> None:
    def with_thoughts(messages: Sequence[Message]) -> str:
        return CHATML.render(messages) + "<think>\n"

    with pytest.raises(ExportError, match="no known family"):
        family_of(with_thoughts, "system")


@pytest.mark.parametrize(("longest", "expected"), [(2048, 2048), (131072, 8192)])
def test_a_modelfile_names_all_that_ollama_would_otherwise_guess(longest: int, expected: int) -> None:
    assert modelfile(CHATML, "Answer in JSON.", longest) == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}'
        '<|im_start|>assistant\n"""\n'
        'SYSTEM """Answer in JSON."""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        f"PARAMETER num_ctx {expected}\n"
        "PARAMETER temperature 0\n"
    )
