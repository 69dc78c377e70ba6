"""Which alert a text speaks of: its name and labels out of links, label lists, JSON, selectors and titles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from opstune.collect.prose.markdown import Part, plain, said

_NAME = r"[A-Za-z_][\w:.-]*"
_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_SELECTOR = re.compile(r"\{[^{}]*\balertname\s*=\s*\"[^\"]+\"[^{}]*\}")
_MATCHER = re.compile(r"([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*\"((?:[^\"\\]|\\.)*)\"")
_PAIR = re.compile(rf"^\s*(?:[-*+•]\s+)?[`*]*({_NAME})[`*]*\s*[=:]\s*[`\"]*([^`\"\n]*?)[`\"]*\s*$")
_FIRING = re.compile(rf"^\W*\[(?:FIRING|RESOLVED)(?::\d+)?\]\s*({_NAME})")
_TITLE = re.compile(
    rf"(?i)^\W*(?:(?:firing|resolved|alert)\s*:|\[[^\]]*\balert(?:manager)?\b[^\]]*\]\s*:?)\s*({_NAME})"
)
#: A word of a title is an alert's name when it is written as one: KubePodCrashLooping, disk_full, API:Errors.
_WRITTEN_AS_NAME = re.compile(r"(?:[A-Za-z0-9]*[a-z0-9][A-Z]\w*|\w+[_:]\w[\w:]*)$")
_PAGERS = ("pagerduty.com/incidents", "opsgenie.com/alert", "/#/alerts", "/alerting/", "/api/v2/alerts")
#: Characters of a monitor's name that is a sentence, as Datadog's are.
_LONGEST = 120
#: Places of a text where an object of JSON may begin that are tried.
_OBJECTS = 50


class Alert(NamedTuple):
    """What a text tells of an alert; empty where it does not."""

    name: str = ""
    labels: Mapping[str, str] = {}
    url: str = ""


def alert_of(title: str, texts: Sequence[str], told: Iterable[Part], links: Sequence[str]) -> Alert:
    """The alert behind an issue. ``told`` are the parts under a title such as Alert, ``links`` attached URLs.

    What machines wrote goes before what people wrote; a title's word counts only when it is written as a name.
    """
    told = list(told)
    urls = [*links, *(url.rstrip(".,;") for text in texts for url in _URL.findall(text))]
    url = next((url for url in urls if any(pager in url for pager in _PAGERS)), "")
    for labels in _labels(urls, texts):
        if name := labels.get("alertname"):
            return Alert(name, {key: value for key, value in labels.items() if key != "alertname"}, url)
    name = next(filter(None, map(_named, told)), "") or _titled(title)
    return Alert(name, {}, url)


def _labels(urls: Sequence[str], texts: Sequence[str]) -> Iterator[dict[str, str]]:
    for url in urls:
        yield _of_link(url)
    for text in texts:
        yield from _of_json(text)
    for text in texts:
        yield from _of_lists(text)
    for text in texts:
        for selector in _SELECTOR.findall(text):
            yield matchers(selector)


def matchers(selector: str) -> dict[str, str]:
    """The labels that a selector fixes: ``{alertname="Down",job=~".+"}`` fixes one."""
    return {
        name: value.replace('\\"', '"') for name, sign, value in _MATCHER.findall(selector) if sign == "=" and value
    }


def _of_link(url: str) -> dict[str, str]:
    """Alertmanager's interface keeps its filter behind the #, silences and APIs in the query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    query = parts.fragment.partition("?")[2] or parts.query
    return matchers(unquote(",".join(parse_qs(query).get("filter", []))))


def _of_json(text: str) -> Iterator[dict[str, str]]:
    """Labels of an alert or of Alertmanager's webhook, wherever an object in the text holds them."""
    decoder = json.JSONDecoder()
    for start in islice((found.start() for found in re.finditer(r"\{\s*\"", text)), _OBJECTS):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        for found in (value, value.get("commonLabels"), value.get("labels"), *_listed(value.get("alerts"))):
            if isinstance(found, Mapping) and isinstance(found.get("alertname"), str):
                yield {str(key): item for key, item in found.items() if isinstance(item, str)}


def _listed(alerts: Any) -> list[Any]:
    return [one.get("labels") for one in alerts if isinstance(one, Mapping)] if isinstance(alerts, list) else []


def _of_lists(text: str) -> Iterator[dict[str, str]]:
    """Runs of ``key = value`` lines, as Alertmanager's own templates write them, with an alertname among them."""
    run: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        found = _PAIR.match(line)
        if found and found[2]:
            run.setdefault(found[1], found[2])
            continue
        if re.fullmatch(_NAME, run.get("alertname", "")):
            yield run
        run = {}


def _named(part: Part) -> str:
    """The name in a part that is titled Alert: its own words, or the link's or the first item's."""
    text = part.text or (part.items[0].text if part.items else "")
    line = plain(next(iter(text.splitlines()), ""))
    if code := re.search(rf"`({_NAME})`", text):
        return code[1]
    line = re.sub(r"^\[(?:FIRING|RESOLVED)[^\]]*\]\s*", "", line)
    first = line.split(" ")[0].rstrip(",:;")
    if _WRITTEN_AS_NAME.match(first):
        return first
    return said(line) if len(line) <= _LONGEST and "://" not in line else ""


def _titled(title: str) -> str:
    line = plain(title)
    if firing := _FIRING.match(line):
        return firing[1].rstrip(".:-")
    found = _TITLE.match(line)
    name = found[1].rstrip(".:-") if found else ""
    return name if _WRITTEN_AS_NAME.match(name) else ""
