"""Source ``prometheus``: exact alert episodes with their rules' annotations, joined with what was done about each.

History is read one stretch of time after another. After each stretch the state at its border is kept: episodes that
are not over, or whose actions may still come. A later run goes on from a border some days back, since what was done
about an alert is often written down later; the same episode then becomes the same example, with its answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from opstune.collect.alerts import alerting
from opstune.collect.alerts.actions import ActionSource, load
from opstune.collect.alerts.annotations import FIRING, Rendered, Rules, rendered
from opstune.collect.alerts.borders import Borders
from opstune.collect.alerts.episodes import Episode, Episodes, milliseconds
from opstune.collect.alerts.joining import Action, join, records
from opstune.collect.source import Kind, Opening, Raw, Reached, Settled
from opstune.errors import ConfigError
from opstune.http import Http
from opstune.settings import Connection, Section

log = logging.getLogger(__name__)

_DAY, _HOUR, _MINUTE = 86_400_000, 3_600_000, 60_000
#: An episode ends where nothing is heard for longer than so many evaluations: one may be missed.
_INTERVALS = 2


class AlertmanagerOptions(Section):
    """The Alertmanager whose words about current alerts count before those of the rules."""

    connection: str


class PrometheusOptions(Section):
    """``select`` narrows the alerts down, in PromQL: ``alertname!="Watchdog"``. ``evaluation_seconds`` is how often an
    alert was evaluated whose rule is gone; the others' rules tell. A silence of ``silence_minutes`` does not end an
    episode, however often its rule is evaluated: as long as the server takes to come back after a restart.
    ``again_days`` back everything is read again, since actions become known late; ``slack_minutes`` before the start
    and after the end an action still belongs."""

    select: str = ""
    evaluation_seconds: float = Field(60.0, gt=0)
    silence_minutes: float = Field(0.0, ge=0)
    query_chunk_hours: int = Field(24, ge=1)
    again_days: float = Field(7.0, ge=0)
    slack_minutes: float = Field(30.0, ge=0)
    alertmanager: AlertmanagerOptions | None = None
    actions: dict[str, ActionSource] = Field(default_factory=dict)


@dataclass
class _Run:
    """One way through the history; times in milliseconds.

    ``now`` is the server's time, ``slack`` how far from an episode an action may lie, ``wait`` how long actions wait
    for their episodes and episodes for their actions, ``firing`` what the monitor says about current alerts,
    ``settled`` the moment before which all actions have theirs, ``given`` the ids of the episodes given out,
    ``joined`` how many actions have one.
    """

    now: int
    slack: int
    wait: int
    rules: Rules
    firing: list[Rendered]
    episodes: Episodes
    actions: Mapping[str, Action]
    settled: int
    given: set[str] = field(default_factory=set)
    joined: int = 0


class PrometheusReader:
    """Reads the episodes of one Prometheus."""

    def __init__(self, options: PrometheusOptions, opening: Opening, connection: Connection) -> None:
        self._options = options
        self._opening = opening
        self._connection = connection
        self._chunk = options.query_chunk_hours * _HOUR
        self._borders = Borders({}, 0)

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        """The server's own time, since its history goes on."""
        with self._http("Prometheus", self._connection) as prometheus:
            return _moment(alerting.clock(prometheus))

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw | Reached | Settled]:
        """Episodes by the stretch of time in which they ended, those that still fire last.

        The first read begins before ``floor``: of an episode that fires at the very beginning nobody knows the start,
        and here it lies before the floor, so that the caller leaves it out.
        """
        self._borders = Borders(position, round(self._options.again_days * _DAY))
        with self._http("Prometheus", self._connection) as prometheus:
            now = alerting.clock(prometheus)
            found, firing = alerting.rules(prometheus)
            rules = Rules(found)
            slack = round(self._options.slack_minutes * _MINUTE)
            wait = max(slack, *(self._gap(interval) for interval in {0, *(rule.interval for rule in found)}))
            standing = self._borders.start()
            begin, begun = standing or (max(milliseconds(floor) - wait, 0) // self._chunk * self._chunk, [])
            self._borders.keep(begin, begun)
            oldest = min([begin, *(episode.start for episode in begun)]) - wait
            actions = load(self._options.actions, self._opening, _moment(max(oldest, 0)))
            yield Settled(actions.places)
            yield from actions.refused
            episodes = Episodes(lambda labels: self._gap(rules.interval(labels)), begun)
            settled = begin - wait if standing else 0
            run = _Run(now, slack, wait, rules, [*self._notified(), *firing], episodes, actions.known, settled)
            yield from self._stretches(prometheus, run, begin)

    def reached(self) -> dict[str, Any]:
        return self._borders.position()

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)

    def _stretches(self, prometheus: Http, run: _Run, at: int) -> Iterator[Raw | Reached]:
        """An episode is given when nothing can change any more: neither it nor the actions that it has, of which one
        may be nearer to an episode that is yet to come."""
        while at < run.now:
            end = min(at + self._chunk, run.now)
            for labels, moments in alerting.fired(prometheus, self._options.select, at, end):
                run.episodes.add(labels, moments)
            _give_actions(run, end - run.wait)
            yield from self._raws(run, run.episodes.take(end, 2 * run.wait))
            open_here = run.episodes.all()
            self._borders.seen = self._borders.seen or bool(run.given or open_here)
            if end == at + self._chunk:
                self._borders.keep(end, open_here)
                if self._borders.seen:
                    yield Reached(self._borders.position())
            at = end
        _give_actions(run, run.now + run.wait)
        if run.actions:
            log.info("%s: %d of %d actions have an episode", self._opening.source, run.joined, len(run.actions))
        self._listen(run)
        yield from self._raws(run, run.episodes.all())
        self._borders.advance(run.now)
        self._borders.said = {name: said for name, said in self._borders.said.items() if name in run.given}

    def _gap(self, interval: int) -> int:
        """The longest silence within an episode of an alert that is evaluated at this interval; 0 is unknown."""
        often = interval or round(self._options.evaluation_seconds * 1000)
        return max(_INTERVALS * often, round(self._options.silence_minutes * _MINUTE))

    def _listen(self, run: _Run) -> None:
        """Keep what is said about alerts that fire now; what was said first about an episode stays."""
        for episode in run.episodes.all():
            heard = None if run.episodes.over(episode, run.now) else rendered(episode.labels, run.firing)
            if heard:
                self._borders.said.setdefault(episode.id, heard)

    def _raws(self, run: _Run, episodes: Iterable[Episode]) -> Iterator[Raw]:
        for episode in episodes:
            run.given.add(episode.id)
            known = [run.actions[key] for key in episode.actions if key in run.actions]
            said = self._borders.said.get(episode.id)
            annotations = said.annotations if said else run.rules.annotations(episode.labels)
            firing = not run.episodes.over(episode, run.now)
            for record in records(episode, known, firing, annotations, said.status if said else FIRING):
                yield Raw("", record["id"], record)

    def _notified(self) -> list[Rendered]:
        if self._options.alertmanager is None:
            return []
        name = self._options.alertmanager.connection
        connection = self._opening.connections(name)
        if connection is None:
            log.info("%s: Alertmanager is not asked: there is no connection %s", self._opening.source, name)
            return []
        with self._http("Alertmanager", connection) as alertmanager:
            return alerting.notified(alertmanager)

    def _http(self, name: str, connection: Connection) -> Http:
        return Http(name, connection, self._opening.settings.patience)


def _give_actions(run: _Run, before: int) -> None:
    """Give the actions that happened before a moment, and were not given yet, to their episodes."""
    due = [action for action in run.actions.values() if run.settled <= action.at < before]
    for action, episode in join(due, run.episodes.all(), run.slack):
        episode.actions.append(action.key)
        run.joined += 1
    run.settled = before


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _open(options: PrometheusOptions, opening: Opening) -> PrometheusReader:
    if opening.connection is None:
        raise ConfigError(f"{opening.source} has no connection", opening.source, "Name one in its source file.")
    return PrometheusReader(options, opening, opening.connection)


KIND = Kind(PrometheusOptions, _open)
