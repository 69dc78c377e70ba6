"""How good a model is, and whether that is good enough: predict, score, bound, judge, report."""

from opstune.evaluate.evaluate import Evaluation, evaluate, read_evaluation
from opstune.evaluate.gates import Gate, Gates, read_gates
from opstune.evaluate.judging import gate, read_newly_broken, read_verdict
from opstune.evaluate.lines import Line, Verdict
from opstune.evaluate.wording import gate_table

__all__ = [
    "Evaluation",
    "Gate",
    "Gates",
    "Line",
    "Verdict",
    "evaluate",
    "gate",
    "gate_table",
    "read_evaluation",
    "read_gates",
    "read_newly_broken",
    "read_verdict",
]
