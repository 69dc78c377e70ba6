"""What llama.cpp's converter must be told about a tokenizer, read from its tokenizer.json.

Its own reading knows published tokenizers by their hash, wants SentencePiece's file, which transformers no longer
saves, and without it gives every piece the same score, so that llama.cpp would merge in another order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: How llama.cpp calls a pre-tokenizer's split. Tokenizers trained elsewhere with the same one have no known hash.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_QWEN2_SPLIT: "qwen2", _QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|"): "llama-bpe"}
#: The score of a piece that no merge makes: below every merge.
_UNMERGED = -1e9
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
#: llama.cpp's token types (``llama_token_type`` in llama.h).
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE_TYPE = 1, 2, 3, 4, 5, 6
_SPACE = "\u2581"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as llama.cpp needs it.

    ``begins``: a chat begins with the beginning-of-text token. ``spaced``: SentencePiece's kind sets a space before
    text that follows a control token. Where such a text begins with a space, llama.cpp sets a second one; no template
    writes that, only a user who spells a control token. ``strips``: control tokens swallow the white space after them.
    """

    begins: bool
    spaced: bool
    strips: bool
    split: str
    pieces: tuple[tuple[str, float, int], ...]

    @property
    def sentencepiece(self) -> bool:
        return bool(self.pieces)


def read_vocabulary(folder: Path, tokenizer: Any, chat: Sequence[int]) -> Vocabulary:
    """The tokenizer of a model's folder; ``chat`` is the ids of any chat that it rendered."""
    stored = json.loads((folder / "tokenizer.json").read_text())
    added = {token["id"]: token for token in stored["added_tokens"]}
    is_sentencepiece = bool(stored["model"].get("byte_fallback"))
    return Vocabulary(
        begins=chat[0] == tokenizer.bos_token_id,
        spaced=is_sentencepiece and _sets_a_space(tokenizer, added.get(chat[0])),
        strips=any(token["rstrip"] and token["special"] for token in added.values()),
        split=_split_of(stored.get("pre_tokenizer") or {}),
        pieces=_pieces(stored["model"], added, tokenizer.unk_token) if is_sentencepiece else (),
    )


def _sets_a_space(tokenizer: Any, opening: dict[str, Any] | None) -> bool:
    """Whether text gets a space where a chat's first text stands: after its opening token, or at the beginning."""
    before = opening["content"] if opening else ""
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(f"{before}x", add_special_tokens=False)["input_ids"])
    return str(tokens[1 if opening else 0]).startswith(_SPACE)


def _split_of(pre_tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of a split; unknown ones are taken for Qwen2's, and ``check_tokens`` proves or refuses it."""
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    for part in parts:
        if part.get("type") == "Split" and (known := _SPLITS.get(part["pattern"].get("Regex"))):
            return known
    byte_level = [part for part in parts if part.get("type") == "ByteLevel"]
    return "gpt-2" if any(part.get("use_regex") for part in byte_level) else "qwen2"


def _pieces(
    model: dict[str, Any], added: dict[int, dict[str, Any]], unknown: str | None
) -> tuple[tuple[str, float, int], ...]:
    """(text, score, type) by id. llama.cpp merges what scores highest first, so a score is a merge's rank."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    texts = {index: text for text, index in model["vocab"].items()}
    texts |= {index: token["content"] for index, token in added.items()}

    def piece(index: int) -> tuple[str, float, int]:
        if index not in texts:
            return f"[PAD{index}]", _UNMERGED, _UNUSED
        text = texts[index]
        if index in added:
            return text, _UNMERGED, _CONTROL if added[index]["special"] and text != unknown else _kind(text, unknown)
        kind = _BYTE_TYPE if _BYTE.fullmatch(text) else _NORMAL
        return text, -float(ranks[text]) if text in ranks else _UNMERGED, kind

    return tuple(piece(index) for index in range(max(texts) + 1))


def _kind(text: str, unknown: str | None) -> int:
    return _UNKNOWN if text == unknown else _USER_DEFINED
