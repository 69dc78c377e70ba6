"""agreement.json: how far people agree in each project, for the dataset card and for who wants to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opstune.annotate.agreement import Agreement
from opstune.annotate.locking import locked
from opstune.artifacts import write_text
from opstune.settings import AnnotateSettings

FILE = "agreement.json"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Project → its agreement as the last pull found it; nothing before the first pull.

    ``items`` were labelled by two people or more, of ``labelled``. ``value`` (0 to 1, or none where it cannot be
    said: ``reason``) of ``measure`` is what ``line`` is held against; ``kappa`` is corrected for chance; ``pairs`` is
    the percentage of each two people, ``stars`` the ordinal alpha of their ratings, ``differ`` the items on which
    labels differ. ``batch`` says the same of what the last pull would have taken, and whether it ``waits``.
    """
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def for_card(folder: Path) -> dict[str, dict[str, Any]]:
    """What a dataset card may say: numbers without names, of the projects in which anybody labelled anything.

    Project → ``items``, ``annotators`` (how many), ``measure``, ``value``, ``line``, ``differ`` (how many items).
    """
    kept = ("items", "measure", "value", "line")
    return {
        project: {
            **{key: found[key] for key in kept},
            "annotators": len(found["annotators"]),
            "differ": len(found["differ"]),
        }
        for project, found in read(folder).items()
        if found["labelled"]
    }


def write(
    folder: Path,
    project: str,
    settings: AnnotateSettings,
    whole: Agreement,
    batch: Agreement,
    stars: Agreement,
    waits: bool,
) -> None:
    """Put one project's agreement into the file, leaving the others."""
    line = {"line": settings.agreement}
    entry = {**_told(whole, settings), **line, "stars": _coefficient(stars)}
    entry["batch"] = {**_told(batch, settings), **line, "waits": waits}
    with locked(folder, "agreement"):
        write_text(folder / FILE, json.dumps({**read(folder), project: entry}, indent=1, ensure_ascii=False))


def _told(found: Agreement, settings: AnnotateSettings) -> dict[str, Any]:
    by_kappa = settings.measure == "kappa" and found.value is not None
    return {
        "items": found.items,
        "labelled": found.labelled,
        "annotators": list(found.annotators),
        "measure": found.measure if by_kappa else "percent agreement",
        "value": found.held(settings.measure),
        "reason": found.reason,
        "kappa": _coefficient(found),
        "pairs": dict(found.pairs),
        "differ": [{"item": one.item, "labels": dict(one.labels)} for one in found.differ],
    }


def _coefficient(found: Agreement) -> dict[str, Any]:
    return {"measure": found.measure, "value": found.value, "items": found.items}
