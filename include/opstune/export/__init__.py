"""From an adapter to the file that ships: merge, GGUF, quantise, Modelfile."""

from opstune.export.convert import convert

__all__ = ["convert"]
