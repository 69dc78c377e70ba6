"""From the example store to what a model is trained and tested on: validate, scrub, deduplicate, split, write."""

from opstune.dataset.canaries import Canary
from opstune.dataset.canaries import of as canaries_of
from opstune.dataset.formats import export
from opstune.dataset.lengths import Tokenizer
from opstune.dataset.stage import build

__all__ = ["Canary", "Tokenizer", "build", "canaries_of", "export"]
