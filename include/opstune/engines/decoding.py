"""Decoding under a case's JSON schema, the same for every engine: one matcher a row over the tokenizer's vocabulary.

The same matcher serves Hugging Face and llama.cpp, so what was tested is decoded as what ships is. llama-cpp-python's
own schema converter is not used: a quote in an enum value gives a grammar that crashes the process.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from opstune.errors import EvaluationError

log = logging.getLogger(__name__)

#: Compact JSON, as the model is taught to write it. Alternatives of a ``oneOf`` are tried as an ``anyOf``.
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":", "coerce_one_of": True}
_KEPT_GRAMMARS = 256


class Constraint:
    """What one answer may still become. Tokens that have no alternative are taken without asking the model."""

    def __init__(self, matcher: LLMatcher, skill: str) -> None:
        self._matcher = matcher
        self._skill = skill

    @property
    def finished(self) -> bool:
        """The answer is whole: nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def allow(self, row: NDArray[np.int32]) -> None:
        """Write the allowed next tokens as bits into one row of a mask."""
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        self._check()

    def accept(self, token: int) -> None:
        """Go on with a chosen token alone, for those who ask the model for every token."""
        self._matcher.consume_token(token)
        self._check()

    def take(self, token: int) -> list[int]:
        """Go on with a chosen token; returns it and the tokens that must follow."""
        self.accept(token)
        return [token, *self.forced()]

    def forced(self) -> list[int]:
        """Go on with the tokens that have no alternative here."""
        if self._matcher.is_stopped():
            return []
        tokens: list[int] = self._matcher.compute_ff_tokens()
        self._matcher.consume_tokens(tokens)
        self._check()
        return tokens

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EvaluationError(
                f"decoding under the schema of {self._skill} failed: {self._matcher.get_error()}",
                "decoding",
                "This is a fault of the schema or of llguidance; decode this case alone to see it.",
            )


class Constraints:
    """Schemas → constraints over one tokenizer. Compiled grammars are kept by their text."""

    def __init__(self, tokenizer: LLTokenizer, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def start(self, skill: str, schema: Mapping[str, Any]) -> Constraint | None:
        """A fresh constraint, or none when no answer at all is valid under the schema.

        Raises:
            EvaluationError: the schema cannot be compiled.
        """
        text = json.dumps(schema, ensure_ascii=False)
        if text not in self._compiled:
            grammar = LLMatcher.grammar_from_json_schema(text, overrides=_COMPACT)
            self._compiled[text] = LLMatcher(self._tokenizer, grammar, log_level=0)
            if len(self._compiled) > _KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        matcher = self._compiled[text]
        self._compiled.move_to_end(text)
        if not matcher.is_error():
            return Constraint(matcher.deep_copy(), skill)
        if "unsatisfiable" in matcher.get_error().lower():
            log.warning("no answer of skill %s is valid for this case; it counts as unanswered", skill)
            return None
        raise EvaluationError(
            f"the schema of {skill} cannot be compiled: {matcher.get_error().splitlines()[0]}",
            "decoding",
            "Correct the skill's schema().",
        )

    def allowed(self, rows: Sequence[Constraint]) -> NDArray[np.bool_]:
        """Which token may come next, (rows, vocabulary)."""
        bits = np.zeros((len(rows), -(-self.vocabulary // 32)), dtype=np.int32)
        for row, constraint in zip(bits, rows, strict=True):
            constraint.allow(row)
        unpacked = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little", count=self.vocabulary)
        return unpacked.view(np.bool_)
