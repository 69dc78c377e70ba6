"""A merged model as a GGUF file: llama.cpp's converter to f16, llama.cpp's quantiser after it."""

from __future__ import annotations

import ctypes
import importlib
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import llama_cpp

from opstune.errors import ExportError
from opstune.export.vocabulary import Vocabulary

FTYPES = {
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}


def write_f16(converter: Path, model: Path, out: Path, vocabulary: Vocabulary) -> None:
    """Convert a Hugging Face model folder to an f16 GGUF.

    Raises:
        ExportError: the converter does not know the model.
    """
    # The name is fixed, or the temporary folder's would make every file's bytes differ. llama.cpp knows by it alone
    # that control tokens swallow what follows, as Phi-3's do.
    name = "opstune phi-3" if vocabulary.strips else "opstune"
    with _converter(converter, model, vocabulary):
        asked = [str(model), "--outfile", str(out), "--outtype", "f16", "--model-name", name]
        _run("convert_hf_to_gguf.py", asked, model.name, lambda: importlib.import_module("convert_hf_to_gguf").main())


def write_lora(converter: Path, base: Path, adapter: Path, out: Path, vocabulary: Vocabulary) -> None:
    """Convert an adapter to a GGUF that is loaded beside its base's.

    Raises:
        ExportError: the converter does not know the base's architecture, or turns its adapters round.
    """
    script = converter / "convert_lora_to_gguf.py"
    with _converter(converter, base, vocabulary) as architecture:
        if architecture == "GPT2LMHeadModel":
            what = "llama.cpp's converter transposes GPT-2's adapters, which peft keeps the other way round"
            raise ExportError(what, "export.lora", "Ship the merged model alone: set export.lora to false.")
        asked = [str(adapter), "--base", str(base), "--outfile", str(out), "--outtype", "f16"]
        _run(script.name, asked, base.name, lambda: runpy.run_path(str(script), run_name="__main__"))


def _run(script: str, asked: Sequence[str], model: str, main: Callable[[], object]) -> None:
    with _replaced(sys, "argv", [script, *asked]):
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                todo = "Its log above names the reason."
                raise ExportError("llama.cpp's converter refused the model", model, todo) from ended


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute with another value, for as long as the block lasts."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def _converter(converter: Path, model: Path, vocabulary: Vocabulary) -> Iterator[str]:
    """The converter's modules with this vocabulary in them; gives the model's architecture."""
    for folder in (converter / "gguf-py", converter):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    conversion, base = importlib.import_module("conversion"), importlib.import_module("conversion.base")
    load = base.ModelBase.load_hparams
    hparams = load(model, False)
    architecture = str(conversion.get_model_architecture(hparams, conversion.ModelType.TEXT))
    with ExitStack() as stack:
        stack.enter_context(_replaced(base.ModelBase, "load_hparams", staticmethod(_named_positions(load))))
        _teach(stack, base, conversion.get_model_class(architecture), vocabulary)
        yield architecture


def _teach(stack: ExitStack, base: Any, model_class: Any, vocabulary: Vocabulary) -> None:
    known, special = base.TextModel.get_vocab_base_pre, base.gguf.SpecialVocab._load

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            return vocabulary.split

    def load_special(self: Any, path: Path) -> None:
        special(self, path)
        self.add_special_token["bos"] = vocabulary.begins

    def set_vocab(self: Any) -> None:
        size = int(self.hparams["vocab_size"])
        unused = ((f"[PAD{index}]", -1e9, 5) for index in range(len(vocabulary.pieces), size))
        texts, scores, types = zip(*vocabulary.pieces, *unused, strict=True)
        self.gguf_writer.add_tokenizer_model("llama")
        self.gguf_writer.add_tokenizer_pre("default")
        self.gguf_writer.add_token_list(texts)
        self.gguf_writer.add_token_scores(scores)
        self.gguf_writer.add_token_types(types)
        self.gguf_writer.add_add_space_prefix(vocabulary.spaced)
        base.gguf.SpecialVocab(self.dir_model, n_vocab=size).add_to_gguf(self.gguf_writer)

    stack.enter_context(_replaced(base.TextModel, "get_vocab_base_pre", get_vocab_base_pre))
    stack.enter_context(_replaced(base.gguf.SpecialVocab, "_load", load_special))
    if vocabulary.sentencepiece:
        stack.enter_context(_replaced(model_class, "set_vocab", set_vocab))


def _named_positions(known: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """GPT-2's converter asks for ``n_ctx``, which its configurations no longer hold beside ``n_positions``."""

    def load_hparams(*arguments: Any, **named: Any) -> dict[str, Any]:
        found = known(*arguments, **named)
        if "n_positions" in found:
            found.setdefault("n_ctx", found["n_positions"])
        return found

    return load_hparams


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


def check_template(gguf: Path, template: str) -> None:
    """Compare the chat template in the GGUF, which llama.cpp and vLLM use, with the tokenizer's.

    Raises:
        ExportError: they differ.
    """
    vocabulary = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    try:
        if vocabulary.metadata.get("tokenizer.chat_template") != template:
            raise ExportError("the GGUF holds another chat template than the tokenizer", gguf.name, "Convert it again.")
    finally:
        vocabulary.close()


def check_tokens(gguf: Path, texts: Sequence[str], expected: Sequence[Sequence[int]], *, begin: bool = False) -> None:
    """Compare the GGUF's token ids of rendered chats with the ids that training saw.

    Args:
        begin: let the GGUF set what begins a text, as Ollama does, because the texts do not.

    Raises:
        ExportError: they differ; the file would be asked other questions than the model was taught.
    """
    vocabulary = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    try:
        for text, ids in zip(texts, expected, strict=True):
            found = vocabulary.tokenize(text.encode(), add_bos=begin, special=True)
            for at, (here, there) in enumerate(zip_longest(found, ids, fillvalue="none")):
                if here != there:
                    what = f"token {at} of a rendered chat is {here} in the GGUF and {there} in training"
                    todo = "Train the tokenizer with Qwen2's split, or teach export/vocabulary.py its own."
                    raise ExportError(what, gguf.name, todo)
    finally:
        vocabulary.close()
