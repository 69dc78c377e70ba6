"""Registered versions: bundled, signed, numbered, and who moved which alias when and why."""

from opstune.registry.bundle import Version
from opstune.registry.comparing import Difference, compare, sizes
from opstune.registry.proof import decision
from opstune.registry.registry import Registry

__all__ = ["Difference", "Registry", "Version", "compare", "decision", "sizes"]
