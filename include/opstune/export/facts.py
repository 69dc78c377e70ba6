"""What the convert stage tells about the file that ships: ``export.json`` in its folder."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from opstune.artifacts import Ref
from opstune.errors import IntegrityError

FILE = "export.json"

Into = Literal["dequantised", "original", "none"]


class Choice(BaseModel):
    """Both ways of merging an adapter that learnt in 4 bits, by the loss over validation examples (nats a token)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dequantised: float
    original: float
    examples: int

    @property
    def better(self) -> Into:
        """The dequantised base where both are equal: it is what the adapter saw and what evaluation measured."""
        return "original" if self.original < self.dequantised else "dequantised"


class Facts(BaseModel):
    """What ships, what it was made from, and how large it is (bytes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantisation: str
    family: str
    num_ctx: int
    merged_into: Into
    choice: Choice | None
    adapter_sha256: str
    base_sha256: str
    f16_sha256: str
    gguf_sha256: str
    bytes: int
    f16_bytes: int
    base_bytes: int
    lora: bool

    @property
    def size_reduction(self) -> float:
        """How much smaller the file is than in 16 bits, as a share."""
        return 1 - self.bytes / self.f16_bytes

    @property
    def counts(self) -> dict[str, float]:
        """The numbers of the stage's ref."""
        found: dict[str, float] = {"bytes": self.bytes, "f16_bytes": self.f16_bytes, "base_bytes": self.base_bytes}
        found |= {"size_reduction": round(self.size_reduction, 4), "num_ctx": self.num_ctx}
        if self.choice:
            found |= {"loss_dequantised": self.choice.dequantised, "loss_original": self.choice.original}
            found["loss_rows"] = self.choice.examples
        return found


def read_facts(ref: Ref) -> Facts:
    """The facts in a convert stage's folder.

    Raises:
        IntegrityError: they cannot be read.
    """
    path = ref.path / FILE
    try:
        return Facts.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise IntegrityError(f"{path} is missing or unreadable", ref.kind, "Convert the adapter again.") from error
