"""Label Studio through its SDK, carried by opstune's own HTTP client: patience, time limits and faults are the same as
everywhere.

What changes something is sent once: a request whose answer was lost may have been obeyed, so the next run looks first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import httpx

from opstune.errors import AccessDenied, ConfigError, DataError, ServiceDown
from opstune.http import Http
from opstune.settings import Connection, Patience

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

NAME = "Label Studio"
#: The one model version of all predictions: the project shows those of one version only.
MODEL_VERSION = "opstune"
_PAGE = 500
_SAFE = ("GET", "HEAD")
_PASSED = ("headers", "params", "json", "data", "content", "files")
_CHECK = "Check that the address is Label Studio's own and which version it is."
_ANNOTATED = {
    "conjunction": "or",
    "items": [
        {"filter": f"filter:tasks:{count}", "operator": "greater", "type": "Number", "value": 0}
        for count in ("total_annotations", "cancelled_annotations")
    ],
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Project:
    id: int
    title: str
    page: str


@dataclass(frozen=True)
class Annotation:
    """One annotation. ``at`` is when it last changed, by the server's clock; skipping is one too: ``cancelled``."""

    id: int
    by: int
    at: str
    cancelled: bool
    result: Sequence[Json]


@dataclass(frozen=True)
class Task:
    """``overlap`` is how many people are asked; the task is ``done`` when so many have answered or skipped it."""

    id: int
    data: Json
    annotated: int
    done: bool
    overlap: int
    annotations: Sequence[Annotation] = field(default=())


class Server:
    """One Label Studio. Every method raises ServiceDown, Throttled, AccessDenied or ConfigError as Http does, and
    DataError where an answer has another form than this version's."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        """
        Raises:
            ConfigError: the connection has no token.
        """
        if not connection.token:
            todo = "Put a personal access token into the connection's password, and leave its login empty."
            raise ConfigError(f"the connection to {NAME} has no token", connection.address, todo)
        self._patient = Http(NAME, connection, patience)
        self._once = Http(NAME, connection, patience.model_copy(update={"attempts": 1}))
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._patient.__exit__(None, None, None)
        self._once.__exit__(None, None, None)

    @cached_property
    def _sdk(self) -> LabelStudio:
        from label_studio_sdk import LabelStudio  # half a second, and only where the connection is there

        return LabelStudio(  # type: ignore[no-untyped-call]
            base_url=self._connection.address.rstrip("/"),
            api_key=self._connection.token,
            httpx_client=_Carrier(self._patient, self._once),
            max_retries=0,
        )

    def project(self, title: str) -> Project | None:
        """The project of exactly this title; of several the oldest."""
        with _told():
            # The filter is by part of a title, and one page of the others could hide the one that is meant.
            found = [project for page in self._projects(title) for project in page if project.title == title]
            oldest = min(found, key=lambda project: int(project.id), default=None)
            return _project(self._sdk.projects.get(oldest.id)) if oldest else None

    def create(self, title: str, page: str, instruction: str, annotators: int, shared: float) -> Project:
        """A new project in which a ``shared`` part of the tasks is asked of ``annotators`` people, the rest of one."""
        with _told():
            return _project(
                self._sdk.projects.create(
                    title=title,
                    label_config=page,
                    expert_instruction=instruction,
                    show_instruction=True,
                    maximum_annotations=annotators,
                    overlap_cohort_percentage=round(100 * shared),
                    skip_queue="IGNORE_SKIPPED",
                    show_collab_predictions=True,
                    model_version=MODEL_VERSION,
                )
            )

    def change_page(self, project: int, page: str) -> None:
        with _told():
            self._sdk.projects.update(id=project, label_config=page)

    def tasks(self, project: int) -> list[Task]:
        """Every task of a project, without its annotations."""
        include = "id,data,total_annotations,cancelled_annotations,is_labeled,overlap"
        return list(self._listed(project, fields="task_only", include=include))

    def annotated(self, project: int) -> list[Task]:
        """The tasks that somebody annotated or skipped, with all annotations."""
        query = json.dumps({"filters": _ANNOTATED})
        return list(self._listed(project, fields="all", query=query))

    def annotations(self, task: int) -> list[Annotation]:
        """All annotations of one task."""
        with _told():
            return [_annotation(annotation.model_dump()) for annotation in self._sdk.annotations.list(id=task)]

    def add(self, project: int, tasks: Sequence[Json]) -> None:
        """New tasks: each ``{data, predictions}``."""
        with _told():
            wanted: Any = tasks
            self._sdk.projects.import_tasks(id=project, request=wanted, return_task_ids=False)

    def change(self, task: int, data: Json, overlap: int | None = None, done: bool | None = None) -> None:
        """Give a task other data, and ask other numbers of people."""
        asked: Json = {"overlap": overlap, "is_labeled": done}
        with _told():
            self._sdk.tasks.update(
                id=str(task), data=data, **{key: value for key, value in asked.items() if value is not None}
            )

    def predict(self, task: int, result: Sequence[Json]) -> None:
        """Replace the prediction of a task."""
        with _told():
            for standing in self._sdk.predictions.list(task=task):
                self._sdk.predictions.delete(standing.id)
            self._sdk.predictions.create(task=task, result=list(result), model_version=MODEL_VERSION)

    def remove(self, task: int) -> None:
        with _told():
            self._sdk.tasks.delete(id=str(task))

    def people(self) -> dict[int, str]:
        """User id → e-mail address, or the name where there is none."""
        with _told():
            users = self._sdk.users.list()
            return {int(user.id): user.email or user.username for user in users if user.id is not None}

    def counts(self, project: int) -> tuple[int, int]:
        """How many tasks are done (answered or skipped by as many people as were asked), of how many."""
        with _told():
            found = self._sdk.projects.get(project)
            return int(found.finished_task_number or 0), int(found.task_number or 0)

    def _projects(self, title: str) -> Iterator[Sequence[Any]]:
        page, seen = 1, 0
        while True:
            answer: Any = self._sdk.projects.list(title=title, page=page, page_size=_PAGE)
            total = _total(answer.response.count, answer.items)
            seen, page = seen + len(answer.items or ()), page + 1
            yield answer.items or ()
            if seen >= total or not answer.items:
                return

    def _listed(self, project: int, **asked: Any) -> Iterator[Task]:
        """Page by page. The SDK's own iterator takes a 404 for the end of the list; here a short list is a fault,
        because tasks that are not seen would be imported again."""
        page, seen, total = 1, 0, 1
        with _told():
            while seen < total:
                answer: Any = self._sdk.tasks.list(project=project, page=page, page_size=_PAGE, **asked)
                total = _total(answer.response.total, answer.items)
                if not answer.items and seen < total:
                    what = f"{NAME} lists {seen} tasks of project {project} and says that there are {total}"
                    raise ServiceDown(what, self._connection.address, "The next run asks again.")
                yield from map(_task, answer.items)
                seen, page = seen + len(answer.items or ()), page + 1


class _Carrier(httpx.Client):
    """What the SDK takes for its connection: every request goes through Http, changes only once."""

    def __init__(self, patient: Http, once: Http) -> None:
        super().__init__(trust_env=False)
        self._by_patient, self._by_once = patient, once

    def request(self, method: str, url: Any, **request: Any) -> httpx.Response:
        http = self._by_patient if method in _SAFE else self._by_once
        kept = {name: request[name] for name in _PASSED if request.get(name) is not None}
        response = http.send(method, str(url), **kept)
        if response.content or method in _SAFE:
            _check_json(response)
        return response


def _check_json(response: httpx.Response) -> None:
    try:
        json.loads(response.content)
    except ValueError as error:
        url = response.request.url.copy_with(query=None)
        what = f"{NAME} answers with something that is not JSON: {response.text[:200]!r}"
        raise ServiceDown(what, f"{response.request.method} {url}", f"{_CHECK} The next run asks again.") from error


@contextmanager
def _told() -> Iterator[None]:
    """The SDK's own complaints in our words; what Http raises passes through."""
    from label_studio_sdk.core.api_error import ApiError

    try:
        yield
    except ApiError as error:
        if error.status_code == 401:
            todo = "Make a new personal access token and put it into the connection's password."
            raise AccessDenied(f"the token for {NAME} is not valid any more: {error.body}", NAME, todo) from error
        raise ServiceDown(f"{NAME} answers with HTTP {error.status_code}: {error.body}", NAME, _CHECK) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{NAME} answers in a form that opstune does not know: {error}", NAME, _CHECK) from error


def _total(told: Any, items: Any) -> int:
    """The number of all entries; TypeError where the answer is no page of a list."""
    if not isinstance(told, int) or not isinstance(items, list):
        raise TypeError("there is no list and no number of its entries")
    return told


def _project(found: Any) -> Project:
    return Project(int(found.id), str(found.title), str(found.label_config))


def _task(found: Any) -> Task:
    given = [one if isinstance(one, Mapping) else one.model_dump() for one in found.annotations or ()]
    return Task(
        int(found.id),
        dict(found.data),
        int(found.total_annotations or 0) + int(found.cancelled_annotations or 0),
        bool(found.is_labeled),
        int(found.overlap or 1),
        [_annotation(one) for one in given],
    )


def _annotation(found: Mapping[str, Any]) -> Annotation:
    by = found.get("completed_by")
    at = found["updated_at"]
    return Annotation(
        int(found["id"]),
        int(by["id"] if isinstance(by, Mapping) else by or 0),
        (at if isinstance(at, datetime) else datetime.fromisoformat(at)).isoformat(),
        bool(found.get("was_cancelled")),
        list(found.get("result") or ()),
    )
