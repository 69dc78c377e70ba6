from __future__ import annotations

import pytest

from opstune.collect.merges.issue_keys import issue_keys


@pytest.mark.parametrize(
    ("text", "prefixes", "keys"),
    [
        ("OPS-12: restart the pool", [], ["OPS-12"]),
        ("fix/ops-12-pool, see OPS-12 and INC2-7", [], ["OPS-12", "INC2-7"]),
        ("https://linear.app/acme/issue/ops-12/the-pool", [], ["OPS-12"]),
        ("https://acme.atlassian.net/browse/INC-9", [], ["INC-9"]),
        ("Fixes #7", [], ["acme/shop#7"]),
        ("closes acme/infra#8 and resolves: https://github.com/acme/web/issues/9", [], ["acme/infra#8", "acme/web#9"]),
        ("see #7", [], []),
        ("UTF-8, SHA-256, AES-128, RFC-2616, CVE-2024-1, SEV-1, TLS-1, ISO-8601", [], []),
        ("OPS-0 and A-1 and OPS-12345678 and X-OPS-1", [], []),
        ("OPS-1, INC-2, DEV-3, fixes #4", ["inc", "OPS"], ["OPS-1", "INC-2"]),
        ("SEV-1", ["SEV"], ["SEV-1"]),
    ],
)
def test_issues_are_named_by_keys_links_and_closing_words(text: str, prefixes: list[str], keys: list[str]) -> None:
    assert issue_keys([text], prefixes, "acme/shop") == keys
