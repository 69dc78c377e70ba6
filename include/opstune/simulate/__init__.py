"""The generated history: a made-up platform team whose truth is known, for the demo and the tests."""

from opstune.simulate.history import TRUTH, UNTIL, Truth, write_history

__all__ = ["TRUTH", "UNTIL", "Truth", "write_history"]
