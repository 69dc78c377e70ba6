from __future__ import annotations

import pytest

from opstune.collect.alerts.annotations import Rendered, Rule, Rules, fill, rendered

LABELS = {"alertname": "DiskFull", "instance": "db-1:9100", "mountpoint": "/var", "severity": "page"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Disk full", "Disk full"),
        ("Disk of {{ $labels.instance }} full", "Disk of db-1:9100 full"),
        ("{{$labels.instance}}{{ $labels.mountpoint }}", "db-1:9100/var"),
        ("{{ .Labels.mountpoint }}", "/var"),
        ("team {{ $labels.team }}.", "team ."),
        ("{{ $value }} % used", "(value unknown) % used"),
        ("{{ .Value }} {{$value | humanize}}", "(value unknown) (value unknown)"),
        ('{{ printf "%.2f" $value }}', "(value unknown)"),
        ("{{ humanizePercentage $value }}", "(value unknown)"),
        ("{{ $labels }}", "map[instance:db-1:9100 mountpoint:/var]"),
        ("{{ $labels.mountpoint | toUpper }}", "/VAR"),
        ('{{ $labels.instance | reReplaceAll ":.*" "" }}', "(not kept)"),
        ('{{ "{{" }} and {{ `raw` }}', "{{ and raw"),
        ("{{/* a comment */}}now", "now"),
        ("{{ $x := 5 }}now", "now"),
        ('{{ with query "up" }}{{ . | first | value }}{{ end }} servers', "(not kept) servers"),
        ("a {{ if gt $value 1.0 }}{{ if true }}b{{ end }}{{ else }}c{{ end }} d", "a (not kept) d"),
        ("open {{ if $labels.x }}b", "open (not kept)"),
        ("one \n {{- $labels.mountpoint -}} \n two", "one/vartwo"),
        ("{{ $externalLabels.cluster }}", "(not kept)"),
        ("half {{ $labels.instance", "half {{ $labels.instance"),
    ],
)
def test_labels_are_filled_in_and_what_is_not_kept_is_said(template: str, expected: str) -> None:
    measured = {key: LABELS[key] for key in ("instance", "mountpoint")}
    assert fill(template, LABELS, measured) == expected


def rule(interval: int = 60_000, **labels: str) -> Rule:
    return Rule("DiskFull", interval, labels, {"summary": f"{len(labels)} {{{{ $labels.mountpoint }}}}"})


@pytest.mark.parametrize(
    ("rules", "summary", "interval"),
    [
        pytest.param([], None, 0, id="the rule is gone"),
        pytest.param([Rule("Other", 5, {}, {"summary": "x"})], None, 0, id="another alert's rule"),
        pytest.param([rule()], "0 /var", 60_000, id="a rule without labels"),
        pytest.param([rule(severity="info")], None, 0, id="a rule that adds another severity"),
        pytest.param([rule(), rule(30_000, severity="page")], "1 /var", 60_000, id="the closest"),
        pytest.param([rule(severity="{{ $labels.x }}")], "1 /var", 60_000, id="template"),
    ],
)
def test_a_rule_is_found_by_the_alert_and_the_labels_that_it_adds(
    rules: list[Rule], summary: str | None, interval: int
) -> None:
    found = Rules(rules)
    assert found.annotations(LABELS).get("summary") == summary
    assert found.interval(LABELS) == interval


def test_the_labels_as_a_whole_leave_out_what_the_rule_adds() -> None:
    rules = Rules([Rule("DiskFull", 1, {"severity": "page"}, {"description": "{{ $labels }}"})])
    assert rules.annotations(LABELS) == {"description": "map[instance:db-1:9100 mountpoint:/var]"}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param([], None, id="nothing fires"),
        pytest.param([LABELS], 0, id="the same labels"),
        pytest.param([{**LABELS, "cluster": "eu"}], 0, id="a label was added on the way"),
        pytest.param([{"alertname": "DiskFull", "instance": "db-1:9100"}], 0, id="labels were taken away"),
        pytest.param([{**LABELS, "mountpoint": "/"}], None, id="another mountpoint"),
        pytest.param([{**LABELS, "alertname": "Other"}], None, id="another alert"),
        pytest.param([{"alertname": "DiskFull"}, LABELS], 1, id="the most labels in common"),
        pytest.param([LABELS, LABELS], 0, id="the first of two that say the same"),
    ],
)
def test_what_the_monitor_says_belongs_to_the_alert_with_these_labels(
    known: list[dict[str, str]], expected: int | None
) -> None:
    said = [Rendered(labels, {"summary": str(number)}) for number, labels in enumerate(known)]
    assert rendered(LABELS, said) == (None if expected is None else said[expected])
