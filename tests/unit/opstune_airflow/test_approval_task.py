"""The approval task without Airflow: when it asks, what a person reads, and what their answer becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import TaskAwaitingInput

from opstune import artifacts, settings
from opstune.artifacts import Ref
from opstune.errors import InputError, IntegrityError
from opstune.evaluate.gates import Gate
from opstune.evaluate.verdict import Seen, ShareSeen, Verdict, decide, judge
from opstune.security import signing
from opstune.settings import ApprovalSettings
from opstune_airflow import approval, tasks
from opstune_airflow.approval import Approval

PLAN = {"id": "retrain_weekly-manual-1", "mode": "incremental"}


def verdict(right: int = 199) -> Verdict:
    gate = Gate(skill="remediation", metric="function", direction="above", threshold=0.9)
    return decide([judge(gate, Seen(ShareSeen(right, 200)), 10)])


@pytest.fixture
def shipped() -> Ref:
    found = settings.load()
    folder = found.runs_dir / PLAN["id"] / "gate_shipped"

    return signing.signed(folder, found.keys_dir, lambda: artifacts.build(folder, "verdict", {}, {}, written))


def written(out: Path, right: int = 199) -> dict[str, float]:
    (out / "verdict.json").write_text(verdict(right).model_dump_json())
    return {}


class Instance:
    id = "a task"

    def __init__(self) -> None:
        self.left: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[key] = value


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    run = SimpleNamespace(dag_id="retrain_weekly", run_id="manual__1")
    found = {
        "params": {"approval": True, "deploy": True},
        "ti": Instance(),
        "task_instance": Instance(),
        "dag_run": run,
    }
    monkeypatch.setattr(tasks, "get_current_context", lambda: found)
    monkeypatch.setattr(tasks.settings, "as_connection", lambda name: None)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow was told to ask."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **told: found.append(told))
    return found


def task(shipped: Ref) -> Approval:
    return Approval(task_id="approval", plan=PLAN, shipped={"shipped_verdict": shipped.model_dump()})


def test_nobody_is_asked_unless_the_form_or_the_settings_want_it(
    context: dict[str, Any], asked: list[dict[str, Any]], shipped: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    context["params"]["approval"] = False
    assert task(shipped).execute(context) is None
    assert asked == []
    monkeypatch.setenv("OPSTUNE__APPROVAL__REQUIRED", "true")
    with pytest.raises(TaskAwaitingInput):
        task(shipped).execute(context)


def test_the_table_the_users_and_the_end_of_the_wait_go_with_the_question(
    context: dict[str, Any], asked: list[dict[str, Any]], shipped: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSTUNE__APPROVAL__USERS", '["mira", "kai"]')
    monkeypatch.setenv("OPSTUNE__APPROVAL__HOURS", "2")
    with pytest.raises(TaskAwaitingInput) as waits:
        task(shipped).execute(context)
    assert waits.value.timeout is not None and waits.value.timeout.total_seconds() == 7200
    (told,) = asked
    assert [user["id"] for user in told["assigned_users"]] == ["mira", "kai"]
    assert (told["options"], told["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert "| remediation function | 200 | 99.5 % |" in told["body"]
    assert "The gate lets it through: all 1" in told["body"] and "Promoted" not in told["body"]
    assert "mira or kai may answer until" in told["body"]
    assert "/opstune/reports/retrain_weekly/manual__1/gate_shipped" in told["body"]


@pytest.mark.parametrize(
    ("users", "deploy", "said"),
    [
        (["mira"], True, "- mira may answer until Tuesday 1 December 2026, 02:30 UTC. No answer by then is a no."),
        ([], True, "- Whoever may change this DAG's tasks may answer until Tuesday 1 December 2026, 02:30 UTC."),
        ([], True, "- **Approve** registers it and makes it the champion."),
        ([], False, "- **Approve** registers it; the form said not to deploy it."),
    ],
)
def test_a_person_reads_who_may_answer_until_when_and_what_a_yes_does(
    users: list[str], deploy: bool, said: str
) -> None:
    asked, now = ApprovalSettings(users=users, hours=17.5), datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
    assert said in approval.body(PLAN, verdict(), "/report", deploy, asked, now)


def test_alarms_stand_above_what_passed() -> None:
    hoped = Gate(skill="triage", metric="root_cause", direction="above", threshold=0.8, kind="alarm")
    alarm = judge(hoped, Seen(ShareSeen(30, 100)), 10)
    said = approval.body(PLAN, decide([*verdict().lines, alarm]), "/", True, ApprovalSettings(), datetime.now(UTC))
    assert said.index("| triage root cause |") < said.index("| remediation function |")


def test_nobody_is_asked_about_a_verdict_that_somebody_changed(
    context: dict[str, Any], asked: list[dict[str, Any]], shipped: Ref
) -> None:
    file = shipped.path / "verdict.json"
    file.write_text(file.read_text().replace('"n":200', '"n":900'))
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        task(shipped).execute(context)
    assert asked == []


def test_a_question_is_asked_again_about_the_same_figures_only(
    context: dict[str, Any], asked: list[dict[str, Any]], shipped: Ref
) -> None:
    for _ in range(2):  # the task was cleared
        with pytest.raises(TaskAwaitingInput):
            task(shipped).execute(context)
    keys, folder = settings.load().keys_dir, shipped.path
    other = {"gates": "others"}
    measured_again = signing.signed(
        folder, keys, lambda: artifacts.build(folder, "verdict", {}, other, lambda out: written(out, 198))
    )
    with pytest.raises(InputError, match="would show the old figures"):
        task(measured_again).execute(context)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("chosen", "user", "sentence"),
    [
        ("Approve", {"id": "1", "name": "mira"}, "Approved by mira."),
        ("Reject", {"id": "1", "name": "mira"}, "Rejected by mira. Nothing is registered, and the champion stays."),
        ("Reject", None, "Nobody approved it in time. Nothing is registered, and the champion stays."),
    ],
)
def test_the_answer_becomes_a_sentence(chosen: str, user: dict[str, str] | None, sentence: str) -> None:
    assert approval.told({"chosen_options": [chosen], "responded_by_user": user}, "Approve") == sentence
