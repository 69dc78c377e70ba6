from __future__ import annotations

from urllib.parse import quote

import pytest

from opstune.collect.prose.alert_text import alert_of, matchers
from opstune.collect.prose.markdown import parts

FILTER = quote('{alertname="DiskFull",instance="db-1",job=~"node.*"}')
ALERTMANAGER = f"https://alerts.example/#/alerts?silenced=false&filter={FILTER}"
TEMPLATE = """1 alert firing.
Labels:
 - alertname = KubePodNotReady
 - namespace = payments
 - pod = api-7f9
Annotations:
 - summary = pod is not ready
"""
WEBHOOK = """```json
{"status": "firing", "commonLabels": {"severity": "page"},
 "alerts": [{"labels": {"alertname": "TargetDown", "job": "api"}, "fingerprint": "a1"}]}
```"""


@pytest.mark.parametrize(
    ("title", "text", "links", "name", "labels"),
    [
        ("disk", "", [ALERTMANAGER], "DiskFull", {"instance": "db-1"}),
        ("disk", f"see {ALERTMANAGER}.", [], "DiskFull", {"instance": "db-1"}),
        ("pods", TEMPLATE, [], "KubePodNotReady", {"namespace": "payments", "pod": "api-7f9"}),
        ("t", WEBHOOK, [], "TargetDown", {"job": "api"}),
        ("t", '```json\n{"labels": {"alertname": "Up", "n": 1}}\n```', [], "Up", {}),
        ("t", 'it was `ALERTS{alertname="LagHigh",group="b"}`', [], "LagHigh", {"group": "b"}),
        ("[FIRING:2] KubePodCrashLooping (payments api critical)", "", [], "KubePodCrashLooping", {}),
        ("[RESOLVED] API:Errors:High", "", [], "API:Errors:High", {}),
        ("FIRING: disk_full on db-1", "", [], "disk_full", {}),
        ("Alert: DiskFull (db-1)", "", [], "DiskFull", {}),
        ("[Alertmanager] NodeDown: node-4", "", [], "NodeDown", {}),
        ("Checkout is slow", "**Alert:** HighLatency on checkout", [], "HighLatency", {}),
        ("Alert: checkout is slow", "", [], "", {}),
        ("t", "**Alert:** High error rate on checkout", [], "High error rate on checkout", {}),
        ("t", "Alert: [KubeJobFailed](https://alerts.example/x)", [], "KubeJobFailed", {}),
        ("t", "## Alert\n- [FIRING:1] QueueStuck\n", [], "QueueStuck", {}),
        ("t", "Alert: none", [], "", {}),
        ("t", "Alert: https://acme.pagerduty.com/incidents/Q1", [], "", {}),
        ("Rework the alert page", "the alert was loud", [], "", {}),
        ("t", '{ "broken: [', ["http://[", "https://a.example/?filter=x"], "", {}),
    ],
)
def test_the_alert_behind_an_issue_is_found_where_it_is_named(
    title: str, text: str, links: list[str], name: str, labels: dict[str, str]
) -> None:
    told = [part for part in parts(text, ("alert",)) if part.title == "alert"]
    found = alert_of(title, [text], told, links)
    assert (found.name, found.labels) == (name, labels)


@pytest.mark.parametrize(
    "url",
    [
        ALERTMANAGER,
        "https://acme.pagerduty.com/incidents/Q1ABC",
        "https://acme.app.opsgenie.com/alert/detail/1",
        "https://grafana.example/alerting/grafana/x1/view",
    ],
)
def test_the_link_to_the_pager_is_kept(url: str) -> None:
    assert alert_of("t", [], [], ["https://acme.slack.com/archives/C1", url]).url == url


def test_only_matchers_that_fix_a_label_are_labels() -> None:
    assert matchers('{a="1",b!="2",c=~"3",d="",e="q\\"q"}') == {"a": "1", "e": 'q"q'}
