"""Registered versions: bundled, signed, numbered, and who moved which alias when and why."""

from opstune.registry.bundle import Version
from opstune.registry.registry import Registry

__all__ = ["Registry", "Version"]
