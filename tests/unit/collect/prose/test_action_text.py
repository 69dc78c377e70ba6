from __future__ import annotations

import re

import pytest

from opstune.collect.prose.action_text import CommandRule, action_in, commands
from opstune.collect.prose.markdown import Fence, parts

RULES = [
    CommandRule(
        re.compile(r"kubectl -n (?P<namespace>\S+) rollout undo deploy(?:ment)?/(?P<deployment>\S+)"),
        "rollback_deployment",
    )
]
API = {"namespace": "pay", "pod": "api-1"}


@pytest.mark.parametrize(
    ("text", "function", "parameters", "outcome"),
    [
        ("Ran restart_pod(namespace=pay, pod='api-1') and it recovered.", "restart_pod", API, "success"),
        ('`restart_pod(namespace="pay", pod="api-1")`', "restart_pod", API, "success"),
        ("restart_pod(namespace: pay, pod: api-1)", "restart_pod", API, "success"),
        ("restart_pod(namespace=pay, pod=api-1). That did not help.", "restart_pod", API, "failure"),
        ("restart_pod(namespace=pay, pod=api-1) failed", "restart_pod", API, "failure"),
        ("restart_pod(namespace=pay, pod=api-1) after the probe failed", "restart_pod", API, "success"),
        (
            "drain_node(node=n4) didn't help, so restart_pod(namespace=pay, pod=api-1)",
            "restart_pod",
            API,
            "success",
        ),
        ("restart_pod(namespace=pay, pod=api-1)\ndrain_node(node=n4) without success", "restart_pod", API, "success"),
        ("instead of drain_node(node=n4) we used restart_pod(namespace=pay, pod=api-1)", "restart_pod", API, "success"),
        (
            '```json\n{"function": "restart_pod", "parameters": {"namespace": "pay", "pod": "api-1"}}\n```',
            "restart_pod",
            API,
            "success",
        ),
        (
            '```json\n{"function": "drain_node", "arguments": {"node": 4}, "status": "error"}\n```',
            "drain_node",
            {"node": "4"},
            "failure",
        ),
        (
            "```sh\n$ kubectl -n pay rollout undo deployment/api\n```",
            "rollback_deployment",
            {"namespace": "pay", "deployment": "api"},
            "success",
        ),
        (
            "ran `kubectl -n pay rollout undo deploy/api` twice",
            "rollback_deployment",
            {"namespace": "pay", "deployment": "api"},
            "success",
        ),
        ("False alarm, closing.", "none", {}, "success"),
        ("It resolved itself; no action needed", "none", {}, "success"),
    ],
)
def test_what_was_done_is_read_with_its_parameters_and_whether_it_helped(
    text: str, function: str, parameters: dict[str, str], outcome: str
) -> None:
    fences = [fence for part in parts(text, ()) for fence in part.fences]
    assert action_in(_prose(text), fences, RULES) == (function, parameters, outcome)


@pytest.mark.parametrize(
    "text",
    [
        "Next time we should call restart_pod(namespace=pay, pod=api-1)",
        "If it comes back, restart_pod(namespace=pay, pod=api-1)",
        'sum(rate(http_requests_total{code="500"}[5m]))',
        "see time.sleep(seconds=3)",
        "restart_pod()",
        "the action was needed",
        "```sh\nkubectl -n pay rollout undo deployment/api\n```\nwithout effect",
        '```json\n[1]\n```\n```json\n{"function": 1}\n```\n```json\n{\n```',
    ],
)
def test_what_was_not_done_is_no_action(text: str) -> None:
    fences = [fence for part in parts(text, ()) for fence in part.fences]
    assert action_in(_prose(text), fences, RULES) is None


@pytest.mark.parametrize(
    ("fence", "found"),
    [
        (
            Fence("bash", "$ kubectl get pods\nNAME READY\n$ helm rollback api 3"),
            ["kubectl get pods", "helm rollback api 3"],
        ),
        (Fence("", "kubectl delete pod api-1 \\\n  -n pay"), ["kubectl delete pod api-1 -n pay"]),
        (Fence("", "root@db-1:~# systemctl restart pgbouncer"), ["systemctl restart pgbouncer"]),
        (Fence("yaml", "kubectl: x"), []),
        (Fence("", "panic: nil\ngoroutine 1"), []),
    ],
)
def test_commands_are_told_apart_from_output(fence: Fence, found: list[str]) -> None:
    assert commands([fence]) == found


def _prose(text: str) -> str:
    return "\n".join(part.text for part in parts(text, ()))
