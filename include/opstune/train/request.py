"""What a training is asked for, as one fingerprint and as the spec of an attempt."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opstune.artifacts import Ref
from opstune.settings import TrainSettings
from opstune.train.attempts import Attempts
from opstune.train.bases import base_folder, base_revision, base_sha256
from opstune.train.preflight import TRAINING_FILE, parent_sha256
from opstune.train.profiles import Profile
from opstune.train.spec import Spec, split_batch

log = logging.getLogger(__name__)

_VALIDATION_FILE = "validation.parquet"
#: What a spec takes as it stands in the profile and in the settings.
_OF_PROFILE = (
    "backend", "method", "lora", "freeze", "schedule", "warmup", "weight_decay", "max_grad_norm", "max_length",
    "optimiser", "activation_checkpointing", "attention", "precision", "packing", "validate_every", "early_stopping",
)  # fmt: skip
_OF_SETTINGS = (
    "max_steps", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints", "progress_seconds", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """``parent`` is the folder of the champion's adapter, where training goes on from it."""

    dataset: Ref
    profile: Profile
    settings: TrainSettings
    parent: Path | None

    def asked(self) -> dict[str, Any]:
        """Everything that decides the result, and the base's commit, which its files' sha256 cannot name.

        Not how often something is told or saved, nor what is only checked.
        """
        told = {"progress_seconds", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints"}
        told |= {"devices", "place", "hosted", "allow_data_to_leave"}
        checked_or_shipped = {"base_sha256", "needs", "quantisation", "num_ctx"}
        return {
            "profile": self.profile.model_dump(mode="json", exclude=checked_or_shipped),
            "chat_template": self.profile.template,
            "train": self.settings.model_dump(mode="json", exclude=told),
            "base_sha256": base_sha256(self.profile),
            "base_revision": base_revision(self.profile),
            "parent_sha256": parent_sha256(self.parent) if self.parent else None,
            "dataset": self.dataset.sha256,
        }

    def spec(self, asked: Mapping[str, Any], left: Attempts, work: Path) -> Spec:
        """The profile with this run's settings in it, and no more examples at once than fitted before."""
        profile, settings = self.profile, self.settings
        rate, epochs = profile.learning_rate, profile.epochs
        if self.parent is not None:
            rate, epochs = rate * profile.incremental.learning_rate_factor, profile.incremental.epochs
        largest = min(profile.batch_size, left.largest_batch or profile.batch_size)
        batch, accumulation = split_batch(profile.effective_batch, largest)
        if batch < profile.batch_size:
            log.warning("Memory was short before: %d x %d examples a step, %d at once.", batch, accumulation, batch)
        return Spec(
            asked=left.asked,
            base=Path(profile.base) if profile.hosted else base_folder(profile),
            base_name=profile.base_name,
            base_sha256=asked["base_sha256"],
            examples=self.dataset.path / TRAINING_FILE,
            work=work.resolve(),
            parent=self.parent.resolve() if self.parent else None,
            parent_sha256=asked["parent_sha256"],
            profile=profile.name,
            chat_template=profile.template,
            epochs=settings.epochs or epochs,
            learning_rate=settings.learning_rate or rate,
            halvings=left.halvings,
            batch_size=batch,
            accumulation=accumulation,
            fits=batch / profile.batch_size,
            validation=self._validation(),
            **{name: getattr(profile, name) for name in _OF_PROFILE},
            **{name: getattr(settings, name) for name in _OF_SETTINGS},
        )

    def _validation(self) -> Path | None:
        """The examples to evaluate on while it trains, where the profile asks for it and the dataset has any."""
        if self.profile.validate_every is None:
            return None
        file = self.dataset.path / _VALIDATION_FILE
        if file.is_file() and self.dataset.counts.get("validation") != 0:
            return file
        log.warning("The dataset has no validation examples: no step is the best, and nothing stops early.")
        return None
