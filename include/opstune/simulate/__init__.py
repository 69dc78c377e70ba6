"""The generated history: a made-up platform team whose truth is known, for the demo, the tests and the benchmarks."""

from opstune.simulate.examples import simulate_examples
from opstune.simulate.history import TRUTH, UNTIL, Truth, write_history

__all__ = ["TRUTH", "UNTIL", "Truth", "simulate_examples", "write_history"]
