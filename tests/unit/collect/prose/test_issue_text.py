"""Issues as people write them, and what may be read out of each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opstune.collect.prose.issue_text import Comment, read_text

HEADINGS = """
Checkout answered 502 for 12 minutes.

## Symptoms
- 502 on `/checkout` from all regions
- queue length above 10k

## 2. Root Cause
The migration in [v2.31](https://git.example/v2.31) took an exclusive lock on **orders**,
so every write waited.

### Details
It was started by hand.

## Resolution
1. Cancelled the migration
2. Restarted the workers
   of both shards

## Prevention
- [ ] run migrations with a lock timeout
- [x] alert on lock waits
"""
BOLD = """**Severity:** SEV-2
**Alert:** `KubePodCrashLooping`
**Root cause:** The liveness probe asked a port that v1.9 no longer opens.
**Owner:** Jane
**Fix:** Rolled back to v1.8

Unrelated thoughts about the office.
"""
PLAIN = """Alert: HighErrorRate (checkout)
Impact: 3 % of orders failed
Root cause: the pool of connections was exhausted
Fix: raised the limit to 200
Next steps: watch it for a week
"""
LISTED = """- Alert: DiskWillFill
- Root cause: log rotation was off on db-3
- Owner: Sam
- Resolution: rotated by hand
"""
TABLE = """| Field | Value |
| --- | --- |
| Root cause | an expired intermediate certificate |
| Fix | issued it again |
| Severity | Sev1 |
"""
FOLDED = """<details><summary>🔥 Root cause</summary>

The NAT gateway ran out of ports.
</details>

+++ Mitigation
Added a second gateway.
+++
Later we had cake.
"""
SETEXT = """Root cause
==========
A typo in the ACL.

How was it fixed?
-----------------
> Reverted the ACL.
"""
TEMPLATE = """## Root cause
<!-- what was it? -->

## Resolution
TBD

## Prevention
n/a

## Severity
"""
COMMANDS = """## Resolution
```bash
$ kubectl -n payments rollout undo deployment/api
deployment.apps/api rolled back
$ kubectl -n payments rollout status deployment/api
```
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            HEADINGS,
            {
                "symptoms": ["502 on /checkout from all regions", "queue length above 10k"],
                "root_cause": "The migration in v2.31 took an exclusive lock on orders, so every write waited. "
                "It was started by hand.",
                "mitigation": "Cancelled the migration; Restarted the workers of both shards",
                "resolution_steps": ["Cancelled the migration", "Restarted the workers of both shards"],
                "prevention": "run migrations with a lock timeout; alert on lock waits",
            },
            id="headings",
        ),
        pytest.param(
            BOLD,
            {
                "severity": "SEV-2",
                "alert": "KubePodCrashLooping",
                "root_cause": "The liveness probe asked a port that v1.9 no longer opens.",
                "mitigation": "Rolled back to v1.8",
            },
            id="bold labels",
        ),
        pytest.param(
            PLAIN,
            {
                "alert": "HighErrorRate",
                "impact": "3 % of orders failed",
                "root_cause": "the pool of connections was exhausted",
                "mitigation": "raised the limit to 200",
                "prevention": "watch it for a week",
            },
            id="plain labels",
        ),
        pytest.param(
            LISTED,
            {
                "alert": "DiskWillFill",
                "root_cause": "log rotation was off on db-3",
                "mitigation": "rotated by hand",
            },
            id="labels in a list",
        ),
        pytest.param(
            TABLE,
            {
                "root_cause": "an expired intermediate certificate",
                "mitigation": "issued it again",
                "severity": "SEV-1",
            },
            id="a table",
        ),
        pytest.param(
            FOLDED,
            {"root_cause": "The NAT gateway ran out of ports.", "mitigation": "Added a second gateway."},
            id="folded parts",
        ),
        pytest.param(
            SETEXT,
            {"root_cause": "A typo in the ACL.", "mitigation": "Reverted the ACL."},
            id="underlined headings, a question, a quotation",
        ),
        pytest.param(TEMPLATE, {}, id="a template that nobody filled"),
        pytest.param(
            COMMANDS,
            {
                "resolution_steps": [
                    "kubectl -n payments rollout undo deployment/api",
                    "kubectl -n payments rollout status deployment/api",
                ],
                "mitigation": "kubectl -n payments rollout undo deployment/api; "
                "kubectl -n payments rollout status deployment/api",
            },
            id="commands are the steps",
        ),
        pytest.param(
            "**Steps taken**\n- [x] drained node-4\n- [ ] order new disks\n",
            {"resolution_steps": ["drained node-4"], "mitigation": "drained node-4"},
            id="a box that is not ticked is no step",
        ),
        pytest.param("## Steps to reproduce\n1. open the shop\n", {}, id="steps to reproduce are no resolution"),
        pytest.param("## Root cause (suspected)\nthe new kernel\n", {}, id="a suspected cause"),
        pytest.param("Root cause: probably the new kernel, not sure", {}, id="a doubted cause"),
        pytest.param("## Root cause?\nthe new kernel\n", {}, id="a cause with a question mark"),
        pytest.param("Root cause: still under investigation", {}, id="no cause yet"),
        pytest.param("The root cause was not the database.", {}, id="what it was not"),
        pytest.param(
            "We looked for hours. The root cause was a stale DNS record. All good now.",
            {"root_cause": "a stale DNS record"},
            id="a sentence",
        ),
        pytest.param(
            "This was caused by a bad deploy of the gateway.\nFixed by rolling back to 4.2.",
            {"root_cause": "a bad deploy of the gateway", "mitigation": "Fixed by rolling back to 4.2"},
            id="sentences of cause and fix",
        ),
        pytest.param(
            "## Manual steps\n1. look at the lag\n2. restart the consumer\n\n## Why\nThe consumer leaks.\n",
            {"manual_steps": ["look at the lag", "restart the consumer"], "root_cause": "The consumer leaks."},
            id="toil",
        ),
        pytest.param(
            "## Fix\nTODO\n\nTurned it off and on.\n",
            {"mitigation": "Turned it off and on."},
            id="a filler before words",
        ),
        pytest.param("", {}, id="nothing"),
        pytest.param("```\n## Root cause\nnot here\n```", {}, id="headings in code are code"),
        pytest.param("```\n## Root cause\nthe fence never ends", {}, id="a fence without an end"),
    ],
)
def test_a_description_tells_what_it_says_and_nothing_else(text: str, told: dict[str, Any]) -> None:
    assert read_text("checkout is down", text, [], [], []) == told


@pytest.mark.parametrize(
    ("description", "comments", "cause"),
    [
        ("Root cause: the cache", ["Root cause: the disk", "thanks all"], "the disk"),
        ("Root cause: the cache", ["Root cause: the disk", "Correction. Root cause: a cable"], "the disk"),
        ("Root cause: the cache", ["## Root cause\nthe disk", "## RCA\na cable"], "a cable"),
        ("", ["The root cause is a leak. The root cause turned out to be a full table."], "a full table"),
        ("Root cause: TBD", ["The culprit was a cron job."], "a cron job"),
        ("Root cause: the cache", ["the root cause was a leak"], "the cache"),
    ],
)
def test_the_newest_comment_that_names_the_cause_wins_over_the_description(
    description: str, comments: list[str], cause: str
) -> None:
    assert read_text("t", description, [Comment(body) for body in comments], [], [])["root_cause"] == cause


def test_what_a_bot_says_about_causes_is_nobodys_finding() -> None:
    bot = Comment("Root cause: solar flares\nFix: wait", by_person=False)
    assert read_text("t", "", [bot], [], []) == {}


def test_the_query_of_the_diagnosis_is_told_apart_from_those_that_are_there() -> None:
    description = (
        '## Telemetry\n- p99: 4.2 s\n| metric | value |\n|---|---|\n| lag | 90k |\n```promql\nup{job="api"}\n```\n'
        "```\nERROR: too many clients\n```\n"
    )
    closing = "Root cause: idle sessions\n```sql\nSELECT count(*)\nFROM pg_stat_activity WHERE state = 'idle'\n```"
    told = read_text("t", description, [Comment(closing)], ["https://grafana.example/d/abc/pg"], [])
    assert told == {
        "root_cause": "idle sessions",
        "telemetry": {"p99": "4.2 s", "lag": "90k", "log": "ERROR: too many clients"},
        "telemetry_links": ["https://grafana.example/d/abc/pg"],
        "queries": ['up{job="api"}', "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle'"],
        "query": "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle'",
    }


def test_the_closing_comment_names_what_was_done() -> None:
    comments = [
        Comment("restart_pod(namespace=pay, pod=api-1) did not help"),
        Comment("rollback_deployment(namespace='pay', deployment=api)"),
    ]
    told = read_text("t", "", comments, [], [])
    assert (told["function"], told["parameters"], told["outcome"]) == (
        "rollback_deployment",
        {"namespace": "pay", "deployment": "api"},
        "success",
    )


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("#*_`->|=:.?! \n\t[]()<>{}\"'ab1Rootcause+~\\"), max_size=400))
def test_no_text_breaks_the_reading(text: str) -> None:
    told = read_text(text, text, [Comment(text)], [text], [])
    assert all(value for name, value in told.items() if name != "parameters")
