"""How each model family writes a chat down, as the Modelfile that tells Ollama.

Ollama matches a GGUF's Jinja template to its built-in ones by edit distance, so template and stop
words are written out; ``convert`` refuses a model whose own template renders otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opstune.errors import ExportError
from opstune.export import gotemplate

Message = dict[str, str]
#: More context than this costs memory that no skill needs.
_LONGEST_CONTEXT = 8192


@dataclass(frozen=True)
class Family:
    """One way of writing a chat: Ollama's template, without what begins every text.

    That is not written here because Ollama sets it itself, as the GGUF's tokenizer says.
    """

    name: str
    template: str
    stops: tuple[str, ...]

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as Ollama writes it, up to where the answer begins."""
        return gotemplate.render(
            self.template, {"Messages": [{"Role": turn["role"], "Content": turn["content"]} for turn in messages]}
        )


CHATML = Family(
    name="chatml",
    template=(
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
    ),
    stops=("<|im_end|>", "<|endoftext|>"),
)

LLAMA3 = Family(
    name="llama3",
    template=(
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    stops=("<|eot_id|>", "<|end_of_text|>"),
)

MISTRAL = Family(
    name="mistral",
    template=(
        "{{- $opened := false }}{{ range .Messages }}"
        '{{ if eq .Role "assistant" }}{{ .Content }}</s>{{ $opened = false }}'
        '{{ else if eq .Role "system" }}[INST] {{ .Content }}\n\n{{ $opened = true }}'
        "{{ else }}{{ if not $opened }}[INST] {{ end }}{{ .Content }}[/INST]{{ $opened = false }}{{ end }}{{ end }}"
    ),
    stops=("</s>",),
)

PHI3 = Family(
    name="phi3",
    template="{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n",
    stops=("<|end|>", "<|endoftext|>"),
)


def _plain(end: str) -> Family:
    """For bases without tokens of their own for turns: only the end of text is one."""
    return Family(
        name="plain",
        template=(
            "{{- range .Messages }}### {{ .Role }}\n{{ .Content }}"
            f'{{{{ if eq .Role "assistant" }}}}{end}{{{{ end }}}}\n{{{{ end }}}}### assistant\n'
        ),
        stops=(end,),
    )


def families(end: str) -> tuple[Family, ...]:
    """Every known family, for a tokenizer with this end of text."""
    return (CHATML, LLAMA3, MISTRAL, PHI3, _plain(end))


def family_of(render: Callable[[Sequence[Message]], str], system: str, end: str, begin: str = "") -> Family:
    """The family whose chats look as the tokenizer's own template renders them.

    Args:
        render: the tokenizer's template, asked for the next answer.
        system: the system message that every request carries.
        end: the tokenizer's end of text.
        begin: what the tokenizer's template may set before a chat.

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
        if all(render(chat).removeprefix(begin) == family.render(chat) for chat in chats):
            return family
    known = ", ".join(family.name for family in families(end))
    todo = f"Add its family to export/modelfile.py, or name a file of config/templates in the profile. Known: {known}."
    raise ExportError("the model's chat template is of no known family", "chat_template.jinja", todo)


def modelfile(family: Family, system: str, num_ctx: int, gguf: str = "model.gguf") -> str:
    """The text of a Modelfile; ``num_ctx`` is the context in tokens."""
    stops = "\n".join(f'PARAMETER stop "{stop}"' for stop in family.stops)
    return (
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{family.template}"""\n'
        f'SYSTEM """{system}"""\n'
        f"{stops}\n"
        f"PARAMETER num_ctx {num_ctx}\n"
        "PARAMETER temperature 0\n"
    )


def context_of(positions: int, window: int | None, asked: int | None) -> int:
    """The ``num_ctx`` of a model, in tokens.

    Args:
        positions: the longest sequence that the model was made for.
        window: the sliding window that llama.cpp does not know of, beyond which it would answer otherwise.
        asked: the profile's own; none takes what the model allows, up to 8,192.

    Raises:
        ExportError: more is asked for than the model has.
    """
    longest = min(positions, window or positions)
    if asked and asked > longest:
        what = f"num_ctx is {asked}, and the model answers within {longest} tokens"
        raise ExportError(what, "profile", f"Set num_ctx to {longest} or less, or leave it out.")
    return asked or min(longest, _LONGEST_CONTEXT)
