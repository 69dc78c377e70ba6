"""TRL's SFTTrainer with opstune's order of examples and a loss over the answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback
from transformers.trainer import Trainer as TransformersTrainer
from trl import SFTConfig, SFTTrainer

from opstune.train import fused
from opstune.train.batches import ByLength, collate
from opstune.train.examples import IGNORED, Tokens
from opstune.train.machine import Means
from opstune.train.spec import Spec


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
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
