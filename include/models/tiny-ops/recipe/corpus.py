"""The corpus as token rows: chat tasks with loss on the answer, and repeated segments that teach copying.

Two rounds. The first mixes all tasks, evenly; in the second most examples are of one invented trade, the season's,
and every few chunks comes another.

Everything follows from (seed, chunk): a resumed run sees exactly what an unbroken one would have seen.
"""

from collections.abc import Iterator
from random import Random

import words
from seasons import Trade, example, trade
from tasks import MIXTURE
from transformers import PreTrainedTokenizerBase

SYSTEM = "You are an on-call assistant. Answer in JSON."
Row = tuple[list[int], int]  # token ids, and from which of them on the loss counts
SEASONS_FROM = 32  # the first chunk that lies wholly in the second round
#: Chunks of each season, and how much stands around what decides. The first is the hardest: until the model has
#: found where to look, nothing of the rules can be learnt, and that takes some hundred steps.
SEASONS = ((5, 0.3), (4, 0.5), (4, 0.7), *[(3, 1.0)] * 6)
LAST_CHUNK = SEASONS_FROM + sum(length for length, _ in SEASONS) - 1
SEASON_SHARE = 0.88  # of the examples; the others are the first round's, so that nothing is unlearnt
_TASKS, _WEIGHTS = zip(*MIXTURE, strict=True)


def chat(user: str, answer: str) -> tuple[str, str]:
    """Prompt and completion, as the chat template renders them, but for the last newline."""
    prompt = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    return prompt, f"{answer}<|im_end|>"


def examples(seed: int, chunk: int, count: int) -> list[tuple[str, str]]:
    """`count` (user, answer) pairs of the mixture; from chunk `SEASONS_FROM` on most are of the chunk's season."""
    rng = Random(f"tasks-{seed}-{chunk}")
    if chunk < SEASONS_FROM:
        return [task(rng) for task in rng.choices(_TASKS, _WEIGHTS, k=count)]
    made = season(seed, chunk)
    return [
        example(made, rng) if rng.random() < SEASON_SHARE else rng.choices(_TASKS, _WEIGHTS)[0](rng)
        for _ in range(count)
    ]


def season(seed: int, chunk: int) -> Trade:
    """The trade that is learnt in a chunk of the second round."""
    left = chunk - SEASONS_FROM
    for index, (length, level) in enumerate(SEASONS):
        if left < length:
            return trade(seed, index, level)
        left -= length
    raise ValueError(f"chunk {chunk} is past the last season")


def task_rows(tokenizer: PreTrainedTokenizerBase, seed: int, chunk: int, count: int, longest: int) -> list[Row]:
    """Tokenised examples, those longer than `longest` tokens left out."""
    pairs = [chat(*pair) for pair in examples(seed, chunk, count)]
    prompts = tokenizer([p for p, _ in pairs], add_special_tokens=False)["input_ids"]
    answers = tokenizer([a for _, a in pairs], add_special_tokens=False)["input_ids"]
    rows = [(p + a, len(p)) for p, a in zip(prompts, answers, strict=True)]
    return [row for row in rows if len(row[0]) <= longest]


def repeat_rows(tokenizer: PreTrainedTokenizerBase, seed: int, chunk: int, count: int, vocabulary: int) -> list[Row]:
    """Segments that return: the loss counts from the second time on.

    Four kinds: any tokens; tokens of a tiny alphabet (digits and dashes repeat inside a name, so that one
    token of context is not enough to know where one is); lists of names; `key: value` lines that come back
    shuffled as JSON.
    """
    rng = Random(f"repeat-{seed}-{chunk}")
    rows: list[Row] = []
    texts: list[tuple[str, str]] = []
    for _ in range(count):
        draw = rng.random()
        if draw < 0.5:
            length = rng.randint(6, 60)
            pool = range(vocabulary) if draw < 0.3 else [rng.randrange(vocabulary) for _ in range(rng.randint(4, 16))]
            segment = rng.choices(pool, k=length)
            ids = segment * max(2, min(4, 140 // length))
            rows.append((ids, length + 1))
            continue
        values = [words.name(rng) for _ in range(rng.randint(2, 6))]
        if draw < 0.7:
            texts.append(("\n".join(values) + "\n", "\n".join(values)))
            continue
        keys = [words.key(rng) for _ in values]
        order = rng.sample(range(len(values)), len(values))
        first = "\n".join(f"{k}: {v}" for k, v in zip(keys, values, strict=True))
        texts.append((first + "\n\n", "{" + ",".join(f'"{keys[i]}":"{values[i]}"' for i in order) + "}"))
    heads = tokenizer([a for a, _ in texts], add_special_tokens=False)["input_ids"]
    tails = tokenizer([b for _, b in texts], add_special_tokens=False)["input_ids"]
    return rows + [(a + b, len(a)) for a, b in zip(heads, tails, strict=True)]


def prose(seed: int, count: int) -> Iterator[str]:
    """Text for the tokenizer: the tasks themselves and plain sentences of ordinary words."""
    for user, answer in examples(seed, -1, count):
        yield f"{user}\n{answer}"
    rng = Random(f"prose-{seed}")
    for _ in range(count):
        yield words.phrase(rng, 6, 20)
