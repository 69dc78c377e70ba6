"""What an incident's record says, and the severity and root cause that follow from it.

The rule: data lost or leaked, or everybody stopped, is SEV-0; a main function down for many is SEV-1; a part of the
users hindered, or a way round exists, is SEV-2; nobody outside the company hindered is SEV-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from opstune.simulate.alerts import numbers
from opstune.simulate.names import Names
from opstune.simulate.words import expand


@dataclass(frozen=True)
class Incident:
    """One incident as its record has it, with the review's findings."""

    title: str
    tier: str
    symptom: str
    impact: str
    affected: str
    scope: str
    severity: str
    root_cause: str
    mitigation: str
    prevention: str


@dataclass(frozen=True)
class _Cause:
    titles: str
    symptom: str
    root_cause: str
    mitigation: str
    prevention: str


_IMPACT = {
    "SEV-0": (
        "[nobody|no customer|not one user] can [sign in|pay|order|open the site]|"
        "[orders|payments|customer records|messages] were [lost|overwritten|leaked]"
    ),
    "SEV-1": "[many customers|a whole region|most users|half of the users] cannot [order|search|upload|pay|sign up]",
    "SEV-2": "[some users|a few customers|one partner] [wait longer|see stale numbers|must retry|get late mails]",
    "SEV-3": "only [staff|an internal report|a test system|our dashboards] [is hindered|is affected|notices]",
}
_AFFECTED = {"SEV-0": (88, 100), "SEV-1": (31, 64), "SEV-2": (4, 18), "SEV-3": (0, 1)}
#: The form's own word for who or what is hit; lost or leaked data is hit whoever notices.
_SCOPE = {"SEV-0": "all", "SEV-1": "many", "SEV-2": "some", "SEV-3": "inside"}
_TIERS = {"SEV-0": "1 1 1 2", "SEV-1": "1 1 2 2", "SEV-2": "1 2 2 3", "SEV-3": "2 3 3 3"}
_CAUSES = (
    _Cause(
        "[{service} fails since a change|bad release of {service}|{service} broke after a rollout]",
        "[errors began with|trouble set in right after|calls fail since] [release|revision|version] {rev}[ of "
        "{service}|]",
        "release {rev} of {service} is faulty",
        "roll back {service}",
        "canary every release of {service}",
    ),
    _Cause(
        "[{service} hangs|a frozen {service} process|{service} stopped answering]",
        "[{pod} hangs|{pod} is deadlocked|{pod} makes no progress] [since {clock}|for {mins} minutes|while its "
        "siblings work]",
        "pod {pod} is deadlocked",
        "restart {pod}",
        "add a liveness probe to {service}",
    ),
    _Cause(
        "[{service} is overrun|{service} cannot keep up|too much traffic for {service}]",
        "[traffic|demand|the call rate] is {n} times [the usual|normal|the forecast], [all replicas are busy|cpu "
        "at {pct}%]",
        "traffic exceeds the capacity of {service}",
        "scale out {service}",
        "raise the replica ceiling of {service}",
    ),
    _Cause(
        "[{service} keeps restarting|{service} runs out of memory|memory trouble in {service}]",
        "[{container} was killed for memory|out of memory kills of {container}|the kernel ended {container}] {n} times",
        "memory limit of {container} is too low",
        "raise the memory limit of {container}",
        "review limits each quarter",
    ),
    _Cause(
        "[a machine of {service} fails|broken hardware under {service}|{service} on a bad machine]",
        "{node} [logs|reports|shows] [disk|memory|bus|io] errors since {clock}",
        "hardware of {node} is failing",
        "drain {node}",
        "replace machines at first errors",
    ),
    _Cause(
        "[{service} cannot write|{service} has no space|storage of {service} is full]",
        "[{volume} is full|no space is left on {volume}|{volume} is at 100%] since {clock}",
        "volume {volume} is full",
        "expand {volume}",
        "forecast growth of {volume}",
    ),
    _Cause(
        "[{service} is not trusted|clients refuse {service}|tls errors at {service}]",
        "[{certificate} expired|{certificate} ran out|validity of {certificate} ended] [at {clock}|this morning|"
        "{n} hours ago]",
        "certificate {certificate} expired",
        "renew {certificate}",
        "automate renewal and alert earlier",
    ),
    _Cause(
        "[{service} database trouble|writes of {service} fail|the store behind {service} is down]",
        "[primary {instance} refuses writes|primary {instance} is gone|primary {instance} crashed] [since "
        "{clock}|{n} times today]",
        "database primary {instance} failed",
        "fail over from {instance}",
        "rehearse failover each month",
    ),
    _Cause(
        "[{service} works on old data|messages of {service} pile up|{service} is behind]",
        "[{topic} is not consumed|nobody reads {topic}|the consumer of {topic} stands still] [since {clock}|for "
        "{mins} minutes]",
        "consumer of {topic} is stuck",
        "restart the consumer of {topic}",
        "alert on lag of {topic}",
    ),
    _Cause(
        "[figures of {service} are missing|no new numbers in {service}|{service} shows yesterday]",
        "[{job} failed|{job} was interrupted|{job} ended early] [at {clock}|after {mins} minutes|at step {n}]",
        "batch {job} did not finish",
        "rerun {job}",
        "retry {job} by itself",
    ),
    _Cause(
        "[{service} is flooded|one caller floods {service}|abuse of {service}]",
        "{client} [sends|makes|is behind] {pct}% of [all calls|the requests|the traffic]",
        "client {client} floods {service}",
        "block {client}",
        "set quotas for each client",
    ),
    _Cause(
        "[{service} is refused by its neighbours|access of {service} is denied|{service} lost its rights]",
        "[the token of {service} was revoked|{service} uses a revoked token|a rotated token never reached "
        "{service}] [at {clock}|today]",
        "token of {service} is no longer valid",
        "issue a new token for {service}",
        "rotate tokens in two steps",
    ),
    _Cause(
        "[{service} cannot be found|names of {service} do not resolve|lookups of {service} fail]",
        "[the dns record of {service} is missing|the dns record of {service} points nowhere] since [change {rev}|"
        "{clock}]",
        "dns record of {service} is wrong",
        "restore the dns record",
        "test dns changes before applying",
    ),
    _Cause(
        "[{service} waits for a partner|a supplier of {service} is down|outside trouble hits {service}]",
        "[the upstream provider|the outside supplier|the payment partner] [answers errors|is down|times out] "
        "since {clock}",
        "upstream provider of {service} is down",
        "switch {service} to the fallback",
        "agree a second provider",
    ),
)


def draw(rng: Random, names: Names, things: Mapping[str, str]) -> Incident:
    """An incident's record; ``things`` are names that its alerts used, others are made."""
    severity = rng.choices(tuple(_IMPACT), (18, 27, 33, 22))[0]
    makers = {
        "node": ("node",),
        "volume": ("data", "vol"),
        "certificate": ("tls", "cert"),
        "instance": ("pg", "db"),
        "topic": ("event", "order"),
        "job": ("report", "bill"),
        "client": ("user", "bot"),
    }
    own = {name: things.get(name) or names.coded(*stems) for name, stems in makers.items()}
    own["pod"] = things.get("pod") or names.pod()
    cause = rng.choice(_CAUSES)
    slots = {
        **numbers(rng),
        **own,
        "service": names.service,
        "container": names.container,
    }
    low, high = _AFFECTED[severity]
    share = rng.randint(low, high)
    impact = expand(rng, f"[{_IMPACT[severity]}]", slots)
    return Incident(
        title=expand(rng, cause.titles, slots),
        tier=rng.choice(_TIERS[severity].split()),
        symptom=expand(rng, cause.symptom, slots),
        impact=impact,
        affected=f"{share}% of users",
        scope="data" if " were " in impact else _SCOPE[severity],
        severity=severity,
        root_cause=cause.root_cause.format_map(slots),
        mitigation=cause.mitigation.format_map(slots),
        prevention=cause.prevention.format_map(slots),
    )
