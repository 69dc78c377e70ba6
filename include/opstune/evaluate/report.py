"""The report of a gate: what it saw as one JSON document, and the same as one HTML page that one would show to a boss.

The page is self-contained: no script, no font, no picture from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.evaluate import report_cases, report_slices
from opstune.evaluate.champion import Broken
from opstune.evaluate.evaluate import CHALLENGER, CHAMPION, ROLES, Evaluation, Measured
from opstune.evaluate.figures import points_told, share_told
from opstune.evaluate.gates import LATENCY_P95
from opstune.evaluate.lines import Line, Verdict
from opstune.evaluate.metrics import ALL, VALID, Share
from opstune.evaluate.observing import Compared
from opstune.evaluate.wording import asked, name, other_told, told
from opstune.examples import Example

_EMBEDDED_BASE = "tiny-ops"
_TITLES = {"promote": "Promoted", "reject": "Rejected", "insufficient_data": "Cannot say"}
_STATUS_WORDS = {"undecided": "cannot say"}
#: What stopped a model stands above what it passed.
_FIRST = ("failed", "undecided", "alarm", "passed", "not_applicable")
_WORDS = {"not_worse": "not worse", "cannot_say": "cannot say"}


@dataclass(frozen=True)
class Material:
    """What a report is made of. ``shipped``: this is the second gate, on the file that ships."""

    verdict: Verdict
    compared: Compared
    examples: Sequence[Example]
    broken: Sequence[Broken]
    lineage: Sequence[Ref]
    shipped: bool


def contents(material: Material) -> dict[str, Any]:
    """Everything that the page shows, and all newly broken cases; plain values that JSON can hold."""
    verdict, compared = material.verdict, material.compared
    evaluation, roles = compared.evaluation, compared.roles
    predictions, examples = compared.predictions[CHALLENGER], material.examples
    latency = evaluation.roles[CHALLENGER].latency
    return {
        "verdict": verdict.verdict,
        "title": _TITLES[verdict.verdict],
        "sentence": verdict.sentence,
        "decision": verdict.sentence.removesuffix(verdict.champion.sentence).strip()
        if verdict.champion
        else verdict.sentence,
        "shipped": material.shipped,
        "embedded": any(_EMBEDDED_BASE in role.engine for role in roles.values()),
        "cases": evaluation.cases,
        "incidents": len(set(compared.incidents.values())),
        "overall": _overall(roles),
        "unscored": sum(evaluation.roles[CHALLENGER].unscored.values()),
        "majority": _majority(evaluation),
        "latency": latency.model_dump() if latency else None,
        "lines": [_line(line) for line in verdict.applying],
        "not_applying": [
            {"name": name(line), "why": line.reason}
            for line in verdict.lines
            if line.passed is None and line.status == "not_applicable"
        ],
        "champion": _champion(material),
        "red_team": report_cases.red_team(compared.red_team),
        "models": [_model(role, roles[role], compared) for role in ROLES if role in roles],
        "sizes": dict(compared.sizes) if compared.sizes else None,
        "decoding": _decoding(roles),
        "confusion": report_slices.confusion(evaluation.roles[CHALLENGER].confusion),
        "root_causes": evaluation.roles[CHALLENGER].root_causes,
        "slices": report_slices.slices(examples, predictions),
        "histogram": report_slices.histogram(
            [p.seconds * 1000 for p in predictions if p.seconds is not None], _limit(verdict)
        ),
        "worst": report_cases.worst(examples, predictions),
        "lineage": [_ancestor(ref) for ref in material.lineage],
    }


def render(document: Mapping[str, Any]) -> str:
    """The page of what ``contents`` gathered."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent,
        points=points_told,
        words=_words,
        megabytes=_megabytes,
        capitalize_first=_capitalize_first,
        visible=report_cases.visible,
    )
    return environment.get_template("report.html.j2").render(document)


def _percent(share: float | None) -> str:
    return share_told(share).replace(" ", "\u00a0")


def _words(text: object) -> str:
    return str(text).replace("_", " ")


def _megabytes(count: float | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _overall(roles: Mapping[str, Measured]) -> dict[str, Any]:
    """Right answers of each model, where any could be scored."""
    found = {role: roles[role].metrics.get(ALL, {}).get("correct") for role in ROLES if role in roles}
    return {role: right.model_dump() for role, right in found.items() if right}


def _majority(evaluation: Evaluation) -> float | None:
    """What the commonest answer of each skill reaches, over all that could be scored; none where nothing could."""
    found = [one.metrics["correct"] for one in evaluation.majority.values() if "correct" in one.metrics]
    return sum(one.k for one in found) / sum(one.n for one in found) if found else None


def _limit(verdict: Verdict) -> float | None:
    """The milliseconds that the gate allows, where a line is about them."""
    return next((line.threshold for line in verdict.lines if line.metric == LATENCY_P95), None)


def _line(line: Line) -> dict[str, Any]:
    """A line with its numbers, and beside them as they are told."""
    return {
        **line.model_dump(),
        "name": name(line),
        "asked": asked(line) + (f" ({share_told(line.base)})" if line.reference == "over_tested" else ""),
        "status_words": _STATUS_WORDS.get(line.status, line.status),
        "rank": _FIRST.index(line.status),
        "told": {
            "n": f"{line.n:,}" if line.n > 1 else "–",
            "value": told(line, line.value),
            "bound": told(line, line.bound),
            "base": other_told(line, line.base) if line.reference != "over_tested" else "–",
            "champion": other_told(line, line.champion),
            "majority": share_told(line.majority),
        },
        "plot": _plot(line),
    }


def _plot(line: Line) -> dict[str, float] | None:
    """Where value, bound and threshold lie on a scale of 0 to 100 with the threshold in its middle."""
    if line.value is None:
        return None
    middle, bound = line.threshold, line.value if line.bound is None else line.bound
    room = max(min(middle, 1 - middle), 0.02)
    if line.unit in ("milliseconds", "number"):
        room = middle
    elif line.unit == "difference":
        room = max(0.05, *(abs(x - middle) for x in (line.value, bound)))
    low, high = middle - room, middle + room

    def place(x: float) -> float:
        return round(100 * min(1.0, max(0.0, (x - low) / (high - low))), 2)

    start, end = sorted((place(bound), place(line.value)))
    good_from = 50.0 if line.direction == "above" else 0.0
    return {"value": place(line.value), "from": start, "to": end, "good_from": good_from}


def _champion(material: Material) -> dict[str, Any] | None:
    """The comparison with the champion, in words and skill by skill, and every case that broke."""
    found = material.verdict.champion
    if found is None:
        return None
    return {
        "word": found.word,
        "words": _WORDS.get(found.word, found.word),
        "sentence": found.sentence,
        "comparisons": [
            {**one.model_dump(), "words": _WORDS.get(one.word, one.word)} for one in found.comparisons if one.n
        ],
        "broken": [case.model_dump() for case in material.broken],
    }


def _model(role: str, measured: Measured, compared: Compared) -> dict[str, Any]:
    """One row of what each model costs and how its texts compare."""
    text, resources = measured.text, measured.resources
    size = compared.sizes["bytes"] if compared.sizes and role == CHALLENGER else resources.disk_bytes
    return {
        "role": role,
        "engine": measured.engine,
        "bytes": size,
        "memory_mb": resources.memory_mb,
        "cases_per_second": measured.cases_per_second,
        "seconds": measured.seconds,
        "perplexity": text.perplexity if text else None,
        "bleu": text.bleu if text else None,
        "rouge_l": text.rouge_l if text else None,
    }


def _decoding(roles: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """With and without the schema, on the same sampled cases."""
    return [
        {
            "role": role,
            "skill": skill,
            "metric": metric,
            "n": free.n,
            "free": free.value,
            "constrained": _value(measured.constrained_sample[skill].get(metric)),
        }
        for role, measured in roles.items()
        if role != CHAMPION
        for skill, metrics in sorted(measured.free.items(), key=lambda item: item[0] != ALL)
        for metric, free in metrics.items()
        if metric in (("correct", VALID) if skill == ALL else ("correct", "parameters"))
    ]


def _value(found: Share | None) -> float | None:
    return found.value if found else None


def _ancestor(ref: Ref) -> dict[str, Any]:
    """One stage in the line: what it holds and with what it was made; no path of the machine."""
    manifest = ref.manifest if artifacts.find(ref.path) else {}
    counts = [f"{key} {value:g}" for key, value in ref.counts.items() if "." not in key]
    return {
        "kind": ref.kind,
        "sha256": ref.sha256,
        "counts": ", ".join(counts[:6]),
        "revision": manifest.get("git_revision", "files are gone"),
        "seconds": manifest.get("seconds"),
    }
