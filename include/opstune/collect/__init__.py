"""Where history comes from: sources, mapped record by record, with watermarks and a quarantine."""

from opstune.collect.mapping import source_names
from opstune.collect.pulling import SourceCheck, SourceReport, check, pull
from opstune.collect.quarantine import Quarantine, Refused
from opstune.collect.snapshots import snapshot

__all__ = ["Quarantine", "Refused", "SourceCheck", "SourceReport", "check", "pull", "snapshot", "source_names"]
