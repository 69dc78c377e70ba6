"""The place of a training that happens at a provider: this process asks for it and waits, and starts no child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opstune.settings import Connection, TrainSettings
from opstune.train import progress
from opstune.train.backends.openai import Hosted
from opstune.train.place import Ended, Hear
from opstune.train.spec import Spec


class AtProvider:
    """Hands a spec to the provider behind a connection; its faults are told as they are, being no trainer's.

    Args:
        wait: follow the job to its end, rather than raise JobRuns when it is begun.
    """

    def __init__(self, connection: Connection | None, settings: TrainSettings, wait: bool = True) -> None:
        self._hosted = Hosted(connection, settings, wait)

    def run(self, command: Sequence[str], environment: Mapping[str, str], output: Path, hear: Hear) -> Ended:
        spec = Spec.model_validate_json(Path(command[-1]).read_text())

        def tell(event: str, **facts: Any) -> None:
            hear(progress.line(event, facts))

        self._hosted.train(spec, tell)
        return Ended(0)

    def stop(self) -> None:
        self._hosted.stop()
