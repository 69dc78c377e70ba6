"""A secret or personal datum that was planted anywhere in an example is in no file of the dataset."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from canaries import CANARIES, LOWER, NAMES, PEM, Canary

from opstune import dataset, skills
from opstune.dataset import summary
from opstune.dataset.scrub import Scrubber
from opstune.examples import Example
from opstune.settings import DatasetSettings


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
