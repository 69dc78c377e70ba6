"""Secrets out, people and addresses under pseudonyms, the same everywhere in an example.

A secret becomes ``<secret:kind>``; detectors.py and assignments.py say what one looks like. What an answer may
have to repeat keeps its shape and gets one pseudonym everywhere (pseudonyms.py). Pseudonyms are plain hashes,
the same in every build, so that duplicates stay duplicates; who can guess a value can confirm the guess, so a
dataset stays as confidential as the history it came from.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from opstune.dataset import pseudonyms
from opstune.dataset.detectors import DETECTORS, Detector
from opstune.dataset.literals import Literals
from opstune.dataset.records import RECORDS, TEXTS, given_away, seen, telling
from opstune.examples import Example

#: A secret found once is removed wherever else it stands in the example, unless it may be a name as well:
#: the password of ``postgres:postgres@`` must not take every "postgres" with it.
_UNMISTAKABLE = re.compile(r"(?=.*[\d\W])(?!.*[A-Za-z]+[-_.][a-z]+$).{8,}", re.DOTALL)
#: Signs without width, which copies from chats and wikis bring along in the middle of words.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
#: A long token that was wrapped goes on in the next line.
_WRAPPED = re.compile(r"(?:\\?\r?\n[^\S\r\n]*(?=\S*\d)(?=\S*[A-Z])(?=\S*[a-z])[\w+/=.~-]{16,}(?=[\s\"',;)}\]]|$))*")
_LONG = re.compile(r"[\w+/=.~-]{40,}$")
_BLOCK = 256
_REMEMBERED = 100_000
_LITERALS = sorted({hint for detector in DETECTORS for hint in detector.hints if len(hint) > 2})
_SCAN = Literals(_LITERALS)
#: Literal → the places in ``DETECTORS`` of those that it hints at; and of those that have a hint too short to scan for.
_BY_LITERAL = [{n for n, detector in enumerate(DETECTORS) if literal in detector.hints} for literal in _LITERALS]
_SHORT = {n for n, detector in enumerate(DETECTORS) if any(len(hint) < 3 for hint in detector.hints)}


def placeholder(kind: str) -> str:
    return f"<secret:{kind}>"


@dataclass
class Scrubbed:
    """Counts over all examples: replacements by kind, and examples that had any."""

    kinds: Counter[str] = field(default_factory=Counter)
    examples: int = 0


def scrub(examples: Iterable[Example], names: Sequence[str] = ()) -> tuple[list[Example], Scrubbed]:
    """Every example without secrets, with pseudonyms for e-mails, IP addresses and ``names``."""
    scrubbed, cleaned = Scrubbed(), []
    for clean, kinds in Scrubber(names).examples(list(examples)):
        cleaned.append(clean)
        scrubbed.kinds.update(kinds)
        scrubbed.examples += bool(kinds)
    return cleaned, scrubbed


@dataclass(frozen=True)
class _Clean:
    text: str
    kinds: tuple[str, ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()


class Scrubber:
    """Cleans texts and examples; remembers texts, since labels repeat thousands of times."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._rules = pseudonyms.rules(names)
        self._known: dict[str, _Clean] = {}

    def examples(self, examples: Sequence[Example]) -> Iterator[tuple[Example, Counter[str]]]:
        """Each example without secrets in any text or key, and what was replaced, by kind.

        Most examples are clean, and looking at many at once is far quicker than cleaning each.
        """
        for start in range(0, len(examples), _BLOCK):
            block = examples[start : start + _BLOCK]
            said = [seen(example) for example in block]
            suspicious = self.suspicious(["\n".join(lines) for lines in said])
            self._learn({line for position in suspicious for line in said[position]})
            for position, example in enumerate(block):
                yield self._example(example) if position in suspicious else (example, Counter())

    def text(self, text: str) -> str:
        """One text without secrets."""
        return self.clean(text).text

    def clean(self, text: str) -> _Clean:
        known = self._known.get(text)
        if known is None:
            (hinted,) = _hinted([_visible(text)])
            known = self._known[text] = self._clean(text, hinted)
        return known

    def suspicious(self, texts: Sequence[str]) -> set[int]:
        """The positions of all texts in which something may have to go; never without one that has."""
        texts = [_visible(text) for text in texts]
        hinted = _hinted(texts)
        return {position for position, text in enumerate(texts) if self._any_found(text, hinted[position])}

    def _any_found(self, text: str, hinted: Iterable[int]) -> bool:
        folded = text.lower()
        return any(rule.applies(text) for rule in self._rules) or any(DETECTORS[n].found(text, folded) for n in hinted)

    def _learn(self, texts: Iterable[str]) -> None:
        """Clean the texts of suspicious examples, most of which are clean themselves."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        unknown = sorted(text for text in texts if text not in self._known)
        for text, hinted in zip(unknown, _hinted([_visible(text) for text in unknown]), strict=True):
            self._known[text] = self._clean(text, hinted)

    def _example(self, example: Example) -> tuple[Example, Counter[str]]:
        found = _Found(self)
        update = {name: found.clean(getattr(example, name)) for name in (*TEXTS, *RECORDS)}
        if repeated := _repeated(found.secrets):
            update = {name: _mask(value, repeated) for name, value in update.items()}
        return example.model_copy(update=update), found.kinds

    def _clean(self, text: str, hinted: Iterable[int]) -> _Clean:
        kinds: list[str] = []
        secrets: list[tuple[str, str]] = []
        clean = _visible(text)
        for number in sorted(hinted):
            clean = _hide(clean, DETECTORS[number], kinds, secrets)
        for rule in self._rules:
            if rule.applies(clean):
                clean = _rename(clean, rule, kinds)
        return _Clean(clean, tuple(kinds), tuple(secrets)) if kinds else _Clean(text)


@dataclass
class _Found:
    """Walks one example's values, gathering what was replaced."""

    scrubber: Scrubber
    kinds: Counter[str] = field(default_factory=Counter)
    secrets: set[tuple[str, str]] = field(default_factory=set)

    def clean(self, value: Any, key: str = "") -> Any:
        if given_away(value, key):
            self.kinds["credential"] += 1
            self.secrets.add((str(value), "credential"))
            return placeholder("credential")
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            names = [(str(name), item) for name, item in value.items()]
            return {self._text(name): self.clean(item, telling(value, name, key)) for name, item in names}
        if isinstance(value, list | tuple):
            if any(isinstance(item, str) and "PRIVATE KEY" in item for item in value):
                return self._lines(value)
            return [self.clean(item, key) for item in value]
        return value

    def _text(self, text: str) -> str:
        clean = self.scrubber.clean(text)
        self.kinds.update(clean.kinds)
        self.secrets.update(clean.secrets)
        return clean.text

    def _lines(self, values: Sequence[Any]) -> list[Any]:
        """A private key that stands as a list of its lines shows only when they are put together."""
        lines = [item for item in values if isinstance(item, str)]
        return [*self._text("\n".join(lines)).split("\n"), *(self.clean(v) for v in values if not isinstance(v, str))]


def _visible(text: str) -> str:
    return text if text.isascii() else _INVISIBLE.sub("", text)


def _hinted(texts: Sequence[str]) -> list[set[int]]:
    """Which detectors' hints are in each text."""
    found = [set(_SHORT) for _ in texts]
    for position, literal in _SCAN.found(texts):
        found[position] |= _BY_LITERAL[literal]
    return found


def _hide(text: str, detector: Detector, kinds: list[str], secrets: list[tuple[str, str]]) -> str:
    """The text with placeholders for what a detector finds; notes kinds and secrets."""
    if detector.probe and not detector.probe.search(text.lower()):
        return text
    pieces, at = [], 0
    for match in detector.pattern.finditer(text):
        for start, end in detector.secrets(match):
            if start < at:
                continue
            if _LONG.search(text, start, end) and (wrapped := _WRAPPED.match(text, end)):
                end = wrapped.end()
            kinds.append(detector.kind)
            secrets.append((text[start:end], detector.kind))
            pieces += [text[at:start], placeholder(detector.kind)]
            at = end
    return "".join([*pieces, text[at:]])


def _rename(text: str, rule: pseudonyms.Rule, kinds: list[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        replaced = rule.replace(match)
        if replaced != match[0]:
            kinds.append(rule.kind)
        return replaced

    return rule.pattern.sub(replace, text)


def _repeated(secrets: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What else to look for in an example: its secrets, also unwrapped, in URLs and in base64; the longest first."""
    every = dict[str, str]()
    for secret, kind in sorted(secrets):
        if _UNMISTAKABLE.fullmatch(secret):
            raw = secret.encode("utf-8", "surrogatepass")
            joined = re.sub(r"\\?\s+", "", secret) if "\n" in secret else secret
            for form in (secret, joined, quote(raw, safe=""), base64.b64encode(raw).decode()):
                every.setdefault(form, kind)
    return dict(sorted(every.items(), key=lambda item: -len(item[0])))


def _mask(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret, kind in secrets.items():
            value = value.replace(secret, placeholder(kind))
        return value
    if isinstance(value, dict):
        return {_mask(name, secrets): _mask(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, secrets) for item in value]
    return value
