"""The catalogue of functions that on-call automation may run: ``config/functions.yaml``."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict

from opstune.settings import config_dir, read_model

NONE = "none"


class Function(BaseModel):
    model_config = ConfigDict(extra="forbid")

    does: str
    parameters: list[str] = []


class Catalogue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    functions: dict[str, Function]


@cache
def functions() -> dict[str, list[str]]:
    """Function → names of its parameters, in the catalogue's order, ``none`` last."""
    catalogue = read_model(config_dir() / "functions.yaml", Catalogue)
    return {**{name: function.parameters for name, function in catalogue.functions.items()}, NONE: []}
