"""TRL's SFTTrainer with opstune's order of examples and a loss over the answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PrinterCallback
from transformers.trainer import Trainer as TransformersTrainer
from trl import SFTConfig, SFTTrainer

from opstune.train import fused, launch
from opstune.train.batches import PACKED_POOL, POOL, Layout, Loader, Steps, collate
from opstune.train.examples import IGNORED, Tokens
from opstune.train.machine import Means
from opstune.train.spec import Spec

#: Positions whose logits exist at once. A vocabulary of 152,000 takes 1.5 MB a position, in 16 bits, in 32 and
#: as gradient: 16,384 tokens of which a quarter are answers would take 6 GB of a GPU's 24.
LOGITS_AT_ONCE = 1024
#: For bfloat16 on a CPU oneDNN compiles each product anew for every number of tokens: a sixth of the time where no two
#: steps are alike. Of packed rows so many tokens apart few lengths occur, and 4 % of 840 tokens are filling.
ALIKE = 64


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """The loss counts the answers alone, and logits are made only where it counts.

    TRL's own loss projects every position, padding included, and adds entropy and accuracy: on a CPU
    that is most of what TRL costs beside plain transformers.

    What transformers calls a batch is here this process's share of one optimiser step. It is cut into as many
    parts as memory asks, so a step is the same however many parts and processes it is computed in.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, model: Any, tokenizer: Any, rows: Sequence[Tokens], spec: Spec, means: Means) -> None:
        self.spec = spec
        self.tokens = 0
        self._rows = [{"input_ids": row.ids, "labels": row.labels} for row in rows]
        pad = tokenizer.pad_token_id or 0
        alike = ALIKE if means.bf16 and not means.cuda else 1
        self.layout = Layout(pad, spec.batch_size, _at_once(spec, means, rows), means.packing, alike)
        super().__init__(
            model=model,
            args=_arguments(spec, means),
            train_dataset=Dataset.from_list(self._rows),
            processing_class=tokenizer,
            data_collator=partial(collate, pad=pad),
        )
        self.remove_callback(PrinterCallback)
        self._counted: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        self._head = self.model.get_output_embeddings()
        self._head.register_forward_pre_hook(lambda _, hidden: self._where_counted(*hidden))
        for parameter in self.model.parameters():
            if parameter.requires_grad:  # else resuming would turn a bf16 adapter into fp32, and differ
                parameter.data = parameter.data.float()
        if not means.cuda and not means.bf16 and spec.method == "lora":
            fused.install(self.model)
            if not spec.activation_checkpointing:  # which computes a block again when nobody knows what counted
                fused.only_where_counted(self.model, lambda: self._counted)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One optimiser step's forward and backward passes, part after part; returns its loss.

        Several processes average their gradients once, at the last part.
        """
        *early, last = inputs["parts"]
        loss = torch.zeros((), device=self.args.device)
        for part in early:
            with self.accelerator.no_sync(model):
                loss += super().training_step(model, part, num_items_in_batch)
        loss += super().training_step(model, last, num_items_in_batch)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss over the answers' tokens of the whole step, however many parts it is computed in."""
        following = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED).flatten()
        self._counted = (following != IGNORED).nonzero().squeeze(1)
        asked = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
        try:
            outputs = model(**asked, use_cache=False)
        finally:
            counted, self._counted = self._counted, None
        if self._hidden is None:
            total = cross_entropy(outputs.logits.float(), following[counted], reduction="sum")
        else:
            total = self._in_pieces(following[counted])
        # Processes average their gradients, and this loss is already a share of the whole step's.
        loss = total / len(counted) if num_items_in_batch is None else total * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def _where_counted(self, hidden: torch.Tensor) -> tuple[torch.Tensor] | None:
        """What the head is given: the counted positions alone, or none where their logits are made in pieces."""
        if self._counted is None:
            return None
        kept = hidden.reshape(-1, hidden.shape[-1])[self._counted]
        if len(kept) <= LOGITS_AT_ONCE:
            return (kept,)
        self._hidden = kept
        return (kept[:0],)

    def _in_pieces(self, targets: torch.Tensor) -> torch.Tensor:
        """The summed loss of the kept positions; each piece's logits are made again on the way back."""
        assert self._hidden is not None
        pieces = zip(torch.split(self._hidden, LOGITS_AT_ONCE), torch.split(targets, LOGITS_AT_ONCE), strict=True)
        self._hidden = None

        def loss(hidden: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return cross_entropy(self._head(hidden).float(), target, reduction="sum")

        with self.accelerator.autocast():
            return torch.stack([checkpoint(loss, *piece, use_reentrant=False) for piece in pieces]).sum()

    def get_train_dataloader(self) -> Loader:
        """Past transformers', which would hand whole batches to processes, and repeat examples to fill the last."""
        lengths = [len(row["input_ids"]) for row in self._rows]
        pool = PACKED_POOL if self.layout.packed else POOL
        process, processes = self.args.process_index, self.args.world_size
        steps = Steps(lengths, self.spec.effective_batch, self.spec.seed, pool, process, processes)
        pinned = self.args.dataloader_pin_memory
        rows: Any = self._rows  # a list serves as a dataset, which torch's types do not know
        return Loader(rows, batch_sampler=steps, collate_fn=self.layout, pin_memory=pinned)

    def _get_num_items_in_batch(self, batch_samples: Sequence[dict[str, Any]], device: Any) -> Any:
        """Answer tokens of the whole step, which its loss is divided by; counts its tokens on the way."""
        if not batch_samples or "parts" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        [share] = batch_samples
        answers = sum(part["labels"][:, 1:].ne(IGNORED).sum() for part in share["parts"])
        counted = torch.stack([torch.as_tensor(answers), torch.as_tensor(share["tokens"])])
        if self.args.world_size > 1:
            counted = self.accelerator.reduce(counted.to(device), "sum").cpu()
        self.tokens += int(counted[1])
        return counted[0].to(device)

    def _maybe_log_save_evaluate(self, *arguments: Any, **named: Any) -> None:
        """What the first process wants is done by all: a callback that asks a clock would answer apart in each."""
        if self.args.world_size > 1:
            names = ("should_save", "should_evaluate", "should_training_stop")
            wants = torch.tensor([getattr(self.control, name) for name in names], device=self.args.device).int()
            torch.distributed.broadcast(wants, src=0)
            for name, want in zip(names, wants.tolist(), strict=True):
                setattr(self.control, name, bool(want))
        super()._maybe_log_save_evaluate(*arguments, **named)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it costs a walk over the model every step."""
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Past TRL's, which writes a model card with every checkpoint; returns when every process has written."""
        self.state.num_input_tokens_seen = self.tokens
        TransformersTrainer._save_checkpoint(self, model, trial)
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are made here and moved to their place when they are whole."""
        return str(self.spec.work / "unfinished")


def _at_once(spec: Spec, means: Means, rows: Sequence[Tokens]) -> int | None:
    """Tokens in memory at once; none where it is ``batch_size`` examples, whatever their length.

    Where memory ran out, a share of what the largest step took then: of what it might have taken, had all its examples
    been as long as allowed, half can be more than the whole of it.
    """
    if not (means.cuda or means.packing) or (spec.batch_size == 1 and spec.fits < 1):
        return None
    largest = sorted(len(row.ids) for row in rows)[-launch.share(spec.effective_batch, launch.rank().of) :]
    most = sum(largest) if means.packing else largest[-1] * len(largest)
    return round(min(spec.batch_size / spec.fits * spec.max_length, most) * spec.fits)


def _arguments(spec: Spec, means: Means) -> SFTConfig:
    return SFTConfig(
        output_dir=str(spec.work / "unfinished"),
        num_train_epochs=spec.epochs,
        max_steps=spec.max_steps or -1,
        per_device_train_batch_size=launch.share(spec.effective_batch, launch.rank().of),
        gradient_accumulation_steps=1,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=spec.schedule,
        warmup_steps=spec.warmup,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        optim=means.optimiser,
        bf16=means.bf16,
        activation_checkpointing=spec.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not means.cuda,
        # Parts of a step differ in number between processes: nothing may be exchanged at each.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
        seed=spec.seed,
        data_seed=spec.seed,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=means.cuda,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # when to save is the callbacks' to say
        report_to="none",
        disable_tqdm=True,
    )
