"""A secret or personal datum that was planted anywhere in an example is in no file of the dataset."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from opstune import dataset, skills
from opstune.dataset import summary
from opstune.dataset.scrub import Scrubber
from opstune.examples import Example
from opstune.settings import DatasetSettings

R = Random(11)
UPPER, LOWER, DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz", "23456789"
NAMES = ["Grace Hopper", "José Núñez", "Li"]


def token(length: int, letters: str = UPPER + LOWER + DIGITS) -> str:
    """Random, with a letter of each case where there are some, and a digit."""
    parts = [R.choice(group) for group in (UPPER, LOWER, DIGITS) if group[0] in letters]
    return "".join([*parts, *R.choices(letters, k=length - len(parts))])


def hexadecimal(length: int) -> str:
    return "a1" + "".join(R.choices("0123456789abcdef", k=length - 2))


def encoded(length: int) -> str:
    return base64.b64encode(token(length).encode()).decode()


@dataclass(frozen=True)
class Canary:
    """``parts`` are what must be gone; ``text`` is how they stand in a text."""

    kind: str
    text: str
    parts: tuple[str, ...]


def canary(kind: str, frame: str, *secrets: str) -> Canary:
    return Canary(kind, frame.format(*secrets), secrets)


PEM = [token(64) for _ in range(5)]
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6InN2YyJ9."
_LONG = token(120)
CANARIES = [
    # cloud keys and tokens that carry their kind
    canary("aws-key", "used {} today", "AKIA" + token(16, UPPER + DIGITS)),
    canary("aws-key", "{},{}", "ASIA" + token(16, UPPER + DIGITS), token(40)),
    canary("azure-key", "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={}==;EndpointSuffix=x", token(86)),
    canary("google-key", "maps {}", "AIza" + token(35)),
    canary("google-key", "gcloud said {}", "ya29." + token(60)),
    canary("google-key", "oauth {}", "GOCSPX-" + token(28)),
    canary("cloud-token", "doctl {}", "dop_v1_" + hexadecimal(64)),
    canary("cloud-token", "databricks {}", "dapi" + hexadecimal(32)),
    canary("cloud-token", "terraform {}", token(14) + ".atlasv1." + token(67)),
    canary("github-token", "cloned with {}", "ghp_" + token(36)),
    canary("github-token", "pushed by {}", "github_pat_" + token(50)),
    canary("gitlab-token", "runner {} registered", "glpat-" + token(20)),
    canary("slack-token", "posting with {}", "xoxb-123456789012-" + token(24, LOWER + DIGITS)),
    canary("stripe-key", "charge {}", "sk_live_" + token(24)),
    canary("stripe-key", "verify {}", "whsec_" + token(32)),
    canary("llm-key", "model {}", "sk-proj-" + token(48)),
    canary("llm-key", "hub {}", "hf_" + token(34)),
    canary("vault-token", "login {}", "hvs." + token(24)),
    canary("npm-token", "publish {}", "npm_" + token(36)),
    canary("pypi-token", "twine {}", "pypi-AgEIcHlwaS5vcmc" + token(80)),
    canary("docker-token", "pull {}", "dckr_pat_" + token(27)),
    canary("grafana-token", "dashboards {}", "glsa_" + token(32) + "_" + hexadecimal(8)),
    canary("newrelic-key", "agent {}", "NRAK-" + token(27, UPPER + DIGITS)),
    canary("linear-key", "issues {}", "lin_api_" + token(40)),
    canary("atlassian-token", "jira {}", "ATATT3" + token(180)),
    canary("sentry-token", "release {}", "sntrys_" + token(60)),
    canary("sendgrid-key", "mail {}", f"SG.{token(22)}.{token(43)}"),
    canary("telegram-token", "bot 123456789:{}", "AA" + token(33)),
    canary("discord-token", "bot {}", f"M{token(23)}.{token(6)}.{token(27)}"),
    canary("twilio-key", "sms {}", "SK" + hexadecimal(32)),
    canary("age-key", "sops {}", "AGE-SECRET-KEY-1" + token(58, UPPER + DIGITS)),
    # JWT and private keys, whole and broken
    canary("jwt", "session {}{}", _JWT, token(43)),
    canary("private-key", "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n{}\n-----END RSA PRIVATE KEY-----", *PEM[:3]),
    canary("private-key", "-----BEGIN PRIVATE KEY-----\\n{}\\n{}\\n-----END PRIVATE KEY-----\\n", *PEM[:2]),
    canary("private-key", "cut off -----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{}\n{}", *PEM[:2]),
    canary("private-key", "cut off\n{}\n{}\n-----END OPENSSH PRIVATE KEY-----", *PEM[:2]),
    # in URLs
    canary("url-password", "postgres://app:{}@db.internal:5432/orders refused", "s3cr!t$Pa@ss"),
    canary("url-password", "redis://:{}@cache/0", "pl/ain9word"),
    canary("url-password", "git clone https://{}@git.internal/shop.git", hexadecimal(40)),
    canary("url-password", "jdbc:oracle:thin:scott/{}@//ora/XE", "t1ger-t1ger"),
    canary("credential", "jdbc:postgresql://db/orders?user=app&password={}&ssl=true", "Qu3ry,par;am"),
    canary("credential", "Server=tcp:sql,1433;User ID=app;Password={};Encrypt=True", "C0nn&string"),
    canary("credential", "Endpoint=sb://bus/;SharedAccessKeyName=root;SharedAccessKey={}=", token(43)),
    canary("slack-token", "post to {}", f"https://hooks.slack.com/services/T{token(8)}/B{token(8)}/{token(24)}"),
    canary("webhook-url", "https://discord.com/api/webhooks/123456789012345678/{}", token(68)),
    canary("webhook-url", "https://shop.webhook.office.com/webhookb2/{}", f"{hexadecimal(32)}/IncomingWebhook/x"),
    canary("credential", "https://acc.blob.net/c?sv=2024&sig={}", token(43) + "%3D"),
    # headers and command lines
    canary("authorization", "curl -H 'Authorization: Bearer {}'", token(40)),
    canary("authorization", '{{"Authorization": "GenieKey {}"}}', hexadecimal(32)),
    canary("basic-auth", "header Basic {}", "ZGVwbG95Omh1bnRlcjIhIQ=="),
    canary("cookie", "Set-Cookie: sid={}; Path=/; HttpOnly", token(32)),
    canary("credential", "X-Api-Key: {}", token(32)),
    canary("credential", "curl -u deploy:{} https://ci", "Tr0ub4dor&3"),
    canary("credential", "sshpass -p {} ssh app@db", "Sn0wfl4ke!"),
    canary("credential", "mysqldump -u root -p{} shop", "D3mp-all!"),
    canary("credential", "deploy --db-password {} --wait", "Fl4gged!x"),
    canary("credential", "ENV SMTP_PASSWORD {}", "M4iler!!x"),
    # assignments
    canary("credential", "PGPASSWORD={} psql", "hunter2-Zq"),
    canary("credential", "DB_PASS={}", "kitten77!"),
    canary("credential", '{{"db_password": "{}"}}', "correct horse 9 battery"),
    canary("credential", '{{\\"password\\":\\"{}\\"}}', "esc4ped-Json"),
    canary("credential", 'password = "{}"', "it's 4 qu0te"),
    canary("credential", "ROUTING_KEY={}", hexadecimal(32)),
    canary("credential", "jwtSecret: {}", token(32)),
    canary("credential", "aws_session_token={}", token(200)),
    canary("credential", "**Password:** `{}`", "m4rkd0wn-pw"),
    canary("credential", "the password is {}.", "spok3n-Word"),
    canary("credential", "password: |\n  {}\nuser: app", "bl0ck-Scalar"),
    canary("credential", "export API_TOKEN=\\\n  {}", "c0ntinued-Pw9"),
    canary("credential", "env:\n- name: DB_PASSWORD\n  value: {}", "fr0m-the-Env"),
    canary("password-hash", "root:{}:19000:0:99999", "$6$" + token(16) + "$" + token(86)),
    canary("kubernetes-secret", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  user: {}\n  pw: {}\n",
           encoded(12), encoded(15)),
    canary("kubernetes-secret", '{{"kind": "Secret", "data": {{"user": "{}", "pw": "{}"}}}}', encoded(12), encoded(15)),
    canary("kubernetes-secret", "+kind: Secret\n+stringData:\n+  login: |\n+    {}\n+type: Opaque", "pl4in-login-Text"),
    # as people's editors, chats and terminals leave them
    canary("credential", "password:\u00a0{}", "n0n-breaking-Sp"),
    canary("credential", "password: \u201c{}\u201d", "curly-Qu0tes"),
    canary("credential", "password：{}", "full-W1dth"),
    canary("credential", "password={}", "pässwörd-9ß"),
    Canary("github-token", "copied ghp_" + "\u200b".join(_LONG[n : n + 9] for n in range(0, 36, 9)), (_LONG[:9],)),
    Canary("jwt", f"wrapped {_JWT}{PEM[3][:30]}\n{PEM[4][:40]} end", (PEM[3][:30], PEM[4][:40])),
    # people and addresses
    canary("email", "reported by {}", "ada.lovelace+ops@corp.example.com"),
    canary("email", "reported by {}", "jörg.müller@bücher.example"),
    canary("email", "GET /users?mail={}", "charles%40corp.example.com"),
    canary("ip-address", "from {}:9100", "10.3.97.119"),
    canary("ip-address", "range {}-{}", "192.168.7.9", "192.168.7.77"),
    canary("ip-address", "from {}, twice", "8.8.4.4"),
    canary("ip-address", "from [{}]:443", "2a00:1450:4001:81b::200e"),
    canary("ip-address", "pod {} gone", "fd12:3456:789a:1::7"),
    canary("ip-address", "node {}.eu.compute.internal", "ip-10-3-97-119"),
    canary("name", "{} acknowledged", "Grace Hopper"),
    canary("name", "paged {} twice", "grace.hopper"),
    canary("name", "asked Grace\n{}", "Hopper"),
    canary("name", "asked {}", "Jose\u0301 Nu\u0301n\u0303ez"),
    canary("name", "asked {}", "JOSÉ NÚÑEZ"),
]  # fmt: skip


def words(rng: Random, count: int = 14) -> str:
    return " ".join("".join(rng.choices(LOWER, k=6)) for _ in range(count))


def one_line(text: str) -> str:
    return text.replace("\n", " ")


def cases(text: str, rng: Random) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Context and answer of every skill with ``text`` wherever the skill takes text, and as a key."""
    labels = {"pod": text, "namespace": words(rng, 1), text: "as a key", "note": words(rng)}
    message = words(rng)
    log = f"2026-01-01T00:00:00Z INFO {words(rng)}\n2026-01-01T00:00:01Z ERROR {text}\n{message}"
    code = f"# {words(rng)}\nimage: shop\n{text}\nreplicas: 2"
    line = "image: shop" if "\n" in text else text
    steps = [{"function": "notify", "when": text}, {"function": "check", "when": words(rng)}]
    return {
        "remediation": (
            {"alert": text, "summary": text, "description": words(rng), "labels": labels},
            {"function": "restart_pod", "parameters": {"namespace": labels["namespace"], "pod": text}},
        ),
        "triage": (
            {"title": text, "seen": {text: words(rng), "again": [text]}},
            {"severity": rng.choice(["SEV-1", "SEV-2"]), "root_cause": text, "mitigation": text},
        ),
        "log_error": (
            {"log": log, "job": text},
            {"message": message, "category": "data", "severity": "low", "reasoning": text},
        ),
        "diagnosis": (
            {"symptoms": [text, words(rng)], "telemetry": {text: "1", "load": text}, "topology": {"a": ["b"]}},
            {"root_cause": text, "query": text, "remediation": [text]},
        ),
        "audit": (
            {"actor": text, "action": text, "origin": text, "details": {text: "x", "more": text, "seen": words(rng)}},
            {"risk": rng.choice(["low", "high"]), "root_cause": text, "actions": [text]},
        ),
        "code_review": (
            {"path": one_line(text), "code": code},
            {
                "findings": [{"kind": "hard_coded_secret", "line": line, "advice": text}],
                "risk": rng.choice(["low", "high"]),
            },
        ),
        "workflow": (
            {"failure": text, "signals": {text: "5", words(rng, 2): "1"}, "manual_steps": [text, words(rng)]},
            {"name": text, "trigger": text, "steps": steps, "rollback": steps[0]},
        ),
    }


def planted(number: int, skill: str, text: str, **changes: Any) -> Example:
    context, answer = cases(text, Random(f"{skill}-{number}"))[skill]
    fields = {
        "id": f"{number:04d}-{skill}",
        "skill": skill,
        "source": "made-up",
        "source_id": f"{number} {text}",
        "group_id": f"INC-{number} {text}",
        "occurred_at": f"2026-01-{1 + number % 28:02d}T00:00:00Z",
        "context": context,
        "answer": answer,
        "outcome": "success",
        "annotator": text,
        "corrections": {text: [text]},
        "notes": text,
        "metadata": {"deep": [{text: {text: text}}], text: 7, "seen": text},
    }
    return Example.model_validate({**fields, **changes})


def strings(value: Any) -> Iterator[str]:
    """Every text and key in decoded JSON, and in JSON that stands in it as text."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value
        if value.startswith(("{", "[")):
            with contextlib.suppress(json.JSONDecodeError):
                yield from strings(json.loads(value))


def told(folder: Path) -> dict[str, str]:
    """File → all that it says, decoded and raw."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix == ".parquet":
            decoded: list[str] = list(strings(pq.read_table(file).to_pylist()))
        elif file.suffix in (".json", ".jsonl"):
            lines = [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines()
            decoded = [text for line in lines for text in strings(json.loads(line))]
        else:
            decoded = [html.unescape(file.read_text())]
        found[file.name] = "\n".join([*decoded, file.read_bytes().decode("utf-8", "replace")])
    return found


@pytest.fixture(scope="module")
def everywhere() -> list[Example]:
    """Each canary in each skill; some of them in examples that are left out."""
    found = []
    for number, (canary, skill) in enumerate((c, s) for c in CANARIES for s in skills.SKILLS):
        changes: dict[str, Any] = {}
        if number % 9 == 0:
            changes = {"outcome": "failure"}
        elif number % 9 == 1:
            changes = {"answer": {canary.text: canary.text}}
        found.append(planted(number, skill, canary.text, **changes))
    return found


def test_no_file_of_a_dataset_holds_a_canary(everywhere: list[Example], take: Any, tmp_path: Path) -> None:
    settings = DatasetSettings(
        minimum=100,
        minimum_test=1,
        near_duplicate_threshold=0.9,
        replay_share=0.5,
        max_class_share=1.0,
        skills=list(skills.SKILLS),
        names=NAMES,
    )
    ref = dataset.build(tmp_path / "dataset", take(everywhere), tmp_path / "splits.parquet", settings, "full")
    files = told(ref.path)
    assert {"train.parquet", "validation.parquet", "test.parquet", "card.html", "dropped.jsonl"} <= set(files)
    leaks = Counter(
        (canary.kind, name)
        for canary in CANARIES
        for part in canary.parts
        for name, text in files.items()
        if part in text
    )
    assert leaks == {}
    assert not [name for name, text in files.items() if any(person in text for person in NAMES[:2])]
    assert sum(
        pq.read_metadata(ref.path / f"{name}.parquet").num_rows for name in ("train", "validation", "test")
    ) > 0.6 * len(everywhere)
    assert {canary.kind for canary in CANARIES} <= set(
        json.loads((ref.path / summary.FILE).read_text())["scrubbed"]["kinds"]
    )


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.kind)
def test_each_canary_goes_under_its_kind(canary: Canary) -> None:
    clean = Scrubber(NAMES).clean(canary.text)
    assert not [part for part in canary.parts if part in clean.text]
    assert canary.kind in clean.kinds


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.kind)
def test_the_quick_look_sees_each_canary_among_much_else(canary: Canary) -> None:
    rng = Random(3)
    texts = [words(rng), f"{words(rng)}\n{canary.text}\n{words(rng)}", words(rng)]
    assert Scrubber(NAMES).suspicious(texts) == {1}


PASSWORD = "w1ld-Rabbit"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"password": 12345678}, {"password": "<secret:credential>"}),
        ({"passwords": [PASSWORD]}, {"passwords": ["<secret:credential>"]}),
        ({"password": {"value": PASSWORD}}, {"password": {"value": "<secret:credential>"}}),
        (
            {"env": [{"name": "DB_PASSWORD", "value": PASSWORD}, {"name": "PORT", "value": "80"}]},
            {"env": [{"name": "DB_PASSWORD", "value": "<secret:credential>"}, {"name": "PORT", "value": "80"}]},
        ),
        (
            {"kind": "Secret", "data": {"user": "c2hvcA==", "size": "large"}},
            {"kind": "Secret", "data": {"user": "<secret:credential>", "size": "<secret:credential>"}},
        ),
        ({"kind": "ConfigMap", "data": {"size": "large"}}, {"kind": "ConfigMap", "data": {"size": "large"}}),
        ({"max_tokens": 4096, "password_set": True}, {"max_tokens": 4096, "password_set": True}),
        (
            {"lines": ["-----BEGIN PRIVATE KEY-----", PEM[0], PEM[1], "-----END PRIVATE KEY-----", "done"]},
            {"lines": ["<secret:private-key>", "done"]},
        ),
    ],
)
def test_a_record_gives_a_secret_away_by_its_structure(make: Any, given: Any, expected: Any) -> None:
    (clean, _), *_ = Scrubber().examples([make(0, metadata=given)])
    assert clean.metadata == expected


def test_a_secret_goes_in_its_other_spellings_too(make: Any) -> None:
    record = {
        "PGPASSWORD": "p@ss/w0rd!",
        "url": "failed for p%40ss%2Fw0rd%21",
        "basic": f"sent {base64.b64encode(b'p@ss/w0rd!').decode()}",
    }
    (clean, _), *_ = Scrubber().examples([make(0, metadata=record)])
    assert clean.metadata == {
        "PGPASSWORD": "<secret:credential>",
        "url": "failed for <secret:credential>",
        "basic": "sent <secret:credential>",
    }


@pytest.mark.parametrize(
    "line",
    [
        'password = os.environ["DB_PASSWORD"]',
        "password = get_secret(name)",
        'password = getenv("DB_PASSWORD")',
        "password=settings.db_password",
        "connect(password=db_password)",
        "password: ${{ secrets.DB_PASSWORD }}",
        "password: $(DB_PASSWORD)",
        'password = "$DB_PASSWORD"',
        "password = var.db_password",
        'password: "{{ .Values.password }}"',
    ],
)
def test_code_that_fetches_a_secret_stays_as_it_is(line: str) -> None:
    assert Scrubber().text(line) == line


def test_a_finding_still_quotes_the_line_whose_secret_went(make: Any) -> None:
    context = {"path": "app.py", "code": f'import db\npassword = "{PASSWORD}"\nrun()'}
    answer = {"findings": [{"kind": "hard_coded_secret", "line": f'password = "{PASSWORD}"'}], "risk": "high"}
    (clean, _), *_ = Scrubber().examples([make(0, skill="remediation", context=context, answer=answer)])
    assert clean.answer["findings"][0]["line"] == 'password = "<secret:credential>"'
    assert clean.answer["findings"][0]["line"] in clean.context["code"].splitlines()


def test_a_name_is_one_person_however_it_is_written() -> None:
    texts = ["Grace Hopper", "grace.hopper", "GRACE\nHOPPER", "Grace-Hopper"]
    assert len({Scrubber(NAMES).text(text) for text in texts}) == 1
    assert Scrubber(NAMES).text("Lima and Hopper") == "Lima and Hopper"
    assert re.fullmatch("person-[0-9a-f]{8} said", Scrubber(NAMES).text("Li said"))
