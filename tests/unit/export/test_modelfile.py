from __future__ import annotations

from collections.abc import Sequence

import pytest
from jinja2 import Environment

from opstune.errors import ExportError
from opstune.export.modelfile import CHATML, Family, Message, context_of, families, family_of, modelfile
from opstune.train.profiles import template_file

END = "<|end|>"
BEGIN = {"llama3": "<|begin_of_text|>", "mistral": "<s>"}


@pytest.mark.parametrize("family", families(END), ids=lambda family: family.name)
def test_a_family_is_recognised_by_what_its_template_renders(family: Family) -> None:
    """Each file in config/templates is of the family of its name."""
    end = "</s>" if family.name == "mistral" else END
    template = Environment().from_string(template_file(family.name).read_text())

    def render(messages: Sequence[Message]) -> str:
        begin = BEGIN.get(family.name, "")
        return template.render(messages=messages, add_generation_prompt=True, eos_token=end, bos_token=begin)

    assert family_of(render, "system", end, BEGIN.get(family.name, "")).name == family.name


def test_a_template_that_adds_anything_of_its_own_is_refused() -> None:
    def with_thoughts(messages: Sequence[Message]) -> str:
        return CHATML.render(messages) + "<think>\n"

    with pytest.raises(ExportError, match="no known family"):
        family_of(with_thoughts, "system", END)


@pytest.mark.parametrize(
    ("positions", "window", "asked", "expected"),
    [(2048, None, None, 2048), (131072, None, None, 8192), (131072, None, 16384, 16384), (32768, 4096, None, 4096)],
)
def test_the_context_is_no_longer_than_the_model_and_no_larger_than_needed(
    positions: int, window: int | None, asked: int | None, expected: int
) -> None:
    assert context_of(positions, window, asked) == expected


def test_a_modelfile_names_all_that_ollama_would_otherwise_guess() -> None:
    assert modelfile(CHATML, "Answer in JSON.", 2048) == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}'
        '<|im_start|>assistant\n"""\n'
        'SYSTEM """Answer in JSON."""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        "PARAMETER num_ctx 2048\n"
        "PARAMETER temperature 0\n"
    )
