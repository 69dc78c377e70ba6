"""Score a model of this recipe: python include/models/tiny-ops/recipe/score.py MODEL --count 200

Greedy answers to fresh examples, exact match per task. Seeds are other than training's, so every name is new.
The rows marked `held-out` are written by generators that training never ran: strange names, other layouts.
Those of the last season ask about the trade that was learnt last; of other trades the model knows nothing.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import seasons
import tasks
import torch
import words
from corpus import LAST_CHUNK, chat, season
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

Pairs = list[tuple[str, str]]


def strange(rng: Random) -> str:
    """A name of a shape that the corpus lacks."""
    upper = words.chars(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ", 2, 4)
    return rng.choice((
        f"{upper}{words.digits(rng, 2, 5)}.{words.word(rng)}",
        f"{words.word(rng)}@{words.word(rng)}-{words.chars(rng, '0123456789', 3, 5)}",
        f"{words.word(rng)}_{words.chars(rng, '0123456789abcdef', 4, 8)}.{upper.lower()}",
        f"{words.camel(rng)}-{words.digits(rng)}-{words.pseudo(rng)}",
        f"{words.pseudo(rng)}-{words.pseudo(rng)}-{words.pseudo(rng)}-{words.pseudo(rng)}",
    ))  # fmt: skip


def strange_call(rng: Random) -> tuple[str, str]:
    """A call, with names of shapes unknown to the corpus."""
    record = {words.key(rng): strange(rng) for _ in range(rng.randint(3, 6))}
    keys = rng.sample(list(record), min(2, len(record)))
    lines = "\n".join(f"{k}: {v}" for k, v in record.items())
    answer = {"function": "tell_visitor", "parameters": {k: record[k] for k in keys}}
    return f"task: call tell_visitor with {', '.join(keys)}.\n{lines}", tasks.compact(answer)


def shuffled_letters(rng: Random) -> tuple[str, str]:
    """Fields whose values are letters and digits without any pattern, twenty long."""
    record = {words.key(rng): words.chars(rng, "abcdefghijklmnopqrstuvwxyz0123456789-", 20, 20) for _ in range(4)}
    key = rng.choice(list(record))
    return f"task: pick {key}\n" + "\n".join(f"{k}: {v}" for k, v in record.items()), tasks.compact({key: record[key]})


def nested(rng: Random) -> tuple[str, str]:
    """Two blocks of fields, one key asked from each."""
    first = {words.key(rng): words.suffixed(rng) for _ in range(3)}
    second = {k: v for k, v in ((words.key(rng), words.numbered(rng)) for _ in range(3)) if k not in first}
    a, b = rng.choice(list(first)), rng.choice(list(second))
    body = "left:\n" + "\n".join(f"  {k}: {v}" for k, v in first.items())
    body += "\nright:\n" + "\n".join(f"  {k}: {v}" for k, v in second.items())
    return f"task: pick {a}, {b}\n{body}", tasks.compact({a: first[a], b: second[b]})


HELD_OUT: tuple[Callable[[Random], tuple[str, str]], ...] = (strange_call, shuffled_letters, nested)


def pairs(count: int, seed: int) -> dict[str, Pairs]:
    """`count` examples of each task, by name."""
    made = {}
    trade = season(0, LAST_CHUNK)
    for form in (seasons.call, seasons.report, seasons.log):
        rng = Random(f"score-{seed}-{form.__name__}")
        made[f"{form.__name__} (last season)"] = [form(trade, rng, False) for _ in range(count)]
    for task in [t for t, _ in tasks.MIXTURE if t is not tasks.several] + list(HELD_OUT):
        rng = Random(f"score-{seed}-{task.__name__}")
        label = f"{task.__name__} (held-out)" if task in HELD_OUT else task.__name__
        made[label] = [task(rng) for _ in range(count)]
    return made


@torch.inference_mode()
def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, users: list[str], batch: int = 50) -> list[str]:
    """Greedy answers, in the order asked; batched by length so that little is padding."""
    prompts = [chat(user, "")[0] for user in users]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out = [""] * len(prompts)
    tokenizer.padding_side = "left"
    for start in range(0, len(order), batch):
        at = order[start : start + batch]
        inputs = tokenizer([prompts[i] for i in at], return_tensors="pt", padding=True, add_special_tokens=False)
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=160,
            do_sample=False,
        )
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(at, texts, strict=True):
            out[i] = text
    return out


def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Share of exact answers and of valid JSON, per task."""
    table = {}
    for label, examples in pairs(count, seed).items():
        said = answers(model, tokenizer, [user for user, _ in examples])
        exact = sum(a == b for a, (_, b) in zip(said, examples, strict=True))
        table[label] = {"exact": exact / count, "json": sum(map(_parses, said)) / count}
    return table


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=100, help="examples of each task")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    print(f"{'task':32} exact  json  (n = {args.count} each)")
    for label, row in score(model, tokenizer, args.count, args.seed).items():
        print(f"{label:32} {row['exact']:5.2f} {row['json']:5.2f}")


if __name__ == "__main__":
    main()
