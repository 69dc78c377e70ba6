"""Where history comes from: sources, mapped record by record, with watermarks and a quarantine."""

from opstune.collect.mapping import source_names
from opstune.collect.pulling import SourceCheck, SourceReport, check, pull
from opstune.collect.quarantine import Quarantine, Refused
from opstune.collect.snapshots import snapshot
from opstune.collect.staleness import Age, ages, refuse_stale

__all__ = [
    "Age",
    "Quarantine",
    "Refused",
    "SourceCheck",
    "SourceReport",
    "ages",
    "check",
    "pull",
    "refuse_stale",
    "snapshot",
    "source_names",
]
