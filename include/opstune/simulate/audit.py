"""Entries of the audit log, and what a reviewer makes of them.

The rule: a deed has a risk of its own; one step is added for an origin that is not the team's, for a missing
approval and for an hour at which its actor is not on duty, and one is taken where the deed was refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from opstune.simulate.names import Names
from opstune.simulate.words import expand
from opstune.skills.audit import RISKS


@dataclass(frozen=True)
class Entry:
    """One entry as the log has it, with the review's findings. ``actions`` is empty where nothing is to be done."""

    actor: str
    action: str
    resource: str
    result: str
    origin: str
    hour: int
    details: dict[str, str]
    risk: str
    impact: str
    root_cause: str
    actions: list[str]


@dataclass(frozen=True)
class _Deed:
    action: str
    resource: str
    stems: tuple[str, ...]
    risk: int
    impact: str
    undo: str


#: Words of the action, the kind of thing it is done to, how bad it is by itself, what it means, how it is undone.
_DEEDS = (
    _Deed("[sign-in|login|session.start]", "console {thing}", ("panel", "board"), 0, "{actor} is in {thing}",
          "end the sessions of {actor} in {thing}"),
    _Deed("[read|view|list]", "dashboard {thing}", ("view", "graph"), 0, "{actor} sees figures of {thing}",
          "close {thing} to {actor}"),
    _Deed("[role.grant|grant role|add member to]", "role {thing}", ("admin", "owner", "editor"), 1,
          "whoever holds {thing} can change what it guards", "revoke {thing}"),
    _Deed("[secret.read|read secret|fetch secret]", "secret {thing}", ("tls", "seal", "vault"), 1,
          "{actor} can use what {thing} opens", "rotate {thing}"),
    _Deed("[key.create|create access key|issue key]", "account {thing}", ("robot", "svc"), 1,
          "{thing} can be used from anywhere", "delete the new key of {thing}"),
    _Deed("[firewall.change|open port|add ingress rule]", "network {thing}", ("net", "zone"), 1,
          "{thing} can be reached from outside", "close the port of {thing}"),
    _Deed("[data.export|export table|dump table]", "table {thing}", ("ledger", "member"), 1,
          "rows of {thing} have left the store", "find and delete the copy of {thing}"),
    _Deed("[pod.exec|open shell in|attach to]", "pod {thing}", ("web", "api", "task"), 1,
          "{actor} can change what runs in {thing}", "replace {thing} by a fresh one"),
    _Deed("[backup.delete|delete backup|purge snapshot]", "backup {thing}", ("copy", "snap"), 2,
          "{thing} can no longer be restored", "take a new backup of {thing}"),
    _Deed("[audit.stop|disable audit log|stop log shipping]", "log {thing}", ("trail", "log"), 2,
          "what happens in {thing} leaves no trace", "switch the log of {thing} on again"),
)  # fmt: skip
_KNOWN = "[office network|company vpn|bastion host|ci runner|office wifi]"
_STRANGE = (
    "[unknown address {ip}|exit of an anonymous network, {ip}|a country never seen before, {ip}|"
    "home connection {ip}, never used before|rented server {ip}]"
)
_APPROVED = "[CHG-{n}, approved|approved in CHG-{n}|CHG-{n} by the owner|standing approval CHG-{n}]"
_UNAPPROVED = "[none|missing|CHG-{n}, rejected|not asked for|CHG-{n}, still open]"
_TOOLS = "[console|command line|terraform|api client|web page]"
#: Nobody works from ten in the evening until six in the morning, but who is on duty.
_NIGHT = (22, 23, 0, 1, 2, 3, 4, 5)
_DAY = tuple(range(6, 22))


def draw(rng: Random, names: Names, actor: str) -> Entry:
    """An entry of this actor on a thing of the incident's own."""
    deed, thing = rng.choice(_DEEDS), ""
    thing = names.coded(*deed.stems)
    strange, unapproved, refused = rng.random() < 0.3, rng.random() < 0.3, rng.random() < 0.25
    hour, on_duty = rng.choice(_NIGHT if rng.random() < 0.4 else _DAY), rng.random() < 0.5
    late = hour in _NIGHT and not on_duty
    level = min(max(deed.risk + strange + unapproved + late - refused, 0), len(RISKS) - 1)
    slots: dict[str, object] = {
        "actor": actor,
        "thing": thing,
        "n": rng.randint(1000, 9999),
        "ip": f"203.0.113.{rng.randint(1, 254)}",
    }
    details = {
        "approval": expand(rng, _UNAPPROVED if unapproved else _APPROVED, slots),
        "on duty": "yes" if on_duty else "no",
        "tool": expand(rng, _TOOLS, slots),
        "request": names.coded("req"),
    }
    return Entry(
        actor=actor,
        action=expand(rng, deed.action, slots),
        resource=deed.resource.format_map(slots),
        result=rng.choice(("denied", "refused", "forbidden")) if refused else rng.choice(("allowed", "ok", "success")),
        origin=expand(rng, _STRANGE if strange else _KNOWN, slots),
        hour=hour,
        details={key: details[key] for key in rng.sample(list(details), len(details))},
        risk=RISKS[level],
        impact="none, it was refused" if refused else deed.impact.format_map(slots),
        root_cause=_cause(strange, unapproved, late, refused).format_map(slots),
        actions=[step.format_map(slots) for step in _steps(deed, level, strange, unapproved, late, refused)],
    )


def _cause(strange: bool, unapproved: bool, late: bool, refused: bool) -> str:
    """What weighs most, said once."""
    if strange:
        return "the credentials of {actor} are used by somebody else"
    if unapproved:
        return "{actor} acted without an approval"
    if late:
        return "{actor} acted while not on duty"
    return "{actor} lacks a right that the work needs" if refused else "{actor} did planned work"


def _steps(deed: _Deed, level: int, strange: bool, unapproved: bool, late: bool, refused: bool) -> list[str]:
    steps = ["lock {actor}", "rotate the credentials of {actor}"] if strange else []
    if level >= 2 and not refused:
        steps.append(deed.undo)
    if (unapproved or late) and not strange:
        steps.append("ask {actor} about it")
    return steps
