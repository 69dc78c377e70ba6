from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest

from opstune.dataset.scrub import Scrubber, scrub

R = Random(7)
ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def token(length: int, letters: str = ALNUM) -> str:
    return "".join(R.choices(letters, k=length))


KEY_BODY = "\n".join(token(64) for _ in range(4))
JWT_SIGNATURE = token(43)
#: kind → text before, the secret, text after. Built at run time, so that no scanner takes this file for a leak.
PLANTED = [
    ("aws-key", "key ", "AKIA" + token(16, ALNUM.upper()), " was used"),
    ("github-token", "cloned with ", "ghp_" + token(36), "."),
    ("github-token", "pushed by ", "github_pat_" + token(40), ""),
    ("gitlab-token", "runner ", "glpat-" + token(20), " expired"),
    ("jwt", "cookie=", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + JWT_SIGNATURE, "; path"),
    ("slack-token", "posting with ", "xoxb-123456789012-" + token(24), " failed"),
    ("stripe-key", "charge: ", "sk_live_" + token(24), ""),
    ("llm-key", "model key ", "sk-proj-" + token(40), ""),
    ("google-key", "maps ", "AIza" + token(35), ""),
    ("vault-token", "login ", "hvs." + token(24), ""),
    ("npm-token", "", "//registry.npmjs.org/:_authToken=npm_" + token(36), ""),
    ("private-key", "mounted ", f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}\n-----END RSA PRIVATE KEY-----", " ok"),
    ("private-key", "cut off ", f"-----BEGIN PRIVATE KEY-----\n{KEY_BODY}", ""),
    ("url-password", "connect postgres://app:", "s3cr!t$Pa@ss", "@db.internal:5432/orders refused"),
    ("authorization", "curl -H 'Authorization: Bearer ", token(30), "' failed"),
    ("authorization", '{"Authorization": "Token ', token(30), '"}'),
    ("bearer-token", "sent bearer ", token(30), " twice"),
    ("basic-auth", "header Basic ", "dXNlcjpwYXNzd29yZDEyMw==", ""),
    ("credential", "PGPASSWORD=", "hunter2", " psql"),
    ("credential", "password: ", "hunter2!", ""),
    ("credential", '{"db_password": "', "correct horse battery", '"}'),
    ("credential", '{\\"password\\":\\"', "hunter22", '\\"}'),
    ("credential", "client_secret=", token(20), "&grant=1"),
    ("credential", "--api-key ", token(20), " --verbose"),
    ("credential", "aws_secret_access_key = ", token(40, ALNUM + "/+"), ""),
    ("credential", "token=", token(32, "0123456789abcdef"), " rejected"),
]


@pytest.mark.parametrize(("kind", "before", "secret", "after"), PLANTED)
def test_a_secret_goes_and_its_surroundings_stay(kind: str, before: str, secret: str, after: str) -> None:
    assert Scrubber().text(f"{before}{secret}{after}") == f"{before}<secret:{kind}>{after}"


@pytest.mark.parametrize(("kind", "before", "secret", "after"), PLANTED)
def test_the_quick_look_never_misses_what_the_careful_one_finds(
    kind: str, before: str, secret: str, after: str
) -> None:
    assert Scrubber().suspicious([f"line before\nsummary\n{before}{secret}{after}"]) == {0}


@pytest.mark.parametrize(
    "text",
    [
        "checkout-api-7f9c4d-x2x9z",
        "pod checkout-api-5d8f7b6c9d-abcde in namespace shop-prod-eu1 restarts",
        "registry.example.org/shop/checkout@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000",
        "volume pvc-1d2c3b4a-5e6f-7a8b-9c0d-1e2f3a4b5c6d is full",
        "etag d41d8cd98f00b204e9800998ecf8427e",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 rolled back",
        "secret=checkout-tls-cert not found",
        'secret "checkout-tls" not mounted',
        "secret: checkout-tls-7f9c4d",
        "token: expired",
        "max_tokens: 4096",
        "cache key: user:session:9f8a7b6c5d4e3f2a",
        "partition_key=orders-2026-01-05-eu",
        "password authentication failed for user app",
        "reset password: failed",
        "Access denied for user app (using password: YES)",
        "password=${DB_PASSWORD}",
        "password=****",
        "password: <redacted>",
        "bearer authentication failed",
        "basic connectivity check passed",
        "unit getty@tty1.service failed",
        "cloned from git@github.com:shop/checkout.git",
        "https://grafana.example.org:3000/d/abc?from=now-6h",
        "lag on kafka-broker-3.kafka.svc.cluster.local:9092",
        "version v1.29.0.3 of node-exporter",
        "network 10.0.0.0/16 unreachable",
        "http://127.0.0.1:8080/healthz and http://169.254.169.254/latest",
        "at 10:22:31 and 2026:01:05",
        "AKIA is a prefix, eyJ too",
        "monkey=banana, turkey: 12",
    ],
)
def test_a_name_is_no_secret(text: str) -> None:
    assert Scrubber().text(text) == text


@pytest.mark.parametrize(
    ("text", "kind", "shape"),
    [
        ("mail ada.lovelace+ops@corp.example.com now", "email", r"mail user-[0-9a-f]{8}@example\.org now"),
        ("from 10.3.97.119:9100", "ip-address", r"from 10\.\d+\.\d+\.\d+:9100"),
        ("from 192.168.7.9", "ip-address", r"from 192\.168\.\d+\.\d+"),
        ("from 8.8.4.4, twice", "ip-address", r"from 198\.1[89]\.\d+\.\d+, twice"),
        ("from 2a00:1450:4001:81b::200e", "ip-address", r"from 2001:db8::[0-9a-f:.]+"),
        ("Grace Hopper acknowledged", "name", r"person-[0-9a-f]{8} acknowledged"),
    ],
)
def test_people_and_addresses_get_a_pseudonym_of_the_same_shape(make: Any, text: str, kind: str, shape: str) -> None:
    (clean,), scrubbed = scrub([make(0, notes=text)], ["Grace Hopper"])
    assert re.fullmatch(shape, clean.notes)
    assert scrubbed.kinds == {kind: 1}


def test_an_answer_still_follows_from_its_context(make: Any) -> None:
    """The address and the client that an answer repeats get the pseudonym that the context got."""
    labels = {"gateway": "edge-1", "client": "203.0.114.9", "mail": "eve@evil.example.net"}
    context = {
        "alert": "TooManyRequests",
        "description": "203.0.114.9 (eve@evil.example.net) floods edge-1",
        "labels": labels,
    }
    answer = {"function": "block_client", "parameters": {"gateway": "edge-1", "client": "203.0.114.9"}}
    (clean,), _ = scrub([make(0, context=context, answer=answer)])
    client = clean.answer["parameters"]["client"]
    assert client != "203.0.114.9"
    assert client == clean.context["labels"]["client"]
    assert clean.context["description"] == f"{client} ({clean.context['labels']['mail']}) floods edge-1"


def test_a_secret_known_from_one_field_goes_from_all(make: Any) -> None:
    """``password=`` gives it away in the log; the message that quotes it bare is masked alike."""
    log = "2026-01-01T00:00:00Z DEBUG password=Tr0ub4dor&3\n2026-01-01T00:00:01Z ERROR login as Tr0ub4dor&3 failed"
    answer = {
        "message": "login as Tr0ub4dor&3 failed",
        "category": "permission",
        "severity": "low",
        "confidence": "high",
    }
    (clean,), _ = scrub([make(0, "log_error", context={"log": log}, answer=answer)])
    assert clean.answer["message"] == "login as <secret:credential> failed"
    assert clean.answer["message"] in clean.context["log"]


def test_a_weak_password_does_not_take_names_with_it(make: Any) -> None:
    context = {"title": "postgres://postgres:postgres@db1/orders is down", "affected": "postgres"}
    (clean,), _ = scrub([make(0, "triage", context=context)])
    assert clean.context == {
        "title": "postgres://postgres:<secret:url-password>@db1/orders is down",
        "affected": "postgres",
    }


@pytest.mark.parametrize(("key", "value", "hidden"), [
    ("password", "hunter2", True),
    ("apiKey", "abc123", True),
    ("secret", "checkout-tls", False),
    ("token", "9f8a7b6c5d4e3f2a1b0c9d8e", True),
    ("pod", "9f8a7b6c5d4e3f2a1b0c9d8e", False),
])  # fmt: skip
def test_a_telling_key_makes_its_value_a_secret(make: Any, key: str, value: str, hidden: bool) -> None:
    (clean,), _ = scrub([make(0, metadata={"deep": [{key: value}]})])
    assert (value not in json.dumps(clean.metadata)) is hidden


def test_every_text_field_is_scrubbed_and_ids_stay(make: Any) -> None:
    secret = "ghp_" + token(36)
    fields = {
        "notes": secret,
        "annotator": "ann@corp.example.com",
        "corrections": {"a": [secret]},
        "metadata": {secret: "x"},
    }
    original = make(0, group_id=f"INC {secret}", source_id=f"row {secret}", **fields)
    (clean, _), scrubbed = scrub([original, make(1)])
    assert secret not in clean.model_dump_json()
    assert "ann@" not in clean.model_dump_json()
    assert clean.id == original.id
    assert scrubbed.kinds == {"github-token": 5, "email": 1}
    assert scrubbed.examples == 1


def test_an_example_without_secrets_is_the_same_object(make: Any) -> None:
    original = make(0)
    assert scrub([original])[0][0] is original
