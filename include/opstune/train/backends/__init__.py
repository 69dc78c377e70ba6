"""Backends: who does the training that a spec asks for. Each is a module here with one function, ``run``."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from opstune.train.progress import Tell
from opstune.train.spec import Spec


class Backend(Protocol):
    """Trains what a spec says, tells how far it is, and puts the result at ``spec.finished``, whole."""

    def __call__(self, spec: Spec, tell: Tell) -> None: ...


def get(name: str) -> Backend:
    """The backend of this name; only the one that is asked for is imported."""
    return cast(Backend, import_module(f"{__name__}.{name}").run)
