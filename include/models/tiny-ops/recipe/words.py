"""Random words and names: the raw material of the corpus.

Names are made, never listed: what has to be learnt is the copying of any string, and a list would be
learnt by heart instead.
"""

from collections.abc import Callable
from random import Random

from lexicon import ADJECTIVES, JOINTS, NOUNS, PROSE, UNITS, VERBS, split

_ONSETS = split(
    "b c d f g h j k l m n p r s t v w x z b c d f g h k l m n p r s t br ch cl cr dr fl gr pl pr qu sh sp st th tr"
)
_VOWELS = split("a e i o u a e i o a e i o ai au ea ee ie oo ou")
_CODAS = [*[""] * 10, *split("b d g k l m n p r s t x ck nd ng nt rt st er")]
_HEX = "0123456789abcdef"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_ALNUM = "abcdefghijklmnopqrstuvwxyz0123456789"


def pseudo(rng: Random) -> str:
    """An invented word of one to three syllables."""
    count = rng.choice((1, 1, 2, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def ordinary(rng: Random) -> str:
    """An English word."""
    return rng.choice(rng.choice((NOUNS, NOUNS, VERBS, ADJECTIVES, PROSE, PROSE)))


def word(rng: Random) -> str:
    """An English word, an invented one, or a short abbreviation: what names are made of."""
    draw = rng.random()
    if draw < 0.42:
        return ordinary(rng)
    if draw < 0.85:
        return pseudo(rng)
    return chars(rng, "abcdefghijklmnopqrstuvwxyz", 1, 5)


def chars(rng: Random, alphabet: str, low: int, high: int) -> str:
    """A random string over an alphabet, `low` to `high` characters long."""
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def digits(rng: Random, low: int = 1, high: int = 4) -> str:
    """A number as text, no leading zero."""
    return str(rng.randint(10 ** (low - 1), 10 ** rng.randint(low, high) - 1))


def snake(rng: Random) -> str:
    """Two or three words joined by underscores."""
    return "_".join(word(rng) for _ in range(rng.choice((2, 2, 3))))


def dashed(rng: Random) -> str:
    """One to three words joined by dashes."""
    return "-".join(word(rng) for _ in range(rng.choice((1, 2, 2, 2, 3))))


def camel(rng: Random) -> str:
    """Two to four capitalised words run together."""
    return "".join(word(rng).capitalize() for _ in range(rng.choice((2, 2, 3, 4))))


def suffixed(rng: Random) -> str:
    """A dashed name with a hash and a short random tail, as schedulers give them."""
    return f"{dashed(rng)}-{chars(rng, _HEX if rng.random() < 0.5 else _SAFE, 6, 10)}-{chars(rng, _SAFE, 5, 5)}"


def coded(rng: Random) -> str:
    """A word and a short code."""
    return f"{dashed(rng) if rng.random() < 0.3 else word(rng)}-{chars(rng, _SAFE, 3, 6)}"


def numbered(rng: Random) -> str:
    """A dashed name with a number at its end."""
    number = f"{rng.randint(0, 99):02d}" if rng.random() < 0.5 else digits(rng, 1, 3)
    return f"{dashed(rng)}-{number}"


def address(rng: Random) -> str:
    """Four numbers with dots or dashes, sometimes a prefix or a port."""
    parts = [str(rng.randint(0, 255)) for _ in range(4)]
    draw = rng.random()
    if draw < 0.4:
        return f"{rng.choice(('ip', 'ip', word(rng)))}-" + "-".join(parts)
    return ".".join(parts) + (f":{rng.randint(1, 65535)}" if draw < 0.6 else "")


def dotted(rng: Random) -> str:
    """Words and numbers joined by dots."""
    return ".".join(word(rng) if rng.random() < 0.8 else digits(rng) for _ in range(rng.choice((2, 3, 4))))


def path(rng: Random) -> str:
    """A file path."""
    tail = rng.choice(("", f".{chars(rng, _ALNUM, 2, 4)}"))
    return "/" + "/".join(word(rng) for _ in range(rng.choice((1, 2, 3)))) + tail


def version(rng: Random) -> str:
    """A version, with or without a leading v or a pre-release tail."""
    tail = rng.choice(("", "", "", f"-{chars(rng, _HEX, 6, 8)}", f"-rc{rng.randint(1, 9)}"))
    return rng.choice(("v", "")) + f"{rng.randint(0, 40)}.{rng.randint(0, 40)}.{rng.randint(0, 99)}" + tail


def quantity(rng: Random) -> str:
    """A number and its unit."""
    number = digits(rng, 1, 4) if rng.random() < 0.6 else f"{rng.randint(0, 999)}.{rng.randint(0, 99)}"
    return number + rng.choice(UNITS)


def timestamp(rng: Random) -> str:
    """A date and a time of day in ISO form."""
    day = f"{rng.randint(1990, 2039)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    time = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}"
    return f"{day}T{time}" + rng.choice(("Z", "", f".{rng.randint(0, 999):03d}Z"))


def image(rng: Random) -> str:
    """A slashed name with a tag after a colon."""
    return f"{word(rng)}/{dashed(rng)}:{version(rng)}"


def short(rng: Random) -> str:
    """A lone word."""
    return word(rng)


def token(rng: Random) -> str:
    """A bare random identifier."""
    return chars(rng, rng.choice((_HEX, _ALNUM, _SAFE, _ALNUM.upper())), 4, 14)


SHAPES: tuple[Callable[[Random], str], ...] = (
    suffixed, suffixed, coded, coded, coded, numbered, numbered, dashed, dashed, address, address, dotted,
    path, version, quantity, quantity, timestamp, image, short, short, token, snake, camel, digits,
)  # fmt: skip


def name(rng: Random) -> str:
    """A value of any shape."""
    return rng.choice(SHAPES)(rng)


def key(rng: Random) -> str:
    """A field's key: mostly a word, sometimes snake case."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(NOUNS)
    if draw < 0.7:
        return pseudo(rng)
    if draw < 0.9:
        return rng.choice((f"{rng.choice(NOUNS)}_{rng.choice(NOUNS)}", f"{rng.choice(ADJECTIVES)}_{rng.choice(NOUNS)}"))
    return snake(rng)


def phrase(rng: Random, low: int = 2, high: int = 6) -> str:
    """A few plain words, no names."""
    words = [ordinary(rng) if rng.random() < 0.65 else rng.choice(JOINTS) for _ in range(rng.randint(low, high))]
    return " ".join(words)


def sentence(rng: Random, low: int = 5, high: int = 18) -> str:
    """Words of prose with a name or a quantity here and there, as a log message reads."""
    parts = []
    for _ in range(rng.randint(low, high)):
        draw = rng.random()
        if draw < 0.5:
            parts.append(ordinary(rng))
        elif draw < 0.76:
            parts.append(rng.choice(JOINTS))
        elif draw < 0.84:
            parts.append(name(rng))
        elif draw < 0.92:
            parts.append(pseudo(rng))
        elif draw < 0.96:
            parts.append(rng.choice(("'{}'", "({})", "[{}]", "{}:", "{},", "{}=" + digits(rng))).format(word(rng)))
        else:
            parts.append(quantity(rng))
    text = " ".join(parts)
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text
