"""What Prometheus and Alertmanager answer over HTTP, as plain values: when alerts fired, their rules, what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field

from opstune.collect.alerts.annotations import FIRING, Rendered, Rule
from opstune.errors import ConfigError, ServiceDown
from opstune.http import Http

#: A stretch of time that holds too many samples for the server is halved, down to this many milliseconds.
_SHORTEST = 60_000


class _Series(BaseModel):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Matrix(BaseModel):
    resultType: Literal["matrix"]  # noqa: N815
    result: list[_Series]


class _Alert(BaseModel):
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    state: str = ""


class _Rule(BaseModel):
    type: str = "alerting"
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    alerts: list[_Alert] = Field(default_factory=list)


class _Group(BaseModel):
    interval: float = Field(gt=0)
    rules: list[_Rule]


class _Groups(BaseModel):
    groups: list[_Group]


class _Answer(BaseModel):
    status: Literal["success"]
    data: Any
    warnings: list[str] = Field(default_factory=list)


class _Status(BaseModel):
    state: str = ""


class _Notified(BaseModel):
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    status: _Status = _Status()


class _AllNotified(BaseModel):
    alerts: list[_Notified]


class _Scalar(BaseModel):
    resultType: Literal["scalar"]  # noqa: N815
    result: tuple[float, str]


def clock(prometheus: Http) -> int:
    """The server's own time, which its samples carry, in milliseconds since 1970."""
    data = _ask(prometheus, "api/v1/query", {"query": "time()"})
    return round(prometheus.parsed(_Scalar, data).result[0] * 1000)


def fired(prometheus: Http, select: str, begin: int, end: int) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Labels of every alert that fired in ``[begin, end)``, and the evaluations at which it did, in milliseconds.

    An instant query over a range gives the samples as they were stored; ``query_range`` would give them on a grid of
    its own and ends an episode five minutes late. Prometheus 2 includes a range's beginning and 3 does not, so a
    sample one millisecond before ``begin`` may come along.
    """
    matchers = ", ".join(part for part in ('alertstate="firing"', select) if part)
    asked = {"query": f"ALERTS{{{matchers}}}[{end - begin}ms]", "time": f"{(end - 1) / 1000:.3f}"}
    try:
        data = _ask(prometheus, "api/v1/query", asked)
    except ConfigError as error:
        if "too many samples" not in str(error) or end - begin <= _SHORTEST:
            raise
        middle = (begin + end) // 2
        yield from fired(prometheus, select, begin, middle)
        yield from fired(prometheus, select, middle, end)
        return
    for series in prometheus.parsed(_Matrix, data).result:
        labels = {key: value for key, value in series.metric.items() if key not in ("__name__", "alertstate")}
        yield labels, [round(moment * 1000) for moment, _value in series.values]


def rules(prometheus: Http) -> tuple[list[Rule], list[Rendered]]:
    """The alerting rules of today, and what they say about the alerts that fire now."""
    groups = prometheus.parsed(_Groups, _ask(prometheus, "api/v1/rules", {"type": "alert"})).groups
    found = [(group, rule) for group in groups for rule in group.rules if rule.type == "alerting"]
    plain = [Rule(rule.name, round(group.interval * 1000), rule.labels, rule.annotations) for group, rule in found]
    firing = [alert for _, rule in found for alert in rule.alerts if alert.state == "firing"]
    return plain, [Rendered(alert.labels, alert.annotations) for alert in firing]


def notified(alertmanager: Http) -> list[Rendered]:
    """What Alertmanager holds about current alerts. One that is silenced or inhibited is ``suppressed``."""
    alerts = alertmanager.parsed(_AllNotified, {"alerts": alertmanager.get("api/v2/alerts")}).alerts
    return [
        Rendered(alert.labels, alert.annotations, "suppressed" if alert.status.state == "suppressed" else FIRING)
        for alert in alerts
    ]


def _ask(prometheus: Http, path: str, params: dict[str, Any]) -> Any:
    answer = prometheus.parsed(_Answer, prometheus.get(path, params))
    if answer.warnings:
        # Thanos and remote storage answer in part and say so here: what is missing would look as if nothing fired.
        what = f"{prometheus.name} answers in part only: {'; '.join(answer.warnings)[:300]}"
        raise ServiceDown(what, f"{prometheus.address}/{path}", "Check its stores; the next run goes on from here.")
    return answer.data
