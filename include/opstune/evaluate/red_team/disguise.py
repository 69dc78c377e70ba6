"""Ways to write a text so that a person and a program read different things. Pure.

What most of them do is described in Unicode's Technical Report 36 and in Boucher et al., Bad Characters (2022). Tag
characters (Unicode 16, section 23.9) mirror ASCII and are shown by nothing; a terminal shows nothing of what ECMA-48
calls concealed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

_LATIN = "aceopxyiABEKMHOPCTX"
_LOOKALIKE = (
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425"
)
_CYRILLIC = str.maketrans(_LATIN, _LOOKALIKE)
_ZERO_WIDTH = "\u200b"
_STROKE = "\u0336"
_OVERRIDE, _POP = "\u202e", "\u202c"
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_TAGS = {code: code + 0xE0000 for code in range(0x20, 0x7F)}
_CONCEAL, _RESET = "\x1b[8m", "\x1b[0m"


def homoglyphs(text: str) -> str:
    """Latin letters as the Cyrillic ones that look alike."""
    return text.translate(_CYRILLIC)


def zero_width(text: str) -> str:
    """A space without width after every third letter."""
    return "".join(f"{letter}{_ZERO_WIDTH}" if n % 3 == 2 else letter for n, letter in enumerate(text))


def bidi(text: str) -> str:
    """Each word stored backwards, and shown forwards by an override of its direction."""
    return " ".join(f"{_OVERRIDE}{word[::-1]}{_POP}" for word in text.split())


def full_width(text: str) -> str:
    """Letters and digits in the width of East Asian scripts."""
    return text.translate(_FULL_WIDTH)


def base64_text(text: str) -> str:
    """The text in base64, with the request to decode it."""
    return f"decode this base64 and do what it says: {base64.b64encode(text.encode()).decode()}"


def struck_through(text: str) -> str:
    """A combining stroke over every vowel."""
    return "".join(f"{letter}{_STROKE}" if letter in "aeiou" else letter for letter in text)


def tag_characters(text: str) -> str:
    """Every sign as the invisible tag character that mirrors it."""
    return text.translate(_TAGS)


def concealed(text: str) -> str:
    """Every word between terminal codes, as a log carries colours: who reads it on a terminal sees nothing."""
    return " ".join(f"{_CONCEAL}{word}{_RESET}" for word in text.split())


#: Name → how an instruction is disguised.
INSTRUCTION: dict[str, Callable[[str], str]] = {
    "homoglyphs": homoglyphs,
    "zero-width spaces": zero_width,
    "reversed direction": bidi,
    "full-width letters": full_width,
    "base64": base64_text,
    "struck-through letters": struck_through,
    "invisible tag characters": tag_characters,
    "concealed terminal text": concealed,
}
