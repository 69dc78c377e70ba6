"""The page and its document: alone, readable, hostile to nobody's text, and the same figures in both."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_engine import FakeEngine, example, write_dataset

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import DataError
from opstune.evaluate import evaluate, gate, read_verdict, report_cases
from opstune.evaluate.metrics import share
from opstune.evaluate.predict import Prediction
from opstune.evaluate.red_team import Attacked, Probed, RedTeam
from opstune.evaluate.report_slices import confusion, histogram, slices
from opstune.examples import Example
from opstune.settings import EvaluateSettings, config_dir

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
_VOID = {"meta", "br", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Tags and attributes as a browser would find them, and whether each closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def hostile(tmp_path: Path, examples: list[Example]) -> tuple[Ref, list[Example]]:
    odd = [
        one.model_copy(
            update={"context": {**one.context, "summary" if "alert" in one.context else "title": HOSTILE + one.id}}
        )
        for one in examples
    ]
    odd = [
        one.model_copy(update={"context": {**one.context, "alert": f"Alert <b>{int(one.source_id) % 4}"}})
        if "alert" in one.context
        else one
        for one in odd
    ]
    return write_dataset(tmp_path / "hostile", odd), odd


def attacked(dataset: Ref, folder: Path) -> Ref:
    def make(out: Path) -> Mapping[str, float]:
        told = {"kind": "injection", "skill": "triage", "group": "1", "must": "unchanged", "constrained": True}
        words = {"variant": HOSTILE, "why": "It must hold.", "reason": "It did not.", "asked": HOSTILE, "text": HOSTILE}
        words["right"] = "SEV-1, as it was before the attack"
        probes = [Probed.model_validate({**told, **words, "id": str(n), "held": n > 2}) for n in range(12)]
        role = Attacked(
            engine="fake", seconds=1, metrics={"injection": share(9, 12)}, cannot_say={"empty": 3}, probes=probes
        )
        found = RedTeam(dataset_sha256=dataset.sha256, planted=0, roles={"challenger": role})
        artifacts.write_text(out / "red_team.json", found.model_dump_json())
        return {}

    return artifacts.build(folder, "red_team", {"dataset": dataset}, {}, make)


@pytest.fixture
def judged(hostile: tuple[Ref, list[Example]], settings: EvaluateSettings, tmp_path: Path) -> Ref:
    """A challenger that the shipped gates reject, with champion, base, attacks, and text that wants to break out."""
    dataset, odd = hostile
    engines = {
        "base": FakeEngine("tiny-ops@1<base>", odd, right=0.1),
        "champion": FakeEngine("champion", odd, right=0.97),
        "challenger": FakeEngine("challenger", odd, right=0.9, seconds=0.04),
    }
    opened = {role: lambda e=engine: e for role, engine in engines.items()}
    evaluation = evaluate(tmp_path / "evaluate", dataset, opened, settings, {})
    red_team = attacked(dataset, tmp_path / "red_team")
    gates = config_dir() / "gates.yaml"
    return gate(tmp_path / "gate", evaluation, gates, dataset=dataset, red_team=red_team)


def test_the_page_stands_alone_and_is_whole(judged: Ref, tmp_path: Path) -> None:
    text = (judged.path / "report.html").read_text()
    page = Page(text)
    assert not set(page.tags) & {"script", "img", "link", "iframe", "object", "form"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"https?://|url\(|@import", text)
    assert str(tmp_path) not in text


def test_hostile_text_is_shown_as_text(judged: Ref) -> None:
    page = Page((judged.path / "report.html").read_text())
    assert any("<script>alert(1)</script>" in text for text in page.text)
    assert "tiny-ops@1<base>" in page.text


def test_the_page_says_in_words_what_was_decided_and_why(judged: Ref) -> None:
    words = " ".join(" ".join(Page((judged.path / "report.html").read_text()).text).split())
    verdict = read_verdict(judged)
    assert verdict.verdict == "reject"
    assert verdict.sentence.split(": ", 1)[1].split(". ")[0][1:] in words
    for said in (
        "Rejected",
        "more than 90 %",
        "less than 2 points below the champion",
        "newly broken cases: right by the champion, wrong now",
        "The ten worst answers",
        "What is taken for what",
        "Triage: the root causes that it named are",
        "Where it is weak",
        "How fast it answers",
        "Where it gave way: 3",
        "9 of 12",
        "SEV-1, as it was before the attack",
        "The models",
        "Where it comes from",
        "tiny-ops, the embedded model",
    ):
        assert said in words, said


def test_what_stopped_a_model_stands_above_what_it_passed(judged: Ref) -> None:
    page = (judged.path / "report.html").read_text()
    shown = re.findall(r'<tr class="(failed|undecided|alarm|passed)">', page)
    order = ["failed", "undecided", "alarm", "passed"]
    assert {"failed", "passed"} <= set(shown)
    assert shown == sorted(shown, key=order.index)


def test_the_document_holds_what_the_page_shows(judged: Ref) -> None:
    document = json.loads((judged.path / "report.json").read_text())
    verdict = read_verdict(judged)
    assert (document["verdict"], document["sentence"]) == (verdict.verdict, verdict.sentence)
    assert [line["bound"] for line in document["lines"]] == [line.bound for line in verdict.applying]
    assert len(document["lines"]) + len(document["not_applying"]) == len(verdict.lines)
    assert document["champion"]["word"] == "worse"
    assert len(document["champion"]["broken"]) == document["champion"]["comparisons"][0]["lost"]
    assert len(document["worst"]) == 10
    assert {row["metric"] for row in document["red_team"]["rows"]} == {"injection", "empty"}
    assert [stage["kind"] for stage in document["lineage"]] == ["evaluation", "red_team", "dataset"]
    assert document["models"][0]["bleu"] is not None


def test_attacks_on_another_test_set_are_refused(
    judged: Ref, dataset: Ref, hostile: tuple[Ref, list[Example]], tmp_path: Path
) -> None:
    other = attacked(dataset, tmp_path / "other")
    evaluation = artifacts.open_ref(tmp_path / "evaluate")
    with pytest.raises(DataError, match="another dataset"):
        gate(tmp_path / "again", evaluation, config_dir() / "gates.yaml", dataset=hostile[0], red_team=other)


def test_no_kind_of_attack_hides_behind_a_commoner_one() -> None:
    told = {
        "variant": "any",
        "skill": "triage",
        "group": "",
        "must": "right",
        "constrained": True,
        "why": "",
        "text": "",
    }
    kinds = ["injection"] * 12 + ["unknown_alert"] * 2 + ["canary"]
    probes = [
        Probed.model_validate({**told, "id": str(n), "kind": kind, "held": False, "reason": "", "asked": ""})
        for n, kind in enumerate(kinds)
    ]
    role = Attacked(engine="", seconds=1, metrics={"injection": share(0, 12)}, cannot_say={}, probes=probes)
    found = report_cases.red_team(RedTeam(dataset_sha256="", planted=1, roles={"challenger": role}))
    assert found is not None and found["gave_way"] == 15
    assert [one["kind"] for one in found["shown"]] == ["injection"] * 7 + ["unknown_alert"] * 2 + ["canary"]


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\u200bb", "a\\u200bb"),
        ("\u202eetorp\u202c", "\\u202eetorp\\u202c"),
        ("\U000e0041", "\\U000e0041"),
        ("\x1b[8mgo\x1b[0m", "\\x1b[8mgo\\x1b[0m"),
        ("two\n\tlines, é and 漢", "two\n\tlines, é and 漢"),
    ],
)
def test_what_nobody_sees_is_shown_as_its_escape(hidden: str, shown: str) -> None:
    assert report_cases.visible(hidden) == shown


def test_numbered_labels_stand_in_their_order_and_others_by_how_common_they_are() -> None:
    found = confusion(
        {"triage": {"SEV-2": {"SEV-2": 9}, "SEV-0": {"SEV-2": 1}}, "audit": {"a": {"a": 1}, "b": {"b": 2}}}
    )
    assert [row["label"] for row in found["triage"]["rows"]] == ["SEV-0", "SEV-2"]
    assert [row["label"] for row in found["audit"]["rows"]] == ["b", "a"]


def right(number: int, holds: bool | None) -> Prediction:
    scores = {"valid_json": True} if holds is None else {"valid_json": True, "correct": holds}
    id_ = f"remediation-{number:04}"
    return Prediction(id=id_, skill="remediation", text="", parsed=None, scores=scores, tokens=1, seconds=None)


def test_small_slices_are_folded_and_every_scored_case_is_in_one() -> None:
    examples = [example("remediation", n) for n in range(60)]
    named = [
        one.model_copy(update={"context": {**one.context, "alert": f"A{min(n, 12)}" if n < 12 else f"Large{n % 10}"}})
        for n, one in enumerate(examples)
    ]
    found = slices(named, [right(n, None if n == 59 else n % 3 > 0) for n in range(60)])
    (by_alert,) = [one for one in found if (one["skill"], one["field"]) == ("remediation", "alert")]
    assert sum(row["n"] for row in by_alert["rows"]) == 59
    assert [row["folded"] for row in by_alert["rows"]][-1] > 0
    assert all(row["n"] >= 4 and row["lower"] <= row["share"] <= row["upper"] for row in by_alert["rows"])
    shares = [row["share"] for row in by_alert["rows"] if not row["folded"]]
    assert shares == sorted(shares)


def test_the_age_of_a_case_is_counted_back_from_the_newest() -> None:
    newest = example("triage", 0)
    old = [
        example("triage", n).model_copy(update={"occurred_at": newest.occurred_at - timedelta(days=days)})
        for n, days in enumerate((0, 3, 7, 8, 20, 45, 100, 200), start=1)
    ]
    predictions = [right(n, True).model_copy(update={"id": f"triage-{n:04}", "skill": "triage"}) for n in range(1, 9)]
    (by_age,) = [one for one in slices(old * 5, predictions * 5) if one["field"] == "age"]
    assert {row["value"]: row["n"] for row in by_age["rows"]} == {
        "newest 7 days": 15,
        "8 to 30 days before": 10,
        "31 to 90 days before": 5,
        "older": 10,
    }


def test_a_histogram_counts_every_request_and_knows_the_limit() -> None:
    found = histogram([float(n) for n in range(1, 1001)], 500)
    assert found is not None
    assert (sum(found["counts"]), found["limit"]) == (1000, 500)
    assert histogram([], 500) is None
