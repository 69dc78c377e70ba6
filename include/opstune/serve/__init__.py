"""Asking a registered model."""

from opstune.serve.ask import ask
from opstune.serve.context import context_from_text

__all__ = ["ask", "context_from_text"]
