"""Ten thousand odd records through every source file: each becomes an example or is refused with a reason."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from collecting import Place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opstune.collect import Quarantine, source_names
from opstune.collect.kinds import KINDS
from opstune.collect.mapping import Mapper, load
from opstune.collect.rules import Rule
from opstune.collect.source import ALWAYS, Kind, Opening, Raw
from opstune.errors import DataError
from opstune.examples import Example
from opstune.settings import CollectSettings, SimulateSettings
from opstune.simulate import write_history

RECORDS = 10_000
SOURCES = source_names()
EACH = math.ceil(RECORDS / len(SOURCES))
NOW = datetime.now(UTC)


def nested(levels: int, inside: Callable[[Any], Any]) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = inside(value)
    return value


SPECIAL = [
    *("", " ", "\x00", "\ud83d", "\udcff", "\U0001f600\u202e", "null", "NaN", "9" * 5000, "x" * 50_000, "\n" * 99),
    *('{"a":', "[" * 5000, '{"k": 1, "k": 2}', "[1, NaN, -Infinity]", '"\\ud800"'),
    *("0000-00-00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "2026-01-05", "now"),
    *(10**400, -(10**400), 10**5000, 2**63, -1, 1e308, -0.0, math.nan, math.inf, True),
    *(datetime.min, datetime.max, datetime(2026, 1, 5), date.max, date.min, timedelta.max),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    *(nested(40, lambda v: [v]), nested(40, lambda v: {"k": v}), nested(400, lambda v: [v]), [[]], {}, [None]),
    *({"": ""}, {1: 2, "1": 3}, {("a",): "b"}, {"\ud83d": 1}, {"id": {"id": {}}}, ["a", None, {"b": []}], b"\xff\xfe"),
]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.binary(max_size=4)
    | st.datetimes()
    | st.dates()
    | st.decimals()
    | st.uuids()
)
KEYS = st.text(st.characters(), max_size=4)
VALUES = st.sampled_from(SPECIAL) | st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)


def paths(mapper: Mapper) -> list[str]:
    """Every place of a record that the source file looks at."""
    found = mapper.mapping
    rules: list[Rule] = [getattr(found.fields, name) for name in type(found.fields).model_fields]
    for part in (found.context, found.answer, found.corrections, found.metadata):
        rules += part.values()
    looked = {rule.path for rule in rules if rule and rule.path}
    looked |= {condition.field for condition in (*found.when, *found.answer_when)}
    return sorted(looked | {"an unknown key"})


def put(record: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path, or take it away where ``value`` is ``...``; what stands in the way is replaced."""
    *heads, last = path.split(".")
    for head in heads:
        if not isinstance(record.get(head), dict):
            record[head] = {}
        record = record[head]
    if value is ...:
        record.pop(last, None)
    else:
        record[last] = value


def plausible(mapper: Mapper) -> dict[str, Any]:
    """A record with some text everywhere."""
    record: dict[str, Any] = {}
    for path in paths(mapper):
        put(record, path, "some text")
    if path := mapper.mapping.fields.occurred_at.path:
        put(record, path, "2026-01-05T10:00:00Z")
    return record


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    write_history(folder, SimulateSettings(seed=5, days=2, incidents_per_day=12))
    return folder


class Given:
    """A reader of records that are there already."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def newest(self, happened: Callable[[Mapping[str, Any]], datetime | None]) -> datetime | None:
        raise AssertionError("nobody asks when everything is wanted")

    def read(self, position: Mapping[str, Any], floor: datetime) -> Iterator[Raw]:
        for number, record in enumerate(self.records):
            yield Raw("", f"record {number}", record)

    def reached(self) -> dict[str, Any]:
        return {"highest": "the end"}

    def scopes(self) -> tuple[Collection[str], Collection[str]]:
        return (), ("",)


def known(mapper: Mapper, place: Place) -> list[dict[str, Any]]:
    """Good records of the source, where the generated history has some."""
    found = mapper.mapping
    own = place.connection(found.connection or "")
    if found.kind not in ("files", "database") or own is None:
        return []
    opening = Opening(mapper.source, own, place.connection, CollectSettings(), place.home, mapper.name)
    raws = KINDS[found.kind].open(found.read, opening).read({}, ALWAYS)
    return [raw.record for raw in raws if isinstance(raw, Raw) and not raw.fault][:50]


@pytest.mark.parametrize("source", SOURCES)
def test_a_record_becomes_an_example_or_is_refused_with_a_reason(
    source: str, place: Place, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPSTUNE_CONFIG")
    place.connections = {"opstune_files": str(history), "opstune_database": f"sqlite:///{history / 'oncall.db'}"}
    place.connections["opstune_feedback"] = str(history)
    mapper = load(source)
    good = known(mapper, place)
    changes = st.lists(st.tuples(st.sampled_from(paths(mapper)), st.just(...) | VALUES), max_size=3)
    seen: list[Any] = []
    examples: dict[str, Example] = {}
    refused: list[int] = []

    @settings(
        max_examples=EACH, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(good or [plausible(mapper)]), changes)
    def each(base: dict[str, Any], changes: list[tuple[str, Any]]) -> None:
        record = copy.deepcopy(base)
        for path, value in changes:
            put(record, path, value)
        seen.append(record)
        try:
            if mapper.concerns(record):
                example = mapper.example(record, NOW)
                examples[example.id] = example
        except DataError as error:
            assert error.what
            refused.append(len(seen) - 1)

    each()
    assert len(seen) >= EACH
    place.connections[mapper.mapping.connection or "none"] = "given://"
    stand_in = Kind(KINDS[mapper.mapping.kind].options, lambda options, opening: Given(seen), needs_connection=False)
    monkeypatch.setitem(KINDS, mapper.mapping.kind, stand_in)
    report = place.pull(source, since=ALWAYS)
    assert (report.read, report.quarantined, report.standing) == (len(seen), len(refused), len(refused))
    assert {entry.origin for entry in Quarantine(place.store, source).entries()} == {f"record {n}" for n in refused}
    assert {example.id: example for example in place.examples()} == examples
    assert bool(examples) or not good
