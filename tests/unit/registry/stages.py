"""Types of the run that ``conftest.py`` makes up."""

from collections.abc import Callable

from opstune.artifacts import Ref

Refs = dict[str, Ref]
MakeRun = Callable[..., Refs]
