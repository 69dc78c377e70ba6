"""The gate as a table of cases: every status, direction, kind and reference, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from opstune.evaluate.evidence import DifferenceSeen, Evidence, FigureSeen, LatencySeen, PerplexitySeen, Seen, ShareSeen
from opstune.evaluate.gates import Direction, Gate, Kind, Reference, Unit
from opstune.evaluate.lines import Decision, Line, Status
from opstune.evaluate.statistics import difference_bounds, lower_bound, upper_bound
from opstune.evaluate.verdict import decide, judge, judge_parity
from opstune.evaluate.wording import asked, gate_table, told

REACH = 10.0


def gate(
    direction: Direction = "above",
    threshold: float = 0.9,
    kind: Kind = "bound",
    reference: Reference = "absolute",
    minimum: int = 50,
    metric: str = "function",
    skill: str = "remediation",
) -> Gate:
    return Gate(
        skill=skill,
        metric=metric,
        direction=direction,
        threshold=threshold,
        kind=kind,
        reference=reference,
        minimum=minimum,
    )


def line(status: Status, name: str = "function", kind: Kind = "bound", more: int | None = None) -> Line:
    made = judge(gate(metric=name), Seen(ShareSeen(99, 100)), REACH)
    told = {"kind": kind, "status": status, "more_cases": more, "reason": f"because of {name}"}
    return made.model_copy(update=told)


SLOW = tuple(float(x) for x in range(401, 501))
ABOVE, BELOW = gate(), gate("below", 0.05)
OVER_BASE, OVER_CHAMPION = gate(threshold=0.15, reference="over_base"), gate(threshold=-0.02, reference="over_champion")
LATENCY = gate("below", 500, metric="latency_p95_ms")
GUARD = gate(threshold=-0.05, kind="guard", reference="over_champion", minimum=200)
GUARD_BELOW = gate("below", 0.05, kind="guard", reference="over_champion", minimum=200)
BLEU = gate(threshold=0.3, kind="alarm", metric="bleu", skill="all")
SIZE = gate(threshold=0.75, kind="point", metric="size_reduction", skill="all", minimum=1)
PERPLEXITY = gate("below", 10, metric="perplexity", skill="all")


CASES: list[tuple[Gate, Evidence | None, Status]] = [
    (ABOVE, ShareSeen(916, 1000), "passed"),
    (ABOVE, ShareSeen(915, 1000), "undecided"),
    (ABOVE, ShareSeen(900, 1000), "failed"),
    (ABOVE, ShareSeen(9001, 10000), "failed"),
    (ABOVE, ShareSeen(49, 49), "undecided"),
    (ABOVE, ShareSeen(0, 49), "undecided"),
    (BELOW, ShareSeen(38, 1000), "passed"),
    (BELOW, ShareSeen(39, 1000), "undecided"),
    (BELOW, ShareSeen(50, 1000), "failed"),
    (gate("below", 0.05, minimum=59), ShareSeen(0, 59), "passed"),
    (gate("below", 0.05, minimum=10), ShareSeen(0, 58), "undecided"),
    (OVER_BASE, DifferenceSeen(60, 0, 100), "passed"),
    (OVER_BASE, DifferenceSeen(20, 2, 100), "undecided"),
    (OVER_BASE, DifferenceSeen(10, 2, 100), "failed"),
    (OVER_CHAMPION, DifferenceSeen(5, 5, 600), "passed"),
    (OVER_CHAMPION, DifferenceSeen(40, 40, 600), "undecided"),
    (OVER_CHAMPION, DifferenceSeen(5, 30, 600), "failed"),
    (gate("below", 0.02, reference="over_champion"), DifferenceSeen(2, 2, 600), "passed"),
    (gate("below", 0.02, reference="over_champion"), DifferenceSeen(30, 2, 600), "failed"),
    (LATENCY, LatencySeen(tuple(x / 10 for x in SLOW)), "passed"),
    (LATENCY, LatencySeen(SLOW), "passed"),
    (LATENCY, LatencySeen((*SLOW[:98], 600.0, 600.0)), "undecided"),
    (LATENCY, LatencySeen(tuple(x * 2 for x in SLOW)), "failed"),
    (LATENCY, LatencySeen(SLOW[:30]), "undecided"),
    (ABOVE, ShareSeen(0, 0), "undecided"),
    (ABOVE, None, "not_applicable"),
    (gate(kind="alarm"), ShareSeen(91, 100), "passed"),
    (gate(kind="alarm"), ShareSeen(90, 100), "alarm"),
    (gate(kind="alarm", threshold=-0.05, reference="over_champion"), DifferenceSeen(0, 10, 100), "alarm"),
    (gate(kind="alarm", direction="below", threshold=0.1), ShareSeen(9, 100), "passed"),
    (gate("below", -0.15, reference="over_base"), DifferenceSeen(0, 60, 100), "passed"),
    # A guard: a proven loss rejects at any size, what is proven passes, and between them few cases only alarm.
    (GUARD, DifferenceSeen(2, 1, 91), "passed"),
    (GUARD, DifferenceSeen(4, 4, 70), "alarm"),
    (GUARD, DifferenceSeen(0, 5, 70), "alarm"),
    (GUARD, DifferenceSeen(0, 6, 70), "failed"),
    (GUARD, DifferenceSeen(0, 14, 400), "failed"),
    (GUARD, DifferenceSeen(0, 6, 400), "passed"),
    (GUARD, DifferenceSeen(20, 20, 200), "undecided"),
    (GUARD, DifferenceSeen(20, 31, 200), "failed"),
    (GUARD_BELOW, DifferenceSeen(6, 0, 70), "failed"),
    (GUARD_BELOW, DifferenceSeen(0, 6, 70), "passed"),
    (GUARD_BELOW, DifferenceSeen(4, 4, 70), "alarm"),
    (gate(threshold=0.15, kind="guard", reference="over_base"), DifferenceSeen(0, 30, 60), "failed"),
    (gate(threshold=0.15, kind="guard", reference="over_base"), DifferenceSeen(40, 0, 60), "passed"),
    # A point has no bound, and decides.
    (SIZE, FigureSeen(0.76, 1, "share"), "passed"),
    (SIZE, FigureSeen(0.75, 1, "share"), "failed"),
    (gate("below", 0.1, kind="point"), ShareSeen(9, 100), "passed"),
    (gate("below", 0.1, kind="point"), ShareSeen(0, 49), "undecided"),
    (gate("below", 0.02, kind="point", reference="over_champion"), DifferenceSeen(2, 0, 100), "failed"),
    (BLEU, FigureSeen(0.31, 100, "number"), "passed"),
    (BLEU, FigureSeen(0.3, 100, "number"), "alarm"),
    (BLEU, FigureSeen(0.0, 0, "number"), "undecided"),
    (PERPLEXITY, PerplexitySeen(tuple((20.0, 10.0 + n % 3) for n in range(60)), 60), "passed"),
    (PERPLEXITY, PerplexitySeen(tuple((30.0, 10.0 + n % 3) for n in range(60)), 60), "failed"),
    (PERPLEXITY, PerplexitySeen(tuple((22.0 + n % 3, 10.0) for n in range(60)), 60), "failed"),
    (PERPLEXITY, PerplexitySeen(tuple((10.0 * (n % 5) + 2, 10.0) for n in range(60)), 60), "undecided"),
]


@pytest.mark.parametrize(("line", "evidence", "status"), CASES)
def test_a_line_stands_so(line: Gate, evidence: Evidence | None, status: Status) -> None:
    found = judge(line, Seen(evidence, absent="not measured"), REACH)
    assert found.status == status
    assert found.passed == {"passed": True, "failed": False, "alarm": False}.get(status)
    assert found.reason


def test_the_tables_hold_every_kind_direction_reference_unit_status_and_verdict() -> None:
    lines = [line for line, _, _ in CASES]
    asked_for = {(line.direction, line.reference) for line in lines if line.kind in ("bound", "guard", "point")}
    assert asked_for == {(direction, to) for direction in get_args(Direction) for to in get_args(Reference)}
    assert {line.kind for line in lines} == set(get_args(Kind))
    assert {line.unit for line in lines} == set(get_args(Unit))
    assert {status for _, _, status in CASES} == set(get_args(Status))
    assert {verdict for _, verdict, _ in VERDICTS} == set(get_args(Decision))


@pytest.mark.parametrize(
    ("line", "evidence", "status"),
    [
        (ABOVE, ShareSeen(916, 1000), "undecided"),
        (ABOVE, ShareSeen(960, 1000), "passed"),
        (ABOVE, ShareSeen(800, 1000), "failed"),
        (BELOW, ShareSeen(37, 1000), "undecided"),
        (OVER_CHAMPION, DifferenceSeen(5, 5, 600), "undecided"),
        (OVER_CHAMPION, DifferenceSeen(50, 5, 600), "passed"),
        (gate("below", 0.02, reference="over_champion"), DifferenceSeen(2, 2, 600), "undecided"),
        (GUARD, DifferenceSeen(2, 2, 91), "undecided"),
    ],
)
def test_a_line_that_unscored_cases_could_turn_is_not_passed(line: Gate, evidence: Evidence, status: Status) -> None:
    found = judge(line, Seen(evidence, unscored=15), REACH)
    assert found.status == status
    assert ("15 more cases could not be scored" in found.reason) == (status == "undecided")


def test_unscored_cases_leave_a_guard_of_few_cases_an_alarm() -> None:
    found = judge(GUARD, Seen(DifferenceSeen(3, 1, 91), unscored=2), REACH)
    assert found.status == "alarm"
    assert "2 more cases could not be scored" in found.reason


def test_cases_of_one_incident_prove_less_than_as_many_incidents() -> None:
    apart = DifferenceSeen(12, 12, 600, tuple([(1, 1)] * 12 + [(-1, 1)] * 12 + [(0, 1)] * 576))
    together = DifferenceSeen(12, 12, 600, tuple([(6, 6)] * 2 + [(-6, 6)] * 2 + [(0, 6)] * 96))
    assert judge(OVER_CHAMPION, Seen(apart), REACH).status == "passed"
    assert judge(OVER_CHAMPION, Seen(together), REACH).status == "undecided"


def test_more_cases_are_the_fewest_that_would_pass_at_the_observed_rate() -> None:
    found = judge(ABOVE, Seen(ShareSeen(94, 100)), REACH)
    assert found.status == "undecided" and found.more_cases
    needed = 100 + found.more_cases
    assert lower_bound(0.94 * needed, needed) > 0.9 >= lower_bound(0.94 * (needed - 1), needed - 1)
    assert str(needed) in found.reason


def test_below_its_minimum_a_line_asks_for_that_at_least() -> None:
    assert judge(gate(minimum=100), Seen(ShareSeen(30, 30)), REACH).more_cases == 70
    assert judge(gate(minimum=100), Seen(ShareSeen(0, 0)), REACH).more_cases == 100
    few = judge(gate(minimum=40), Seen(ShareSeen(28, 30)), REACH).more_cases
    assert few is not None and few > 10


def test_reach_says_when_too_close_is_too_close() -> None:
    seen = Seen(ShareSeen(920, 1000))
    assert judge(gate(threshold=0.915), seen, reach=100).status == "undecided"
    assert judge(gate(threshold=0.915), seen, reach=2).status == "failed"


def test_the_bound_of_a_line_is_on_the_side_that_is_asked() -> None:
    assert judge(ABOVE, Seen(ShareSeen(95, 100)), REACH).bound == lower_bound(95, 100)
    assert judge(BELOW, Seen(ShareSeen(2, 100)), REACH).bound == upper_bound(2, 100)
    assert judge(OVER_CHAMPION, Seen(DifferenceSeen(3, 1, 100)), REACH).bound == difference_bounds(3, 1, 100)[0]


VERDICTS: list[tuple[list[Line], Decision, str]] = [
    ([line("passed"), line("passed", "parameters")], "promote", "all 2 deciding lines"),
    ([line("passed"), line("not_applicable")], "promote", "all 1 deciding lines"),
    ([line("passed"), line("alarm", "correct", "alarm")], "promote", "decide nothing: remediation correct"),
    ([line("passed"), line("undecided", "parameters", more=70)], "insufficient_data", "70 more test cases"),
    ([line("failed"), line("undecided", "parameters", more=70)], "reject", "because of function"),
    ([line("failed"), line("failed", "parameters")], "reject", "1 more fails: remediation parameters"),
    ([line("not_applicable"), line("not_applicable", "parameters")], "insufficient_data", "nothing was decided"),
    ([line("not_applicable"), line("passed", "correct", "alarm")], "insufficient_data", "nothing was decided"),
    ([line("passed"), line("failed", kind="alarm")], "promote", "all 1 deciding lines"),
    ([line("passed"), line("alarm", "correct", "guard")], "promote", "decide nothing: remediation correct"),
    ([line("passed"), line("failed", "correct", "guard")], "reject", "because of correct"),
    ([line("passed"), line("undecided", "correct", "guard", 9)], "insufficient_data", "9 more test cases"),
    ([line("passed"), line("failed", "correct", "point")], "reject", "because of correct"),
    ([line("passed", "correct", "point")], "insufficient_data", "nothing was decided"),
    ([line("passed", "correct", "guard")], "promote", "all 1 deciding lines"),
    ([line("passed"), line("undecided", kind="alarm")], "promote", "all 1 deciding lines"),
]


@pytest.mark.parametrize(("lines", "verdict", "words"), VERDICTS)
def test_lines_make_a_verdict(lines: Sequence[Line], verdict: Decision, words: str) -> None:
    found = decide(lines)
    assert found.verdict == verdict
    assert words in found.sentence


def test_parity_alone_decides_nothing() -> None:
    parity = judge_parity(DifferenceSeen(0, 0, 100), points=1.0, tested=0.9)
    assert parity.status == "passed"
    assert decide([parity]).verdict == "insufficient_data"


@pytest.mark.parametrize(("lost", "status"), [(0, "passed"), (6, "passed"), (7, "failed")])
def test_what_ships_may_lose_its_points_and_no_more(lost: int, status: str) -> None:
    assert judge_parity(DifferenceSeen(0, lost, 600), points=1.0, tested=0.9).status == status


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ABOVE, "more than 90 %"),
        (BELOW, "less than 5 %"),
        (OVER_BASE, "more than 15 points above the base"),
        (OVER_CHAMPION, "less than 2 points below the champion"),
        (gate("below", 0.02, reference="over_champion"), "less than 2 points above the champion"),
        (LATENCY, "less than 500 ms"),
        (PERPLEXITY, "less than 10"),
        (BLEU, "more than 0.3"),
        (SIZE, "more than 75 %"),
    ],
)
def test_a_threshold_is_told_in_words(line: Gate, words: str) -> None:
    assert asked(line) == words


def test_the_terminal_table_has_a_row_a_line() -> None:
    seen = Seen(ShareSeen(97, 100), base=0.1, champion=None)
    (row,) = gate_table(decide([judge(ABOVE, seen, REACH)]))
    assert list(row) == ["line", "n", "value", "bound", "threshold", "base", "champion", "passed"]
    assert (row["n"], row["value"], row["threshold"], row["base"], row["champion"]) == (
        "100",
        "97.0 %",
        "> 90 %",
        "10.0 %",
        "–",
    )


@pytest.mark.parametrize(
    ("line", "value", "words"),
    [
        (ABOVE, 0.9, "90.0 %"),
        (OVER_CHAMPION, 0.0123, "+1.2"),
        (OVER_CHAMPION, -0.0001, "0.0"),
        (LATENCY, 41.3, "41 ms"),
        (LATENCY, float("inf"), "any time"),
        (PERPLEXITY, 3.456, "3.46"),
        (SIZE, 0.672, "67.2 %"),
        (ABOVE, None, "–"),
    ],
)
def test_a_value_is_told_in_its_unit(line: Gate, value: float | None, words: str) -> None:
    assert told(line, value) == words
