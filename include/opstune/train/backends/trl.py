"""The default backend: TRL's trainer in this process, from the base on disk to an adapter."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback, TrainerState

from opstune.tables import read_examples
from opstune.train import checkpoints, launch, machine, model, result
from opstune.train.callbacks import HalvedRate, Lookout, SealCheckpoints, TellProgress
from opstune.train.examples import tokenise
from opstune.train.progress import Tell
from opstune.train.sft import AnswerTrainer
from opstune.train.spec import Spec
from opstune.train.validation import Validate, course, facts, take_best

log = logging.getLogger(__name__)


def run(spec: Spec, tell: Tell, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Train what a spec says and put the result at ``spec.finished``, whole.

    ``callbacks`` are further transformers callbacks, the seam through which tests break things.

    Raises:
        OpstuneError: what the child can tell itself; anything else is a bug.
    """
    started = time.monotonic()
    means = machine.means(spec)
    machine.take(means)
    if means.turned_off:
        tell("note", text=f"On this machine these are off: {'; '.join(means.turned_off)}.")
    adapted, tokenizer = model.load(spec, means)
    found = tokenise(read_examples(spec.examples), tokenizer, spec.max_length)
    trainer = AnswerTrainer(adapted, tokenizer, found.rows, spec, means)
    log.info("%d examples, %d tokens, ready after %.1f s", len(found.rows), found.tokens, time.monotonic() - started)
    held_out = tokenise(read_examples(spec.validation), tokenizer, spec.max_length).rows if spec.validation else []
    validate = [Validate(trainer, held_out, tell)] if held_out else []
    began = time.monotonic()
    resumed_from = train(trainer, tell, [*validate, *callbacks])
    trained = time.monotonic() - began
    if not launch.rank().speaks:
        return
    chosen = take_best(trainer)
    told = result.facts(
        spec,
        result.curve(trainer.state.log_history),
        precision=means.precision,
        examples=len(found.rows),
        too_long=found.too_long,
        steps=trainer.state.global_step,
        epochs=trainer.state.epoch,
        tokens=trainer.tokens,
        seconds=round(time.monotonic() - started, 1),
        training_seconds=round(trained, 2),
        resumed_from=resumed_from,
        progress=result.progress(trainer.state.log_history),
        **facts(trainer, chosen),
    )
    result.put(spec, told, lambda folder: save(trainer, folder))
    tell("finished", step=trainer.state.global_step)


def train(trainer: AnswerTrainer, tell: Tell, extra: Sequence[TrainerCallback] = ()) -> int | None:
    """Train to the end, from the last complete checkpoint where there is one; returns its step.

    Raises:
        Diverged: the loss is no number, or has run away.
    """
    spec, speaks = trainer.spec, launch.rank().speaks
    with trainer.accelerator.main_process_first():  # the others resume from what it leaves
        found = checkpoints.last_complete(spec.checkpoints)
        if speaks:
            shutil.rmtree(spec.work / "unfinished", ignore_errors=True)
            checkpoints.drop_after(spec.checkpoints, found[0] if found else 0)
    if found:
        tell("resumed", step=found[0])
    halved = (HalvedRate(spec, tell),) if spec.halvings else ()
    seal = (SealCheckpoints(spec, tell),) if speaks else ()
    for callback in (Lookout(), *halved, *seal, TellProgress(trainer, tell), *extra):
        trainer.add_callback(callback)
    try:
        if not found or not _take_up_the_end(trainer, found[1]):
            trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
        trainer.accelerator.end_training()
    except Exception:
        tell("broke", step=trainer.state.global_step)
        raise
    finally:
        if speaks:  # a half-written checkpoint is nothing but lost room on a disk that may be full
            shutil.rmtree(spec.work / "unfinished", ignore_errors=True)
    return found[0] if found else None


def _take_up_the_end(trainer: AnswerTrainer, checkpoint: Path) -> bool:
    """Whether a checkpoint is of the training's last step, whose weights are then loaded: there is nothing to train.

    Transformers would make one more step where ``max_steps``, or patience, had ended it within an epoch.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    over = course(state.log_history, trainer.spec.early_stopping).over
    if state.global_step < state.max_steps and not over:
        return False
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state, trainer.tokens = state, state.num_input_tokens_seen
    return True


def save(trainer: AnswerTrainer, folder: Path) -> None:
    """Write what was trained and the tokenizer with its chat template into a new folder."""
    model.save(trainer.model, folder, trainer.spec)
    trainer.processing_class.save_pretrained(folder)
