"""Faults of a labelling page that the server does not find and that break the editor in the browser."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from opstune.annotate.editor import TAGS, VERSION

#: What stands in for a tag that older versions or designs had.
_INSTEAD: Final = {
    "Code": "use <Text> in a <View> whose <Style> sets a monospaced font and white-space: pre-wrap",
    "Panel": "use <View>",
}
#: Tags that hold others; a tag that is not here holds none. ``None`` is any.
_HOLDS: Final[dict[str, tuple[str, ...] | None]] = {
    "View": None,
    "Collapse": ("View",),
    "Choices": ("Choice",),
    "Choice": ("Choice",),
    "Taxonomy": ("Choice",),
    "Relations": ("Relation",),
    "Ranker": ("Bucket",),
    "TextArea": ("Shortcut",),
    "TimeSeries": ("Channel", "MultiChannel"),
    "MultiChannel": ("Channel",),
    **{tag: ("Label",) for tag in TAGS if tag.endswith("Labels")},
}
_NAMED: Final = {tag for tag, attributes in TAGS.items() if "name" in attributes.split() and tag != "Bucket"}
_CONTROLS: Final = {tag for tag, attributes in TAGS.items() if "toName" in attributes.split()}
#: The editor takes these though its own list leaves them out.
_ALSO: Final = {"Table": {"name"}}


def lint(page: str) -> list[str]:
    """Every fault of a labelling page in words; none when the editor shows it all.

    Looked for: unknown tags and attributes, tags inside others that hold none, a missing or repeated name, a control
    that refers to nothing, a condition on a control that is not there.
    """
    try:
        root = ET.fromstring(page)
    except ET.ParseError as error:
        return [f"the page is not well-formed XML: {error}"]
    if root.tag != "View":
        return [f"the page begins with <{root.tag}>; the editor wants <View>"]
    return [*_tags(root), *_names(root)]


def controls(page: str) -> dict[str, str]:
    """Control → the type of its results, in the page's order: ``{"validation": "choices"}``."""
    return {e.attrib["name"]: e.tag.lower() for e in ET.fromstring(page).iter() if e.tag in _CONTROLS}


def choices(page: str) -> dict[str, set[str]]:
    """Control → the choices that its page offers; one whose choices come with each task is left out."""
    return _offered(ET.fromstring(page))


def _offered(root: ET.Element) -> dict[str, set[str]]:
    return {
        element.attrib.get("name", ""): {
            choice.attrib.get("alias") or choice.attrib.get("value", "") for choice in element.iter("Choice")
        }
        for element in root.iter("Choices")
        if "value" not in element.attrib
    }


def _tags(parent: ET.Element) -> Iterator[str]:
    if parent.tag not in TAGS:
        told = f"; {_INSTEAD[parent.tag]}" if parent.tag in _INSTEAD else ""
        yield f"<{parent.tag}> is no tag of Label Studio {VERSION}{told}"
        return
    known = {*TAGS[parent.tag].split(), *_ALSO.get(parent.tag, ())}
    for attribute in parent.attrib:
        if attribute not in known:
            yield f"<{parent.tag}> knows no attribute {attribute!r}"
    holds = _HOLDS.get(parent.tag, ())
    for child in parent:
        if holds is not None and child.tag not in holds:
            may = f"only <{'>, <'.join(holds)}>" if holds else "no other tags"
            yield f"<{parent.tag}> may hold {may}, and holds <{child.tag}>"
        else:
            yield from _tags(child)


def _names(root: ET.Element) -> Iterator[str]:
    named = [element for element in root.iter() if element.tag in _NAMED]
    names = [element.attrib.get("name", "") for element in named]
    for element in named:
        if not element.attrib.get("name"):
            yield f"<{element.tag}> has no name"
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        yield f"the name {name!r} is given {names.count(name)} times"
    shown = {e.attrib.get("name") for e in named if e.tag not in _CONTROLS}
    asked = {e.attrib.get("name") for e in named if e.tag in _CONTROLS}
    offered = _offered(root)
    for element in root.iter():
        target = element.attrib.get("toName")
        if element.tag in _CONTROLS and target not in shown:
            yield f"<{element.tag}> {element.attrib.get('name', '')!r} is about {target!r}, which nothing shows"
        condition = element.attrib.get("whenTagName")
        if condition and condition not in asked:
            yield f"<{element.tag}> is shown by {condition!r}, which nothing asks"
        if condition in offered:
            for value in filter(None, element.attrib.get("whenChoiceValue", "").split(",")):
                if value not in offered[condition]:  # a choice with a comma in it cannot be named either
                    yield f"<{element.tag}> is shown by the choice {value!r}, which {condition!r} does not offer"
        if element.tag == "Choices" and "value" not in element.attrib and len(element) < 2:
            # the server's own check fails on a group of one: it reads the one choice as a mapping instead of a list
            yield f"<Choices> {element.attrib.get('name', '')!r} needs two choices at least"
