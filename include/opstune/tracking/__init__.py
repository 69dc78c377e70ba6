"""One MLflow run a retrain, found again by its run id, so that a retry or the next stage joins it.

What a stage tells is gathered and sent when the stage ends (a long one also while it runs), and a stage that tells
nothing never imports MLflow, which takes seconds. Secrets and home paths are not sent. MLflow is where people look,
not what a retrain stands on: what it does not take waits in a folder and goes with whatever is sent next.
"""

from opstune.tracking.machine import watched
from opstune.tracking.server import connect, find, reachable
from opstune.tracking.stage import Place, run
from opstune.tracking.tracker import RUN_TAG, Tracker, flat, lineage

__all__ = ["RUN_TAG", "Place", "Tracker", "connect", "find", "flat", "lineage", "reachable", "run", "watched"]
