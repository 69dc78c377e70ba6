"""Which issues a text names: keys of Linear and Jira, numbers of GitHub behind a word that closes. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"(?<![\w-])([A-Z][A-Z0-9]{1,9}-[1-9]\d{0,6})(?![\w-])")
_LINK = re.compile(r"https?://[^\s)>\]]*/(?:issue|browse|issues)/([A-Za-z][A-Za-z0-9]{1,9}-[1-9]\d*)")
_CLOSES = re.compile(
    r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\s*:?\s+(?:https?://[^\s/]+/)?"
    r"(?:([\w.-]+/[\w.-]+)(?:#|/issues/)|#)([1-9]\d*)\b"
)
#: What looks like a key and is none: encodings, hashes, ciphers, standards, weaknesses, severities.
_NONE = re.compile(
    r"(?:UTF|SHA|MD|AES|RSA|DES|TLS|SSL|HTTP|IPV?|RFC|ISO|IEC|IEEE|ASCII|CVE|CWE|GHSA|SEV|GPT|US|EU|AP|CA|ARM|X|BASE|CRC"
    r"|PKCS|FIPS|ECDSA|ED|P|PEP|JSR|JEP|KEP|ES|CP|WIN|LATIN|UTC|GMT|COVID|QWEN\d*|TOP)-\d+"
)


def issue_keys(texts: Sequence[str], prefixes: Sequence[str], repository: str) -> list[str]:
    """The issues that texts name, in order, each once: ``OPS-12``, ``owner/name#7``.

    With ``prefixes`` only keys that begin with one of them count, and nothing else. ``repository`` is the one that
    a bare ``#7`` means.
    """
    found: list[str] = []
    for text in texts:
        found += [key.upper() for key in _LINK.findall(text)]
        found += [key for key in _KEY.findall(text) if prefixes or not _NONE.fullmatch(key)]
        found += [f"{elsewhere or repository}#{number}" for elsewhere, number in _CLOSES.findall(text)]
    wanted = {prefix.upper() for prefix in prefixes}
    return [key for key in dict.fromkeys(found) if not wanted or key.partition("-")[0] in wanted]
