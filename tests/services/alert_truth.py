"""A history of alerts as a Prometheus would have recorded it, with the truth about every episode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from prometheus_server import Series

DAY = 86_400_000
#: Evaluation intervals of the groups, in seconds.
INTERVALS = (15, 30, 60, 300)
#: Alerts and the label that tells their series apart.
_ALERTS = {
    "KubePodCrashLooping": "pod",
    "HighErrorRate": "service",
    "NodeDiskFull": "instance",
    "ConsumerLag": "consumergroup",
    "CertificateExpiring": "secret_name",
    "ReplicaDown": "server",
    "JobFailed": "job_name",
    "ClientFlood": "client_id",
}


@dataclass(frozen=True)
class Truth:
    """One episode: its labels, its first and last evaluation in milliseconds, and the moments between."""

    labels: dict[str, str]
    moments: list[int]

    @property
    def known_as(self) -> tuple[tuple[tuple[str, str], ...], str, str]:
        return tuple(sorted(self.labels.items())), stamp(self.moments[0]), stamp(self.moments[-1])


def stamp(moment: int) -> str:
    """Milliseconds since 1970 as ISO 8601, by other means than the code under test."""
    seconds, rest = divmod(moment, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"


def groups() -> list[dict[str, Any]]:
    """Rule groups, one an interval, whose expressions never hold here."""
    found = []
    for number, (alert, key) in enumerate(_ALERTS.items()):
        interval = INTERVALS[number % len(INTERVALS)]
        rule = {
            "alert": alert,
            "expr": f"absent_here_{number} > 0",
            "for": "1m",
            "labels": {"severity": "critical" if number % 2 else "warning"},
            "annotations": {
                "summary": f"{alert} on {{{{ $labels.{key} }}}} in {{{{ $labels.namespace }}}}",
                "description": "Measured: {{ $value | humanize }}.",
            },
        }
        found.append({"name": f"g{number}", "interval": f"{interval}s", "rules": [rule]})
    return found


def history(seed: int, count: int, begin: int, end: int) -> list[Truth]:
    """``count`` episodes that begin after ``begin`` and end before ``end``, milliseconds since 1970.

    Some miss an evaluation, some come back after three intervals, some begin or end at midnight to the millisecond,
    some last days, some one evaluation only.
    """
    rng = Random(seed)
    truths: list[Truth] = []
    series = 0
    while len(truths) < count:
        alert, key = rng.choice(list(_ALERTS.items()))
        number = list(_ALERTS).index(alert)
        interval = INTERVALS[number % len(INTERVALS)] * 1000
        severity = "critical" if number % 2 else "warning"
        labels = {"alertname": alert, "severity": severity, "namespace": f"shop-{series % 7}", key: f"thing-{series}"}
        series += 1
        at = rng.randrange(begin, end)
        for _ in range(rng.choice((1, 1, 2, 5, 9))):
            if rng.random() < 0.2:
                at = -(-at // DAY) * DAY
            moments = _moments(rng, at, interval)
            if moments[-1] >= end or len(truths) == count:
                break
            truths.append(Truth(labels, moments))
            back = 3 * interval if rng.random() < 0.3 else rng.randrange(3 * interval, 4 * DAY)
            at = moments[-1] + back
    return truths


def series(truths: list[Truth]) -> Iterator[Series]:
    """The samples of a history, with the pending ones that stand before each episode."""
    for truth in truths:
        yield {**truth.labels, "alertstate": "firing"}, truth.moments
        yield {**truth.labels, "alertstate": "pending"}, [truth.moments[0] - 15_000]


def _moments(rng: Random, at: int, interval: int) -> list[int]:
    kind = rng.random()
    lasting = 1 if kind < 0.1 else rng.randrange(2, 60) if kind < 0.97 or interval < 60_000 else 2 * DAY // interval
    moments = [at + number * interval for number in range(lasting)]
    if lasting > 4 and rng.random() < 0.3:
        del moments[rng.randrange(1, lasting - 1)]
    if rng.random() < 0.1 and DAY - moments[-1] % DAY < DAY // 12:
        moments += range(moments[-1] + interval, (moments[-1] // DAY + 1) * DAY + 1, interval)
    return moments
