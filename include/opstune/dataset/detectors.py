"""What a secret looks like: detect-secrets' patterns for tokens that carry their kind, and our own for the rest.

Taken from detect-secrets are only patterns that a name cannot meet by chance. Left out on purpose:

- ``Base64HighEntropyString``, ``HexHighEntropyString``: pod names, image digests and uuids are legitimate
  parameter values here, and look as random as a key;
- ``KeywordDetector``: wants quotes around the value, which logs and environment dumps do not have;
- ``ArtifactoryDetector`` (``AP[A-F0-9]...`` meets APACHE2SERVER), ``CloudantDetector``, ``IbmCloudIamDetector``,
  ``IbmCosHmacDetector``, ``SoftlayerDetector``: assignments, which ``ASSIGNMENT`` covers for every vendor;
- ``BasicAuthDetector``: misses passwords with ``!``, ``$`` or ``@``; ``URL_PASSWORD`` does not;
- ``PrivateKeyDetector``: finds the first line only, and the key is below it;
- ``IPPublicDetector``: addresses are values to copy, so they get pseudonyms that are addresses.

The patterns are used directly: ``analyze_string`` yields a pattern's group where it has one, which for
GitHub and GitLab is the prefix and not the token.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector


@dataclass(frozen=True)
class Detector:
    """A kind of secret.

    ``hints``: one of them is in every text that can hold it (in lower case where ``folded``). ``group``:
    which group of the pattern is the secret, 0 for the whole match. ``accept``: whether a match counts.
    ``probe``: a cheaper pattern that is found, in lower case, wherever ``pattern`` is.
    """

    kind: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    folded: bool = False
    group: int = 0
    accept: Callable[[re.Match[str]], bool] = lambda match: True
    probe: re.Pattern[str] | None = None

    def hinted(self, text: str, folded: str) -> bool:
        """Whether a text (and the same in lower case) can hold such a secret at all."""
        where = folded if self.folded else text
        for hint in self.hints:
            if hint in where:
                return not self.probe or self.probe.search(folded) is not None
        return False


def shannon(text: str) -> float:
    """Entropy in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def looks_random(text: str) -> bool:
    """A value that a person did not choose: long, letters and digits mixed, not words joined by dashes."""
    if len(text) < 16 or not re.search(r"\d", text) or not re.search(r"[A-Za-z]", text) or shannon(text) < 3.0:
        return False
    words = re.split(r"[-_.:/]", text)
    return not any(len(word) > 3 and word.isalpha() and word.islower() for word in words) or len(words) == 1


#: Values that stand where a secret would, and are none.
_NO_SECRET = re.compile(
    r"(?i)(?:|[*x.•-]+|<.*|\$.*|\{\{.*|%[({].*|\[?(?:redacted|masked|hidden|filtered|removed|secret)\]?|null|none|nil|true|false|"
    r"yes|no|on|off|undefined|empty|unset|required|missing|invalid|incorrect|wrong|expired|expires|changed|rejected|failed|"
    r"unknown|not|is|was|for|must|the|and|or)[.,;:!?]*"
)
_STRONG = (
    r"pass(?:word|wd|phrase)|pwd|api[_-]?key|access[_-]?key|secret[_-]?key|secret[_-]?access[_-]?key|account[_-]?key|"
    r"client[_-]?secret|private[_-]?key|encryption[_-]?key|signing[_-]?key|master[_-]?key|"
    r"(?:auth|access|refresh|session|id|api|bot|deploy)[_-]?token"
)
_WEAK = r"secret|token|credentials?|auth|sig|key"
_STRONG_KEY = re.compile(rf"(?i)[\w.-]*?(?:{_STRONG})")
_WEAK_KEY = re.compile(rf"(?i)(?:[\w.-]*?[_.-])?(?:{_WEAK})")


def is_secret_of(key: str, value: str, prose: bool = False) -> bool:
    """Whether a value under this key is a secret.

    Under a key such as ``password`` everything is that is not visibly a placeholder (in prose, after a
    colon and a space, a bare word is not). Under a vague key such as ``token`` or ``secret``, which also
    name Kubernetes objects and counts, only a value that looks random.
    """
    if _NO_SECRET.fullmatch(value):
        return False
    if _STRONG_KEY.fullmatch(key):
        return not (prose and value.isalpha()) and len(value) >= 3
    return bool(_WEAK_KEY.fullmatch(key)) and looks_random(value)


def _accept_assignment(match: re.Match[str]) -> bool:
    prose = match["assign"].startswith(":") and match["assign"].endswith((" ", "\t")) and not match["quote"]
    return is_secret_of(match["key"], match["value"], prose)


#: ``key=value``, ``key: value``, ``"key": "value"``, ``key => value``, also inside escaped JSON.
ASSIGNMENT = re.compile(
    rf"(?i)(?<![\w.-])(?P<key>[\w.-]*?(?:{_STRONG}|{_WEAK}))(?![\w-])(?:\\?[\"'])?"
    r"(?P<assign>[ \t]*(?:=>|:=|==?|:)[ \t]*)"
    r"(?P<quote>\\?[\"'])?(?P<value>(?(quote)[^\"'\\\n]+|(?:[^\s\"',;&)}\]]|&(?!\w+=)|[)}\]](?=[^\s\"',;&)}\]]))+))"
)
_ASSIGNED = re.compile(r"(?:pass(?:word|wd|phrase)|pwd|key|token|secret|credentials?|auth|sig)\\?[\"']?[ \t]*[=:]")
URL_PASSWORD = re.compile(r"[a-zA-Z][\w+.-]*://[^\s:/@\"'<>]*:(?P<value>[^\s/\"'<>]+)@")
_BEARER = re.compile(r"(?i)\bbearer[ \t:=]+(?P<value>[\w\-.~+/]{8,}=*)")
_AUTHORIZATION = re.compile(
    r"(?i)\bauthorization(?:\\?[\"'])?[ \t]*[:=][ \t]*(?:\\?[\"'])?(?:bearer|basic|token|apikey|negotiate)[ \t]+"
    r"(?P<value>[^\s\"'\\,<]+)"
)
_BASIC = re.compile(r"(?i)\bbasic[ \t]+(?P<value>[A-Za-z0-9+/]{12,}={0,2})(?![\w-])")
_FLAG = re.compile(rf"(?i)(?<![\w-])--(?P<key>[\w-]*?(?:{_STRONG}|secret|token))[ \t]+[\"']?(?P<value>[^\s\"']+)")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)",
    re.DOTALL,
)
_OUR_TOKENS = {
    "github-token": (r"github_pat_\w{22,}", "github_pat_"),
    "google-key": (r"AIza[\w-]{35}", "AIza"),
    "llm-key": (r"sk-(?:proj-|ant-|svcacct-|or-)[\w-]{20,}", "sk-"),
    "vault-token": (r"hv[sbr]\.[\w-]{20,}", "hvs.", "hvb.", "hvr."),
    "slack-token": (r"x(?:app|ox[a-z])-[\w-]{10,}", "xapp-", "xox"),
    "cloud-token": (r"do[opr]_v1_[a-f0-9]{40,}", "_v1_"),
}
#: A pattern may end before the token does (a JWT's before its signature), so the rest of the word goes with it.
_REST = r"(?:[\w+/=~-]|\.(?=\w))*"


def _has_digit(match: re.Match[str]) -> bool:
    return bool(re.search(r"\d", match["value"])) or len(match["value"]) >= 24


def _encoded(match: re.Match[str]) -> bool:
    value = match["value"]
    return value.endswith("=") or (not value.islower() and not value.isupper() and bool(re.search(r"\d", value)))


def _mixed(match: re.Match[str]) -> bool:
    return all(re.search(shape, match[0].partition(":")[2]) for shape in ("[a-z]", "[A-Z]", r"\d"))


def _from_plugin(plugin: RegexBasedDetector, kind: str, *hints: str) -> list[Detector]:
    return [Detector(kind, _whole_word(pattern.pattern, pattern.flags), hints) for pattern in plugin.denylist]


def _whole_word(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern}){_REST}", flags)


def _named(
    kind: str, pattern: re.Pattern[str], *hints: str, accept: Callable[[re.Match[str]], bool] = lambda match: True
) -> Detector:
    return Detector(kind, pattern, hints, folded=True, group=pattern.groupindex["value"], accept=accept)


def _detectors() -> tuple[Detector, ...]:
    keys = ("pass", "pwd", "secret", "token", "key", "auth", "credential", "sig")
    aws = _from_plugin(AWSKeyDetector(), "aws-key", "AKIA", "ASIA", "ABIA", "ACCA", "A3T")[:1]
    telegram = [
        replace(found, accept=_mixed) for found in _from_plugin(TelegramBotTokenDetector(), "telegram-token", ":")
    ]
    return (
        Detector("private-key", _PRIVATE_KEY, ("PRIVATE KEY",)),
        *_from_plugin(JwtTokenDetector(), "jwt", "eyJ"),
        *aws,
        *_from_plugin(AzureStorageKeyDetector(), "azure-key", "AccountKey="),
        *_from_plugin(DiscordBotTokenDetector(), "discord-token", "."),
        *_from_plugin(GitHubTokenDetector(), "github-token", "gh"),
        *_from_plugin(GitLabTokenDetector(), "gitlab-token", "gl", "GR1348941"),
        *_from_plugin(MailchimpDetector(), "mailchimp-key", "-us"),
        *_from_plugin(NpmDetector(), "npm-token", "_authToken"),
        *_from_plugin(OpenAIDetector(), "llm-key", "sk-"),
        *_from_plugin(PypiTokenDetector(), "pypi-token", "pypi-"),
        *_from_plugin(SendGridDetector(), "sendgrid-key", "SG."),
        *_from_plugin(SlackDetector(), "slack-token", "xox", "hooks.slack"),
        *_from_plugin(SquareOAuthDetector(), "square-secret", "sq0csp-"),
        *_from_plugin(StripeDetector(), "stripe-key", "k_live_"),
        *telegram,
        *_from_plugin(TwilioKeyDetector(), "twilio-key", "AC", "SK"),
        *(
            Detector(kind, _whole_word(rf"(?<![\w-]){ours}"), tuple(hints))
            for kind, (ours, *hints) in _OUR_TOKENS.items()
        ),
        _named("url-password", URL_PASSWORD, "://"),
        _named("authorization", _AUTHORIZATION, "authorization"),
        _named("bearer-token", _BEARER, "bearer", accept=_has_digit),
        _named("basic-auth", _BASIC, "basic", accept=_encoded),
        _named("credential", _FLAG, "--", accept=lambda match: is_secret_of(match["key"], match["value"])),
        replace(_named("credential", ASSIGNMENT, *keys, accept=_accept_assignment), probe=_ASSIGNED),
    )


#: In the order in which they are tried: what names its kind first, assignments last.
DETECTORS = _detectors()


def may_hold_secret(text: str) -> bool:
    """Whether any detector's pattern is in a text; never false where there is a secret."""
    folded = text.lower()
    return any(detector.hinted(text, folded) and detector.pattern.search(text) for detector in DETECTORS)
