"""How each model family writes a chat down, and the Modelfile that tells Ollama the same.

Ollama matches a GGUF's Jinja template to its built-in ones by edit distance, so template and stop
words are written out; ``convert`` refuses a model whose own template renders otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opstune.errors import ExportError

Message = dict[str, str]
#: More context than this costs memory that no skill needs.
_LONGEST_CONTEXT = 8192


@dataclass(frozen=True)
class Family:
    """One way of writing a chat: ``template`` in Ollama's language and ``render`` in ours say the same."""

    name: str
    template: str
    stops: tuple[str, ...]
    render: Callable[[Sequence[Message]], str]


def _chatml(messages: Sequence[Message]) -> str:
    turns = (f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


CHATML = Family(
    name="chatml",
    template=(
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    ),
    stops=("<|im_end|>", "<|endoftext|>"),
    render=_chatml,
)
FAMILIES = (CHATML,)


def family_of(render: Callable[[Sequence[Message]], str], system: str) -> Family:
    """The family whose chats look as the tokenizer's own template renders them.

    Args:
        render: the tokenizer's template, asked for the next answer.
        system: the system message that every request carries.

    Raises:
        ExportError: no family renders so.
    """
    chats: tuple[list[Message], ...] = (
        [{"role": "system", "content": system}, {"role": "user", "content": "one\n two "}],
        [
            {"role": "system", "content": system},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "{}"},
            {"role": "user", "content": "two"},
        ],
    )
    for family in FAMILIES:
        if all(render(chat) == family.render(chat) for chat in chats):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    todo = f"Add its family to export/modelfile.py. Known: {known}."
    raise ExportError("the model's chat template is of no known family", "chat_template.jinja", todo)


def modelfile(family: Family, system: str, context_tokens: int, gguf: str = "model.gguf") -> str:
    """The text of a Modelfile; ``context_tokens`` is the longest sequence the model was made for."""
    stops = "\n".join(f'PARAMETER stop "{stop}"' for stop in family.stops)
    return (
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{family.template}"""\n'
        f'SYSTEM """{system}"""\n'
        f"{stops}\n"
        f"PARAMETER num_ctx {min(context_tokens, _LONGEST_CONTEXT)}\n"
        "PARAMETER temperature 0\n"
    )
