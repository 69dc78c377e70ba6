"""One typed configuration. Precedence: form or flags > environment > opstune.yaml.

Environment variables are ``OPSTUNE__SECTION__KEY``. Where things stand is not configuration but
place: ``OPSTUNE_HOME`` (state, default ``.opstune``) and ``OPSTUNE_CONFIG`` (this folder of YAML
files, default the one in the repository). Endpoints and secrets are connections and never YAML.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from opstune.errors import ConfigError
from opstune.sections import DeploySettings as DeploySettings
from opstune.sections import Patience as Patience
from opstune.sections import PodSettings as PodSettings
from opstune.sections import Section as Section
from opstune.sections import ServeSettings as ServeSettings
from opstune.sections import Share

ENV_PREFIX = "OPSTUNE__"
_PACKAGED_CONFIG = Path(__file__).parents[1] / "config"

M = TypeVar("M", bound=BaseModel)

Mode = Literal["full", "incremental"]
Quantisation = Literal["Q4_K_M", "Q5_K_M", "Q8_0"]
DEFAULT_QUANTISATION: Quantisation = "Q4_K_M"
Strategy = Literal["proportional", "balanced", "recent"]


class CollectSettings(Section):
    """How far back and how patiently history is read."""

    overlap_minutes: int = Field(60, ge=0)
    days_back: int = Field(60, ge=1)
    time_limit_minutes: float = Field(60.0, gt=0)
    max_staleness_days: float = Field(14.0, gt=0)
    patience: Patience = Patience()


class AnnotateSettings(Section):
    """Which examples people are asked about in Label Studio, and when their answers count."""

    low_confidence: float = Field(0.6, ge=0.0, le=1.0)
    audit_share: float = Field(0.02, ge=0.0, le=1.0)
    most_open: int = Field(500, ge=1)
    annotators: int = Field(2, ge=1)
    shared: float = Field(0.2, ge=0.0, le=1.0)
    agreement: float = Field(0.9, ge=0.0, le=1.0)
    measure: Literal["percent", "kappa"] = "percent"
    ask_champion: bool = True
    compared: int = Field(50, ge=0)
    champion_minutes: float = Field(5.0, gt=0)
    wait_hours: float = Field(24.0, gt=0)
    when_late: Literal["go_on", "stop"] = "go_on"
    poll_seconds: float = Field(60.0, gt=0)
    seed: int = 7
    patience: Patience = Patience()


class SplitShares(Section):
    train: float = Share
    validation: float = Share
    test: float = Share


class FeedbackSettings(Section):
    """What people's ratings and corrections must pass before they teach: anybody may write them."""

    sources: list[str] = Field(default_factory=lambda: ["feedback"])
    minimum_rating: int = Field(3, ge=1, le=5)
    reviewed: bool = True
    per_user: int = Field(50, ge=1)
    quarantine_days: float = Field(7, ge=0)
    max_influence: float = Field(0.1, gt=0, le=1)


class ReplaySettings(Section):
    """The old examples that an incremental retrain repeats, so that it does not forget them."""

    share: float = Field(0.4, ge=0.0)
    strategy: Strategy = "proportional"


class DatasetSettings(Section):
    """What becomes training data, and how it is split."""

    minimum: int = Field(1000, ge=1)
    target: int = Field(10_000, ge=1)
    minimum_test: int = Field(30, ge=1)
    maximum: int = Field(100_000, ge=1)
    split: SplitShares = SplitShares(train=0.8, validation=0.1, test=0.1)
    near_duplicate_threshold: float = Share
    linked_threshold: float = Field(0.65, ge=0, le=1)
    replay: ReplaySettings = ReplaySettings()
    max_class_share: float = Share
    caps: dict[str, int] = Field(default_factory=dict)
    weights: dict[str, Annotated[float, Field(ge=1, le=100)]] = Field(default_factory=dict)
    feedback: FeedbackSettings = FeedbackSettings()
    skills: list[str]
    names: list[str] = Field(default_factory=list)
    canaries: int = Field(0, ge=0, le=20)
    seed: int = 7


class HostedSettings(Section):
    """How a training at a provider is waited for."""

    poll_seconds: float = Field(30.0, ge=0)
    wait_hours: float = Field(24.0, gt=0)
    patience: Patience = Patience()


class TrainSettings(Section):
    """What may be set per run; everything else of a training is its profile's."""

    profile: str = "tiny"
    epochs: float | None = Field(None, gt=0)
    learning_rate: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    checkpoint_steps: int | None = Field(50, ge=1)
    checkpoint_minutes: float | None = Field(10.0, gt=0)
    keep_checkpoints: int = Field(2, ge=1)
    progress_seconds: float = Field(5.0, gt=0)
    seed: int = 7
    devices: int = Field(1, ge=1)
    place: Literal["here", "pod"] = "here"
    allow_data_to_leave: bool = False
    hosted: HostedSettings = HostedSettings()


class EndpointSettings(Section):
    """A server through which what ships is measured. Its address is the connection opstune_endpoint."""

    model: str | None = None
    schema_form: Literal["json_schema", "json_object"] = "json_schema"
    parallel: int = Field(4, ge=1)
    patience: Patience = Patience(timeout_seconds=120.0)


class EvaluateSettings(Section):
    """How models are measured."""

    batch_size: int = Field(64, ge=1)
    max_new_tokens: int = Field(160, ge=1)
    free_decoding_sample: int = Field(100, ge=0)
    threads: int = Field(2, ge=1)
    endpoint: EndpointSettings = EndpointSettings()


class RedTeamSettings(Section):
    """How hard a model is attacked before it ships."""

    twins: int = Field(4, ge=2)
    seconds: float = Field(30.0, gt=0)
    regression: int = Field(200, ge=0)
    seed: int = 7


class ApprovalSettings(Section):
    """Whether a person must agree before a model that passed its gate is registered and deployed."""

    required: bool = False
    users: list[str] = Field(default_factory=list)
    hours: float = Field(24.0, gt=0)


class ExportSettings(Section):
    """What ships. What is none here is as the profile has it."""

    quantisation: Quantisation | None = None
    num_ctx: int | None = Field(None, ge=128)
    lora: bool = False
    merge_rows: int = Field(64, ge=0)
    parity_points: float = Field(1.0, ge=0)

    def filled(self, quantisation: Quantisation, num_ctx: int | None) -> ExportSettings:
        """These settings with a profile's own where they leave it open."""
        return self.model_copy(
            update={"quantisation": self.quantisation or quantisation, "num_ctx": self.num_ctx or num_ctx}
        )


class RegistrySettings(Section):
    """Where versions are kept. The tracking address is a connection; this is the embedded default."""

    #: MLflow refuses slashes and colons in it; quotes would end the filters that ask for it.
    model_name: str = Field("opstune", pattern=r"^[\w.-]+$", max_length=200)
    experiment: str = "opstune"


class SimulateSettings(Section):
    """The made-up platform team of the demo."""

    seed: int = 7
    days: int = Field(60, ge=1)
    incidents_per_day: int = Field(20, ge=1)


class Connection(Section):
    """Where a system is and how to get in.

    The URL may hold a login and a password; a password without a login is a token or an API key. ``ca_file`` is
    the certificate of the authority to trust beside the usual ones, ``proxy`` the URL of a forward proxy.
    """

    url: SecretStr
    ca_file: Path | None = None
    proxy: SecretStr | None = None

    @property
    def address(self) -> str:
        """The URL without login and password: what logs and errors may show."""
        parts = urlsplit(self.url.get_secret_value())
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password, where the URL has both."""
        parts = urlsplit(self.url.get_secret_value())
        return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None

    @property
    def token(self) -> str | None:
        """The token: a password without a user name."""
        parts = urlsplit(self.url.get_secret_value())
        return unquote(parts.password) if parts.password and not parts.username else None


class Settings(BaseSettings):
    """The whole configuration. ``home`` is absolute."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path
    collect: CollectSettings
    annotate: AnnotateSettings
    dataset: DatasetSettings
    train: TrainSettings
    pod: PodSettings = PodSettings()
    evaluate: EvaluateSettings
    red_team: RedTeamSettings = RedTeamSettings()
    approval: ApprovalSettings = ApprovalSettings()
    export: ExportSettings
    registry: RegistrySettings
    serve: ServeSettings
    simulate: SimulateSettings
    connections: dict[str, Connection] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=_config_file())

    def connection(self, name: str) -> Connection | None:
        """A connection (``opstune_database``), or none when the system is not connected."""
        return self.connections.get(name)

    @property
    def examples_dir(self) -> Path:
        return self.home / "examples"

    @property
    def keys_dir(self) -> Path:
        return self.home / "keys"

    @property
    def annotations_dir(self) -> Path:
        return self.home / "annotations"

    @property
    def regression_dir(self) -> Path:
        return self.home / "regression"

    @property
    def runs_dir(self) -> Path:
        return self.home / "runs"

    @property
    def tools_dir(self) -> Path:
        """Downloads that stay: the GGUF converter, environments of peers. ``OPSTUNE_TOOLS`` names a shared place."""
        return Path(os.environ.get("OPSTUNE_TOOLS", self.home / "tools"))

    @property
    def tracking_uri(self) -> str:
        server = self.connection("opstune_mlflow")
        return server.url.get_secret_value() if server else f"sqlite:///{self.home / 'mlflow.db'}"


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration; ``overrides`` (``{"train": {"epochs": 1}}``) win over everything.

    Raises:
        ConfigError: lists every wrong key and value at once, each with where it came from.
    """
    file = _config_file()
    if "connections" in read_yaml(file):
        todo = f"Use Airflow connections, or {ENV_PREFIX}CONNECTIONS__NAME__URL in the environment."
        raise ConfigError("connections stand in the YAML file, where secrets must not be", str(file), todo)
    _refuse_unknown_environment()
    asked = dict(overrides or {})
    try:
        home = Path(os.environ.get("OPSTUNE_HOME", ".opstune")).resolve()
        return Settings(**{"home": home, **asked})
    except ValidationError as error:
        todo = "Correct these and start again."
        raise ConfigError(faults(error, lambda loc: _origin(loc, asked, file)), "configuration", todo) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{file.name} cannot be read: {error}", str(file), "Restore or correct the file.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file.name} is not a mapping of keys", str(file), "Write `key: value` lines.")
    return found


def read_model(file: Path, model: type[M]) -> M:
    """A YAML file as a typed model: profiles, gates, sources.

    Raises:
        ConfigError: lists every fault of the file at once.
    """
    try:
        return model.model_validate(read_yaml(file))
    except ValidationError as error:
        raise ConfigError(faults(error, lambda _: file.name), str(file), "Correct these and start again.") from error


def faults(error: ValidationError, origin: Callable[[tuple[str | int, ...]], str]) -> str:
    """Every fault of a validation, one phrase each: where it came from, the key, what was expected."""
    told = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        got = "a secret" if "connections" in fault["loc"] else repr(fault["input"])
        wrong = "no such key" if fault["type"] == "extra_forbidden" else f"{fault['msg'].lower()}, got {got}"
        told.append(f"{origin(fault['loc'])}: {key}: {wrong}")
    return "; ".join(told)


def config_dir() -> Path:
    """The folder of YAML files: opstune.yaml, functions.yaml, gates.yaml, profiles/, sources/."""
    return Path(os.environ.get("OPSTUNE_CONFIG", _PACKAGED_CONFIG)).resolve()


def _config_file() -> Path:
    return config_dir() / "opstune.yaml"


def _refuse_unknown_environment() -> None:
    known = set(Settings.model_fields) - {"home"}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX).split("__")[0].lower() not in known:
            raise ConfigError(f"{name} names no section", "environment", f"Sections: {', '.join(sorted(known))}.")


def _origin(loc: tuple[str | int, ...], asked: Mapping[str, Any], file: Path) -> str:
    section, key = [*map(str, loc), ""][:2]
    if key in (asked.get(section) or {}):
        return "form"
    name = f"{ENV_PREFIX}{section}__{key}".upper()
    return f"environment {name}" if name in os.environ else file.name
