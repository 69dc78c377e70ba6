"""opstune: a private language model, retrained on a team's own on-call history and gated by numbers."""

__version__ = "0.1.0"
