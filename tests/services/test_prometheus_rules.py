"""The real alert rules of the shared data in a real Prometheus: what it renders, and what history says without it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from alert_place import AlertPlace
from alert_truth import DAY, Truth, series
from needs import program
from prometheus_server import HOW, backfill, prometheus, wait_until

from opstune.collect.alerts.annotations import VALUE, Rule, Rules, fill

RULES = Path(__file__).parents[3] / "shared" / "data" / "alert-rules.jsonl"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Those that Prometheus accepts, as a rules file has them."""
    if not RULES.is_file():
        pytest.skip("the shared data of this project is not beside the checkout")
    records = [json.loads(line) for line in RULES.read_text().splitlines()]
    plain = [
        {
            "alert": record["alert"],
            "expr": record["expr"],
            "for": record["for"] or "0s",
            "labels": {"severity": record["severity"]},
            "annotations": {key: record[key] for key in ("summary", "description")},
        }
        for record in records
    ]
    folder = tmp_path_factory.mktemp("rules")
    for number, rule in enumerate(plain):
        group = {"name": "g", "rules": [rule]}
        (folder / f"{number}.yml").write_text(yaml.safe_dump({"groups": [group]}))
    files = [str(folder / f"{number}.yml") for number in range(len(plain))]
    told = subprocess.run([program("promtool", HOW), "check", "rules", *files], capture_output=True, text=True)
    refused = {int(number) for number in re.findall(r"/(\d+)\.yml", told.stderr)}
    print(f"{len(plain) - len(refused)} of {len(plain)} rules are accepted")
    return [rule for number, rule in enumerate(plain) if number not in refused]


def labels_of(rule: dict[str, Any]) -> dict[str, str]:
    """A value for every label that the rule's annotations name."""
    names = sorted(set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))))
    return {name: f"{name}-of-{rule['alert']}" for name in names}


def test_every_real_rule_gives_examples_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: list[dict[str, Any]]
) -> None:
    begin = int(time.time() * 1000) - 20 * DAY
    truths = [
        Truth(
            {"alertname": rule["alert"], **rule["labels"], **labels_of(rule)},
            [begin + number * 900_000 + step * 60_000 for step in range(5)],
        )
        for number, rule in enumerate(rules)
    ]
    backfill(tmp_path / "data", series(truths))
    place = AlertPlace(tmp_path, monkeypatch)
    groups = [{"name": f"g{number}", "rules": [rule]} for number, rule in enumerate(rules)]
    with prometheus(tmp_path / "data", groups) as url:
        place.connect("opstune_prometheus", url)
        report = place.pull()
    assert len(rules) > 900 and (report.new, report.quarantined) == (len(rules), 0)
    assert place.found() == sorted(truth.known_as for truth in truths)
    by_alert = {rule["alert"]: rule for rule in rules}
    for example in place.examples():
        rule = by_alert[example.context["alert"]]
        words = example.context["summary"] + example.context["description"]
        assert "{{" not in words and all(value in words for value in labels_of(rule).values())
        assert (VALUE in words) == ("$value" in json.dumps(rule["annotations"]))


def test_what_is_filled_in_is_what_prometheus_renders(tmp_path: Path, rules: list[dict[str, Any]]) -> None:
    """The rules' own words on expressions that hold, side by side; only the measured values differ."""
    firing = [{**rule, "expr": _holds(labels_of(rule)), "for": "0s"} for rule in rules]
    with prometheus(tmp_path, [{"name": "all", "interval": "5s", "rules": firing}]) as url, httpx.Client() as client:

        def alerts() -> list[dict[str, Any]]:
            found = client.get(f"{url}/api/v1/rules").json()["data"]["groups"][0]["rules"]
            return [alert for rule in found for alert in rule["alerts"]]

        wait_until(lambda: len(alerts()) == len(firing))
        rendered = {alert["labels"]["alertname"]: alert for alert in alerts()}
    ours = Rules(Rule(rule["alert"], 5000, rule["labels"], rule["annotations"]) for rule in firing)
    for rule in firing:
        alert = rendered[rule["alert"]]
        filled = ours.annotations(alert["labels"])
        for name, text in alert["annotations"].items():
            pattern = re.escape(filled[name]).replace(re.escape(VALUE), ".*")
            assert re.fullmatch(pattern, text, re.DOTALL), (rule["alert"], text, filled[name])


@pytest.mark.parametrize(
    "template",
    [
        "plain",
        "{{ $labels.pod | toUpper }} {{ $labels.pod | title }}",
        "{{ $labels }} {{ .Labels.pod }}",
        "missing {{ $labels.nothing }} here",
        "a {{- $labels.pod -}} b {{ `raw {{` }}",
        '{{ "{{" }}{{/* a comment */}}',
        "{{ $x := 5 }}set",
    ],
)
def test_the_language_of_templates_is_that_of_prometheus(tmp_path: Path, template: str) -> None:
    rule = {"alert": "Now", "expr": _holds({"pod": "a pod"}), "annotations": {"summary": template}}
    with prometheus(tmp_path, [{"name": "all", "interval": "1s", "rules": [rule]}]) as url, httpx.Client() as client:

        def alerts() -> list[dict[str, Any]]:
            found = client.get(f"{url}/api/v1/rules").json()["data"]["groups"][0]["rules"][0]
            return list(found["alerts"])

        wait_until(lambda: bool(alerts()))
        assert alerts()[0]["annotations"]["summary"] == fill(
            template, {"alertname": "Now", "pod": "a pod"}, {"pod": "a pod"}
        )


def _holds(labels: dict[str, str]) -> str:
    expression = "vector(42.5)"
    for name, value in labels.items():
        expression = f'label_replace({expression}, "{name}", "{value}", "", "")'
    return expression
