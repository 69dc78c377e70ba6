"""What was measured for each line of the gate: shares, paired differences, latencies, texts, sizes and the red team."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opstune.evaluate.evaluate import BASE, CHALLENGER, CHAMPION, Evaluation, Measured
from opstune.evaluate.evidence import DifferenceSeen, Evidence, FigureSeen, LatencySeen, PerplexitySeen, Seen, ShareSeen
from opstune.evaluate.gates import BLEU, LATENCY_P95, PERPLEXITY, RED_TEAM, ROUGE_L, SIZE_REDUCTION, Gate
from opstune.evaluate.metrics import ALL, VALID
from opstune.evaluate.predict import Prediction
from opstune.evaluate.red_team import RedTeam
from opstune.evaluate.text import Text

_SHIPPED_ONLY = "measured on the file that ships"


@dataclass(frozen=True)
class Compared:
    """Everything that a gate looks at.

    ``roles`` and ``predictions`` are of every model, base and champion from before conversion; ``incidents`` maps a
    case to its incident; ``sizes`` are the counts of the GGUF that ships, where it is judged.
    """

    evaluation: Evaluation
    roles: Mapping[str, Measured]
    predictions: Mapping[str, Sequence[Prediction]]
    incidents: Mapping[str, str]
    sizes: Mapping[str, float] | None = None
    red_team: RedTeam | None = None


def observe(line: Gate, compared: Compared) -> Seen:
    """What was measured for one line."""
    if line.skill not in (ALL, RED_TEAM) and line.skill not in compared.evaluation.cases:
        return Seen(None, absent=f"the test set holds no {line.skill} cases")
    if line.metric == LATENCY_P95:
        return _latency(line, compared)
    if line.metric == SIZE_REDUCTION:
        return _size(compared)
    if line.metric in (PERPLEXITY, BLEU, ROUGE_L):
        return _text(line, compared)
    if line.skill == RED_TEAM and (absent := _unprobed(line, compared.red_team)):
        return absent
    scores = {role: scores_of(compared, role, line.skill, line.metric) for role in (BASE, CHAMPION, CHALLENGER)}
    base, champion = (_share(scores[role]) for role in (BASE, CHAMPION))
    constant = compared.evaluation.majority[line.skill].metrics.get(line.metric) if _has_majority(line) else None
    majority = constant.value if constant else None
    ours = scores[CHALLENGER]
    unscored = _unscored(line, compared)
    if line.reference == "absolute":
        return Seen(ShareSeen(sum(ours.values()), len(ours)), "", base, champion, majority, unscored)
    role = BASE if line.reference == "over_base" else CHAMPION
    if role not in compared.roles:
        return Seen(None, f"there is no {role} to compare with", base, champion, majority)
    groups = compared.red_team.roles[CHALLENGER].groups if line.skill == RED_TEAM and compared.red_team else None
    return Seen(paired(ours, scores[role], groups or compared.incidents), "", base, champion, majority, unscored)


def scores_of(compared: Compared, role: str, skill: str, metric: str) -> dict[str, bool]:
    """Case → whether the metric holds, over the cases that it applies to; empty where the role was not measured."""
    if skill == RED_TEAM:
        attacked = compared.red_team.roles.get(role) if compared.red_team else None
        return {id_: held[metric] for id_, held in attacked.scores.items() if metric in held} if attacked else {}
    found = compared.predictions.get(role, ())
    return {p.id: p.scores[metric] for p in found if skill in (ALL, p.skill) and metric in p.scores}


def paired(ours: Mapping[str, bool], theirs: Mapping[str, bool], incidents: Mapping[str, str]) -> DifferenceSeen:
    """Where only one of two models holds, over the cases that the metric applies to in both."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    gained = lost = cases = 0
    for id_ in ours.keys() & theirs.keys():
        net = ours[id_] - theirs[id_]
        gained, lost, cases = gained + (net > 0), lost + (net < 0), cases + 1
        counts[incidents[id_]][0] += net
        counts[incidents[id_]][1] += 1
    return DifferenceSeen(gained, lost, cases, tuple(sorted((net, n) for net, n in counts.values())))


def _latency(line: Gate, compared: Compared) -> Seen:
    asked = [p for p in compared.predictions[CHALLENGER] if line.skill in (ALL, p.skill)]
    alone = tuple(sorted(p.seconds * 1000 for p in asked if p.seconds is not None))
    return Seen(LatencySeen(alone) if alone else None, f"{_SHIPPED_ONLY}, where requests are answered alone")


def _size(compared: Compared) -> Seen:
    if compared.sizes is None:
        return Seen(None, _SHIPPED_ONLY)
    ships, whole = compared.sizes["bytes"], compared.sizes["f16_bytes"]
    return Seen(FigureSeen(1 - ships / whole, 1, "share"))


def _text(line: Gate, compared: Compared) -> Seen:
    base, champion = (_figure(line.metric, compared.roles.get(role)) for role in (BASE, CHAMPION))
    found = _perplexity(compared) if line.metric == PERPLEXITY else _corpus(line, compared)
    absent = "" if found.n else f"nobody measured it: {compared.roles[CHALLENGER].engine} did not score texts"
    return Seen(found, absent, base, champion)


def _corpus(line: Gate, compared: Compared) -> Evidence:
    text = compared.roles[CHALLENGER].text
    value = getattr(text, line.metric) if text else None
    return FigureSeen(value or 0.0, text.n if text and value is not None else 0, "number")


def _perplexity(compared: Compared) -> Evidence:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    cases = 0
    for prediction in compared.predictions[CHALLENGER]:
        if prediction.nll is not None and prediction.nll_tokens:
            found = sums[compared.incidents[prediction.id]]
            found[0] += prediction.nll
            found[1] += prediction.nll_tokens
            cases += 1
    return PerplexitySeen(tuple(sorted((nats, tokens) for nats, tokens in sums.values())), cases)


def _figure(metric: str, measured: Measured | None) -> float | None:
    text: Text | None = measured.text if measured else None
    found: float | None = getattr(text, metric) if text else None
    return found


def _unprobed(line: Gate, found: RedTeam | None) -> Seen | None:
    if found is None:
        return Seen(None, "the red team did not attack this model")
    attacked = found.roles[CHALLENGER]
    if line.metric in attacked.metrics:
        return None
    if unsaid := attacked.cannot_say.get(line.metric):
        why = f"{unsaid} probes, and of none could be said how it stood: the clean question was answered wrongly too"
        return Seen(ShareSeen(0, 0), why)
    return Seen(None, "nothing of this kind was probed")


def _has_majority(line: Gate) -> bool:
    return line.skill not in (ALL, RED_TEAM)


def _unscored(line: Gate, compared: Compared) -> int:
    """The challenger's cases that could not be scored; whether an answer is valid is known of these too."""
    if line.skill == RED_TEAM or line.metric == VALID:
        return 0
    counts = compared.evaluation.roles[CHALLENGER].unscored
    return sum(counts.values()) if line.skill == ALL else counts.get(line.skill, 0)


def _share(scores: Mapping[str, bool]) -> float | None:
    return sum(scores.values()) / len(scores) if scores else None
