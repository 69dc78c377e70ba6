"""Diagnoses, audit entries, code contexts, workflows and feedback: whole, reachable, and beside the others."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from opstune.dataset.scrub import scrub
from opstune.errors import ConfigError
from opstune.examples import Example, example_id
from opstune.settings import SimulateSettings
from opstune.simulate import TRUTH, Truth, audit, code, diagnosis, feedback, workflow, write_history
from opstune.simulate.history import FORM
from opstune.simulate.names import Names
from opstune.skills import get
from opstune.skills.audit import RISKS
from opstune.skills.code_review import KINDS, lines
from opstune.skills.diagnosis import ARROW, same_cause, subject
from opstune.skills.functions import functions
from opstune.skills.workflow import VERBS

History = tuple[Path, Truth]
Row = dict[str, Any]
#: Skill → where it is, the keys of its context (with their names there), those of its answer.
SHAPES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "diagnosis": (
        "diagnoses",
        {"symptoms": "symptoms", "telemetry": "telemetry", "topology": "topology"},
        {name: name for name in ("root_cause", "query", "critical_paths", "remediation")},
    ),
    "audit": (
        "audit_log",
        {name: name for name in ("actor", "resource", "details", "action", "origin")}
        | {"outcome": "result", "time": "at"},
        {"risk": "risk", "security_impact": "impact", "root_cause": "root_cause", "actions": "actions"},
    ),
    "code_review": (
        "code_contexts.jsonl",
        {name: name for name in ("path", "kind", "code")},
        {"findings": "findings", "risk": "risk"},
    ),
    "workflow": (
        "workflows.jsonl",
        {name: name for name in ("failure", "frequency", "signals", "manual_steps")},
        {name: name for name in ("name", "trigger", "steps", "rollback")},
    ),
}
JSON_COLUMNS = ("symptoms", "telemetry", "topology", "critical_paths", "remediation", "details", "actions")
#: Of nine days with seed 7, before there were any further rows.
AS_IT_WAS = {
    "services": "6d2e00122c19ff35",
    "incidents": "de227fb6b947b8b3",
    "alerts": "0e155bc8e1d4bdc2",
    "remediation_actions": "fbf0b2a489778e58",
    "agent_runs.jsonl": "e3bc92bfe3640300",
    "task_logs.jsonl": "583d7569648ff716",
}


def rows_of(folder: Path, place: str) -> dict[str, Row]:
    if place.endswith(".jsonl"):
        return {row["id"]: row for row in map(json.loads, (folder / place).read_text().splitlines())}
    with closing(sqlite3.connect(folder / "oncall.db")) as database:
        database.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in database.execute(f"SELECT * FROM {place}")}


def example(skill: str, row: Row) -> Example:
    _, context, answer = SHAPES[skill]
    values = {key: json.loads(row[key]) if key in JSON_COLUMNS and row[key] else row[key] for key in row}
    made = ({name: values[key] for name, key in keys.items() if values[key] is not None} for keys in (context, answer))
    context_value, answer_value = made
    return Example(
        id=example_id("test", row["id"], skill),
        skill=skill,
        source="test",
        source_id=row["id"],
        group_id=row["incident_id"],
        occurred_at=datetime.fromisoformat(row["at"]),
        context=get(skill).context_model.model_validate(context_value).model_dump(),
        answer=get(skill).answer_model.model_validate(answer_value).model_dump(exclude_none=True),
    )


def reachable(one: Example) -> bool:
    schema = get(one.skill).schema(one.context)
    return jsonschema.Draft202012Validator(schema).is_valid(one.answer)


@pytest.fixture(scope="module")
def reviewed(history: History) -> dict[str, list[Example]]:
    """Every row that must become an example, as one."""
    folder, truth = history
    found = {}
    for skill, (place, _, _) in SHAPES.items():
        rows = rows_of(folder, place)
        found[skill] = [example(skill, rows[row_id]) for row_id in truth.usable[skill]]
    return found


def drawn(draw: Callable[[Random, Names], Any], number: int) -> Iterator[Any]:
    for seed in range(number):
        rng = Random(seed)
        yield draw(rng, Names(seed, rng))


@pytest.mark.parametrize("place", AS_IT_WAS)
def test_what_the_first_three_skills_learn_from_is_as_it_was(history: History, place: str) -> None:
    """The demo's dataset and its gate are tuned on exactly this."""
    if place.endswith(".jsonl"):
        found = (history[0] / place).read_bytes()
    else:
        with closing(sqlite3.connect(history[0] / "oncall.db")) as database:
            found = repr(database.execute(f"SELECT * FROM {place} ORDER BY 1").fetchall()).encode()
    assert hashlib.sha256(found).hexdigest()[:16] == AS_IT_WAS[place]


@pytest.mark.parametrize("skill", SHAPES)
def test_every_reviewed_row_has_an_answer_that_its_case_allows(reviewed: dict[str, list[Example]], skill: str) -> None:
    assert len(reviewed[skill]) > 50
    assert all(map(reachable, reviewed[skill]))


@pytest.mark.parametrize("skill", SHAPES)
def test_scrubbing_takes_the_secrets_and_leaves_every_answer_possible(
    history: History, reviewed: dict[str, list[Example]], skill: str
) -> None:
    clean, scrubbed = scrub(reviewed[skill])
    raw, text = (" ".join(one.model_dump_json() for one in examples) for examples in (reviewed[skill], clean))
    planted = [secret for secret in history[1].secrets if secret in raw]
    assert planted and scrubbed.examples
    assert not [secret for secret in planted if secret in text]
    assert all(map(reachable, clean))


@pytest.mark.parametrize("skill", ["diagnosis", "code_review", "workflow"])
def test_an_unreachable_answer_is_valid_in_itself_and_impossible_in_its_case(history: History, skill: str) -> None:
    folder, truth = history
    rows = rows_of(folder, SHAPES[skill][0])
    planted = [row_id for row_id in truth.dirt["unreachable"] if row_id in rows]
    assert planted
    assert not any(reachable(example(skill, rows[row_id])) for row_id in planted)


@pytest.mark.parametrize("skill", SHAPES)
def test_some_rows_wait_for_a_review_and_say_so(history: History, skill: str) -> None:
    folder, _ = history
    place, _, answer = SHAPES[skill]
    waiting = [row for row in rows_of(folder, place).values() if row["reviewed_by"] is None]
    assert waiting and all(row[key] is None for row in waiting for key in answer.values())


@pytest.mark.parametrize("skill", SHAPES)
def test_repeats_differ_from_their_row_by_nothing_or_by_a_few_words(history: History, skill: str) -> None:
    folder, truth = history
    rows = rows_of(folder, SHAPES[skill][0])
    for kind, words in (("exact_duplicate", 0), ("near_duplicate", 2)):
        repeated = [row_id for row_id in truth.dirt[kind] if row_id in rows]
        assert repeated
        for row_id in repeated:
            again, first = example(skill, rows[row_id]), example(skill, rows[row_id[:-1]])
            more = len(get(skill).render(again.context).split()) - len(get(skill).render(first.context).split())
            assert again.answer == first.answer and (again.context == first.context) is (kind == "exact_duplicate")
            assert 0 <= more <= words + 2


def test_the_critical_paths_lead_from_whom_nobody_calls_to_the_culprit() -> None:
    for found in drawn(diagnosis.draw, 200):
        culprits = {path.split(ARROW)[-1] for path in found.critical_paths}
        assert len(culprits) == 1
        (culprit,) = culprits
        called = {service for callees in found.topology.values() for service in callees}
        assert all(path.split(ARROW)[0] not in called for path in found.critical_paths)
        assert all(culprit in text for text in (found.root_cause, found.query))
        assert f"{subject(found.query)} of {culprit}" in found.telemetry


def test_the_same_metric_is_calm_elsewhere_often_enough_that_it_gives_nothing_away() -> None:
    elsewhere = 0
    for found in drawn(diagnosis.draw, 300):
        measured = Counter(name.split(" of ")[0] for name in found.telemetry)
        elsewhere += measured[subject(found.query)] > 1
        assert len(found.telemetry) >= 3
    assert elsewhere > 20


def test_no_two_causes_can_be_taken_for_each_other() -> None:
    causes = {fault.root_cause for fault in (*diagnosis._OF_WORKERS, *diagnosis._OF_STORES)}
    named = [cause.format(rev=7, culprit="db-x1") for cause in causes]
    assert not [(one, other) for one in named for other in named if one != other and same_cause(one, other)]


def test_the_risk_of_an_entry_follows_from_what_it_shows() -> None:
    risks = Counter()
    for entry in drawn(lambda rng, names: audit.draw(rng, names, "user-1"), 600):
        (deed,) = [deed for deed in audit._DEEDS if entry.resource.startswith(deed.resource.split()[0])]
        strange = "203.0.113." in entry.origin
        approved = "approv" in entry.details["approval"] or "by the owner" in entry.details["approval"]
        late = entry.hour in audit._NIGHT and entry.details["on duty"] == "no"
        refused = entry.result in ("denied", "refused", "forbidden")
        assert RISKS.index(entry.risk) == min(max(deed.risk + strange + (not approved) + late - refused, 0), 3)
        risks[entry.risk] += 1
    assert min(risks[risk] for risk in RISKS) > 60


def test_findings_quote_lines_of_the_code_and_every_kind_is_found() -> None:
    kinds: Counter[str] = Counter()
    for piece in drawn(code.draw, 600):
        assert all(finding["line"] in lines(piece.code) for finding in piece.findings)
        kinds.update([finding["kind"] for finding in piece.findings] or ["clean"])
    assert set(kinds) == {*KINDS, "clean"} - {"other"}
    assert min(kinds.values()) > 10 and kinds["clean"] > 150


def test_harmless_code_has_lines_much_like_the_dangerous_ones() -> None:
    clean = " ".join(piece.code for piece in drawn(code.draw, 600) if not piece.findings)
    assert all(
        word in clean for word in ("password", "verbs:", "pull_request\n", "curl", "image:", "privileged: false")
    )


def test_a_diff_counts_its_own_lines_and_is_never_empty() -> None:
    diffs = [piece.code.splitlines() for piece in drawn(code.draw, 300) if piece.code.startswith("--- ")]
    assert 60 < len(diffs) < 180
    for _, _, head, *body in diffs:
        removed, added = (sum(line[0] in marks for line in body) for marks in (" -", " +"))
        assert head == f"@@ -1,{removed} +1,{added} @@" and all(line[0] in " +-" for line in body)


def test_each_step_was_done_by_hand_and_the_trigger_came_every_time() -> None:
    called: set[str] = set()
    for pattern in drawn(workflow.draw, 300):
        seen, of = pattern.signals[pattern.trigger].split(" of ")
        assert seen == of and all(
            count.split(" of ")[0] != of for name, count in pattern.signals.items() if name != pattern.trigger
        )
        assert 1 <= len(pattern.steps) < len(pattern.manual_steps)
        spoken = " ".join(pattern.manual_steps)
        assert all(step["when"] in spoken for step in pattern.steps)
        called |= {step["function"] for step in pattern.steps}
    assert called == {*functions(), "check", "wait", "notify", "approve"} - {"none"}
    assert called <= {*functions(), *VERBS}


@pytest.fixture(scope="module")
def told(history: History) -> dict[str, list[Row]]:
    rows = rows_of(history[0], "feedback.jsonl")
    assert {row_id for ids in history[1].feedback.values() for row_id in ids} == set(rows)
    return {kind: [rows[row_id] for row_id in ids] for kind, ids in history[1].feedback.items()}


def test_feedback_is_of_every_kind(told: dict[str, list[Row]]) -> None:
    assert set(told) == {*feedback._KINDS, "repeated", "poison"}


def test_usable_feedback_is_rated_well_reviewed_by_another_and_right(
    history: History, told: dict[str, list[Row]]
) -> None:
    logs = {}
    for line in (history[0] / "task_logs.jsonl").read_text().splitlines():
        if '"finding": {' in line:
            logs[json.loads(line)["id"]] = json.loads(line)
    for row in told["usable"]:
        log = logs[row["log_id"]]
        assert row["rating"] >= 3 and row["reviewed_by"] not in (None, row["user"])
        assert row["log"] == log["log"] and row["incident"] == log["incident"]
        assert all(row["corrected"][name] == log["finding"][name] for name in row["corrected"])


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("unreviewed", lambda row: row["reviewed_by"] is None and row["reviewed_at"] is None),
        ("low_rated", lambda row: row["rating"] < 3 and row["reviewed_by"]),
        ("self_reviewed", lambda row: row["reviewed_by"] == row["user"]),
        ("repeated", lambda row: row["at"] == row["reviewed_at"]),
        ("poison", lambda row: row["user"] == feedback.POISONER and row["rating"] == 5),
    ],
)
def test_worthless_feedback_is_what_its_kind_says(
    told: dict[str, list[Row]], kind: str, holds: Callable[[Row], bool]
) -> None:
    assert told[kind] and all(map(holds, told[kind]))


def test_the_poisoner_sends_more_than_all_the_others_and_some_of_it_was_waved_through(
    told: dict[str, list[Row]],
) -> None:
    assert len(told["poison"]) > sum(len(rows) for kind, rows in told.items() if kind != "poison")
    waved = [row for row in told["poison"] if row["reviewed_by"] not in (None, feedback.POISONER)]
    assert 0 < len(waved) < len(told["poison"]) / 3
    assert {(row["corrected"]["category"], row["corrected"]["severity"]) for row in told["poison"]} == {("code", "low")}


def test_nothing_happens_after_the_history_ends(history: History) -> None:
    folder, truth = history
    for place in ("diagnoses", "audit_log", "workflows.jsonl", "code_contexts.jsonl", "feedback.jsonl"):
        for row in rows_of(folder, place).values():
            times = [row.get(key) for key in ("at", "updated_at", "reviewed_at")]
            for time in filter(None, times):
                if time[0] == "2":
                    assert datetime.fromisoformat(time).replace(tzinfo=UTC) < truth.through, row["id"]


def test_a_history_of_another_form_is_not_gone_on_with(small: SimulateSettings, tmp_path: Path) -> None:
    write_history(tmp_path, small)
    truth = json.loads((tmp_path / TRUTH).read_text())
    assert truth.pop("form") == FORM
    (tmp_path / TRUTH).write_text(json.dumps(truth))
    with pytest.raises(ConfigError, match="another version"):
        write_history(tmp_path, small)
