"""One alert of an incident: its labels, its words, and the function that is right for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from opstune.simulate.kinds import CALM, CAUSES, KINDS, Kind
from opstune.simulate.names import Names
from opstune.simulate.words import SECOND, expand
from opstune.skills.functions import NONE, functions

#: Of all alerts this share needs no action, for one of these reasons.
CALM_SHARE = 0.39
#: How often the monitor adds in words what it also says in a field.
_WORDY_SHARE = 0.3
#: What is calm shows in a field, as in Alertmanager: what is over is resolved, what was announced is suppressed.
_STATUS = {"recovered": "resolved", "acted": "resolved", "maintenance": "suppressed"}
#: The cause as the monitor classifies it, in a word that the embedded base's tokenizer keeps whole.
_REASONS = {
    "release": "release",
    "stuck": "lock",
    "load": "traffic",
    "memory": "limit",
    "leak": "grow",
    "hardware": "damage",
    "rubbish": "temporary",
    "growth": "data",
    "expiry": "date",
    "expired": "over",
    "reload": "stale",
    "interrupted": "break",
    "client": "client",
}
#: A thing's label is not always called like the parameter it fills.
_LABELS = {
    "deployment": ("deployment", "workload"),
    "volume": ("persistentvolumeclaim", "pvc"),
    "host": ("instance", "host"),
    "certificate": ("certificate", "secret_name"),
    "instance": ("primary", "server"),
    "cluster": ("cluster", "database"),
    "group": ("consumergroup",),
    "job": ("job_name", "cronjob"),
    "client": ("client_id", "client"),
    "gateway": ("gateway", "ingress"),
}
_SCRAPES = ("kube-state", "node", "probe", "apps", "edge", "push")
_TEAMS = ("red", "blue", "green", "data", "edge", "core", "search", "money")


@dataclass(frozen=True)
class Alert:
    """An alert with its truth. ``wrong`` is a plausible action that does not help, if its labels offer one."""

    kind: str
    cause: str
    severity: str
    status: str
    reason: str
    summary: str
    description: str
    labels: dict[str, str]
    function: str
    parameters: dict[str, str]
    wrong: tuple[str, dict[str, str]] | None = field(default=None)


def draw(rng: Random, names: Names, kind: Kind, cause: str) -> Alert:
    """An alert of this kind and cause on fresh things of the incident's service."""
    things = _things(rng, names, kind)
    slots = {**numbers(rng), **things, "service": names.service}
    calm = rng.choice(tuple(CALM)) if rng.random() < CALM_SHARE else ""
    words = CALM[calm] if calm else CAUSES[cause]
    function = kind.functions[cause]
    others = [other for other in kind.functions.values() if other != function]
    wrong = rng.choice(others)
    return Alert(
        kind=kind.alert,
        cause=calm or cause,
        severity="info" if calm == "drill" else rng.choice(("warning", "critical", "page")),
        status=_STATUS.get(calm, "firing"),
        reason=_REASONS[cause],
        summary=expand(rng, kind.symptom, slots),
        description=expand(rng, words, slots) if rng.random() < _WORDY_SHARE else "",
        labels=_labels(rng, names, kind, things),
        function=NONE if calm else function,
        parameters={} if calm else _parameters(function, things),
        wrong=None if calm else (wrong, _parameters(wrong, things)),
    )


def numbers(rng: Random) -> dict[str, object]:
    """Random numbers for the slots of a text."""
    rev = rng.randint(12, 480)
    return {
        "n": rng.randint(2, 9),
        "pct": rng.randint(71, 99),
        "mins": rng.randint(6, 58),
        "gib": rng.randint(2, 90),
        "clock": f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        "rev": rev,
        "old": rev - rng.randint(1, 3),
    }


def pick(rng: Random) -> tuple[Kind, str]:
    """A kind and a cause; functions are drawn evenly first, so that no function is rare."""
    function = rng.choice([name for name in functions() if name != NONE])
    fitting = [(kind, cause) for kind in KINDS for cause, found in kind.functions.items() if found == function]
    return rng.choice(fitting)


def _things(rng: Random, names: Names, kind: Kind) -> dict[str, str]:
    makers: dict[str, Callable[[], str]] = {
        "namespace": lambda: names.namespace,
        "deployment": lambda: names.deployment,
        "container": lambda: names.container,
        "pod": names.pod,
        "node": lambda: names.coded("node", "work", "line", "unit"),
        "host": lambda: names.coded("host", "vm", "box", "rack"),
        "mountpoint": lambda: f"/{rng.choice(('var', 'data', 'srv', 'mnt'))}/{rng.choice(SECOND)}",
        "volume": lambda: names.coded("data", "vol", "disk", "shard"),
        "certificate": lambda: names.coded("tls", "cert", "site", "seal"),
        "cluster": lambda: names.coded("ring", "trio", "pair", "store"),
        "instance": lambda: names.coded("pg", "sql", "db", "base"),
        "group": lambda: names.coded("readers", "sink", "feed", "group"),
        "topic": lambda: names.coded("order", "event", "click", "mail"),
        "job": lambda: names.coded("report", "list", "sweep", "bill", "count"),
        "gateway": lambda: names.coded("gw", "entry", "front", "port"),
        "client": lambda: names.coded("app", "user", "bot", "agent"),
    }
    return {thing: makers[thing]() for thing in kind.things.split()}


def _labels(rng: Random, names: Names, kind: Kind, things: Mapping[str, str]) -> dict[str, str]:
    """The things under their label names, up to three decoys among them, in any order."""
    labels = {rng.choice(_LABELS.get(thing, (thing,))): value for thing, value in things.items()}
    makers: dict[str, Callable[[], str]] = {
        "predecessor": lambda: names.coded("old", "gone"),
        "exporter": lambda: names.coded("exporter", "probe"),
        "sidecar": names.other_container,
        "dead_letters": lambda: names.coded("dead", "failed"),
        "device": lambda: f"/dev/sd{rng.choice('abcd')}{rng.randint(1, 4)}",
        "rack": lambda: f"r{rng.randint(1, 40)}",
        "issuer": lambda: rng.choice(("inner-ca", "outer-ca", "mesh-ca")),
        "replica": lambda: names.coded("pg", "sql", "db", "base"),
        "last_run": lambda: names.coded("report", "list", "sweep", "bill", "count"),
        "region_gateway": lambda: names.coded("gw", "entry", "front", "port"),
        "neighbour": lambda: names.coded("node", "work", "line", "unit"),
        "pod": names.pod,
        "prometheus": lambda: rng.choice(("mon-a", "mon-b", "mon-c")),
        "job": lambda: rng.choice(_SCRAPES),
        "region": lambda: rng.choice(("eu-1", "eu-2", "us-1", "us-3", "ap-2")),
        "team": lambda: rng.choice(_TEAMS),
        "replicas": lambda: str(rng.randint(2, 24)),
    }
    general = ["prometheus", "job", "region", "team", "replicas"]
    decoys = rng.sample(kind.decoys.split(), rng.choice((0, 0, 1))) + rng.sample(general, rng.choice((0, 1, 1, 2)))
    labels |= {decoy: makers[decoy]() for decoy in decoys}
    keys = rng.sample(list(labels), len(labels))
    return {key: labels[key] for key in keys}


def _parameters(function: str, things: Mapping[str, str]) -> dict[str, str]:
    return {name: things[name] for name in functions()[function]}
