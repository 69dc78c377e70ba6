"""The tokenizer that a training uses: with a chat template, and with the token that ends an answer."""

from __future__ import annotations

from typing import Any

from opstune.engines.weights import load_tokenizer
from opstune.errors import ConfigError
from opstune.train.spec import Spec

_ANSWER = "{}"
_CHAT = [
    {"role": "system", "content": "system"},
    {"role": "user", "content": "user"},
    {"role": "assistant", "content": _ANSWER},
]


def tokenizer_of(spec: Spec) -> Any:
    """The base's tokenizer, with the profile's chat template where it names one.

    Its end of text is what the template puts after an answer, since that is what the model learns to stop at,
    and what every engine, and the GGUF, takes from the saved tokenizer.

    Raises:
        ConfigError: there is no chat template, or it ends an answer with what is no token of this base.
    """
    tokenizer = load_tokenizer(spec.base)
    if spec.chat_template:
        tokenizer.chat_template = spec.chat_template
    if not tokenizer.chat_template:
        todo = "Name one of config/templates in the profile, as `chat_template: plain`."
        raise ConfigError(f"the base {spec.base_name} has no chat template", f"profile {spec.profile}", todo)
    if tokenizer.eos_token_id is None:
        todo = "Set eos_token in its tokenizer_config.json."
        raise ConfigError(f"the tokenizer of {spec.base_name} names no end of text", f"profile {spec.profile}", todo)
    _stop_at_the_end_of_an_answer(tokenizer, spec)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding carries no label, so any token serves
    return tokenizer


def _stop_at_the_end_of_an_answer(tokenizer: Any, spec: Spec) -> None:
    whole: str = tokenizer.apply_chat_template(_CHAT, tokenize=False)
    after = whole.rpartition(_ANSWER)[2]
    if not after.strip():
        return  # the template leaves the end open: the end of text is set there
    first = tokenizer(after, add_special_tokens=False)["input_ids"][0]
    if first == tokenizer.eos_token_id:
        return
    known = tokenizer.added_tokens_decoder.get(first)
    if known is None:
        what = f"the chat template ends an answer with {after.strip()!r}, which {spec.base_name} has no token for"
        todo = "Choose a template whose tokens the base knows; `plain` needs none but the end of text."
        raise ConfigError(what, f"profile {spec.profile}", todo)
    tokenizer.eos_token = known.content
