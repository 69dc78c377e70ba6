"""Secrets that only their surroundings give away: under a telling key, in a URL, behind a flag, in a header."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

Spans = Iterable[tuple[int, int]]

_GAP = r"[^\S\r\n]*"
_SPACE = r"[^\S\r\n]+"
_QUOTE = r"\\?[\"'`]"
#: What may stand around a key or a value in Markdown and in typographic text.
_MARKS = r"[*_`]{0,3}"
_CURLY = "[“”„‘’«»]"
#: To the closing quote, or as far as a value goes that has none: a comma, semicolon or ampersand ends it
#: only before another key or a space, so that a password may hold one.
_VALUE = (
    rf"(?P<quote>{_QUOTE})?{_CURLY}?(?P<value>(?(quote)(?:(?!(?P=quote))(?:\\.|[^\n\\]|\\$))+|"
    rf"(?:[^\s\"'`,;&)}}\]“”„‘’«»]|[,;&](?!\s|$|\w[\w .-]*[=:])|[)}}\]\"'](?=[^\s\"'`,;&)}}\]]))+))"
)
_STRONG = (
    r"pass[ _-]?(?:word|wd|phrase|code)|pwd|(?<=[_.-])pass|api[ _-]?key|access[ _-]?key|secret[ _-]?key|"
    r"secret[ _-]?access[ _-]?key|account[ _-]?key|private[ _-]?key|encryption[ _-]?key|signing[ _-]?key|"
    r"master[ _-]?key|shared[ _-]?(?:access[ _-]?)?key|"
    r"(?:client|signing|webhook|jwt|app|shared|consumer|cookie)[ _-]?secret|"
    r"(?:auth|access|refresh|session|id|api|bot|deploy|secret|bearer)[ _-]?token"
)
_WEAK = (
    r"secrets?|token|credentials?|auth|authorization|sig|signature|key|pass|salt|dockerconfigjson|"
    r"(?:j|php|asp)?sess(?:ion)?[ _-]?id|cookie|license"
)
_STRONG_KEY = re.compile(rf"(?i)[\w.-]*?(?:{_STRONG})s?")
_WEAK_KEY = re.compile(rf"(?:[\w.-]*?(?:[_.-]|[a-z0-9](?=[A-Z])))?(?i:{_WEAK})")
_SHAPES = r"[*x.•-]+|<[^<>]*>.*|\$[A-Z_]+\d?|\$[\{(].*|\{\{.*|%[({].*"
_PLACEHOLDER = re.compile(rf"(?i)(?:|{_SHAPES})")
#: Values that stand where a secret would, and are none.
_NO_SECRET = re.compile(
    rf"(?i)(?:|{_SHAPES}|\[?(?:redacted|masked|hidden|filtered|removed|secret)\]?|null|none|nil|true|false|"
    r"yes|no|on|off|undefined|empty|unset|required|missing|invalid|incorrect|wrong|expired|expires|changed|rejected|failed|"
    r"unknown|not|is|was|for|must|the|and|or)[.,;:!?]*"
)
#: Code that fetches a secret, and so holds none: a call or an index, a variable of that name, a member of settings.
_REFERENCE = re.compile(
    r"(?i)[a-z]\w*[._]\w[\w.]*[\[(].*|"
    r"(?:getenv|env|environ|input|read|decrypt|lookup|fetch|get|config|settings|params|secrets?|vars?|args|options)[\[(].*|"
    rf"(?:[a-z]+[_.])*(?:{_STRONG})|"
    r"(?:os|self|this|settings|config|conf|cfg|env|environ|process|var|local|data|module|params?|args|options|"
    r"secrets?|vault|kwargs)(?:\.[a-z_]\w*)+"
)


def shannon(text: str) -> float:
    """Entropy in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def looks_random(text: str) -> bool:
    """A value that a person did not choose: long, letters and digits mixed, not words joined by dashes."""
    if len(text) < 16 or not re.search(r"\d", text) or not re.search(r"[A-Za-z]", text) or shannon(text) < 3.0:
        return False
    words = re.split(r"[-_.:/]", text)
    return not any(len(word) > 3 and word.isalpha() and word.islower() for word in words) or len(words) == 1


@lru_cache(maxsize=10_000)
def strength(key: str) -> int:
    """2 where whatever stands under a key is a secret, 1 where a random value is, else 0."""
    return 2 if _STRONG_KEY.fullmatch(key) else 1 if _WEAK_KEY.fullmatch(key) else 0


def is_secret_of(key: str, value: str, prose: bool = False) -> bool:
    """Whether a value under this key is a secret.

    Under a key such as ``password`` everything is that is not visibly a placeholder (in prose, after a
    colon and a space, a bare word is not). Under a vague key such as ``token`` or ``secret``, which also
    name Kubernetes objects and counts, only a value that looks random.
    """
    telling = strength(key)
    if not telling or _NO_SECRET.fullmatch(value):
        return False
    return looks_random(value) if telling == 1 else not (prose and value.isalpha()) and len(value) >= 3


#: ``key=value``, ``key: value``, ``"key": "value"``, ``key => value``, also inside escaped JSON, in Markdown, and with
#: the value on the next line: as a YAML block, after a backslash, or where it has letters and digits.
ASSIGNMENT = re.compile(
    rf"(?i)(?<![\w.-])(?P<key>[\w.-]*?(?:{_STRONG}|{_WEAK}))(?![\w-])(?:{_QUOTE}|{_MARKS})"
    rf"(?P<assign>{_GAP}(?:=>|:=|==?|[:：＝]){_MARKS}{_GAP}(?:(?:(?:[|>][+-]?\d?|\\){_GAP})?\r?\n[^\S\r\n]*[+>-]?{_GAP})?)"
    rf"{_VALUE}"
)
#: Found, in lower case, wherever ``ASSIGNMENT`` is, and far more quickly.
ASSIGNED = re.compile(
    r"(?:pass(?:[ _-]?(?:word|wd|phrase|code))?|pwd|key|token|secrets?|credentials?|auth|authorization|sig|signature|"
    r"salt|dockerconfigjson|sess(?:ion)?[ _-]?id|cookie|license)[\\\"'`*_]{0,4}[^\S\r\n]*[=:：＝]"
)


def assigned(match: re.Match[str]) -> Spans:
    """The value of an ``ASSIGNMENT`` where it is a secret."""
    how, value, bare = match["assign"], match["value"], not match["quote"]
    if "\n" in how and not re.search(r"[|>\\]", how):
        known = strength(match["key"]) == 2 and re.search(r"\d", value) and not re.search(r"[=:]", value)
        accepted = bool(known) and is_secret_of(match["key"], value, prose=True)
    elif bare and _REFERENCE.fullmatch(value):
        accepted = False
    else:
        prose = bare and how.startswith(":") and how[-1].isspace() and "\n" not in how
        accepted = is_secret_of(match["key"], value, prose)
    return [match.span("value")] if accepted else []


#: ``name: DB_PASSWORD`` and ``value: ...`` as containers get them, in YAML and JSON.
NAMED = re.compile(
    rf"(?i)\b(?:name|key)(?:{_QUOTE})?{_GAP}[:=]{_GAP}(?:{_QUOTE})?(?P<key>[\w.-]+)(?:{_QUOTE})?{_GAP},?(?:{_GAP}\r?\n)?"
    rf"[\s+-]*(?:{_QUOTE})?value(?:{_QUOTE})?{_GAP}[:=]{_GAP}{_VALUE}"
)
FLAG = re.compile(rf"(?i)(?<![\w-])--(?P<key>[\w-]*?(?:{_STRONG}|secret|token)){_SPACE}[\"']?(?P<value>[^\s\"']+)")
INSTRUCTION = re.compile(rf"(?<![\w.-])(?:ENV|ARG|setenv){_SPACE}(?P<key>[\w.-]+){_SPACE}[\"']?(?P<value>[^\s\"']+)")


def keyed(match: re.Match[str]) -> Spans:
    """The value of a pattern that has a key, where it is a secret."""
    return [match.span("value")] if is_secret_of(match["key"], match["value"]) else []


URL_PASSWORD = re.compile(r"[a-zA-Z][\w+.-]*://[^\s:/@\"'<>]*:(?P<value>[^\s/\"'<>]+|[^\s/@\"'<>]*/[^\s@\"'<>]+)@")
URL_TOKEN = re.compile(r"[a-zA-Z][\w+.-]*://(?P<value>[\w.~%-]{16,})@")
ORACLE = re.compile(r"(?i)jdbc:oracle:\w+:[^\s/@\"']+/(?P<value>[^\s@\"']+)@")
WEBHOOK = re.compile(
    r"(?i)https?://(?=[^\s\"'<>]*(?:webhook|\bhooks\.))[^/\s\"'<>]+/(?P<value>[^\s\"'<>|]*[^\s\"'<>|.,;:)\]}])"
)


def url_password(match: re.Match[str]) -> Spans:
    """A password in a URL; ``host:8080/path@v1`` has none."""
    port = re.match(r"\d{1,5}/", match["value"])
    return [] if port or _PLACEHOLDER.fullmatch(match["value"]) else [match.span("value")]


def random_value(match: re.Match[str]) -> Spans:
    """The value where it, or a part of its path, looks random."""
    return [match.span("value")] if any(looks_random(part) for part in match["value"].split("/")) else []


BEARER = re.compile(r"(?i)\bbearer(?:[^\S\r\n]|[:=])+(?P<value>[\w\-.~+/]{8,}=*)")
AUTHORIZATION = re.compile(
    rf"(?i)\bauthorization(?:{_QUOTE})?{_GAP}[:=]{_GAP}(?:{_QUOTE})?"
    rf"(?:bearer|basic|token|apikey|negotiate|geniekey|digest|bot|splunk|key){_SPACE}(?P<value>[^\s\"'\\,<]+)"
)
BASIC = re.compile(rf"(?i)\bbasic{_SPACE}(?P<value>[A-Za-z0-9+/]{{12,}}={{0,2}})(?![\w-])")
COOKIE = re.compile(rf"(?i)\bcookie(?:{_QUOTE})?{_GAP}[:=]{_GAP}(?P<value>[^\r\n]+)")
#: Users and passwords of programs that take them in one word.
LOGIN = re.compile(
    rf"(?:\bcurl\b[^\n|;]*?{_SPACE}(?:-u|--user|--proxy-user)(?:=|{_GAP})[\"']?[^\s:\"'@/]+:|"
    rf"\bsshpass{_SPACE}-p{_GAP}|\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\n|;]*?{_SPACE}-p|"
    rf"\bredis-cli\b[^\n|;]*?{_SPACE}-a{_SPACE}|\blogin{_SPACE}\S+{_SPACE}password{_SPACE})[\"']?(?P<value>[^\s\"']{{3,}})"
)
#: "the password is ...": only where letters and digits are mixed.
SAID = re.compile(
    rf"(?i)\b(?:password|passphrase|passwd|passcode|pwd){_SPACE}(?:is|was|to|=){_SPACE}(?:{_QUOTE}|{_CURLY})?"
    r"(?P<value>(?=[^\s\d]*\d)(?=[^\sa-z]*[a-z])[^\s\"'`“”‘’]{5,}[^\s\"'`“”‘’.,;:)])"
)


def known_value(match: re.Match[str]) -> Spans:
    """The value, unless it is visibly a placeholder."""
    return [] if _PLACEHOLDER.fullmatch(match["value"]) else [match.span("value")]


def bearer(match: re.Match[str]) -> Spans:
    return [match.span("value")] if re.search(r"\d", match["value"]) or len(match["value"]) >= 24 else []


def encoded(match: re.Match[str]) -> Spans:
    """A value that is base64 and no word."""
    value = match["value"]
    mixed = not value.islower() and not value.isupper() and bool(re.search(r"\d", value))
    return [match.span("value")] if value.endswith("=") or mixed else []


def cookies(match: re.Match[str]) -> Spans:
    """The values in a cookie header that look random."""
    start = match.start("value")
    for found in re.finditer(r"[\w.-]+=([^\s;\"']+)", match["value"]):
        if looks_random(found[1]):
            yield start + found.start(1), start + found.end(1)


#: The data of a Kubernetes secret: in YAML all lines that stand deeper than ``data``, in JSON one object.
SECRET_DATA = re.compile(
    r"(?m)^(?P<indent>[^\S\r\n]*[+-]?[^\S\r\n]*)(?:data|stringData):[^\S\r\n]*\r?\n"
    r"(?P<yaml>(?:(?:(?P=indent)[^\S\r\n]+\S.*|[+-]?[^\S\r\n]*)(?:\r?\n|$))+)|"
    r"\\?\"(?:data|stringData)\\?\"\s*:\s*\{(?P<json>[^{}]*)\}"
)
_KIND = re.compile(r"(?m)(?<![\w.])kind:\s*[\"']?Secret[\"']?\s*$|\"kind\\?\"\s*:\s*\\?\"Secret\\?\"")
_ENTRY = re.compile(
    r"^[\s+-]*[\"']?[\w.\-/]+[\"']?:[^\S\r\n]*(?:[|>][+-]?\d?[^\S\r\n]*$)?[\"']?(?P<value>.*?)[\"']?\s*$"
)
_CONTINUED = re.compile(r"^[\s+-]*(?P<value>\S.*?)\s*$")


def secret_data(match: re.Match[str]) -> Spans:
    """Every value of a Kubernetes secret: all of it is encoded, so nothing tells one from a harmless one."""
    if match["json"] is not None:
        if _KIND.search(match.string):
            start = match.start("json")
            for found in re.finditer(r":\s*\\?\"((?:(?!\\?\").)*)", match["json"]):
                if not _PLACEHOLDER.fullmatch(found[1]):
                    yield start + found.start(1), start + found.end(1)
        return
    begin, end = match.string.rfind("\n---", 0, match.start()), match.string.find("\n---", match.start())
    if not _KIND.search(match.string, max(begin, 0), end if end >= 0 else len(match.string)):
        return
    at = match.start("yaml")
    for line in match["yaml"].splitlines(keepends=True):
        entry = _ENTRY.match(line) or _CONTINUED.match(line)
        if entry and not _PLACEHOLDER.fullmatch(entry["value"]):
            yield at + entry.start("value"), at + entry.end("value")
        at += len(line)
