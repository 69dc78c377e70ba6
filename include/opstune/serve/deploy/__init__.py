"""Putting a registered version where it answers: one protocol, a file a place.

``prepare`` puts it beside what answers now and questions it there; ``switch`` lets production answer with it.
Whoever calls has seen to it that the version's signature holds and its verdict says promote.
"""

from opstune.serve.deploy.base import Release, Target
from opstune.serve.deploy.targets import CONNECTIONS, FILES, target_of, write_files

__all__ = ["CONNECTIONS", "FILES", "Release", "Target", "target_of", "write_files"]
