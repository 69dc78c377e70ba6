"""From an adapter to the file that ships: merge, GGUF, quantise, Modelfile."""

from opstune.export.convert import convert
from opstune.export.facts import Facts, read_facts

__all__ = ["Facts", "convert", "read_facts"]
