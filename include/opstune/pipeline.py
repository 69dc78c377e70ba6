"""The whole cycle in plain Python: each stage once, from refs to a ref, and the retrain that chains them.

Airflow runs the same functions, one task each; ``retrain`` runs them in this process.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from opstune import tracking
from opstune.artifacts import Ref
from opstune.collect import source_names
from opstune.settings import Mode, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One retrain: all its files stand under ``folder``, a folder a stage."""

    id: str
    mode: Mode
    settings: Settings

    @property
    def folder(self) -> Path:
        return self.settings.runs_dir / self.id
