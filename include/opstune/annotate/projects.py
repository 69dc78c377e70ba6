"""The projects in Label Studio, made from config/label_studio: found by title, kept as their pages say."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from opstune.annotate import forms, lint
from opstune.annotate.forms.base import Choice, Form, Given
from opstune.annotate.server import Project, Server, Task
from opstune.errors import ConfigError
from opstune.settings import AnnotateSettings, Section, config_dir, read_model

log = logging.getLogger(__name__)

_OPEN = re.compile(r'<Choice\s+value="\{(\w+)\}"\s*/>')


class ProjectText(Section):
    """What people see of a project before its tasks."""

    title: str
    instruction: str


class ProjectsFile(Section):
    projects: dict[str, ProjectText]


def project_names() -> list[str]:
    """The projects of projects.yaml, in its order.

    Raises:
        ConfigError: the file is wrong, or names a form that does not exist.
    """
    found = _file().projects
    for name in found:
        forms.get(name)
    return list(found)


def skill_of(name: str) -> str:
    """The skill whose examples a project is about."""
    return forms.get(name).skill


def page_of(form: Form) -> str:
    """The form's labelling page with its catalogues filled in, checked against what the editor knows.

    Raises:
        ConfigError: the file is missing or the editor would not show it; lists every fault.
    """
    path = config_dir() / "label_studio" / f"{form.name}.xml"
    try:
        page = fill(path.read_text().strip(), form.catalogues())  # as the server keeps it
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", str(path), "Restore the file.") from error
    faults = lint.lint(page)
    if faults:
        raise ConfigError("; ".join(faults), path.name, "Correct the labelling page.")
    return page


def fill(page: str, catalogues: Mapping[str, Sequence[Choice]]) -> str:
    """The page with ``<Choice value="{functions}"/>`` replaced by one choice for each entry of that catalogue.

    Raises:
        ConfigError: the page names a catalogue that its form does not have.
    """

    def filled(match: re.Match[str]) -> str:
        if match[1] not in catalogues:
            known = ", ".join(catalogues) or "none"
            raise ConfigError(f"there is no catalogue {match[1]!r}", "labelling page", f"Known: {known}.")
        return "".join(
            f"<Choice value={quoteattr(choice.value)}{f' hint={quoteattr(choice.hint)}' if choice.hint else ''}/>"
            for choice in catalogues[match[1]]
        )

    return _OPEN.sub(filled, page)


def find(server: Server, name: str) -> Project | None:
    """The project in Label Studio, or none when it has not been made."""
    return server.project(_text(name).title)


def ensure(server: Server, name: str, settings: AnnotateSettings) -> tuple[Project, str]:
    """The project in Label Studio, made where it was missing, its page brought up to date.

    A page that would leave annotations without their question or choice is not put in place; the second value says
    so, and is empty otherwise.
    """
    text, page = _text(name), page_of(forms.get(name))
    found = server.project(text.title)
    if found is None:
        log.info("%s: the project %r is made in Label Studio", name, text.title)
        made = server.create(text.title, page, text.instruction, settings.annotators, settings.shared)
        return made, ""
    if found.page == page:
        return found, ""
    if orphans := orphaned(page, server.annotated(found.id)):
        told = f"{name}.xml changed, but annotations would lose {', '.join(orphans)}: the project keeps its page"
        log.warning("%s. Keep these in the page, or give the project another title in projects.yaml.", told)
        return found, told
    server.change_page(found.id, page)
    log.info("%s: the labelling page was brought up to date", name)
    return found, ""


def orphaned(page: str, annotated: Sequence[Task]) -> list[str]:
    """What annotations hold and a page does not ask: controls, controls of another type, and choices.

    The server refuses only the first two.
    """
    controls, choices = lint.controls(page), lint.choices(page)
    lost: dict[str, None] = {}
    for part in (part for task in annotated for annotation in task.annotations for part in annotation.result):
        control = str(part.get("from_name"))
        if controls.get(control) != part.get("type"):
            lost[f"the question {control!r}"] = None
        else:
            lost.update((f"the choice {choice!r} of {control!r}", None) for choice in _gone(control, choices, part))
    return list(lost)


def _gone(control: str, choices: Mapping[str, set[str]], part: Mapping[str, Any]) -> list[str]:
    known = choices.get(control)
    return [] if known is None else [choice for choice in Given([part]).choices(control) if choice not in known]


def _text(name: str) -> ProjectText:
    found = _file().projects
    if name not in found:
        raise ConfigError(f"there is no project {name!r}", "projects.yaml", f"Known: {', '.join(found)}.")
    return found[name]


def _file() -> ProjectsFile:
    return read_model(config_dir() / "label_studio" / "projects.yaml", ProjectsFile)
