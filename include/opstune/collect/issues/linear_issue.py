"""A completed Linear issue as a raw record: what Linear knows of it, and what its text tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from opstune.collect.prose.action_text import CommandRule
from opstune.collect.prose.issue_text import Comment, read_text
from opstune.collect.rules import Moment

T = TypeVar("T")

#: Values without an own meaning in Linear: no priority.
_NO_PRIORITY = 0


class _Node(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Page(_Node):
    has_next_page: bool
    end_cursor: str | None = None


class Connection(_Node, Generic[T]):
    nodes: list[T]
    page_info: Page


def _name(value: Any) -> Any:
    """Of an object that is asked for its name alone, the name."""
    return next(iter(value.values()), None) if isinstance(value, Mapping) else value


Name = Annotated[str, BeforeValidator(_name)]


class Attachment(_Node):
    title: str = ""
    url: str
    source_type: str | None = None


class Note(_Node):
    """A comment as Linear gives it. ``external_user`` wrote it in Slack or the like."""

    body: str
    created_at: Moment
    user: Name | None = None
    external_user: Name | None = None
    bot_actor: Name | None = None


class Change(_Node):
    created_at: Moment
    actor: Name | None = None
    from_state: Name | None = None
    to_state: Name | None = None


class Issue(_Node):
    id: str
    identifier: str
    title: str
    description: str | None = None
    url: str = ""
    priority: float = _NO_PRIORITY
    priority_label: str = ""
    created_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None
    archived_at: Moment | None = None
    updated_at: Moment
    state: Name
    team: Name
    assignee: Name | None = None
    parent: str | None = Field(None, validation_alias=AliasPath("parent", "identifier"))
    labels: Connection[Name]
    attachments: Connection[Attachment]
    comments: Connection[Note]
    history: Connection[Change]


def record(issue: Issue, severities: Mapping[str, str], rules: Sequence[CommandRule]) -> dict[str, Any]:
    """The record: ``read_text``'s fields beside Linear's own, of which those without a value are left out.

    ``severities`` maps labels, written severities and Linear's priorities to levels, by their lower-case text, and a
    label goes before a text, a text before the priority. ``incident`` is the parent's identifier where there is one.
    ``symptoms`` are the title where the text names none, since that is what was known first; ``acted_at`` is when
    the issue was completed where no comment tells what was done.
    """
    notes = sorted(issue.comments.nodes, key=lambda note: note.created_at)
    comments = [Comment(note.body, _by_person(note), note.created_at.isoformat()) for note in notes]
    links = [attachment.url for attachment in issue.attachments.nodes]
    told = read_text(issue.title, issue.description or "", comments, links, rules)
    labels = list(issue.labels.nodes)
    priority = issue.priority_label if issue.priority != _NO_PRIORITY else ""
    rated = [severities.get(text.lower(), "") for text in (*labels, told.pop("severity", ""), priority)]
    found = {
        "id": issue.id,
        "identifier": issue.identifier,
        "incident": issue.parent or issue.identifier,
        "title": issue.title,
        "description": issue.description,
        "url": issue.url,
        "priority_label": priority,
        "severity": next(filter(None, rated), ""),
        "state": issue.state,
        "team": issue.team,
        "assignee": issue.assignee,
        "labels": labels,
        "created_at": issue.created_at.isoformat(),
        "started_at": issue.started_at and issue.started_at.isoformat(),
        "completed_at": issue.completed_at and issue.completed_at.isoformat(),
        "archived_at": issue.archived_at and issue.archived_at.isoformat(),
        "updated_at": issue.updated_at.isoformat(),
        "attachments": [attachment.model_dump(exclude_none=True) for attachment in issue.attachments.nodes],
        "comments": [_comment(note) for note in notes],
        "history": [_change(change) for change in sorted(issue.history.nodes, key=lambda one: one.created_at)],
        "reopened": _reopened(issue),
        "symptoms": [issue.title],
        "acted_at": issue.completed_at and issue.completed_at.isoformat(),
        **told,
    }
    return {name: value for name, value in found.items() if value not in (None, "", [], {}) or name == "parameters"}


def _by_person(note: Note) -> bool:
    return note.bot_actor is None and bool(note.user or note.external_user)


def _comment(note: Note) -> dict[str, Any]:
    by = note.user or note.external_user or note.bot_actor
    return {"at": note.created_at.isoformat(), "by": by, "person": _by_person(note), "body": note.body}


def _change(change: Change) -> dict[str, Any]:
    told = {"by": change.actor, "from": change.from_state, "to": change.to_state}
    return {"at": change.created_at.isoformat(), **{name: value for name, value in told.items() if value}}


def _reopened(issue: Issue) -> bool | None:
    """Whether it left the state that it is completed in after it had reached it: then the first fix was none."""
    return any(change.from_state == issue.state for change in issue.history.nodes) or None
