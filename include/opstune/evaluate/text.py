"""How close answers come to the expected ones as texts: perplexity, BLEU and ROUGE-L. Alarms rather than proofs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from opstune.evaluate.metrics import Frozen

#: Beyond this a model is as good as silent, and the figure would no longer be a finite JSON number.
_MOST_NATS = 100.0


class Text(Frozen):
    """Over ``n`` cases. ``perplexity`` is ``exp`` of the mean negative log-likelihood of the expected answers' tokens.

    ``bleu`` and ``rouge_l`` are from 0 to 1. What could not be measured is none.
    """

    perplexity: float | None
    bleu: float | None
    rouge_l: float | None
    n: int


def perplexity(nll: Sequence[float], tokens: Sequence[int]) -> float | None:
    """From each answer's summed negative log-likelihood and its tokens; none of no tokens."""
    return math.exp(min(sum(nll) / sum(tokens), _MOST_NATS)) if sum(tokens) else None


def bleu(expected: Sequence[str], said: Sequence[str]) -> float | None:
    """Corpus BLEU (Papineni et al., 2002) as sacrebleu has it by default (Post, 2018), 0 to 1; none of no texts."""
    from sacrebleu.metrics.bleu import BLEU  # half a second, which only an evaluation pays

    return float(BLEU().corpus_score(list(said), [list(expected)]).score) / 100 if said else None


def rouge_l(expected: Sequence[str], said: Sequence[str]) -> float | None:
    """The mean F1 of the longest common subsequence of words (Lin, 2004, ROUGE-L), 0 to 1; none of no texts."""
    from rouge_score.rouge_scorer import RougeScorer  # seconds, since it imports nltk

    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(right, told)["rougeL"].fmeasure for right, told in zip(expected, said, strict=True)]
    return float(sum(scores) / len(scores)) if scores else None
