from __future__ import annotations

from typing import Any

import pytest

from opstune import skills
from opstune.errors import ConfigError, InputError
from opstune.serve import context_from_text


@pytest.mark.parametrize(
    ("skill", "text", "expected"),
    [
        (
            "remediation",
            '{"alert": "PodCrashLooping", "labels": {"pod": "a-1"}}',
            {"alert": "PodCrashLooping", "labels": {"pod": "a-1"}},
        ),
        (
            "remediation",
            "KubePodCrashLooping namespace=checkout pod=checkout-7f9c-x2: container restarts every minute",
            {
                "alert": "KubePodCrashLooping",
                "summary": "container restarts every minute",
                "labels": {"namespace": "checkout", "pod": "checkout-7f9c-x2"},
            },
        ),
        (
            "remediation",
            'alertname: DiskFull\nseverity: critical\nhost: db-2\nmountpoint: "/var/lib/my data"\nno space left',
            {
                "alert": "DiskFull",
                "severity": "critical",
                "summary": "no space left",
                "labels": {"host": "db-2", "mountpoint": "/var/lib/my data"},
            },
        ),
        (
            "remediation",
            'ALERTS{alertname="DiskFull", instance="db-2:9100"}',
            {"alert": "DiskFull", "summary": "ALERTS", "labels": {"instance": "db-2:9100"}},
        ),
        ("remediation", "the shop is slow", {"alert": "the shop is slow"}),
        ("remediation", "see http://wiki/x at 10:30", {"alert": "see http://wiki/x at 10:30"}),
        (
            "triage",
            "Checkout fails\nservice: payments\nHalf of all orders time out.",
            {"title": "Checkout fails", "service": "payments", "description": "Half of all orders time out."},
        ),
        ("triage", "Checkout fails", {"title": "Checkout fails"}),
        ("log_error", "INFO a=1\nERROR: it broke\n", {"log": "INFO a=1\nERROR: it broke"}),
        ("triage", "Cafe\u0301 is down", {"title": "Caf\u00e9 is down"}),
    ],
)
def test_text_becomes_the_context_that_the_skill_was_taught_on(skill: str, text: str, expected: dict[str, Any]) -> None:
    context = context_from_text(skill, text)
    assert context == expected
    assert skills.get(skill).render(context)


@pytest.mark.parametrize(
    ("skill", "text", "told"),
    [
        ("remediation", "  \n", "nothing to answer"),
        ("remediation", '{"severity": "critical"}', "alert: field required"),
        ("remediation", '{"alert": "A", "pods": []}', "pods: no such key"),
        ("log_error", '{"log": ""}', "log: string should have at least 1 character"),
    ],
)
def test_a_question_that_a_skill_cannot_use_says_which_field(skill: str, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        context_from_text(skill, text)


def test_an_unknown_skill_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="remediation"):
        context_from_text("cooking", "boil an egg")
