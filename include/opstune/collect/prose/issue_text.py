"""What people wrote about an incident: symptoms, alert, root cause, mitigation, steps, prevention, what was done.

Read out of a description and its comments as they are really written. What cannot be found is left out; what is
doubted ("Root cause (suspected)", "probably") is no root cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from opstune.collect.prose.action_text import Action, CommandRule, action_in, commands
from opstune.collect.prose.alert_text import alert_of
from opstune.collect.prose.markdown import Part, parts, plain, said
from opstune.collect.prose.query_text import boards, queries_in, query_of_link, readings
from opstune.skills.functions import NONE

#: Field → the titles that people give it. The last ones matter only because they end what stands before them.
_TITLES = {
    "symptoms": "symptom, symptoms, what happened, what happens, what we saw, observed, observation, observations, "
    "observed behavior, observed behaviour, problem, problem statement, what is broken",
    "impact": "impact, user impact, customer impact, business impact, affected, who is affected",
    "root_cause": "root cause, root causes, root cause analysis, rca, cause, causes, underlying cause, why, "
    "cause of the incident, cause of incident, why did it happen, why did this happen, why it happened, "
    "what caused it, what caused this, what was the cause, what went wrong, what was wrong",
    "mitigation": "mitigation, mitigations, resolution, fix, fixed by, resolved by, solution, remediation, workaround, "
    "how was it fixed, how it was fixed, how we fixed it, how was it resolved, what fixed it, recovery, action taken, "
    "actions taken, what we did, what was done, resolution and recovery",
    "resolution_steps": "steps, resolution steps, steps taken, steps to resolve, remediation steps, mitigation steps, "
    "fix steps, recovery steps, steps to fix, steps we took",
    "prevention": "prevention, preventive actions, preventive measures, preventative measures, follow-up, follow-ups, "
    "follow ups, followups, follow-up actions, action items, how to prevent, how do we prevent this, next steps, "
    "how do we prevent it, how can we prevent this, permanent fix, long-term fix, long term fix, prevent recurrence, "
    "preventing recurrence, corrective actions, to prevent this",
    "severity": "severity, sev, incident severity",
    "alert": "alert, alerts, alert name, alertname, firing alert, firing alerts, triggered by, monitor",
    "telemetry": "telemetry, metrics, signals, evidence, logs, log, readings, measurements",
    "query": "query, queries, diagnostic query, diagnosis, investigation, how to see it, how we found it",
    "manual_steps": "manual steps, what we did by hand, by hand, toil, manual procedure, manual runbook",
    "": "timeline, background, context, references, links, steps to reproduce, lessons learned, what went well, notes, "
    "owner, status, checklist, test plan, testing, screenshots, related",
}
_FIELD = {title: name for name, titles in _TITLES.items() for title in titles.split(", ")}
T = TypeVar("T", str, list[str])

#: Characters of one text.
_LONGEST = 1000
_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_SEVERITY = re.compile(r"(?i)\bsev(?:erity)?[-_ ]?([0-4])\b")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_DOUBT = re.compile(
    r"(?i)\b(?:probably|possibly|maybe|perhaps|might|may have|could (?:be|have)|suspect(?:ed|s)?|likely|not sure|unsure"
    r"|hypothesis|guess(?:ing)?|theory|unclear|not yet|we think|i think|seems? to)\b|\?\s*$"
)
_CAUSE = re.compile(
    r"(?i)^(?:and |so |ok,? |the |actual |real |confirmed:? )*(?:root cause|rca|cause|culprit)"
    r" (?:was|is|turned out to be)(?: that| indeed)?[: ]+(?P<said>(?!not\b).+)"
    r"|^(?:(?:this|it|that|the (?:incident|outage|alert|issue|problem))(?: was|'s)? )?caused by[: ]+(?P<more>.+)"
)
_FIXED = re.compile(
    r"(?i)^(?:(?:this|it|that) was )?(?P<said>(?:fixed|resolved|mitigated|solved)(?: it| this)? (?:by|with|via)\b.+)"
)


@dataclass(frozen=True)
class Comment:
    """One comment, oldest first in a list. What a bot says about causes is nobody's finding. ``at`` is ISO 8601."""

    body: str
    by_person: bool = True
    at: str = ""


def read_text(
    title: str, description: str, comments: Sequence[Comment], links: Sequence[str], rules: Sequence[CommandRule]
) -> dict[str, Any]:
    """The fields that a text tells, each only where it does.

    Texts: ``alert, alert_url, root_cause, mitigation, prevention, impact, severity, query, function, outcome,
    acted_at`` (of the comment that names the function);
    lists of texts: ``symptoms, resolution_steps, manual_steps, queries, telemetry_links``; mappings:
    ``alert_labels, telemetry, parameters``. A later comment wins over an earlier one, and all of them over the
    description. ``links`` are attached URLs, ``rules`` read commands.
    """
    own, others = _Text(description), [_Text(comment.body) for comment in comments]
    told = [own, *(text for text, comment in zip(others, comments, strict=True) if comment.by_person)]
    newest = [*told[:0:-1], own]
    whole = [description, *(comment.body for comment in comments)]
    urls = list(dict.fromkeys([*links, *(url.rstrip(".,;") for text in whole for url in _URL.findall(text))]))
    alert = alert_of(title, whole, [part for text in told for part in text.of("alert")], urls)
    steps = _first(newest, _Text.steps)
    queries = [query for text in told for query in queries_in(text.parts)] + [query_of_link(url) for url in urls]
    found = {
        "alert": alert.name,
        "alert_labels": dict(alert.labels),
        "alert_url": alert.url,
        "symptoms": _first(told, lambda text: text.listed("symptoms")),
        "impact": _first(told, lambda text: text.whole("impact")),
        "root_cause": _first(newest, _Text.cause) or _first(newest, _Text.cause_in_prose),
        "mitigation": _first(newest, _Text.mitigation) or "; ".join(steps)[:_LONGEST],
        "prevention": _first(newest, lambda text: text.whole("prevention")),
        "severity": _first(newest, _Text.severity) or _written(_SEVERITY.search(title)),
        "resolution_steps": steps,
        "manual_steps": _first(told, lambda text: text.listed("manual_steps")),
        "telemetry": readings(part for text in told for part in text.of("telemetry")),
        "telemetry_links": boards(urls),
        "queries": list(dict.fromkeys(filter(None, queries))),
        "query": _first(newest, _Text.query),
    }
    found = {name: value for name, value in found.items() if value}
    return {**found, **_acted(own, list(zip(others, comments, strict=True)), rules)}


class _Text:
    """One text and its parts."""

    def __init__(self, text: str) -> None:
        self.parts = parts(text, _FIELD)
        self._titled = [(_FIELD[part.title], part) for part in self.parts if part.title in _FIELD]

    def of(self, *names: str) -> list[Part]:
        return [part for field, part in self._titled if field in names]

    def whole(self, name: str) -> str:
        """All that a field says, on one line; of a list with boxes also what is not ticked."""
        told = [_whole(part) for part in self.of(name)]
        return "; ".join(filter(None, told))[:_LONGEST]

    def listed(self, name: str) -> list[str]:
        """The items of a field, those not ticked left out, or its text as the only one."""
        found = [_items(part) or ([_prose(part)] if _prose(part) else []) for part in self.of(name)]
        return [item for items in found for item in items]

    def cause(self) -> str:
        told = self.whole("root_cause")
        return "" if _DOUBT.search(_SENTENCE.split(told)[0]) else told

    def cause_in_prose(self) -> str:
        """Of several sentences the last: people correct themselves."""
        return next(reversed(_sentences(self.parts, _CAUSE)), "")

    def mitigation(self) -> str:
        return self.whole("mitigation") or next(reversed(_sentences(self.parts, _FIXED)), "")

    def steps(self) -> list[str]:
        own = self.listed("resolution_steps") or [item for part in self.of("mitigation") for item in _items(part)]
        return own or commands([fence for part in self.of("resolution_steps", "mitigation") for fence in part.fences])

    def severity(self) -> str:
        told = self.whole("severity")
        return _written(_SEVERITY.search(told) or re.match(r"\W*([0-4])\b", told)) or told.lower()

    def query(self) -> str:
        """The query of the diagnosis; of a text that tells the cause, any."""
        own = queries_in(self.of("query", "root_cause"))
        return next(iter(own or (queries_in(self.parts) if self.cause() or self.cause_in_prose() else [])), "")

    def action(self, names: Sequence[str], rules: Sequence[CommandRule]) -> Action | None:
        """What was done, in the parts of these fields; in the whole text without any."""
        told = self.of(*names) if names else self.parts
        text = "\n".join(line for part in told for line in (part.text, *(item.text for item in part.items)))
        return action_in(text, [fence for part in told for fence in part.fences], rules)


def _acted(
    description: _Text, comments: Sequence[tuple[_Text, Comment]], rules: Sequence[CommandRule]
) -> dict[str, Any]:
    """The newest action that helped, else the newest one; that none was needed only where a person says so."""
    own = description.action(("mitigation", "resolution_steps"), rules)
    told = [(text.action((), rules), comment) for text, comment in reversed(comments)]
    newest = [(action, comment) for action, comment in [*told, (own, Comment(""))] if action]
    done = [one for one in newest if one[0].function != NONE]
    idle = [one for one in newest if one[0].function == NONE and one[1].by_person]
    helped = [one for one in done if one[0].outcome == "success"]
    for action, comment in [*helped, *done, *idle]:
        return {**action._asdict(), **({"acted_at": comment.at} if comment.at else {})}
    return {}


def _first(texts: Iterable[_Text], tell: Callable[[_Text], T]) -> T:
    told = [tell(text) for text in texts]
    return next(filter(None, told), told[0])


def _items(part: Part) -> list[str]:
    """The items of a list; of one with boxes those that are ticked."""
    boxed = any(item.done is not None for item in part.items)
    found = [said(item.text) for item in part.items if item.done or not boxed]
    return [text for text in found if text]


def _prose(part: Part) -> str:
    """The paragraphs on one line, without those that only fill their place."""
    return " ".join(filter(None, map(said, part.text.split("\n\n"))))[:_LONGEST]


def _whole(part: Part) -> str:
    items = filter(None, (said(item.text) for item in part.items))
    return " ".join(filter(None, (_prose(part), "; ".join(items))))


def _sentences(told: Iterable[Part], form: re.Pattern[str]) -> list[str]:
    """What follows the form in sentences that begin with it, doubted ones left out."""
    found = []
    for part in told:
        for line in [*part.text.splitlines(), *(item.text for item in part.items)]:
            for sentence in _SENTENCE.split(plain(line)):
                match = form.match(sentence)
                if match and not _DOUBT.search(sentence):
                    text = next(filter(None, match.groupdict().values()))
                    found.append(said(text.rstrip(". !")))
    return [text for text in found if text]


def _written(level: re.Match[str] | None) -> str:
    return f"SEV-{level[1]}" if level else ""
