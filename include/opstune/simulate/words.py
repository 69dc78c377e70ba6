"""Word pools, and a tiny grammar: ``[this|that]`` chooses, ``{name}`` is filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

_CHOICE = re.compile(r"\[([^\[\]]*)\]")

FIRST = (
    "amber autumn azure barley basalt birch bitter blue brass bright bronze calm cedar chalk cider clay clover cobalt "
    "cold copper coral cotton crimson crystal dapple dawn deep distant dusk dusty early ebony elder ember fallow fern "
    "flint foggy frost gentle ginger glass golden granite grassy green grey hazel heather hidden hollow honey humble "
    "indigo iron island ivory ivy jade jolly juniper kindly lark late laurel lavender lemon light lilac lime linen "
    "little lively lunar maple marble meadow mellow midnight mild mint misty modern mossy narrow nimble north nutmeg "
    "oaken ocean olive opal orange orchid paper pearl pepper pewter pine plain plum polar poppy proud purple quiet "
    "quick rapid raven ready red ripe river robin rocky rosy round royal ruby rustic saffron sage sandy scarlet shady "
    "sharp silent silver simple sleepy slate small smooth snowy soft solar spring spruce steady steel still stone "
    "sturdy summer sunny swift tall tawny teal tender thistle tidal tiny topaz tulip upper velvet violet walnut warm "
    "western white wild willow winter wooden yellow young zesty"
).split()
SECOND = (
    "anchor anvil apple arch arrow badger bank barn barrel basin basket beacon beaver bell bench bird boat bottle "
    "bridge brook bucket button cabin camel canal candle canyon castle cave chapel chest chimney circle cliff clock "
    "cloud coast comet compass corner crane creek crow crown curtain desk dial door dove drum eagle engine falcon farm "
    "feather ferry field finch flag flame flute forest fork forge fountain fox gallery garden gate glacier glove goose "
    "grain grove hammer harbour harp hatch hawk hedge hill hinge horn horse inlet jacket jar kettle key kite ladder "
    "lagoon lake lamp lantern leaf lever library lizard lock loom magnet mantle market mast meadow medal mill mirror "
    "moose mound mountain needle nest oar orchard otter owl paddle palace panel parcel path pebble pencil piano pier "
    "pigeon pillow pipe planet plough pocket pond porch port prairie pulley quarry quill rabbit raft ranch reef ridge "
    "ring road robe roof rope rudder saddle sail school shelf shell ship shore signal spade spark spoon spruce stable "
    "stage stair star station stove stream street summit swan table tailor temple tent thread tiger timber tower track "
    "trail tram trunk tunnel turret valley vault vessel village wagon wall watch wave wharf wheel window wing wren yard"
).split()
CODE_LETTERS = "bcdfghjkmnpqrtvwxz2456789"


def expand(rng: Random, template: str, slots: Mapping[str, object]) -> str:
    """One reading of a template: each ``[a|b]`` chosen at random, inner ones first, then the slots filled."""
    while _CHOICE.search(template):
        template = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), template)
    return " ".join(template.format_map(dict(slots)).split())


def readings(template: str) -> int:
    """How many texts a template stands for, slots apart."""
    count, depth, alternatives = 1, 0, [0]
    stack: list[tuple[int, int]] = []
    del depth, alternatives
    total = 0
    for mark in template:
        if mark == "[":
            stack.append((count, total))
            count, total = 1, 0
        elif mark == "|":
            count, total = 1, total + count
        elif mark == "]":
            before, sum_before = stack.pop()
            count, total = before * (total + count), sum_before
    return total + count
