"""Word pools, and a tiny grammar: ``[this|that]`` chooses, ``{name}`` is filled in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from random import Random

_CHOICE = re.compile(r"\[([^\[\]]*)\]")

_FIRST = (
    "amber basalt bitter blue bold brave bright broad calm cedar clean clear clover cobalt cold cool copper coral "
    "cotton crimson curious dark deep dry dusty eager early ember faint fair fast fresh frosty gentle glass golden "
    "green grey happy hazel heavy hidden hollow honest huge idle indigo island ivory jade juniper late lazy light "
    "little loose loud low lunar maple marble meadow mild modern narrow neat noisy odd pale paper plain polar polite "
    "proud quick quiet rare ready red rich ripe river rough round rusty saffron sharp shy silent silver simple slow "
    "small smooth soft solid spring steady stiff still stone strange strong summer sunny sweet tall thick thin tidal "
    "tidy tiny upper velvet walnut warm wet white wide wild willow winter wise wooden yellow young"
)
_SECOND = (
    "anchor arch badger bank barrel basket beacon blanket bridge bucket button candle canyon carpet castle channel "
    "chapter circle clock cloud comet compass corner cradle desk dial door drawer drum edge engine falcon feather "
    "fence ferry field finger flag flame flour flower folder forest frame garden gate glacier glove grain guide "
    "hammer handle harbour hill horse house jacket journal kettle key kitchen kite ladder lagoon lake lantern leaf "
    "letter lever library lock magnet market medal meter mirror motor mountain needle orchard otter oven packet paint "
    "panel parcel path pattern pencil piano picture pillow pipe planet plate pocket port press puzzle quarry quill "
    "rail reef ribbon ring road roof room rope row sail sample sand scale school screen sensor shelf ship shop signal "
    "sleeve song spoon square stable stage stamp star station story stove street string summit switch table tail "
    "thread ticket tile tool tower town track trail train tray tree trunk tunnel turret valley valve vessel village "
    "visitor voice wagon wall watch wave weather wharf wheel window wire yard"
)
FIRST = tuple(_FIRST.split())
SECOND = tuple(_SECOND.split())
CODE_LETTERS = "bcdfghjklmnpqrstvwxz23456789"


def expand(rng: Random, template: str, slots: Mapping[str, object]) -> str:
    """One reading of a template: each ``[a|b]`` chosen at random, inner ones first, then the slots filled."""
    while _CHOICE.search(template):
        template = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
    return " ".join(template.format_map(dict(slots)).split())


def readings(template: str) -> int:
    """How many texts a template stands for, slots apart."""
    while _CHOICE.search(template):
        template = _CHOICE.sub(lambda found: f"\0{sum(map(_product, found[1].split('|')))}\0", template)
    return _product(template)


def _product(part: str) -> int:
    return math.prod(int(count) for count in part.split("\0")[1::2])
