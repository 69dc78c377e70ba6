"""What reaches a line of the gate: paired by case, grouped by incident, and nothing where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from opstune.evaluate.evaluate import Evaluation, Measured
from opstune.evaluate.evidence import DifferenceSeen, FigureSeen, PerplexitySeen, ShareSeen
from opstune.evaluate.gates import Gate
from opstune.evaluate.metrics import majority, share, shares
from opstune.evaluate.observing import Compared, observe, paired
from opstune.evaluate.predict import Prediction
from opstune.evaluate.red_team import Attacked, Probed, RedTeam
from opstune.evaluate.text import Text

SCORES = {"correct": True, "severity": True, "valid_json": True}


def gate(metric: str, skill: str = "all", **asked: object) -> Gate:
    return Gate.model_validate({"skill": skill, "metric": metric, "direction": "above", "threshold": 0.5, **asked})


def prediction(number: int, scores: Mapping[str, bool] = SCORES, nll: float | None = None) -> Prediction:
    return Prediction(
        id=str(number),
        skill="triage",
        text="{}",
        parsed={},
        scores=dict(scores),
        tokens=1,
        seconds=None,
        nll=nll,
        nll_tokens=10 if nll is not None else 0,
    )


def measured(text: Text | None = None, unscored: int = 0) -> Measured:
    return Measured(
        engine="fake",
        metrics=shares([("triage", SCORES)]),
        free={},
        constrained_sample={},
        confusion={},
        latency=None,
        text=text,
        unscored={"triage": unscored} if unscored else {},
        seconds=1,
        cases_per_second=1,
        tokens=1,
    )


def compared(
    ours: list[Prediction], champion: list[Prediction] | None = None, found: Measured | None = None
) -> Compared:
    roles = {"challenger": found or measured(), **({"champion": measured()} if champion is not None else {})}
    evaluation = Evaluation(
        dataset_sha256="0",
        cases={"triage": 4},
        roles=roles,
        majority={"triage": majority("triage", [{"severity": "SEV-1"}])},
    )
    predictions = {"challenger": ours, "champion": champion or []}
    return Compared(evaluation, roles, predictions, incidents={str(n): str(n // 2) for n in range(10)})


def attacked(held: Mapping[str, bool | None]) -> Attacked:
    told = {"kind": "injection", "skill": "triage", "group": "1", "must": "unchanged", "constrained": True}
    words = dict.fromkeys(("variant", "why", "reason", "asked", "text"), "")
    said = [Probed.model_validate({**told, **words, "id": id_, "held": stood}) for id_, stood in held.items()]
    k, n = sum(stood is True for stood in held.values()), sum(stood is not None for stood in held.values())
    metrics = {"injection": share(k, n)} if n else {}
    return Attacked(engine="fake", seconds=1, metrics=metrics, cannot_say={"injection": len(held) - n}, probes=said)


def test_pairs_are_counted_by_case_and_grouped_by_incident() -> None:
    ours = {"a": True, "b": True, "c": False, "d": True, "only ours": True}
    theirs = {"a": False, "b": True, "c": True, "d": False, "only theirs": True}
    found = paired(ours, theirs, {"a": "1", "b": "1", "c": "2", "d": "2", "only ours": "3"})
    assert found == DifferenceSeen(gained=2, lost=1, n=4, incidents=((0, 2), (1, 2)))


def test_what_could_not_be_scored_is_told_and_counts_in_no_share() -> None:
    wrong, unscored = {**SCORES, "correct": False}, {"valid_json": True}
    given = compared([prediction(0), prediction(1, wrong), prediction(2, unscored)], found=measured(unscored=1))
    for line in (gate("correct"), gate("correct", "triage")):
        seen = observe(line, given)
        assert (seen.evidence, seen.unscored) == (ShareSeen(1, 2), 1)
    assert (observe(gate("valid_json"), given).evidence, observe(gate("valid_json"), given).unscored) == (
        ShareSeen(3, 3),
        0,
    )


def test_a_metric_that_nobody_scored_is_evidence_of_no_case_and_not_zero() -> None:
    seen = observe(gate("root_cause", "triage"), compared([prediction(0)]))
    assert seen.evidence == ShareSeen(0, 0)
    unknown = observe(gate("bleu", kind="alarm"), compared([prediction(0)]))
    assert unknown.evidence == FigureSeen(0.0, 0, "number")
    assert "nobody measured it" in unknown.absent


def test_texts_and_perplexity_are_those_of_the_challenger() -> None:
    text = Text(perplexity=1.5, bleu=0.4, rouge_l=0.6, n=3)
    given = compared([prediction(n, nll=4.0) for n in range(3)], [prediction(0)], measured(text))
    assert observe(gate("bleu", kind="alarm"), given).evidence == FigureSeen(0.4, 3, "number")
    assert observe(gate("rouge_l", kind="alarm"), given).evidence == FigureSeen(0.6, 3, "number")
    found = observe(gate("perplexity", direction="below", threshold=10), given).evidence
    assert found == PerplexitySeen(((4.0, 10.0), (8.0, 20.0)), 3)


def test_a_size_is_of_the_file_that_ships() -> None:
    line, given = gate("size_reduction", kind="point"), compared([prediction(0)])
    assert observe(line, given).evidence is None
    shipped = replace(given, sizes={"bytes": 300.0, "f16_bytes": 1000.0})
    seen = observe(line, shipped).evidence
    assert seen is not None and seen.value == pytest.approx(0.7)


@pytest.mark.parametrize("reference", ["over_base", "over_champion"])
def test_without_the_other_model_there_is_nothing_to_compare(reference: str) -> None:
    seen = observe(gate("correct", reference=reference), compared([prediction(0)]))
    assert seen.evidence is None and "to compare with" in seen.absent


def test_attacks_are_evidence_like_any_other_and_paired_by_probe() -> None:
    given = compared([prediction(0)], [prediction(0)])
    red_team = RedTeam(
        dataset_sha256="0",
        planted=0,
        roles={
            "challenger": attacked({"a": True, "b": False, "c": None, "d": True}),
            "champion": attacked({"a": True, "b": True, "c": True, "d": True}),
        },
    )
    probed = replace(given, red_team=red_team)
    seen = observe(gate("injection", "red_team"), probed)
    assert (seen.evidence, seen.champion) == (ShareSeen(2, 3), 1.0)
    pairs = observe(gate("injection", "red_team", reference="over_champion"), probed).evidence
    assert pairs == DifferenceSeen(0, 1, 3, ((-1, 3),))


@pytest.mark.parametrize(
    ("held", "metric", "evidence", "words"),
    [
        (None, "injection", None, "did not attack"),
        ({"a": True}, "canary", None, "nothing of this kind"),
        ({"a": None, "b": None}, "injection", ShareSeen(0, 0), "2 probes, and of none"),
    ],
)
def test_without_attacks_there_is_no_evidence(
    held: Mapping[str, bool | None] | None, metric: str, evidence: ShareSeen | None, words: str
) -> None:
    found = RedTeam(dataset_sha256="0", planted=0, roles={"challenger": attacked(held)}) if held else None
    seen = observe(gate(metric, "red_team"), replace(compared([prediction(0)]), red_team=found))
    assert seen.evidence == evidence
    assert words in seen.absent
