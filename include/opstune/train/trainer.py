"""The parent's side of a training: starts the child, follows it, ends it, and says in words how it went."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from opstune import artifacts
from opstune.artifacts import Ref
from opstune.errors import OpstuneError
from opstune.settings import TrainSettings
from opstune.train import attempts, checkpoints, failures, launch, progress
from opstune.train.attempts import Attempts
from opstune.train.followed import Followed
from opstune.train.place import Here, Place
from opstune.train.preflight import parent_ref, preflight
from opstune.train.profiles import Profile
from opstune.train.progress import Progress
from opstune.train.request import Request
from opstune.train.spec import Spec
from opstune.train.story import Story, explain

log = logging.getLogger(__name__)

_LOG = "trainer.log"
#: Nothing is fetched from or told to a hub: TRL and transformers would do both.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
    # The trainer's last lines are read at night: no bars, and nothing that is only the next release's business.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # A thread that waits for another soon sleeps: spinning, it takes the core that the other one needs.
    "GOMP_SPINCOUNT": "1000",
    # oneDNN and PyTorch each keep 1,024 compiled products of a bfloat16 CPU, some MB apiece, of which a step needs 40.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
    "LRU_CACHE_CAPACITY": "256",
}


class Trainer:
    """One training. ``run`` blocks until it ends; ``stop`` may be called from a signal handler or another thread.

    ``parent`` is the folder of the champion's adapter: training then goes on from it, at the profile's
    incremental rate. ``environment`` is set over this process's own for the child (``CUDA_VISIBLE_DEVICES``).
    ``place`` is where the child runs, on this machine unless told otherwise.
    """

    #: What starts a child of one process, before the path of the spec.
    command: ClassVar[tuple[str, ...]] = launch.ALONE

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
        self._request = Request(dataset, profile, settings, parent)
        self._on_progress = on_progress
        self._environment = environment or {}
        self._place = place or Here()
        self._stopped = False

    def run(self) -> Ref:
        """Train, or return the adapter that was trained before from the same inputs, and return its ref.

        Everything unfinished stands in ``<folder>.work``; a second call resumes from the last complete
        checkpoint there. Counts: steps, tokens (real ones, without padding), loss (mean of the last ten steps).

        Raises:
            OutOfMemory, TrainerKilled, TrainerStopped, Diverged, DriverFault, DiskFull: asking again resumes.
            OneExampleTooLarge, DivergedAgain, DriverFaultAgain, TrainerFailed, InputError: it does not.
        """
        self.check()
        request = self._request
        asked = request.asked()
        inputs = {"dataset": request.dataset, "parent": parent_ref(request.parent) if request.parent else None}
        kind = "hosted" if request.profile.hosted else "adapter"
        try:
            ref = artifacts.build(self.folder, kind, inputs, asked, lambda partial: self._make(partial, asked))
        except OSError as error:
            raise self._outside_the_child(error) from error
        if not request.profile.hosted:  # what was begun at a provider is known by its work folder alone
            self._tidy()
        return ref

    def check(self) -> list[str]:
        """What the preflight found; ``run`` begins with it, too.

        Raises:
            OpstuneError: all that is in the way of this training, in one.
        """
        environment = {**os.environ, **self._environment}
        asked, here = self._request, isinstance(self._place, Here)
        keep = asked.settings.keep_checkpoints + (asked.profile.validate_every is not None)  # the best one, too
        return preflight(self.folder, asked.dataset, asked.profile, keep, asked.parent, environment, here)

    def stop(self) -> None:
        """End the child and whatever it started, as a person who stops the training does."""
        self._stopped = True
        self._place.stop()

    def _make(self, partial: Path, asked: Mapping[str, Any]) -> dict[str, float]:
        left = attempts.take_up(self.work, artifacts.fingerprint(asked))
        spec = self._request.spec(asked, left, self.work)
        if not spec.finished.is_dir():
            artifacts.write_text(self.work / "spec.json", spec.model_dump_json(indent=1))
            self._follow(spec, left)
        shutil.copytree(spec.finished, partial, dirs_exist_ok=True)
        facts = json.loads((partial / "training.json").read_text())
        counted = ("steps", "tokens", "loss", "validation_loss")
        return {name: float(facts[name]) for name in counted if facts.get(name) is not None}

    def _follow(self, spec: Spec, left: Attempts) -> None:
        """Start the child and follow it to its end."""
        processes = self._processes()
        followed = Followed(spec, self.work / _LOG, processes)

        def hear(text: str) -> None:
            if event := progress.read(text):
                followed.hear(event)
                self._tell(event)

        started = self.command if processes == 1 else launch.command(processes)
        command = [*started, str(self.work / "spec.json")]
        try:
            if self._stopped:
                raise KeyboardInterrupt
            ended = self._place.run(command, {**_ENVIRONMENT, **self._environment}, self.work / _LOG, hear)
        except KeyboardInterrupt as error:
            raise followed.stopped() from error
        if ended.code == 0 and spec.finished.is_dir():
            return
        raise followed.broke(ended, left, self._stopped)

    def _processes(self) -> int:
        """One for each device that the training was given, where the backend is started by a launcher at all.

        Raises:
            ConfigError: a step's examples cannot be shared out to them evenly.
        """
        if self._request.profile.backend != "trl":
            return 1
        processes = launch.processes({**os.environ, **self._environment}, self._request.settings.devices)
        launch.share(self._request.profile.effective_batch, processes)
        return processes

    def _outside_the_child(self, error: OSError) -> OSError | OpstuneError:
        """A disk that was full before the child began, or when its result was put in place."""
        told = failures.from_exception(error)
        found = checkpoints.last_complete(self.work / "checkpoints")
        saved = found[0] if found else 0
        return explain(told, Story(step=saved, saved=saved, log=self.work / _LOG)) if told else error

    def _tell(self, event: dict[str, Any]) -> None:
        facts = {name: value for name, value in event.items() if name != "event"}
        match event["event"]:
            case "note":
                log.info("%s", facts["text"])
            case "resumed":
                log.info("Resumes from the checkpoint of step %d.", facts["step"])
            case "progress" if self._on_progress:
                self._on_progress(Progress(**facts))
            case "validated":
                best = "the best so far" if facts["best"] == facts["step"] else f"the best is step {facts['best']}"
                log.info("step %d  validation loss %.4f  %s", facts["step"], facts["loss"], best)
            case "saved":
                log.debug("checkpoint of step %d saved", facts["step"])

    def _tidy(self) -> None:
        """Keep the log of a finished training, and nothing else of its work."""
        for path in self.work.iterdir() if self.work.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOG:
                path.unlink()
