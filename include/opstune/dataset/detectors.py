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

import re
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

from opstune.dataset import assignments as given
from opstune.dataset.assignments import Spans


def _whole(match: re.Match[str]) -> Spans:
    return [match.span()]


@dataclass(frozen=True)
class Detector:
    """A kind of secret.

    ``hints``: one of them is, in lower case, in every text that can hold it. ``secrets``: where in a match
    the secrets are, none where it is not one after all. ``probe``: a quicker pattern that is found, in lower
    case, wherever ``pattern`` is.
    """

    kind: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    secrets: Callable[[re.Match[str]], Spans] = _whole
    probe: re.Pattern[str] | None = None

    def found(self, text: str, folded: str) -> bool:
        """Whether the pattern is in a text, given also in lower case."""
        return (not self.probe or self.probe.search(folded) is not None) and self.pattern.search(text) is not None


_PEM_END = r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
#: Whole, cut off at either end, and as PuTTY writes it.
_PRIVATE_KEY = re.compile(
    rf"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:.*?{_PEM_END}|"
    r"(?:(?:Proc-Type|DEK-Info|Comment|Version):[^\n]*|[A-Za-z0-9+/=\s\\>|])*)|"
    rf"(?:[A-Za-z0-9+/=]{{16,}}(?:\\n|[\s>|+-])*)+{_PEM_END}|Private-Lines: \d+[\sA-Za-z0-9+/=]*",
    re.DOTALL,
)
_HASH = re.compile(
    r"\$(?:2[abxy]\$\d\d\$[./A-Za-z0-9]{53}|(?:1|5|6|7|y|apr1)\$[^\s:$\"']{1,40}\$(?:[^\s:$\"']{1,40}\$)?[./A-Za-z0-9]{22,}"
    r"|argon2\w{1,2}\$v=\d+\$[^\s\"':]{20,})|\{S?SHA\d*\}[A-Za-z0-9+/=]{20,}"
)
#: The secret half of a pair that carries no mark of its own.
_AWS_PAIR = re.compile(r"(?:AKIA|ASIA)[0-9A-Z]{16}[\s,:;\"'|/]+(?P<value>[A-Za-z0-9/+]{40})(?![\w/+])")
#: Kind, pattern, hints. Vendors' own prefixes, as they document them.
_OUR_TOKENS = (
    ("github-token", r"github_pat_\w{22,}", "github_pat_"),
    ("google-key", r"AIza[\w-]{35}", "aiza"),
    ("google-key", r"ya29\.[\w-]{20,}", "ya29."),
    ("google-key", r"GOCSPX-[\w-]{24,}", "gocspx-"),
    ("llm-key", r"sk-(?:proj-|ant-|svcacct-|or-)[\w-]{20,}", "sk-proj-", "sk-ant-", "sk-svcacct-", "sk-or-"),
    ("llm-key", r"hf_[A-Za-z0-9]{30,}", "hf_"),
    ("vault-token", r"hv[sbr]\.[\w-]{20,}", "hvs.", "hvb.", "hvr."),
    ("slack-token", r"x(?:app|ox[a-z])-[\w-]{10,}", "xapp-", "xox"),
    ("cloud-token", r"do[opr]_v1_[a-f0-9]{40,}", "_v1_"),
    ("cloud-token", r"dapi[a-f0-9]{32}", "dapi"),
    ("cloud-token", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40,}", ".atlasv1."),
    ("grafana-token", r"gl(?:sa|c)_[\w=+/-]{20,}", "glsa_", "glc_"),
    ("newrelic-key", r"NRAK-[A-Z0-9]{20,}", "nrak-"),
    ("npm-token", r"npm_[A-Za-z0-9]{36}", "npm_"),
    ("docker-token", r"dckr_(?:pat|oat)_[\w-]{20,}", "dckr_"),
    ("linear-key", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}", "lin_api_", "lin_oauth_"),
    ("atlassian-token", r"ATATT3[\w=-]{50,}", "atatt3"),
    ("sentry-token", r"sntry[su]_[\w+/=-]{20,}", "sntry"),
    ("stripe-key", r"whsec_[\w+/=]{24,}", "whsec_"),
    ("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{50,}", "age-secret-key-"),
)
#: A pattern may end before the token does (a JWT's before its signature), so the rest of the word goes with it.
_REST = r"(?:[\w+/=~-]|\.(?=\w))*"
_PROGRAMS = ("curl", "sshpass", "mysql", "mariadb", "redis-cli", "login")
_GITLAB = (
    "glpat-",
    "gldt-",
    "glft-",
    "glsoat-",
    "glrt-",
    "gr1348941",
    "glcbt-",
    "glimt-",
    "glptt-",
    "glagent-",
    "gloas-",
)
_KEYS = (
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "auth",
    "credential",
    "sig",
    "salt",
    "sess",
    "cookie",
    "license",
    "dockerconfigjson",
)


def _from_plugin(plugin: RegexBasedDetector, kind: str, *hints: str) -> list[Detector]:
    return [Detector(kind, _whole_word(pattern.pattern, pattern.flags), hints) for pattern in plugin.denylist]


def _whole_word(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern}){_REST}", flags)


def _mixed(match: re.Match[str]) -> Spans:
    token = match[0].partition(":")[2]
    return [match.span()] if all(re.search(shape, token) for shape in ("[a-z]", "[A-Z]", r"\d")) else []


def _detectors() -> tuple[Detector, ...]:
    aws = _from_plugin(AWSKeyDetector(), "aws-key", "akia", "asia", "abia", "acca", "a3t")[:1]
    telegram = [
        replace(found, secrets=_mixed) for found in _from_plugin(TelegramBotTokenDetector(), "telegram-token", ":aa")
    ]
    return (
        Detector("private-key", _PRIVATE_KEY, ("private key", "private-lines")),
        Detector(
            "kubernetes-secret",
            given.SECRET_DATA,
            ("stringdata", "data:", 'data"', 'data\\"'),
            given.secret_data,
            re.compile(r"kind\\?\"?\s*:\s*\\?[\"']?secret\b"),
        ),
        *_from_plugin(JwtTokenDetector(), "jwt", "eyj"),
        Detector("aws-key", _AWS_PAIR, ("akia", "asia"), given.known_value),
        *aws,
        *_from_plugin(AzureStorageKeyDetector(), "azure-key", "accountkey="),
        *(
            replace(found, probe=re.compile(r"\.[\w-]{6}\."))
            for found in _from_plugin(DiscordBotTokenDetector(), "discord-token", ".")
        ),
        *_from_plugin(GitHubTokenDetector(), "github-token", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        *_from_plugin(GitLabTokenDetector(), "gitlab-token", *_GITLAB),
        *_from_plugin(MailchimpDetector(), "mailchimp-key", "-us"),
        *_from_plugin(NpmDetector(), "npm-token", "_authtoken"),
        *_from_plugin(OpenAIDetector(), "llm-key", "t3blbkfj"),
        *_from_plugin(PypiTokenDetector(), "pypi-token", "pypi-"),
        *_from_plugin(SendGridDetector(), "sendgrid-key", "sg."),
        *_from_plugin(SlackDetector(), "slack-token", "xox", "hooks.slack"),
        *_from_plugin(SquareOAuthDetector(), "square-secret", "sq0csp-"),
        *_from_plugin(StripeDetector(), "stripe-key", "k_live_"),
        *telegram,
        *_from_plugin(TwilioKeyDetector(), "twilio-key", "ac", "sk"),
        *(Detector(kind, _whole_word(rf"(?<![\w-]){token}"), tuple(hints)) for kind, token, *hints in _OUR_TOKENS),
        Detector(
            "password-hash",
            _HASH,
            ("$2a$", "$2b$", "$2x$", "$2y$", "$1$", "$5$", "$6$", "$7$", "$y$", "$apr1$", "$argon2", "{sha", "{ssha"),
        ),
        Detector("webhook-url", given.WEBHOOK, ("webhook", "hooks."), given.random_value),
        Detector("url-password", given.URL_PASSWORD, ("://",), given.url_password),
        Detector("url-password", given.URL_TOKEN, ("://",), given.random_value),
        Detector("url-password", given.ORACLE, ("jdbc:oracle",), given.known_value),
        Detector("authorization", given.AUTHORIZATION, ("authorization",), given.known_value),
        Detector("bearer-token", given.BEARER, ("bearer",), given.bearer),
        Detector("basic-auth", given.BASIC, ("basic",), given.encoded),
        Detector("cookie", given.COOKIE, ("cookie",), given.cookies),
        Detector("credential", given.LOGIN, _PROGRAMS, given.known_value),
        Detector("credential", given.SAID, ("password", "passphrase", "passwd", "passcode", "pwd"), given.known_value),
        Detector("credential", given.FLAG, ("--",), given.keyed, re.compile("--[a-z]")),
        Detector("credential", given.INSTRUCTION, ("env ", "arg ", "env\t", "arg\t"), given.keyed),
        Detector("credential", given.NAMED, ("value",), given.keyed),
        Detector("credential", given.ASSIGNMENT, _KEYS, given.assigned, given.ASSIGNED),
    )


#: In the order in which they are tried: what names its kind first, assignments last.
DETECTORS = _detectors()
