"""Train the tokenizer: byte-level BPE with Qwen2's split, so that it is read as Qwen2's everywhere.

One thing is special. Merges are learnt on bare words, apart from the space or sign before them, so a name is
cut the same way after a space (in the prompt) and after a quote (in JSON): copying is then copying, token for
token. It costs a token for each space, and is worth it.
"""

import json
from collections.abc import Iterable

import words
from corpus import SYSTEM, prose
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

BARE_SPLIT = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 2048
LEXICON_WEIGHT = 3000  # an ordinary word is worth more than the syllables of invented ones
TEMPLATE = (
    r"{% for message in messages %}"
    r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    r"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train(seed: int, size: int, texts: int = 8_000) -> PreTrainedTokenizerBase:
    """A tokenizer of `size` entries: the alphabet, what corpus and lexicon make of it, the special ones."""
    lexicon = " ".join(
        {w: None for group in (words.NOUNS, words.VERBS, words.ADJECTIVES, words.PROSE, words.JOINTS) for w in group}
    )
    corpus = list(prose(seed, texts)) + [lexicon] * LEXICON_WEIGHT + [SYSTEM] * 2000
    vocabulary, merges = _learn(corpus, size - len(SPECIAL))
    for token in SPECIAL:
        vocabulary[token] = len(vocabulary)
    return Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        unk_token="<|endoftext|>", additional_special_tokens=["<|im_start|>"], chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )  # fmt: skip


def _learn(corpus: Iterable[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges over bare words, read from the tokenizer's JSON (there is no other way)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(BARE_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    return dict(model["vocab"]), [(left, right) for left, right in model["merges"]]
