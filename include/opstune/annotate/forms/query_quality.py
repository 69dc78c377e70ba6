"""Query quality: whether a diagnosis' query may be taught, three ratings of it, and a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opstune.annotate.forms.base import CANNOT_SAY, Choice, Given, Json, Reading, case_of, written
from opstune.examples import Example
from opstune.skills.diagnosis import normalised, same_cause

_AS_IT_IS, _IMPROVED = "as it is", "improved"
_RATINGS = ("relevance", "efficiency", "completeness")


class QueryQuality:
    """The label is the verdict; two improved queries are the same when their tokens are.

    The three ratings are of the query that was shown: their mean, rounded down, rates the example
    only where the query stays.
    """

    name = "query_quality"
    skill = "diagnosis"

    def catalogues(self) -> dict[str, Sequence[Choice]]:
        return {}

    def shown(self, example: Example) -> Json:
        symptoms = example.context.get("symptoms") or ("",)
        return {"case": case_of(example), "title": str(symptoms if isinstance(symptoms, str) else symptoms[0])}

    def prefilled(self, answer: Mapping[str, Any], example: Example) -> list[Json]:
        query, cause = str(answer.get("query") or ""), str(answer.get("root_cause") or "")
        return [*written("query", query), *written("cause", cause)]

    def read(self, given: Given, proposal: Mapping[str, Any], example: Example) -> Reading:
        verdict = given.choice("verdict")
        if verdict == CANNOT_SAY:
            return Reading(CANNOT_SAY)
        if verdict not in (_AS_IT_IS, _IMPROVED):
            return Reading(fault="nothing was chosen")
        known, cause = str(proposal.get("query") or ""), str(proposal.get("root_cause") or "")
        query = known if verdict == _AS_IT_IS else given.text("query")
        cause = cause if verdict == _AS_IT_IS else given.text("cause") or cause
        if not query:
            return Reading(fault=f"the verdict is {verdict!r}, and there is no query")
        if not cause:
            return Reading(fault="no root cause was shown or written")
        stars = {name: rating for name in _RATINGS if (rating := given.stars(name))}
        rating = sum(stars.values()) // len(stars) if stars and verdict == _AS_IT_IS else None
        notes = "; ".join(filter(None, (", ".join(given.choices("issues")), given.text("evidence"))))
        return Reading(verdict, {**proposal, "root_cause": cause, "query": query}, rating, notes, ratings=stars or None)

    def same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return normalised(one["query"]) == normalised(other["query"]) and same_cause(
            one["root_cause"], other["root_cause"]
        )
