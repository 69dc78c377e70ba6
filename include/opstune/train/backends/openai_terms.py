"""A training in the provider's terms: examples as its chats, a profile as its hyperparameters, its events as ours."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opstune import settings as configuration
from opstune.artifacts import write_text
from opstune.errors import ConfigError, DataError, OpstuneError, TrainerFailed
from opstune.tables import read_examples
from opstune.train.backends.openai_api import Event, Hyperparameters, Job
from opstune.train.examples import chat
from opstune.train.progress import Tell
from opstune.train.spec import Spec


def write_chats(spec: Spec) -> Path:
    """The examples as chats, a line each, which is the form of ``messages`` in fine-tuning."""
    lines = (json.dumps({"messages": chat(example)}, ensure_ascii=False) for example in read_examples(spec.examples))
    file = spec.work / "examples.jsonl"
    write_text(file, "".join(f"{line}\n" for line in lines))
    return file


def hyperparameters(spec: Spec) -> Hyperparameters:
    """The profile's, in the provider's words: whole epochs, examples a step, and a factor on its own rate."""
    asked = {
        "n_epochs": max(1, math.ceil(spec.epochs)),
        "batch_size": spec.effective_batch,
        "learning_rate_multiplier": spec.learning_rate,
    }
    try:
        return Hyperparameters.model_validate(asked)
    except ValidationError as error:
        told = configuration.faults(error, lambda _: spec.profile)
        raise ConfigError(
            told, f"profile {spec.profile}", "The provider takes 1 to 50 epochs, 1 to 256 a step."
        ) from error


def tell_events(events: Iterable[Event], tell: Tell) -> None:
    """What the provider says of a job, as it says it, and how far the job is."""
    for event in events:
        numbers = event.data or {}
        if event.type == "metrics" and "step" in numbers:
            tell("begins", step=int(numbers["step"]), of=int(numbers.get("total_steps", 0)))
        tell("note", text=f"OpenAI: {event.message}")


def curve(events: Iterable[Event]) -> Iterable[dict[str, float]]:
    """The losses among a job's events, by step."""
    for event in events:
        numbers = event.data or {}
        if event.type == "metrics" and "step" in numbers and "train_loss" in numbers:
            yield {"step": int(numbers["step"]), "loss": float(numbers["train_loss"])}


def failure(job: Job, events: Iterable[Event]) -> OpstuneError:
    """Why an ended job has no model: the examples, somebody's cancelling, or what the provider says."""
    if job.status == "cancelled":
        todo = "Whoever cancelled it knows why. Clear the task to begin a new job."
        return TrainerFailed(f"the job {job.id} was cancelled at the provider", "OpenAI", todo)
    said: Any = next((event.message for event in reversed(list(events)) if event.level == "error"), None)
    reason = (job.error.message if job.error else None) or said or "it gives no reason"
    if job.error and job.error.param in ("training_file", "validation_file"):
        todo = "Correct what it names in the dataset, and clear the task."
        return DataError(f"the provider refuses the examples of job {job.id}: {reason}", "OpenAI", todo)
    return TrainerFailed(f"the job {job.id} failed: {reason}", "OpenAI", "Clear the task to begin a new job.")
