"""A search for a root cause: services that call each other, what was measured on them, and the one that is to blame.

The rule: the culprit is the service whose own reading is bad; slow answers of its callers follow from it, and every
other reading is calm. Critical paths lead from the services that nobody calls to the culprit.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from opstune.simulate.alerts import numbers
from opstune.simulate.names import Names
from opstune.simulate.words import expand
from opstune.skills.diagnosis import ARROW, paths

Topology = dict[str, list[str]]


@dataclass(frozen=True)
class Search:
    """What was known when it began, and what the review found."""

    symptoms: list[str]
    telemetry: dict[str, str]
    topology: Topology
    root_cause: str
    query: str
    critical_paths: list[str]
    remediation: list[str]


@dataclass(frozen=True)
class _Fault:
    """What ails a service: the metric that shows it, how that reads when bad and when calm, and the findings."""

    metric: str
    bad: str
    calm: str
    root_cause: str
    query: str
    remediation: tuple[str, ...]


#: In services that compute.
_OF_WORKERS = (
    _Fault(
        "errors_total",
        "[{pct} errors a minute since revision {rev}|errors began with revision {rev}|{pct}% errors, all of revision "
        "{rev}]",
        "[{n} errors an hour|no errors|as few errors as ever]",
        "release {rev} of {culprit} is faulty",
        'sum(rate(errors_total{{service="{culprit}",revision="{rev}"}}[5m]))',
        ("roll back {culprit} to {old}", "canary the next release of {culprit}"),
    ),
    _Fault(
        "memory_bytes",
        "[grows by {gib} GiB an hour|{pct}% of its limit and rising|has grown without end since {clock}]",
        "[flat at {n} GiB|flat since {clock}|half of its limit]",
        "memory of {culprit} leaks",
        'deriv(memory_bytes{{service="{culprit}"}}[1h])',
        ("restart {culprit}", "profile the heap of {culprit}"),
    ),
    _Fault(
        "cpu_throttled_seconds_total",
        "[throttled {pct}% of the time|throttled in {pct} of 100 periods|held back {mins} s a minute]",
        "[never throttled|throttled {n} s a day|not held back]",
        "cpu limit of {culprit} is too low",
        'rate(cpu_throttled_seconds_total{{service="{culprit}"}}[5m])',
        ("raise the cpu limit of {culprit}", "scale out {culprit}"),
    ),
    _Fault(
        "threads_busy",
        "[all of {mins} busy|{mins} of {mins} busy since {clock}|none free for {mins} minutes]",
        "[{n} of 64 busy|most are free|{n} busy]",
        "worker threads of {culprit} are exhausted",
        'max(threads_busy{{service="{culprit}"}}) / max(threads{{service="{culprit}"}})',
        ("raise the threads of {culprit}", "set time limits on calls of {culprit}"),
    ),
    _Fault(
        "lookup_failures_total",
        "[{pct}% of lookups fail|names do not resolve since {clock}|{mins} failed lookups a second]",
        "[no failed lookup|{n} failed lookups a day|all names resolve]",
        "name lookups of {culprit} fail",
        'sum(rate(lookup_failures_total{{service="{culprit}"}}[5m]))',
        ("restore the resolver of {culprit}", "cache names in {culprit}"),
    ),
    _Fault(
        "certificate_seconds_left",
        "[expired at {clock}|ran out {n} hours ago|none left since {clock}]",
        "[{mins} days left|valid for {n} months|{pct} days left]",
        "certificate of {culprit} expired",
        'min(certificate_seconds_left{{service="{culprit}"}})',
        ("renew the certificate of {culprit}", "alert a month before {culprit} expires"),
    ),
)
#: In services that keep things.
_OF_STORES = (
    _Fault(
        "volume_free_bytes",
        "[none free since {clock}|0 bytes free|full, writes refused since {clock}]",
        "[{gib} GiB free|{pct}% free|plenty free]",
        "volume of {culprit} is full",
        'min(volume_free_bytes{{service="{culprit}"}})',
        ("expand the volume of {culprit}", "delete old archives of {culprit}"),
    ),
    _Fault(
        "connections_used",
        "[{pct} of {pct} used|all used since {clock}|no connection free for {mins} minutes]",
        "[{n} of {pct} used|{n} used|most are free]",
        "connections of {culprit} are exhausted",
        'max(connections_used{{service="{culprit}"}}) / max(connections_most{{service="{culprit}"}})',
        ("raise the connection limit of {culprit}", "pool connections to {culprit}"),
    ),
    _Fault(
        "lock_waits",
        "[{pct} sessions wait for one lock|{mins} waits, the oldest since {clock}|every writer waits since {clock}]",
        "[no session waits|{n} short waits|no waits]",
        "a lock in {culprit} is held for ever",
        "SELECT session, held_since FROM lock_waits WHERE store = '{culprit}' ORDER BY held_since LIMIT 1",
        ("end the session that holds the lock in {culprit}", "limit lock times in {culprit}"),
    ),
    _Fault(
        "statement_seconds",
        "[{mins} s a statement since {clock}|{n} times the usual|{pct}% of statements are slow]",
        "[{n} ms a statement|as fast as ever|no slow statement]",
        "a statement without an index slows {culprit}",
        "SELECT statement, mean FROM statement_seconds WHERE store = '{culprit}' ORDER BY mean DESC LIMIT 5",
        ("add the missing index in {culprit}", "review slow statements of {culprit} each week"),
    ),
    _Fault(
        "replica_lag_seconds",
        "[{mins} minutes behind|behind since {clock} and falling back|{pct}0 s behind]",
        "[{n} s behind|no lag|in step]",
        "replica of {culprit} is behind",
        'max(replica_lag_seconds{{service="{culprit}"}})',
        ("read from the primary of {culprit}", "rebuild the replica of {culprit}"),
    ),
    _Fault(
        "evictions_total",
        "[{pct} evictions a second|evicts what was written a minute ago|{pct}% of reads miss]",
        "[{n} evictions an hour|no evictions|few reads miss]",
        "memory of {culprit} is too small for its data",
        'sum(rate(evictions_total{{service="{culprit}"}}[5m]))',
        ("give {culprit} more memory", "shorten how long {culprit} keeps entries"),
    ),
)
_LATE = "[{mins} s at the 95th percentile|{n} times the usual|{pct}% of calls are slow|far over its target]"
_AT_THE_DOOR = (
    "[users of {door} wait|pages of {door} load slowly|requests to {door} time out|customers of {door} see errors|"
    "half of the calls to {door} fail][ since {clock}| for {mins} minutes|, worse each minute|||]"
)
_BETWEEN = (
    "[calls from {caller} to {called} are slow|{caller} waits for {called}|{caller} gives up on {called}|"
    "{called} answers {caller} late][ since {clock}| for {mins} minutes|||]"
)
_CALM_SIGN = "[nothing was deployed today|traffic is as usual|no maintenance is under way|other regions are fine]"


def draw(rng: Random, names: Names) -> Search:
    """A search among five to nine services of the incident's own."""
    topology, stores = _topology(rng, names)
    called = {service for callees in topology.values() for service in callees}
    doors = [service for service in topology if service not in called]
    culprit = rng.choice([service for service in topology if service not in doors])
    fault = rng.choice(_OF_STORES if culprit in stores else _OF_WORKERS)
    slots = {**numbers(rng), "culprit": culprit}
    critical = [path for path in paths(topology) if path.split(ARROW)[0] in doors and path.split(ARROW)[-1] == culprit]
    return Search(
        symptoms=_symptoms(rng, critical),
        telemetry=_telemetry(rng, topology, stores, critical, fault, slots),
        topology=topology,
        root_cause=fault.root_cause.format_map(slots),
        query=fault.query.format_map(slots),
        critical_paths=critical,
        remediation=[step.format_map(slots) for step in fault.remediation],
    )


def _topology(rng: Random, names: Names) -> tuple[Topology, set[str]]:
    """Doors call workers, workers call stores and now and then each other; everything but a door is called."""
    doors = [names.coded("web", "entry", "front") for _ in range(rng.choice((1, 1, 2)))]
    workers = [names.deployment, *(names.coded("svc", "job", "core", "hub") for _ in range(rng.choice((1, 2, 2, 3))))]
    stores = [names.coded("db", "cache", "queue", "store") for _ in range(rng.choice((2, 2, 3)))]
    calls: Topology = {service: [] for service in [*doors, *workers, *stores]}
    for upper, lower in ((doors, workers), (workers, stores)):
        for caller in upper:
            calls[caller] += rng.sample(lower, rng.randint(1, min(2, len(lower))))
        for service in lower:
            if not any(service in calls[caller] for caller in upper):
                calls[rng.choice(upper)].append(service)
    if len(workers) > 1 and rng.random() < 0.4:
        calls[workers[0]].append(workers[1])
    order = rng.sample(list(calls), len(calls))
    return {service: calls[service] for service in order}, set(stores)


def _symptoms(rng: Random, critical: list[str]) -> list[str]:
    """What people and callers noticed along one of the critical paths."""
    way = rng.choice(critical).split(ARROW)
    door = expand(rng, _AT_THE_DOOR, {**numbers(rng), "door": way[0]})
    index = rng.randrange(len(way) - 1)
    between = expand(rng, _BETWEEN, {**numbers(rng), "caller": way[index], "called": way[index + 1]})
    calm = [expand(rng, _CALM_SIGN, {})] if rng.random() < 0.4 else []
    return rng.sample([door, between, *calm], 2 + len(calm))


def _telemetry(
    rng: Random, topology: Topology, stores: set[str], critical: list[str], fault: _Fault, slots: dict[str, object]
) -> dict[str, str]:
    """The culprit's bad reading among late callers and calm readings, also of the same metric elsewhere."""
    culprit = str(slots["culprit"])
    readings = {f"{fault.metric} of {culprit}": expand(rng, fault.bad, slots)}
    late = sorted({service for path in critical for service in path.split(ARROW)[:-1]})
    for service in rng.sample(late, min(len(late), 2)):
        readings[f"latency of {service}"] = expand(rng, _LATE, numbers(rng))
    for service in rng.sample(sorted(topology), 3):
        other = rng.choice(_OF_STORES if service in stores else _OF_WORKERS)
        if not (service == culprit and other is fault):
            readings[f"{other.metric} of {service}"] = expand(rng, other.calm, numbers(rng))
    return {name: readings[name] for name in rng.sample(list(readings), len(readings))}
