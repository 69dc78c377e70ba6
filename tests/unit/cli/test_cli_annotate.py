"""``opstune annotate`` without a Label Studio, and what it tells of a pull."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opstune.annotate import summary
from opstune.annotate.agreement import Label, agreement
from opstune.cli import app
from opstune.errors import ConfigError
from opstune.settings import AnnotateSettings


@pytest.mark.parametrize("command", ["push", "pull"])
def test_without_a_connection_every_project_says_that_annotation_is_off(command: str) -> None:
    done = CliRunner().invoke(app, ["annotate", command, "--json"], catch_exceptions=False)
    reports = json.loads(done.output)
    assert {report["project"] for report in reports} == {"root_cause", "query_quality", "remediation", "log_error"}
    assert {report["off"] for report in reports} == {"there is no connection opstune_label_studio: annotation is off"}


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_project_that_does_not_exist_is_named(command: str) -> None:
    with pytest.raises(ConfigError, match=r"no form 'remedy'.*Known: root_cause"):
        CliRunner().invoke(app, ["annotate", command, "remedy"], catch_exceptions=False)


def test_agreement_says_how_far_people_agree_and_who_differs_on_what(own_home: Path) -> None:
    told = CliRunner().invoke(app, ["annotate", "agreement"]).output
    assert "nothing has been pulled" in told
    labels = [Label("task 1 (Down)", "ann", "none"), Label("task 1 (Down)", "bob", "rerun_job(job=x)")]
    labels += [Label(f"task {n}", who, "none") for n in (2, 3) for who in ("ann", "bob")]
    found = agreement(labels)
    summary.write(own_home / "annotations", "remediation", AnnotateSettings(), found, found, agreement([]), True)
    told = CliRunner().invoke(app, ["annotate", "agreement"], env={"COLUMNS": "200"}).output
    assert "remediation: task 1 (Down): ann says none, bob says rerun_job(job=x)" in told
    assert "0.6667" in told and "waits" in told and "Cohen's kappa" in told
    [entry] = json.loads(CliRunner().invoke(app, ["annotate", "agreement", "--json"]).output).values()
    assert (entry["items"], entry["annotators"], entry["line"]) == (3, ["ann", "bob"], 0.9)


def test_the_agreement_of_one_project_leaves_the_others(own_home: Path) -> None:
    folder, nothing = own_home / "annotations", agreement([])
    for project in ("remediation", "root_cause"):
        summary.write(folder, project, AnnotateSettings(measure="kappa"), nothing, nothing, nothing, False)
    found = summary.read(folder)
    assert set(found) == {"remediation", "root_cause"}
    assert (found["root_cause"]["value"], found["root_cause"]["reason"]) == (None, "there are no labels")


def test_a_dataset_card_gets_numbers_and_no_names(own_home: Path) -> None:
    folder, nothing = own_home / "annotations", agreement([])
    said = agreement([Label("task 1", "ann", "a"), Label("task 1", "bob", "b"), Label("task 2", "ann", "a")])
    summary.write(folder, "root_cause", AnnotateSettings(), nothing, nothing, nothing, False)
    summary.write(folder, "remediation", AnnotateSettings(), said, said, nothing, False)
    assert summary.for_card(folder) == {
        "remediation": {
            "items": 1,
            "measure": "percent agreement",
            "value": 0.0,
            "line": 0.9,
            "annotators": 2,
            "differ": 1,
        }
    }
