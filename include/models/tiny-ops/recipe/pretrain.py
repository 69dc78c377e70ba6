"""Pretrain tiny-ops from nothing: python include/models/tiny-ops/recipe/pretrain.py --out DIR

Every figure below was chosen on two CPU cores. The run follows from its seed and step count alone (never from
the clock), and resumes from its last checkpoint with the same result.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from corpus import Row, repeat_rows, task_rows
from muon import Muon
from tokenizer import CONTEXT
from tokenizer import train as train_tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 2048
LONGEST = 384  # tokens of one row: longer tasks are left out
CHUNK = 64  # steps whose rows are made, sorted by length and shuffled together
IGNORED = -100
#: Steps of each round and its share of the full rate. The first learns to copy; at half the rate the second
#: learns to take up one trade after another (seasons.py).
ROUNDS = ((2000, 1.0), (2032, 0.5))


def build(tokenizer: PreTrainedTokenizerBase) -> Qwen2ForCausalLM:
    """The untrained model: 3.1 M parameters, a sixth of them the tied embedding."""
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=512, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        tie_word_embeddings=True, initializer_range=0.02, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    look_back(model)
    return model


@torch.no_grad()
def look_back(model: Qwen2ForCausalLM, strength: float = 6.0, used: int = 8) -> None:
    """Let the heads of the first layer begin by attending one, two and three tokens back, and to itself.

    Copying is "find where these tokens stood before, say what followed". Learnt from nothing, its two halves
    wait for each other, a plateau of millions of tokens; with the first half given, the second comes at once.
    Biases of query and key alone make the pattern: rotated by position, they agree best at the wanted
    distance (the `used` fastest frequencies tell neighbours apart).
    """
    attention = model.model.layers[0].self_attn
    half = attention.head_dim // 2
    angle = model.model.rotary_emb.inv_freq[:used]
    for head, distance in enumerate((1, 2, 3, 0)):
        at = head * attention.head_dim
        attention.k_proj.bias[at : at + used] = strength
        attention.q_proj.bias[at : at + used] = strength * torch.cos(distance * angle)
        attention.q_proj.bias[at + half : at + half + used] = -strength * torch.sin(distance * angle)


def optimizers(model: Qwen2ForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the embedding, norms and biases."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = Muon(inner, lr=args.muon_lr, weight_decay=0.05)
    return [muon, torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]


def rate(step: int) -> float:
    """Share of the full rate: in each round warm up over 50 steps, hold, fall linearly over its last 40 %."""
    start = 0
    for steps, peak in ROUNDS:
        if step < start + steps:
            done = step - start
            return peak * min(1.0, (done + 1) / 50, max(0.02, (steps - done) / (0.4 * steps)))
        start += steps
    raise ValueError(f"step {step} is past the last round")


def repeated_share(step: int) -> float:
    """Share of repeated segments: 60 % of tokens falling to 12 % in 500 steps, then to 6 %."""
    done = step / ROUNDS[0][0]
    return 0.6 - 0.48 * done / 0.25 if done < 0.25 else max(0.06, 0.12 - 0.1 * (done - 0.25))


def batches(tokenizer: PreTrainedTokenizerBase, chunk: int, args: argparse.Namespace) -> list[list[Row]]:
    """The rows of one chunk of steps, in batches of about `tokens` tokens and like lengths."""
    budget = CHUNK * args.tokens
    repeated = repeated_share(chunk * CHUNK)
    plain = VOCABULARY - 3
    rows = _until(task_rows(tokenizer, args.seed, chunk, budget // 100, LONGEST), budget * (1 - repeated))
    rows += _until(repeat_rows(tokenizer, args.seed, chunk, budget // 60, plain), budget * repeated)
    rng = Random(f"batches-{args.seed}-{chunk}")
    rows.sort(key=lambda row: len(row[0]) + rng.random())
    made: list[list[Row]] = [[]]
    for row in rows:
        if made[-1] and len(row[0]) * (len(made[-1]) + 1) > args.tokens:
            made.append([])
        made[-1].append(row)
    rng.shuffle(made)
    return made[:CHUNK]


def _until(rows: list[Row], budget: float) -> list[Row]:
    total = 0
    for i, row in enumerate(rows):
        total += len(row[0])
        if total > budget:
            return rows[:i]
    return rows


def tensors(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and targets, padded on the right (so that plain causal attention needs no mask)."""
    longest = max(len(ids) for ids, _ in rows)
    x = torch.full((len(rows), longest), pad)
    y = torch.full((len(rows), longest), IGNORED)
    for i, (ids, start) in enumerate(rows):
        x[i, : len(ids)] = torch.tensor(ids)
        y[i, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
    return x, y


def loss_of(model: Qwen2ForCausalLM, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean loss over the counted targets; logits are made only there."""
    hidden = model.model(input_ids=x, use_cache=False).last_hidden_state
    at = y != IGNORED
    return cross_entropy(model.lm_head(hidden[at]), y[at])


def stream(tokenizer: PreTrainedTokenizerBase, first: int, args: argparse.Namespace) -> Iterator[tuple[int, list[Row]]]:
    """(step, batch) from step `first` on."""
    made: list[list[Row]] = []
    for step in range(first, args.steps):
        if not made or step % CHUNK == 0:
            made = batches(tokenizer, step // CHUNK, args)
        yield step, made[step % CHUNK % len(made)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, with a checkpoint in `work` every `save` steps, and return the figures of the run."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tokenizer = train_tokenizer(args.seed, VOCABULARY)
    model = build(tokenizer)
    makers = optimizers(model, args)
    state = resume(args.work, model, makers)
    started, recent = time.monotonic() - state["seconds"], []
    for step, rows in stream(tokenizer, state["step"], args):
        recent.append(update(model, makers, tensors(rows, tokenizer.pad_token_id), args, step))
        state["step"] = step + 1
        state["tokens"] += sum(len(ids) for ids, _ in rows)
        state["seconds"] = round(time.monotonic() - started, 1)
        if (step + 1) % args.report == 0:
            state["losses"].append((step + 1, round(sum(recent) / len(recent), 4)))
            recent = []
            speed = state["tokens"] / state["seconds"]
            print(
                f"step {step + 1} loss {state['losses'][-1][1]} tokens {state['tokens']} {speed:.0f}/s",
                flush=True,
            )
        if (step + 1) % args.save == 0 or step + 1 == args.steps:
            checkpoint(args.work, model, makers, state)
            export(model, tokenizer, args.out, state)
    return state


def update(
    model: Qwen2ForCausalLM, makers: list[torch.optim.Optimizer], batch: tuple[torch.Tensor, torch.Tensor],
    args: argparse.Namespace, step: int,
) -> float:  # fmt: skip
    """One step of every optimizer; the loss before it."""
    for lr, maker in zip((args.muon_lr, args.adam_lr), makers, strict=True):
        maker.param_groups[0]["lr"] = lr * rate(step)
    loss = loss_of(model, *batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for maker in makers:
        maker.step()
        maker.zero_grad(set_to_none=True)
    return loss.item()


def resume(work: Path, model: Qwen2ForCausalLM, makers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """The state of the last checkpoint, loaded into model and optimizers; else that of a fresh run."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "checkpoint.pt").exists():
        return {"step": 0, "tokens": 0, "seconds": 0.0, "losses": []}
    kept = torch.load(work / "checkpoint.pt", weights_only=True)
    model.load_state_dict(kept["model"])
    for maker, old in zip(makers, kept["optimizers"], strict=True):
        maker.load_state_dict(old)
    return kept["state"]


def checkpoint(work: Path, model: Qwen2ForCausalLM, makers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Write all that `resume` needs, whole or not at all."""
    kept = {"model": model.state_dict(), "optimizers": [m.state_dict() for m in makers], "state": state}
    torch.save(kept, work / "checkpoint.part")
    (work / "checkpoint.part").replace(work / "checkpoint.pt")


def export(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, out: Path, state: dict[str, Any]) -> None:
    """Write weights (fp16), configuration and tokenizer, and the figures of the run."""
    twin = build(tokenizer)
    twin.load_state_dict(model.state_dict())
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    twin.generation_config = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    twin.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(state, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the model is written")
    parser.add_argument("--work", type=Path, default=Path(".opstune/pretrain"), help="where the checkpoint is kept")
    parser.add_argument("--steps", type=int, default=sum(n for n, _ in ROUNDS), help="stop after so many")
    parser.add_argument("--tokens", type=int, default=3072, help="tokens of a batch, padding included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--muon-lr", type=float, default=5e-3)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--report", type=int, default=25, help="steps between two lines of progress")
    parser.add_argument("--save", type=int, default=300, help="steps between two checkpoints")
    print(json.dumps(run(parser.parse_args())["losses"][-1:]))


if __name__ == "__main__":
    main()
