"""Annotation against a real Label Studio: out, annotated through its API, back, and out again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotation_place import ANSWERS, LEAVE, RESTART, UNSURE, Place, alert, answered
from label_studio import People, connection, label_studio, program

from opstune import pipeline
from opstune.annotate import editor, forms, lint, projects
from opstune.annotate.forms.base import chosen, written
from opstune.annotate.server import Server
from opstune.annotated import SOURCE
from opstune.errors import ConfigError

pytestmark = pytest.mark.timeout(900)

ANN, BOB, CYD = "ann@example.org", "bob@example.org", "cyd@example.org"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with label_studio(tmp_path_factory.mktemp("label-studio") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def people(url: str) -> Iterator[People]:
    found = People(url)
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path, url: str, people: People, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, url, monkeypatch, people)


def test_the_editors_tags_are_those_of_the_installed_label_studio() -> None:
    site = next((program().parents[1] / "lib").glob("python3*/site-packages"))
    bundle = (site / "web/dist/apps/labelstudio/main.js").read_text()
    end = bundle.index('"maxRating"')
    start = bundle.rindex("JSON.parse('", 0, end) + len("JSON.parse('")
    listed = json.loads(bundle[start : bundle.index("')", end)].replace("\\'", "'").replace("\\\\", "\\"))
    found = {tag: {name.rstrip("=") for name in listed[tag]["attrs"]} for tag in listed}
    found["Style"] = set()  # its attributes are CSS
    assert found == {tag: set(names.split()) for tag, names in editor.TAGS.items()}
    assert (site / f"label_studio-{editor.VERSION}.dist-info").is_dir()


def test_five_hundred_tasks_out_and_back_and_out_again_without_a_double(place: Place) -> None:
    started = time.monotonic()
    place.store.upsert(alert(number) for number in range(500))
    first = place.push()
    assert (first.new, first.why, first.open) == (500, {"nobody knows the answer": 500}, 500)
    again = place.push()
    assert (again.new, again.changed, again.open) == (0, 0, 500)
    pushed = time.monotonic()

    shared = [int(number) for number, task in place.tasks().items() if task["overlap"] == 2]
    assert 60 <= len(shared) <= 140
    place.annotate(range(400), RESTART, ANN, stars=5)
    place.annotate(shared, RESTART, BOB, stars=4)
    place.annotate([number for number in range(400, 410) if number not in shared], LEAVE, CYD)
    annotated = time.monotonic()

    found = place.pull()
    done = len({*range(410), *shared})
    assert (found.tasks, found.answered, found.waits, found.unreadable) == (done, done, "", [])
    pulled = time.monotonic()
    read = place.read()
    assert len(read) == 500
    answered = {int(number) for number, example in read.items() if example.human_validated}
    assert answered == {*range(410), *shared}
    assert read["7"].answer == {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-7"}}
    both = read[str(min(shared))]
    assert (both.annotator, both.rating) == (f"{ANN}, {BOB}", 4)
    assert both.metadata["annotation"]["task"] == place.tasks()[str(min(shared))]["id"]

    assert place.pull().answered == 0
    last = place.push()
    assert (last.new, last.changed, last.look_again) == (0, 0, 0)
    assert len(place.tasks()) == 500
    print(
        f"two pushes {pushed - started:.1f} s, annotating {annotated - pushed:.1f} s, pull {pulled - annotated:.1f} s"
    )


def test_the_project_is_made_once_and_its_page_follows_the_file(place: Place) -> None:
    place.store.upsert([alert(1)])
    assert place.push().note == ""
    number = place.people.project_id(place.titles["remediation"])
    page = place.config / "label_studio" / "remediation.xml"
    page.write_text(page.read_text().replace("Which function?", "Which function, if any?"))
    assert place.push().note == ""
    assert place.people.project_id(place.titles["remediation"]) == number
    with Server(place.settings().connections[pipeline.LABEL_STUDIO], place.settings().annotate.patience) as server:
        found = server.project(place.titles["remediation"])
    assert found and "if any?" in found.page and lint.lint(found.page) == []


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ('value="leave it alone"', 'value="do nothing"', "the choice 'leave it alone' of 'action'"),
        ('name="evidence"', 'name="why"', "the question 'evidence'"),
    ],
)
def test_a_page_that_would_orphan_annotations_is_not_put_in_place(place: Place, old: str, new: str, lost: str) -> None:
    place.store.upsert([alert(1)])
    place.push()
    place.annotate([1], [*LEAVE, *written("evidence", "it healed")], ANN)
    page = place.config / "label_studio" / "remediation.xml"
    page.write_text(page.read_text().replace(old, new))
    report = place.push()
    assert lost in report.note and "keeps its page" in report.note
    assert place.pull().answered == 1


def test_a_page_that_the_editor_would_not_show_reaches_no_server(place: Place) -> None:
    page = place.config / "label_studio" / "remediation.xml"
    page.write_text(page.read_text().replace("<Text ", "<Code ", 1).replace('selectionEnabled="false"/>', "/>", 1))
    with pytest.raises(ConfigError, match=r"<Code> is no tag of Label Studio .*remediation\.xml"):
        place.push()


def test_every_form_fills_in_its_page_and_reads_back_what_was_filled_in(place: Place) -> None:
    """The server checks each prediction against the page, so a form that fills in what is not asked fails here."""
    extra = {"root_cause": chosen("validation", "correct"), "query_quality": chosen("verdict", "as it is")}
    for name, form in forms.FORMS.items():
        place.store.upsert([answered(form.skill)])
        assert place.push(name, audit_share=1.0).why == {"a sample for audit": 1}
        [task] = place.people.tasks(place.titles[name]).values()
        [prediction] = task["predictions"]
        place.people.annotate(task["id"], [*prediction["result"], *extra.get(name, [])])
        assert place.pull(name).answered == 1
        [found] = [one for one in place.store.read() if one.source == SOURCE and one.skill == form.skill]
        assert found.human_validated and found.corrections == {}
        assert {**ANSWERS[form.skill], "reasoning": ""} == {**found.answer, "reasoning": ""}


def test_skipped_is_no_answer_and_cannot_say_stays_unanswered(place: Place) -> None:
    place.store.upsert(alert(number) for number in range(4))
    place.push()
    tasks = place.tasks()
    place.people.skip(tasks["0"]["id"])
    place.annotate([1], UNSURE, ANN)
    place.annotate([2], RESTART, ANN)
    place.people.skip(tasks["2"]["id"], by=BOB)
    report = place.pull()
    assert (report.answered, report.cannot_say, report.skipped) == (1, 1, 1)
    assert [n for n, example in sorted(place.read().items()) if example.human_validated] == ["2"]
    assert [place.read()[n].answer for n in "013"] == [{}, {}, {}]


def test_the_next_collection_does_not_overwrite_what_people_said(place: Place) -> None:
    place.store.upsert([alert(1)])
    place.push()
    place.annotate([1], RESTART, ANN)
    place.pull()
    known = {"function": "none", "parameters": {}}
    place.store.upsert([alert(1, answer=known, outcome="success")])
    assert place.read()["1"].answer["function"] == "restart_pod"


def test_a_changed_record_changes_its_task(place: Place) -> None:
    place.store.upsert([alert(1), alert(2)])
    place.push()
    place.store.upsert([alert(1, context={"alert": "Renamed", "labels": {"pod": "cart-1"}})])
    report = place.push()
    assert (report.new, report.changed, report.look_again) == (0, 1, 0)
    assert "Renamed" in place.tasks()["1"]["data"]["case"]
    known = {"function": "restart_pod", "parameters": {"namespace": "shop", "pod": "cart-2"}}
    place.store.upsert([alert(2, answer=known)])
    assert place.push().changed == 1
    changed = place.tasks()["2"]
    assert "restart_pod" in changed["data"]["proposal"]
    assert {part["from_name"] for part in changed["predictions"][0]["result"]} == {"action", "function"}


def test_a_record_that_changed_after_it_was_annotated_is_looked_at_again_and_its_label_is_not_lost(
    place: Place,
) -> None:
    place.store.upsert([alert(1)])
    place.push(annotators=1)
    place.annotate([1], RESTART, ANN)
    renamed = {"alert": "Renamed", "labels": {"namespace": "shop", "pod": "cart-9"}}
    held = alert(1, context=renamed)
    place.pull()
    place.store.upsert([held])
    report = place.push()
    assert (report.look_again, report.changed, report.open) == (1, 0, 1)
    task = place.tasks()["1"]
    assert "look again" in task["data"]["notice"] and "Renamed" in task["data"]["case"]
    assert (task["is_labeled"], task["overlap"], len(task["annotations"])) == (False, 2, 1)
    kept = place.read()["1"]
    assert kept.human_validated and kept.context["alert"] == "Alert1" and kept.answer["parameters"]["pod"] == "cart-1"
    assert place.pull().outdated == 1
    assert place.push().look_again == 0

    place.people.change(task["annotations"][0]["id"], LEAVE)
    assert place.pull().answered == 1
    again = place.read()["1"]
    assert (again.answer["function"], again.context["alert"]) == ("none", "Renamed")
    place.push()
    task = place.tasks()["1"]
    assert (task["data"]["notice"], task["is_labeled"]) == ("", True)


def test_an_annotation_that_was_not_pulled_yet_holds_the_change_back(place: Place) -> None:
    place.store.upsert([alert(1)])
    place.push()
    place.annotate([1], RESTART, ANN)
    place.store.upsert([alert(1, context={"alert": "Renamed", "labels": {}})])
    assert place.push().held == 1
    assert "Alert1" in place.tasks()["1"]["data"]["case"]


def test_people_who_differ_make_the_batch_wait_and_are_named(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.store.upsert(alert(number) for number in range(6))
    place.push(shared=1.0)
    place.annotate(range(6), RESTART, ANN)
    place.annotate(range(4), RESTART, BOB)
    place.annotate([4, 5], LEAVE, BOB)
    with caplog.at_level("INFO", "opstune"):
        report = place.pull()
    assert report.answered == 0 and re.search(r"percent agreement is 0\.67 on the 6 tasks.*below.* 0\.9", report.waits)
    assert not any(example.human_validated for example in place.read().values())
    task = place.tasks()["4"]["id"]
    said = f"task {task} (Alert4): {ANN} says restart_pod(namespace=shop, pod=cart-4), {BOB} says none"
    assert said in report.differ and any(said in line for line in caplog.messages)
    told = json.loads((place.settings().annotations_dir / "agreement.json").read_text())["remediation"]
    assert (told["items"], told["annotators"], told["measure"]) == (6, [ANN, BOB], "percent agreement")
    assert told["value"] == pytest.approx(4 / 6) and told["line"] == 0.9 and told["batch"]["waits"]
    assert told["kappa"]["measure"] == "Cohen's kappa" and len(told["differ"]) == 2

    by_bob = {n: [one for one in place.tasks()[n]["annotations"] if one["completed_by"] != 1] for n in ("4", "5")}
    place.people.change(by_bob["4"][0]["id"], RESTART)
    assert place.pull(agreement=0.8).answered == 5
    report = place.pull(agreement=0.8)
    assert (report.answered, report.undecided, report.waits) == (0, 0, "")
    assert [n for n, example in place.read().items() if not example.human_validated] == ["5"]
    place.annotate([5], LEAVE, CYD)
    assert place.pull(agreement=0.3).answered == 1
    assert place.read()["5"].annotator == f"{BOB}, {CYD}"


def test_an_answer_that_was_taken_back_is_withdrawn_and_one_whose_task_is_gone_is_not(place: Place) -> None:
    place.store.upsert([alert(1), alert(2)])
    place.push()
    place.annotate([1, 2], RESTART, ANN)
    assert place.pull().answered == 2
    tasks = place.tasks()
    place.people.delete("annotations", tasks["1"]["annotations"][0]["id"])
    place.people.delete("tasks", tasks["2"]["id"])
    assert place.pull().withdrawn == 1
    assert [n for n, example in place.read().items() if example.human_validated] == ["2"]
    assert place.pull().withdrawn == 0
    assert place.push().new == 0


def test_an_annotation_that_is_no_answer_is_named_and_left_out(place: Place) -> None:
    place.store.upsert([alert(1), alert(2)])
    place.push()
    place.annotate([1], chosen("action", "run a function"), ANN)
    place.annotate([2], RESTART, ANN)
    report = place.pull()
    task = place.tasks()["1"]["id"]
    assert report.unreadable == [f"task {task} (Alert1), by {ANN}: no function"]
    assert report.answered == 1


def test_doubles_that_an_import_left_are_removed_and_an_annotated_one_stays(place: Place) -> None:
    place.store.upsert([alert(1), alert(2)])
    place.push()
    tasks = place.tasks()
    number = place.people.project_id(place.titles["remediation"])
    place.people.add(number, [{"data": tasks[n]["data"]} for n in ("1", "2")])
    with pytest.raises(AssertionError, match="two tasks"):
        place.tasks()
    with Server(place.settings().connections[pipeline.LABEL_STUDIO], place.settings().annotate.patience) as server:
        double = max(task.id for task in server.tasks(number) if task.data["opstune_id"] == alert(2).id)
    place.people.annotate(double, RESTART)
    assert place.push().doubles_removed == 2
    assert place.tasks()["2"]["id"] == double
    assert place.tasks()["1"]["id"] == tasks["1"]["id"]


def test_no_more_tasks_stand_open_than_are_asked_for(place: Place) -> None:
    place.store.upsert(alert(number) for number in range(30))
    first = place.push(most_open=10)
    assert (first.new, first.waiting, first.open) == (10, 20, 10)
    assert {int(number) for number in place.tasks()} == set(range(20, 30))
    place.annotate(range(20, 24), RESTART, ANN)
    place.annotate(range(20, 24), RESTART, BOB)
    assert place.push(most_open=10).new == 4


def test_progress_counts_what_is_done_or_skipped(place: Place) -> None:
    assert pipeline.annotation_progress(place.settings()) == []
    place.store.upsert(alert(number) for number in range(5))
    place.push(shared=0.0)
    place.annotate([0, 1], RESTART, ANN)
    place.people.skip(place.tasks()["2"]["id"])
    assert pipeline.annotation_progress(place.settings()) == [("remediation", 3, 5)]


def test_what_leaves_is_scrubbed_and_what_comes_back_names_the_real_things(place: Place) -> None:
    labels = {"host": "10.1.2.4", "mountpoint": "/var", "owner": "jo@shop.example"}
    place.store.upsert([alert(1, context={"alert": "DiskFull", "labels": labels, "summary": "password=hunter2secret"})])
    place.push()
    task = place.tasks()["1"]
    assert not [text for text in ("10.1.2.4", "jo@shop", "hunter2") if text in json.dumps(task["data"])]
    place.annotate([1], [*chosen("action", "run a function"), *chosen("function", "clean_disk")], ANN)
    assert place.pull().answered == 1
    assert place.read()["1"].answer["parameters"] == {"host": "10.1.2.4", "mountpoint": "/var"}


def test_a_personal_access_token_gets_in_too(place: Place, url: str, people: People) -> None:
    """What Label Studio gives people nowadays: a token that keys are fetched with. The older kind is off by default."""
    asked = place.settings().annotate.patience
    with Server(connection(url, people.personal_token()), asked) as server:
        assert ANN in server.people().values()


def test_the_projects_are_those_of_the_file() -> None:
    assert projects.project_names() == list(forms.FORMS)
