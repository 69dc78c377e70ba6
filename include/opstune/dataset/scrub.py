"""Secrets out, people and addresses under pseudonyms, the same everywhere in an example.

A secret becomes ``<secret:kind>``. What an answer may have to repeat keeps its shape and gets one
pseudonym everywhere: an e-mail ``user-1f3a5b7c@example.org``, a private IPv4 another address of its range,
a public one an address in 198.18.0.0/15 (RFC 2544, never routed), a public IPv6 one in 2001:db8::/32
(RFC 3849), a configured name ``person-1f3a5b7c``. Host names stay: they are what on-call acts on, and so do
networks, loopback and link-local addresses, which mean something. Pseudonyms are plain hashes, the same in
every build, so that duplicates stay duplicates; who can guess a value can confirm the guess, so a dataset
stays as confidential as the history it came from.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from opstune.dataset.detectors import DETECTORS, Detector, is_secret_of, may_hold_secret
from opstune.examples import Example

_EMAIL = re.compile(r"(?<![\w.%+-])(?P<local>[A-Za-z0-9._%+-]+)@(?:[A-Za-z0-9-]+\.)+(?P<top>[A-Za-z]{2,})(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|/[12]?\d(?!\d))")
_IPV6 = re.compile(r"(?i)(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]*[0-9a-f](?![\w:]|\.\d)")
_PRIVATE = [
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
_PUBLIC_4, _PUBLIC_6 = ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("2001:db8::/96")
_PSEUDONYM = re.compile(r"user-[0-9a-f]{8}")
#: ``getty@tty1.service`` is a systemd unit, ``git@github.com`` a login that everybody shares.
_UNITS = {"service", "socket", "timer", "mount", "target", "slice", "scope", "path", "device", "swap"}
_SHARED_LOGINS = {"git", "hg"}
#: A secret found once is removed wherever else it stands in the example, unless it may be a name as well:
#: the password of ``postgres:postgres@`` must not take every "postgres" with it.
_UNMISTAKABLE = re.compile(r"(?=.*[\d\W])(?!.*[A-Za-z]+[-_.][a-z]+$).{8,}", re.DOTALL)
#: Fields that identify an example to opstune; hashes and fixed words that hold nothing of the record.
_TEXTS = ("source_id", "group_id", "annotator", "notes")
_RECORDS = ("context", "answer", "corrections", "metadata")


def pseudonym(value: str) -> str:
    """Eight hex digits that stand for a value."""
    return hashlib.sha256(f"opstune:{value.lower()}".encode()).hexdigest()[:8]


def placeholder(kind: str) -> str:
    return f"<secret:{kind}>"


@dataclass
class Scrubbed:
    """Counts over all examples: replacements by kind, and examples that had any."""

    kinds: Counter[str] = field(default_factory=Counter)
    examples: int = 0


def scrub(examples: Iterable[Example], names: Sequence[str] = ()) -> tuple[list[Example], Scrubbed]:
    """Every example without secrets, with pseudonyms for e-mails, IP addresses and ``names``."""
    scrubber, scrubbed, cleaned = Scrubber(names), Scrubbed(), []
    for example in examples:
        clean, kinds = scrubber.example(example)
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
        listed = "|".join(re.escape(name) for name in sorted(filter(None, names), key=len, reverse=True))
        self._names = re.compile(rf"(?i)(?<!\w)(?:{listed})(?!\w)") if listed else None
        self._known: dict[str, _Clean] = {}

    def example(self, example: Example) -> tuple[Example, Counter[str]]:
        """The example without secrets in any text, and what was replaced, by kind."""
        found = _Found(self)
        fields = {name: getattr(example, name) for name in (*_TEXTS, *_RECORDS)}
        if not self._suspicious("\n".join(_lines(fields))):
            return example, found.kinds
        update = {name: found.clean(value) for name, value in fields.items()}
        if repeated := {secret: kind for secret, kind in sorted(found.secrets) if _UNMISTAKABLE.fullmatch(secret)}:
            update = {name: _mask(value, repeated) for name, value in update.items()}
        return example.model_copy(update=update), found.kinds

    def text(self, text: str) -> str:
        """One text without secrets."""
        return self.clean(text).text

    def clean(self, text: str) -> _Clean:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._clean(text)
        return known

    def _suspicious(self, text: str) -> bool:
        """Whether anything in a text may have to go. Most examples are clean, and this is far quicker than cleaning."""
        return may_hold_secret(text) or any(
            hint in text and any(replace(match) != match[0] for match in pattern.finditer(text))
            for _, hint, pattern, replace in self._pseudonyms()
        )

    def _clean(self, text: str) -> _Clean:
        kinds: list[str] = []
        secrets: list[tuple[str, str]] = []
        folded = text.lower()
        for detector in DETECTORS:
            if detector.hinted(text, folded):
                text = detector.pattern.sub(_hide(detector, kinds, secrets), text)
        for kind, hint, pattern, replace in self._pseudonyms():
            if hint in text:
                text = pattern.sub(_rename(kind, replace, kinds), text)
        return _Clean(text, tuple(kinds), tuple(secrets))

    def _pseudonyms(self) -> Iterable[tuple[str, str, re.Pattern[str], Callable[[re.Match[str]], str]]]:
        """Kind, what every text that holds one contains, the pattern, and its pseudonym."""
        yield "email", "@", _EMAIL, _rename_email
        yield "ip-address", ".", _IPV4, _rename_address
        yield "ip-address", ":", _IPV6, _rename_address
        if self._names:
            yield "name", "", self._names, lambda match: f"person-{pseudonym(match[0])}"


@dataclass
class _Found:
    """Walks one example's values, gathering what was replaced."""

    scrubber: Scrubber
    kinds: Counter[str] = field(default_factory=Counter)
    secrets: set[tuple[str, str]] = field(default_factory=set)

    def clean(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            if key and is_secret_of(key, value):
                self.kinds["credential"] += 1
                self.secrets.add((value, "credential"))
                return placeholder("credential")
            clean = self.scrubber.clean(value)
            self.kinds.update(clean.kinds)
            self.secrets.update(clean.secrets)
            return clean.text
        if isinstance(value, Mapping):
            return {self.clean(str(name)): self.clean(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(item, key) for item in value]
        return value


def _hide(detector: Detector, kinds: list[str], secrets: list[tuple[str, str]]) -> Callable[[re.Match[str]], str]:
    def hide(match: re.Match[str]) -> str:
        if not detector.accept(match):
            return match[0]
        kinds.append(detector.kind)
        secrets.append((match[detector.group], detector.kind))
        start, end = (position - match.start() for position in match.span(detector.group))
        return f"{match[0][:start]}{placeholder(detector.kind)}{match[0][end:]}"

    return hide


def _rename(kind: str, replace: Callable[[re.Match[str]], str], kinds: list[str]) -> Callable[[re.Match[str]], str]:
    def rename(match: re.Match[str]) -> str:
        replaced = replace(match)
        if replaced != match[0]:
            kinds.append(kind)
        return replaced

    return rename


def _rename_email(match: re.Match[str]) -> str:
    if (
        match["top"].lower() in _UNITS
        or match["local"].lower() in _SHARED_LOGINS
        or _PSEUDONYM.fullmatch(match["local"])
    ):
        return match[0]
    return f"user-{pseudonym(match[0])}@example.org"


def _rename_address(match: re.Match[str]) -> str:
    return _address(match[0])


@lru_cache(maxsize=100_000)
def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    home = next((network for network in _PRIVATE if address in network), None)
    if home is None and not address.is_global:
        return text
    network = home or (_PUBLIC_4 if address.version == 4 else _PUBLIC_6)
    return str(network[int(pseudonym(str(address)), 16) % network.num_addresses])


def _lines(value: Any, key: str = "") -> Iterator[str]:
    """Every text in a value as ``key=text``, so that a secret under a telling key is an assignment."""
    if isinstance(value, str):
        yield f"{key}={value}"
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _lines(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _lines(item, key)


def _mask(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, placeholder(secrets[secret]))
        return value
    if isinstance(value, Mapping):
        return {_mask(name, secrets): _mask(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_mask(item, secrets) for item in value]
    return value
