"""Pseudonyms of e-mails, IP addresses and people: the same everywhere, and of the same shape.

An e-mail becomes ``user-1f3a5b7c@example.org``, a private IPv4 another address of its range, a public one an
address in 198.18.0.0/15 (RFC 2544, never routed), a private IPv6 one in fd00::/8, a public one in 2001:db8::/32
(RFC 3849), a configured name ``person-1f3a5b7c``. Networks, loopback and link-local addresses stay: they mean
something. Host names stay as well, except the address in one such as ``ip-10-3-97-119``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

_EMAIL = re.compile(r"(?<![\w.%+-])(?P<local>[\w.%+-]+)(?:@|%40)(?:[\w-]+\.)+(?P<top>[^\W\d_]{2,}|xn--[\w-]+)(?![\w-])")
_IPV4 = re.compile(
    r"(?:(?<![\w.-])|(?<=\.\d-)|(?<=\.\d\d-)|(?<=\.\d\d\d-))(?:\d{1,3}\.){3}\d{1,3}"
    r"(?![\w]|-(?!(?:\d{1,3}\.){3}\d)|\.\d|/[12]?\d(?!\d))"
)
_IPV6 = re.compile(r"(?i)(?<![\w:.])(?:[23][0-9a-f]{3}|f[cd][0-9a-f]{2}):[0-9a-f:]*[0-9a-f](?![\w:]|\.\d)")
#: Two colons with no more than a group between them are in every IPv6 address that is one.
_COLONS = re.compile(r":[0-9a-fA-F]{0,4}:")
_HOST = re.compile(r"(?<![\w-])ip-(?P<address>\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3})(?![\w-])")
_PRIVATE = [
    ipaddress.ip_network(network) for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
_PRIVATE_6, _PUBLIC_4, _PUBLIC_6 = (
    ipaddress.ip_network(network) for network in ("fd00::/96", "198.18.0.0/15", "2001:db8::/96")
)
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")
_OURS = re.compile(r"user-[0-9a-f]{8}")
#: ``getty@tty1.service`` is a systemd unit, ``git@github.com`` a login that everybody shares.
_UNITS = {"service", "socket", "timer", "mount", "target", "slice", "scope", "path", "device", "swap"}
_SHARED_LOGINS = {"git", "hg"}
_WORD = re.compile(r"[^\W_]+")


def pseudonym(value: str) -> str:
    """Eight hex digits that stand for a value."""
    return hashlib.sha256(f"opstune:{value.lower()}".encode("utf-8", "surrogatepass")).hexdigest()[:8]


class Rule(NamedTuple):
    """What is replaced. ``hint`` is in every text that holds some, and ``probe`` is true of it where there is one."""

    kind: str
    hint: str
    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str]], str]
    probe: Callable[[str], object] | None = None

    def applies(self, text: str) -> bool:
        """Whether anything in a text has to be replaced."""
        if self.hint not in text or (self.probe and not self.probe(text)):
            return False
        return any(self.replace(match) != match[0] for match in self.pattern.finditer(text))


def rules(names: Sequence[str]) -> list[Rule]:
    """How to replace e-mails, addresses and these names, in this order."""
    return [
        Rule("email", "@", _EMAIL, _email),
        Rule("email", "%40", _EMAIL, _email),
        Rule("ip-address", ".", _IPV4, lambda match: _address(match[0])),
        Rule("ip-address", ":", _IPV6, lambda match: _address(match[0]), _COLONS.search),
        Rule("ip-address", "ip-", _HOST, _host),
        *_people([name for name in names if _WORD.search(name)]),
    ]


def _people(names: Sequence[str]) -> Iterator[Rule]:
    """The names in any case, composed or not, with spaces, line ends, dots, dashes or underscores between the words."""
    forms = {unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")}
    listed = "|".join(
        r"[\s._-]+".join(map(re.escape, _words(form))) for form in sorted(forms, key=lambda form: (-len(form), form))
    )
    first = {_WORD.findall(form)[0].lower() for form in forms}

    def named(text: str) -> bool:
        """Whether a first word is in a text: far quicker than the pattern, the more so the more names there are."""
        return not first.isdisjoint(_WORD.findall(text.lower()))

    def person(match: re.Match[str]) -> str:
        return f"person-{pseudonym(' '.join(_words(unicodedata.normalize('NFC', match[0]))))}"

    if forms:
        yield Rule("name", "", re.compile(rf"(?i)(?<![^\W_])(?:{listed})(?![^\W_])"), person, named)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s._-]+", name) if word]


def _email(match: re.Match[str]) -> str:
    if match["top"].lower() in _UNITS or match["local"].lower() in _SHARED_LOGINS or _OURS.fullmatch(match["local"]):
        return match[0]
    address = match[0].replace("%40", "@")
    return f"user-{pseudonym(address)}{'@' if address == match[0] else '%40'}example.org"


def _host(match: re.Match[str]) -> str:
    return f"ip-{_address(match['address'].replace('-', '.')).replace('.', '-')}"


@lru_cache(maxsize=100_000)
def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    home = next((network for network in _PRIVATE if address in network), None)
    if address in _UNIQUE_LOCAL:
        home = _PRIVATE_6
    if home is None and not address.is_global:
        return text
    network = home or (_PUBLIC_4 if address.version == 4 else _PUBLIC_6)
    return str(network[int(pseudonym(str(address)), 16) % network.num_addresses])
