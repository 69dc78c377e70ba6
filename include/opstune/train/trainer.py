"""The parent's side of a training: starts the child, follows it, ends it, and says in words how it went."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import OpstuneError, OutOfMemory, TrainerFailed
from opstune.settings import TrainSettings
from opstune.train import checkpoints, failures, progress
from opstune.train.failures import Story
from opstune.train.memory import Memory
from opstune.train.place import Here, Place
from opstune.train.preflight import TRAINING_FILE, parent_ref, parent_sha256, preflight
from opstune.train.profiles import Profile, base_folder, base_sha256
from opstune.train.progress import Progress
from opstune.train.spec import Spec, split_batch

log = logging.getLogger(__name__)

_LOG = "trainer.log"
_STATE = "state.json"
#: Nothing is fetched from or told to a hub: TRL and transformers would do both.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def train(
    folder: Path,
    dataset: Ref,
    profile: Profile,
    settings: TrainSettings,
    parent: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    environment: Mapping[str, str] | None = None,
    place: Place | None = None,
) -> Ref:
    """Train an adapter into ``folder`` in a child process; see ``Trainer.run``."""
    return Trainer(folder, dataset, profile, settings, parent, on_progress, environment, place).run()


class Trainer:
    """One training. ``run`` blocks until it ends; ``stop`` may be called from a signal handler or another thread.

    ``parent`` is the folder of the champion's adapter: training then goes on from it, at the profile's
    incremental rate. ``environment`` is set over this process's own for the child (``CUDA_VISIBLE_DEVICES``).
    ``place`` is where the child runs, on this machine unless told otherwise.
    """

    #: What is started, before the path of the spec.
    command: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "opstune.train")

    def __init__(
        self,
        folder: Path,
        dataset: Ref,
        profile: Profile,
        settings: TrainSettings,
        parent: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        environment: Mapping[str, str] | None = None,
        place: Place | None = None,
    ) -> None:
        self.folder = folder
        self.work = folder.with_name(f"{folder.name}.work")
        self._dataset, self._profile, self._settings, self._parent = dataset, profile, settings, parent
        self._on_progress = on_progress
        self._environment = environment or {}
        self._place = place or Here()
        self._stopped = False

    def run(self) -> Ref:
        """Train, or return the adapter that was trained before from the same inputs, and return its ref.

        Everything unfinished stands in ``<folder>.work``; a second call resumes from the last complete
        checkpoint there. Counts: steps, tokens (real ones, without padding), loss (mean of the last ten steps).

        Raises:
            OutOfMemory, TrainerKilled: asking again helps, and resumes.
            Diverged, TrainerFailed, DataError, ConfigError, IntegrityError: asking again does not.
            OutsideError: the disk is full.
        """
        self.check()
        asked = self._asked()
        inputs = {"dataset": self._dataset, "parent": parent_ref(self._parent) if self._parent else None}
        kind = "hosted" if self._profile.hosted else "adapter"
        ref = artifacts.build(self.folder, kind, inputs, asked, lambda partial: self._make(partial, asked))
        if not self._profile.hosted:  # what was begun at a provider is known by its work folder alone
            self._tidy()
        return ref

    def check(self) -> list[str]:
        """What the preflight found; ``run`` begins with it, too.

        Raises:
            OpstuneError: all that is in the way of this training, in one.
        """
        environment = {**os.environ, **self._environment}
        here, keep = isinstance(self._place, Here), self._settings.keep_checkpoints
        return preflight(self.folder, self._dataset, self._profile, keep, self._parent, environment, here)

    def stop(self) -> None:
        """End the child and whatever it started, as a person who stops the training does."""
        self._stopped = True
        self._place.stop()

    def _asked(self) -> dict[str, Any]:
        """Everything that decides the result: not how often something is told or saved, nor what is only checked."""
        told = {"progress_seconds", "checkpoint_steps", "keep_checkpoints", "devices", "place", "hosted"}
        told |= {"allow_data_to_leave"}
        return {
            "profile": self._profile.model_dump(mode="json", exclude={"base_sha256", "needs"}),
            "chat_template": self._profile.template,
            "train": self._settings.model_dump(mode="json", exclude=told),
            "base_sha256": base_sha256(self._profile),
            "parent_sha256": parent_sha256(self._parent) if self._parent else None,
            "dataset": self._dataset.sha256,
        }

    def _make(self, partial: Path, asked: Mapping[str, Any]) -> dict[str, float]:
        state = self._open_work(artifacts.fingerprint(asked))
        spec = self._spec(asked, state)
        if not spec.finished.is_dir():
            artifacts.write_text(self.work / "spec.json", spec.model_dump_json(indent=1))
            try:
                self._follow(spec)
            except OutOfMemory:
                self._write_state({**state, "largest_batch": spec.batch_size // 2})
                raise
        shutil.copytree(spec.finished, partial, dirs_exist_ok=True)
        facts = json.loads((partial / "training.json").read_text())
        return {name: float(facts[name]) for name in ("steps", "tokens", "loss") if facts[name] is not None}

    def _open_work(self, asked: str) -> dict[str, Any]:
        """The state that earlier attempts left; the work of another request is thrown away."""
        try:
            state: dict[str, Any] = json.loads((self.work / _STATE).read_text())
        except (OSError, ValueError):
            state = {}
        if state.get("asked") != asked:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            state = {"asked": asked}
            self._write_state(state)
        return state

    def _write_state(self, state: Mapping[str, Any]) -> None:
        artifacts.write_text(self.work / _STATE, json.dumps(state, indent=1))

    def _spec(self, asked: Mapping[str, Any], state: Mapping[str, Any]) -> Spec:
        """The profile with this run's settings in it, and no more examples at once than fitted before."""
        profile, settings = self._profile, self._settings
        rate, epochs = profile.learning_rate, profile.epochs
        if self._parent is not None:
            rate, epochs = rate * profile.incremental.learning_rate_factor, profile.incremental.epochs
        largest = min(profile.batch_size, int(state.get("largest_batch", profile.batch_size)))
        batch, accumulation = split_batch(profile.effective_batch, largest)
        if batch < profile.batch_size:
            log.warning("Memory was short before: %d x %d examples a step, %d at once.", batch, accumulation, batch)
        shared = {
            "backend",
            "method",
            "lora",
            "freeze",
            "schedule",
            "warmup",
            "weight_decay",
            "max_grad_norm",
            "max_length",
            "optimiser",
        }
        return Spec(
            asked=str(state["asked"]),
            base=Path(profile.base) if profile.hosted else base_folder(profile),
            base_name=profile.base_name,
            base_sha256=asked["base_sha256"],
            examples=self._dataset.path / TRAINING_FILE,
            work=self.work.resolve(),
            parent=self._parent.resolve() if self._parent else None,
            parent_sha256=asked["parent_sha256"],
            profile=profile.name,
            chat_template=profile.template,
            epochs=settings.epochs or epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate or rate,
            batch_size=batch,
            accumulation=accumulation,
            activation_checkpointing=profile.activation_checkpointing,
            attention=profile.attention,
            packing=profile.packing,
            checkpoint_steps=settings.checkpoint_steps,
            keep_checkpoints=settings.keep_checkpoints,
            progress_seconds=settings.progress_seconds,
            seed=settings.seed,
            **{name: getattr(profile, name) for name in shared},
        )

    def _follow(self, spec: Spec) -> None:
        """Start the child and follow it to its end; ``heard`` holds the last event of each kind."""
        if self._stopped:
            raise failures.from_exit(-15, self._story(spec, {}, None))
        heard: dict[str, Any] = {}

        def hear(text: str) -> None:
            if event := progress.read(text):
                heard[event["event"]] = event
                self._tell(event)

        command = [*self.command, str(self.work / "spec.json")]
        ended = self._place.run(command, {**_ENVIRONMENT, **self._environment}, self.work / _LOG, hear)
        if ended.code == 0 and spec.finished.is_dir():
            return
        story = self._story(spec, heard, ended.memory)
        error: OpstuneError
        if ended.cause:
            error = failures.explain(ended.cause, story)
        elif ended.code == failures.TOLD and "failed" in heard:
            error = failures.from_event(heard["failed"], story)
        elif ended.code == 0:
            error = failures.explain(TrainerFailed("the trainer ended without a result"), story)
        else:
            error = failures.from_exit(ended.code, story)
        for text in story.last_lines[-10:]:
            log.error("  trainer: %s", text)
        raise error

    def _tell(self, event: dict[str, Any]) -> None:
        facts = {name: value for name, value in event.items() if name != "event"}
        match event["event"]:
            case "note":
                log.info("%s", facts["text"])
            case "resumed":
                log.info("Resumes from the checkpoint of step %d.", facts["step"])
            case "progress" if self._on_progress:
                self._on_progress(Progress(**facts))
            case "saved":
                log.debug("checkpoint of step %d saved", facts["step"])

    def _story(self, spec: Spec, heard: Mapping[str, Any], memory: Memory | None) -> Story:
        begun, at, saved = heard.get("begins", {}), heard.get("progress", {}), heard.get("saved", {})
        found = checkpoints.last_complete(spec.checkpoints)
        file = self.work / _LOG
        return Story(
            step=max(int(event.get("step", 0)) for event in (begun, at, saved)),
            of=int(begun.get("of", 0)),
            saved=found[0] if found else None,
            batch_size=spec.batch_size,
            memory=memory,
            last_lines=_last_lines(file),
            stopped=self._stopped,
            log=file,
        )

    def _tidy(self) -> None:
        """Keep the log of a finished training, and nothing else of its work."""
        for path in self.work.iterdir() if self.work.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOG:
                path.unlink()


def _last_lines(file: Path) -> list[str]:
    """The end of the child's log: as much as a traceback takes."""
    with file.open(errors="replace") if file.is_file() else io.StringIO() as lines:
        return [text.rstrip() for text in deque(lines, maxlen=40)]
