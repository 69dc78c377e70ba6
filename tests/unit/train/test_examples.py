from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_data import TEMPLATE, example

from opstune.errors import DataError
from opstune.examples import Example
from opstune.skills.base import SYSTEM, target
from opstune.train.examples import IGNORED, tokenise


@pytest.fixture
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def test_an_example_reads_as_it_will_be_asked(tokenizer: Any, prompt: Callable[[Example], str]) -> None:
    [row] = tokenise([example(1)], tokenizer, 400).rows
    chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(example(1))}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert row.ids[: row.answer] == asked
    assert tokenizer.decode(row.ids[row.answer :]) == target(example(1).answer) + "<|im_end|>"


def test_the_loss_counts_the_answer_and_its_end_alone(tokenizer: Any) -> None:
    [row] = tokenise([example(1)], tokenizer, 400).rows
    assert row.labels[: row.answer] == [IGNORED] * row.answer
    assert row.labels[row.answer :] == row.ids[row.answer :]
    assert row.ids[-1] == tokenizer.eos_token_id


def test_a_longer_example_is_left_out_and_named(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    long = example(2, context={"alert": "A" * 500})
    with caplog.at_level(logging.WARNING):
        found = tokenise([example(1), long], tokenizer, 400)
    assert found.too_long == [long.id] and len(found.rows) == 1
    assert long.id in caplog.text


def test_a_file_of_too_long_examples_is_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="none of 2 examples fits into 20 tokens"):
        tokenise([example(1), example(2)], tokenizer, 20)


def test_an_answer_begins_without_the_space_that_sentencepiece_sets_before_a_text() -> None:
    """Mistral's and Yi's tokenizers; decoding under a schema begins with the brace itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {chr(code): code for code in range(128)} | {"\u2581": 128, "\u2581{": 129, "</s>": 130}
    bare = Tokenizer(models.BPE(vocab=letters, merges=[("\u2581", "{")]))
    bare.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bare.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>", chat_template=TEMPLATE)
    assert tokenizer("{")["input_ids"] == [129]
    [row] = tokenise([example(1)], tokenizer, 400).rows
    assert tokenizer.convert_ids_to_tokens(row.ids[row.answer :])[:4] == ["{", '"', "f", "u"]


BAD = [
    ({"answer": {"function": "format_disk", "parameters": {}}}, "function 'format_disk' is not in functions.yaml"),
    ({"answer": {"text": "restart it"}}, "function: Field required; text: Extra inputs are not permitted"),
    ({"context": {"labels": {}}}, "alert: Field required"),
    ({"skill": "cooking"}, "there is no skill 'cooking'"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD, ids=["unknown function", "wrong keys", "no alert", "skill"])
def test_a_bad_example_is_named_with_what_is_wrong_and_where_it_came_from(
    changes: dict[str, Any], reason: str, tokenizer: Any
) -> None:
    bad = example(5, **changes)
    with pytest.raises(DataError) as raised:
        tokenise([example(1), bad], tokenizer, 400)
    assert f"example {bad.id} cannot be trained on: " in raised.value.what and reason in raised.value.what
    assert raised.value.where == "record 5 of source test"
