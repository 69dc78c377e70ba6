"""TRL's SFTTrainer with opstune's order of examples, loss, checkpoints and lookout for a runaway loss."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer import Trainer as TransformersTrainer
from trl import SFTConfig, SFTTrainer

from opstune.errors import Diverged
from opstune.train import checkpoints, fused
from opstune.train.batches import ByLength, collate
from opstune.train.examples import IGNORED, Tokens
from opstune.train.machine import Means
from opstune.train.progress import Progress, Tell
from opstune.train.spec import Spec

#: A loss this much above its start (in nats and as a factor, whichever is more) has run away.
RUNAWAY_NATS, RUNAWAY_FACTOR = 1.0, 2.0
_SMOOTHED_OVER = 10


class Backend(SFTTrainer):  # type: ignore[misc]
    """The loss counts the answers alone, and logits are made only where it counts.

    TRL's own loss projects every position, padding included, and adds entropy and accuracy: on a CPU
    that is most of what TRL costs beside plain transformers.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, model: Any, tokenizer: Any, rows: Sequence[Tokens], spec: Spec, means: Means) -> None:
        self.spec = spec
        self.lengths = [len(row.ids) for row in rows]
        self.tokens = 0
        super().__init__(
            model=model,
            args=_arguments(spec, means),
            train_dataset=Dataset.from_dict(
                {"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]}
            ),
            processing_class=tokenizer,
            data_collator=partial(collate, pad=tokenizer.pad_token_id or 0),
        )
        self.remove_callback(PrinterCallback)
        self._counted: torch.Tensor | None = None
        head = self.model.get_output_embeddings()
        head.register_forward_pre_hook(lambda _, hidden: self._where_counted(*hidden))
        for parameter in self.model.parameters():
            if parameter.requires_grad:  # else resuming would turn a bf16 adapter into fp32, and differ
                parameter.data = parameter.data.float()
        if not means.cuda and not means.bf16 and spec.method == "lora":
            fused.install(self.model)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss over the answers' tokens of the whole step, however many parts it is computed in."""
        following = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED).flatten()
        self._counted = (following != IGNORED).nonzero().squeeze(1)
        self.tokens += int((inputs["labels"] != IGNORED).sum() + self._prompt_tokens(inputs["labels"]))
        try:
            outputs = model(input_ids=inputs["input_ids"], use_cache=False)
        finally:
            counted, self._counted = self._counted, None
        total = cross_entropy(outputs.logits.float(), following[counted], reduction="sum")
        loss = total / (len(counted) if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _where_counted(self, hidden: torch.Tensor) -> tuple[torch.Tensor] | None:
        if self._counted is None:
            return None
        return (hidden.reshape(-1, hidden.shape[-1])[self._counted],)

    @staticmethod
    def _prompt_tokens(labels: torch.Tensor) -> torch.Tensor:
        """Each row's places before its first label."""
        return (labels != IGNORED).int().argmax(dim=1).sum()

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return ByLength(self.lengths, self.spec.effective_batch, self.spec.seed)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it costs a walk over the model every step."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Past TRL's, which writes a model card with every checkpoint."""
        self.state.num_input_tokens_seen = self.tokens
        TransformersTrainer._save_checkpoint(self, model, trial)

    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are made here and moved to their place when they are whole."""
        return str(self.spec.work / "unfinished")


def _arguments(spec: Spec, means: Means) -> SFTConfig:
    return SFTConfig(
        output_dir=str(spec.work / "unfinished"),
        num_train_epochs=spec.epochs,
        max_steps=spec.max_steps or -1,
        per_device_train_batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.accumulation,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=spec.schedule,
        warmup_steps=spec.warmup,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim=means.optimiser,
        bf16=means.bf16,
        gradient_checkpointing=spec.activation_checkpointing,
        use_cpu=not means.cuda,
        seed=spec.seed,
        data_seed=spec.seed,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=means.cuda,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=spec.checkpoint_steps,
        report_to="none",
        disable_tqdm=True,
    )


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Moves every checkpoint to its place, whole, keeps the last few, and tells."""

    def __init__(self, spec: Spec, tell: Tell) -> None:
        self._spec, self._tell = spec, tell

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        made = checkpoints.place(Path(args.output_dir), state.global_step)
        checkpoints.seal(made, self._spec.checkpoints, state.global_step)
        checkpoints.keep_last(self._spec.checkpoints, self._spec.keep_checkpoints)
        self._tell("saved", step=state.global_step)


class Lookout(TrainerCallback):  # type: ignore[misc]
    """Stops a training whose loss is no number, or has run away, before a checkpoint keeps it."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._smoothed = 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Diverged(f"the loss is {loss} and its gradient {norm:.3g}")
        if len(self._first) < _SMOOTHED_OVER:
            self._first.append(loss)
            self._smoothed = sum(self._first) / len(self._first)
            return
        self._smoothed += (loss - self._smoothed) / _SMOOTHED_OVER
        start = sum(self._first) / len(self._first)
        if self._smoothed > max(start + RUNAWAY_NATS, start * RUNAWAY_FACTOR):
            raise Diverged(f"the loss has risen from {start:.3f} to {self._smoothed:.3f}")


class TellProgress(TrainerCallback):  # type: ignore[misc]
    """One progress event every few seconds, and one at the first and at the last step."""

    def __init__(self, trainer: Backend, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._trainer, self._tell, self._clock = trainer, tell, clock
        self._every = trainer.spec.progress_seconds
        self._began = self._told = clock()
        self._from_step = self._from_tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.tokens = self._from_tokens = state.num_input_tokens_seen
        self._from_step, self._began = state.global_step, self._clock()
        self._tell("begins", step=state.global_step, of=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        now, step = self._clock(), state.global_step
        first, last = step == self._from_step + 1, step == state.max_steps
        if "loss" not in logs or not (first or last or now - self._told >= self._every):
            return
        self._told, spent = now, max(now - self._began, 1e-9)
        progress = Progress(
            step=step,
            of=state.max_steps,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            tokens_per_second=(self._trainer.tokens - self._from_tokens) / spent,
            memory_mb=_memory_mb(),
            seconds_left=spent / (step - self._from_step) * (state.max_steps - step),
        )
        self._tell("progress", **vars(progress))


def train(trainer: Backend, tell: Tell, extra: Sequence[TrainerCallback] = ()) -> int | None:
    """Train to the end, from the last complete checkpoint where there is one; returns its step.

    Raises:
        Diverged: the loss is no number, or has run away.
    """
    spec = trainer.spec
    shutil.rmtree(spec.work / "unfinished", ignore_errors=True)
    found = checkpoints.last_complete(spec.checkpoints)
    checkpoints.keep_last(spec.checkpoints, spec.keep_checkpoints, after=found[0] if found else 0)
    if found:
        tell("resumed", step=found[0])
    for callback in (Lookout(), SealCheckpoints(spec, tell), TellProgress(trainer, tell), *extra):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    shutil.rmtree(spec.work / "unfinished", ignore_errors=True)
    return found[0] if found else None


def curve(trainer: Backend) -> list[dict[str, float]]:
    """Loss, learning rate and gradient norm of every step, those before a resume included."""
    names = {"step": "step", "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
    entries = (entry for entry in trainer.state.log_history if "loss" in entry)
    return [{name: entry[key] for key, name in names.items() if key in entry} for entry in entries]


def save(trainer: Backend, folder: Path, facts: dict[str, Any]) -> None:
    """Write the adapter (fp32), the tokenizer with its chat template, and ``training.json`` into a new folder."""
    trainer.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's card names this machine's path of the base
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = trainer.spec.base_name
    config["target_modules"] = sorted(config["target_modules"])  # a set there: its order changes from run to run
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    trainer.processing_class.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n")


def _memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20
