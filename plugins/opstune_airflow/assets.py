"""What the DAGs make, for Airflow's Assets page and for DAGs that want to start when it is made.

Each event's ``extra`` holds the ref's sha256 and counts, so a consumer can pin exactly what it saw.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, get_current_context

EXAMPLES = Asset("opstune_examples")
DATASET = Asset("opstune_dataset")
ADAPTER = Asset("opstune_adapter")
VERDICT = Asset("opstune_verdict")
MODEL = Asset("opstune_model")
CHAMPION = Asset("opstune_champion")


def describe(asset: Asset, **extra: Any) -> None:
    """Put facts on the event that the running task emits for ``asset``."""
    get_current_context()["outlet_events"][asset].extra = extra
