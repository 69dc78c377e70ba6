"""Attacks on a model before it ships, offline: what must hold, asked at every retrain as production asks."""

from opstune.evaluate.red_team.model import METRICS, Attacked, Planted, Probe, Probed, RedTeam
from opstune.evaluate.red_team.stage import read_probes, read_red_team, red_team
from opstune.evaluate.red_team.suite import broken_attacks, broken_cases, read_suite, remember

__all__ = [
    "METRICS",
    "Attacked",
    "Planted",
    "Probe",
    "Probed",
    "RedTeam",
    "broken_attacks",
    "broken_cases",
    "read_probes",
    "read_red_team",
    "read_suite",
    "red_team",
    "remember",
]
