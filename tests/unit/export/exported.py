"""One export in this process, and the GGUF's answers and token ids, as tests compare them with Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
from taught import Taught

from opstune.export.child import Result, Spec, export
from opstune.export.gotemplate import render
from opstune.skills.base import SYSTEM


@dataclass(frozen=True)
class Exported:
    """``out`` holds what ships, ``work`` the f16 GGUF and the merged model."""

    out: Path
    work: Path
    result: Result

    @property
    def f16(self) -> Path:
        return self.work / "f16.gguf"


def run_export(folder: Path, taught: Taught, converter: Path, **changes: Any) -> Exported:
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    asked = {
        "base": taught.base, "adapter": taught.adapter.path, "converter": converter, "out": out, "work": work,
        "quantisation": "Q8_0", "num_ctx": None, "lora": False, "nf4": False, "validation": None, "merge_rows": 8,
        "system": SYSTEM, "threads": 1,
    }  # fmt: skip
    return Exported(out, work, export(Spec.model_validate({**asked, **changes})))


def open_gguf(gguf: Path, **options: Any) -> llama_cpp.Llama:
    return llama_cpp.Llama(str(gguf), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False, **options)


def greedy(llama: llama_cpp.Llama, prompt: Sequence[int], limit: int = 60) -> list[int]:
    """Token ids up to the end of text, which is among them."""
    answer: list[int] = []
    for token in llama.generate(list(prompt), temp=0.0, top_k=1):
        answer.append(token)
        if token == llama.token_eos() or len(answer) == limit:
            break
    llama.reset()
    return answer


def asked_by_ollama(llama: llama_cpp.Llama, modelfile: str, messages: Sequence[dict[str, str]]) -> list[int]:
    """The token ids of a chat as Ollama makes them: the Modelfile's TEMPLATE in Go, then the GGUF's tokenizer."""
    [template] = re.findall(r'TEMPLATE """(.*?)"""', modelfile, re.DOTALL)
    turns = [{"Role": message["role"], "Content": message["content"]} for message in messages]
    return llama.tokenize(render(template, {"Messages": turns}).encode(), add_bos=True, special=True)


def asked_by_engine(llama: llama_cpp.Llama, messages: Sequence[dict[str, str]]) -> list[int]:
    """The token ids of a chat as our llama.cpp engine makes them: the GGUF's own template and tokenizer."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    def spelled(token: int) -> str:
        return llama.detokenize([token], special=True).decode() if token >= 0 else ""

    formatter = Jinja2ChatFormatter(
        llama.metadata["tokenizer.chat_template"],
        eos_token=spelled(llama.token_eos()),
        bos_token=spelled(llama.token_bos()),
    )
    prompt = formatter(messages=list(messages)).prompt  # type: ignore[arg-type]
    return llama.tokenize(prompt.encode(), add_bos=False, special=True)
