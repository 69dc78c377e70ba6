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
    """One way of writing a chat: ``template`` in Ollama's language and ``render`` in ours say the same.

    But for what begins a text: Ollama sets that itself, as the GGUF's tokenizer says.
    """

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


def _llama3(messages: Sequence[Message]) -> str:
    turns = (f"{_header(message['role'])}{message['content']}<|eot_id|>" for message in messages)
    return "<|begin_of_text|>" + "".join(turns) + _header("assistant")


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


LLAMA3 = Family(
    name="llama3",
    template=(
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    stops=("<|eot_id|>", "<|end_of_text|>"),
    render=_llama3,
)


def _mistral(messages: Sequence[Message]) -> str:
    text, opened = "<s>", False
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "assistant":
            text += f"{content}</s>"
        else:
            text += ("" if opened else "[INST] ") + content + ("\n\n" if role == "system" else "[/INST]")
        opened = role == "system"
    return text


MISTRAL = Family(
    name="mistral",
    template=(
        "{{- $opened := false }}{{ range .Messages }}"
        '{{ if eq .Role "assistant" }}{{ .Content }}</s>{{ $opened = false }}'
        '{{ else if eq .Role "system" }}[INST] {{ .Content }}\n\n{{ $opened = true }}'
        "{{ else }}{{ if not $opened }}[INST] {{ end }}{{ .Content }}[/INST]{{ $opened = false }}{{ end }}{{ end }}"
    ),
    stops=("</s>",),
    render=_mistral,
)


def _plain(end: str) -> Family:
    """For bases without tokens of their own for turns: only the end of text is one."""

    def render(messages: Sequence[Message]) -> str:
        turns = (
            f"### {message['role']}\n{message['content']}{end if message['role'] == 'assistant' else ''}\n"
            for message in messages
        )
        return "".join(turns) + "### assistant\n"

    return Family(
        name="plain",
        template=(
            "{{- range .Messages }}### {{ .Role }}\n{{ .Content }}"
            f'{{{{ if eq .Role "assistant" }}}}{end}{{{{ end }}}}\n{{{{ end }}}}### assistant\n'
        ),
        stops=(end,),
        render=render,
    )


def families(end: str) -> tuple[Family, ...]:
    """Every known family, for a tokenizer with this end of text."""
    return (CHATML, LLAMA3, MISTRAL, _plain(end))


def family_of(render: Callable[[Sequence[Message]], str], system: str, end: str) -> Family:
    """The family whose chats look as the tokenizer's own template renders them.

    Args:
        render: the tokenizer's template, asked for the next answer.
        system: the system message that every request carries.
        end: the tokenizer's end of text.

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
    for family in families(end):
        if all(render(chat) == family.render(chat) for chat in chats):
            return family
    known = ", ".join(family.name for family in families(end))
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
