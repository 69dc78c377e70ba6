"""Profiles: how a base model is trained, one typed YAML file each in ``config/profiles``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from opstune.errors import ConfigError
from opstune.settings import DEFAULT_QUANTISATION, Quantisation, config_dir, read_model

#: The sections that only some methods have a use for.
_SECTION_OF = {"lora": ("lora", "qlora"), "freeze": ("freeze",)}

Backend = Literal["trl", "llamafactory", "openai"]
Method = Literal["lora", "qlora", "full", "freeze"]
Attention = Literal["auto", "eager", "sdpa", "flash", "flex"]
Precision = Literal["auto", "float32"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Strict):
    """The adapter: ``W + alpha / rank * B @ A`` on every targeted matrix."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"

    @field_validator("target")
    @classmethod
    def _not_the_head(cls, value: str | list[str]) -> str | list[str]:
        if "lm_head" in value:
            raise ValueError("an adapter on lm_head is not possible: the loss skips it where nothing is learnt")
        return value


class Freeze(_Strict):
    """Only the last transformer blocks learn, whole; embeddings, earlier blocks, last norm and head stay."""

    layers: int = Field(ge=1)


class Incremental(_Strict):
    """What differs when the parent's adapter goes on learning."""

    learning_rate_factor: float = Field(gt=0, le=1)
    epochs: float = Field(gt=0)


class EarlyStopping(_Strict):
    """When a training ends before its last step."""

    patience: int = Field(ge=1)
    minimum_gain: float = Field(0.0, ge=0)


class Needs(_Strict):
    """What the preflight asks of the machine."""

    disk_gb: float = Field(ge=0)
    memory_gb: float = Field(ge=0)
    gpu_memory_gb: float = Field(0.0, ge=0)


class Profile(_Strict):
    """How one base model is trained. Every key is explained in ``config/profiles/tiny.yaml``."""

    name: str
    base: str = Field(min_length=1)
    revision: str | None = None
    base_sha256: Sha256 | None = None
    backend: Backend = "trl"
    method: Method
    lora: Lora | None = Field(None, validate_default=True)
    freeze: Freeze | None = Field(None, validate_default=True)
    chat_template: str | None = None
    epochs: float = Field(gt=0)
    learning_rate: float = Field(gt=0, lt=1)
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    warmup: float = Field(ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    batch_size: int = Field(ge=1)
    accumulation: int = Field(1, ge=1)
    max_length: int = Field(ge=16)
    optimiser: Literal["adamw", "adamw_8bit"]
    activation_checkpointing: bool
    attention: Attention = "auto"
    precision: Precision = "auto"
    packing: bool = False
    validate_every: float | None = Field(None, gt=0)
    early_stopping: EarlyStopping | None = None
    incremental: Incremental
    quantisation: Quantisation = DEFAULT_QUANTISATION
    num_ctx: int | None = Field(None, ge=128)
    needs: Needs

    @field_validator("lora", "freeze")
    @classmethod
    def _section_fits_method(cls, value: Lora | Freeze | None, info: ValidationInfo) -> Lora | Freeze | None:
        method, users = info.data.get("method"), _SECTION_OF[str(info.field_name)]
        if value is None and method in users:
            raise ValueError(f"method {method} needs this section")
        if value is not None and method is not None and method not in users:
            raise ValueError(f"method {method} has no use for this section")
        return value

    @field_validator("revision")
    @classmethod
    def _revision_of_a_repository(cls, value: str | None, info: ValidationInfo) -> str | None:
        base = str(info.data.get("base", "a/b"))
        if value and ("/" not in base or Path(base).is_absolute()):
            raise ValueError(f"only a hub repository has revisions, {base} is a folder; pin base_sha256 instead")
        return value

    @field_validator("chat_template")
    @classmethod
    def _known_template(cls, value: str | None) -> str | None:
        if value is not None and not template_file(value).is_file():
            known = sorted(path.stem for path in template_file("").parent.glob("*.jinja"))
            raise ValueError(f"there is no such file in config/templates, which holds {', '.join(known)}")
        return value

    @field_validator("validate_every")
    @classmethod
    def _validated_here(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and (backend := info.data.get("backend")) not in ("trl", None):
            raise ValueError(f"the backend {backend} does not evaluate while it trains")
        return value

    @field_validator("early_stopping")
    @classmethod
    def _stops_by_validation(cls, value: EarlyStopping | None, info: ValidationInfo) -> EarlyStopping | None:
        if value is not None and info.data.get("validate_every", 1) is None:
            raise ValueError("what stops a training early is its validation loss: set validate_every")
        return value

    @field_validator("warmup", "validate_every")
    @classmethod
    def _share_or_steps(cls, value: float | None) -> float | None:
        if value is not None and value >= 1 and not value.is_integer():
            raise ValueError("below 1 it is a share of all steps, from 1 on a whole number of steps")
        return value

    @property
    def template(self) -> str | None:
        """The text of the chat template that replaces the base's own, or none."""
        return template_file(self.chat_template).read_text() if self.chat_template else None

    @property
    def base_name(self) -> str:
        """The base's name as adapters record it: never a machine's path."""
        return Path(self.base).name if Path(self.base).is_absolute() else self.base

    @property
    def hosted(self) -> bool:
        """Whether the base stands at a provider and never here; ``base`` is then the provider's name of it."""
        return self.backend == "openai"

    @property
    def effective_batch(self) -> int:
        """Examples of one optimiser step."""
        return self.batch_size * self.accumulation


def template_file(name: str) -> Path:
    """Where a chat template of this name stands."""
    return config_dir() / "templates" / f"{name}.jinja"


def profile_names() -> list[str]:
    return sorted(path.stem for path in (config_dir() / "profiles").glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """The profile of this name, from ``config/profiles/<name>.yaml``.

    Raises:
        ConfigError: there is none, or it lists every unknown key and wrong value at once.
    """
    file = config_dir() / "profiles" / f"{name}.yaml"
    if name not in profile_names():
        raise ConfigError(f"there is no profile {name!r}", str(file.parent), f"Known: {', '.join(profile_names())}.")
    profile = read_model(file, Profile)
    if profile.name != name:
        raise ConfigError(f"{file.name} calls itself {profile.name!r}", str(file), f"Write `name: {name}`.")
    return profile
