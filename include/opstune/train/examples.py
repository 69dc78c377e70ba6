"""Examples as tokens: what the model reads, and where in it the loss counts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from opstune.errors import DataError, OpstuneError
from opstune.examples import Example, what_is_wrong
from opstune.skills import get
from opstune.skills.base import messages, target

log = logging.getLogger(__name__)

IGNORED = -100
#: How SentencePiece spells a space.
_SPACE = "\u2581"


@dataclass(frozen=True)
class Tokens:
    """One example: the ids of prompt and answer, and where the answer begins."""

    ids: list[int]
    answer: int

    @property
    def labels(self) -> list[int]:
        """The ids to learn; the prompt's places hold ``IGNORED``."""
        return [IGNORED] * self.answer + self.ids[self.answer :]


@dataclass(frozen=True)
class Tokenised:
    """All examples that fit, in their order, and the ids of those that do not."""

    rows: list[Tokens]
    too_long: list[str]

    @property
    def tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)


def tokenise(examples: Sequence[Example], tokenizer: Any, max_length: int) -> Tokenised:
    """Every example in the base's chat template, the answer ended by the tokenizer's end of text.

    Prompt and answer are tokenised apart, because a model is asked with the prompt alone. What the
    template puts after the end of text (ChatML's newline) is never generated, so it is not learnt.

    Args:
        max_length: tokens of prompt and answer together; a longer example is left out, never cut.

    Raises:
        DataError: an example cannot become a prompt (it is named), or none fits.
    """
    pairs = [texts(example, tokenizer) for example in examples]
    encode = {"add_special_tokens": False, "return_attention_mask": False}
    prompts = tokenizer([prompt for prompt, _ in pairs], **encode)["input_ids"] if pairs else []
    answers = _within_text([answer for _, answer in pairs], tokenizer, encode) if pairs else []
    rows, too_long = [], []
    for example, prompt, answer in zip(examples, prompts, answers, strict=True):
        row = Tokens([*prompt, *_to_the_end(answer, tokenizer.eos_token_id)], len(prompt))
        if len(row.ids) > max_length:
            too_long.append(example.id)
        else:
            rows.append(row)
    if not rows:
        what = f"none of {len(examples)} examples fits into {max_length} tokens"
        raise DataError(what, "dataset", "Raise max_length in the profile, or look at what was collected.")
    if too_long:
        log.warning(
            "%d of %d examples are longer than %d tokens and were left out, the first is %s",
            len(too_long), len(examples), max_length, too_long[0],
        )  # fmt: skip
    return Tokenised(rows, too_long)


def chat(example: Example) -> list[dict[str, str]]:
    """An example as a chat: system, user, and the assistant's answer.

    Raises:
        DataError: it cannot become a prompt.
    """
    try:
        skill = get(example.skill)
        skill.context_model.model_validate(example.context)
        skill.answer_model.model_validate(example.answer)
        return [*messages(skill, example.context), {"role": "assistant", "content": target(example.answer)}]
    except (OpstuneError, ValueError, KeyError, TypeError) as error:
        reason = what_is_wrong(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        todo = "Correct or remove it at its source, and build the dataset again."
        what = f"example {example.id} cannot be trained on: {reason}"
        raise DataError(what, f"record {example.source_id} of source {example.source}", todo) from error


def texts(example: Example, tokenizer: Any) -> tuple[str, str]:
    """(prompt, answer) as text, in the chat template.

    Raises:
        DataError: it cannot become a prompt, or the template does not begin an answered chat with its question.
    """
    whole_chat = chat(example)
    prompt: str = tokenizer.apply_chat_template(whole_chat[:-1], tokenize=False, add_generation_prompt=True)
    whole: str = tokenizer.apply_chat_template(whole_chat, tokenize=False)
    if not whole.startswith(prompt):
        todo = "Use a base whose template puts the assistant's words after the generation prompt."
        raise DataError("the base's chat template does not begin an answered chat with its question", "tokenizer", todo)
    return prompt, whole[len(prompt) :]


def _within_text(answers: Sequence[str], tokenizer: Any, encode: dict[str, bool]) -> list[list[int]]:
    """The tokens of answers as they follow a prompt: SentencePiece's kind sets a space before what begins a text."""
    opening = tokenizer("{", **encode)["input_ids"]
    if not tokenizer.convert_ids_to_tokens(opening)[0].startswith(_SPACE):
        alone: list[list[int]] = tokenizer(list(answers), **encode)["input_ids"]
        return alone
    line = len(tokenizer("\n", **encode)["input_ids"])
    return [ids[line:] for ids in tokenizer([f"\n{answer}" for answer in answers], **encode)["input_ids"]]


def _to_the_end(answer: list[int], end: int) -> list[int]:
    return answer[: answer.index(end) + 1] if end in answer else [*answer, end]
