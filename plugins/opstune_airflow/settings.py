"""From Airflow to the library's Settings: the form wins over the environment, connections become URLs.

Connections are read where they are used and only those that are asked for: each costs a request.
They never travel through XCom, and a URL shows itself as asterisks in any log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import opstune

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from opstune.settings import Settings

MLFLOW: Final = "opstune_mlflow"
LABEL_STUDIO: Final = "opstune_label_studio"
#: A server through which what ships is measured, if evaluate.endpoint.model names it.
ENDPOINT: Final = "opstune_endpoint"
#: Where a version may be deployed to, by serve.deploy.to.
PLACES: Final = ("opstune_ollama", "opstune_vllm", "opstune_llama_cpp")
#: The secret that the example store is encrypted under, where it does not come from a file; and the one before.
STORE_KEYS: Final = ("opstune_store_key", "opstune_store_key_previous")
#: What annotation needs: Label Studio, the store's keys, and where the champion is registered.
ANNOTATION: Final = (LABEL_STUDIO, MLFLOW, *STORE_KEYS)
_SCHEMES: Final = {"postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}

# Field of the form → section and key of opstune.yaml.
_FORM: Final = {
    "profile": ("train", "profile"),
    "epochs": ("train", "epochs"),
    "learning_rate": ("train", "learning_rate"),
    "max_steps": ("train", "max_steps"),
    "days_back": ("collect", "days_back"),
    "minimum": ("dataset", "minimum"),
    "maximum": ("dataset", "maximum"),
}


def load(params: Mapping[str, Any], connections: Iterable[str] = ()) -> Settings:
    """The settings of a run: its form over the environment over YAML, with these connections filled in.

    Raises:
        ConfigError: a key or value is wrong, with where it came from.
    """
    from opstune import settings as library

    found = {name: connection for name in connections if (connection := as_connection(name))}
    overrides: dict[str, Any] = {**form_overrides(params)}
    if found:
        overrides["connections"] = found
    return library.load(overrides)


def form_overrides(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The filled fields of the form, by section. An empty field leaves the configuration alone."""
    overrides: dict[str, dict[str, Any]] = {}
    for field, (section, key) in _FORM.items():
        if params.get(field) is not None:
            overrides.setdefault(section, {})[key] = params[field]
    return overrides


def as_connection(name: str) -> dict[str, str] | None:
    """An Airflow connection as the library's, or none when there is no such connection.

    The extras ``ca_file`` and ``proxy`` go along; a password without a login is a token.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _as_library(Connection.get(name))
    except AirflowNotFoundException:
        return None


def has_connection(name: str) -> bool:
    """Whether Airflow knows a connection, for what reads it by itself."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return bool(Connection.get(name))
    except AirflowNotFoundException:
        return False


async def connection_of_trigger(name: str) -> dict[str, str] | None:
    """The same from a trigger, whose event loop may not be held up."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _as_library(await Connection.async_get(name))
    except AirflowNotFoundException:
        return None


def _as_library(found: Connection) -> dict[str, str]:
    extra = json.loads(found.extra or "{}")
    return {"url": as_url(found), **{key: extra[key] for key in ("ca_file", "proxy") if extra.get(key)}}


def connection_url(name: str) -> str | None:
    """The URL of an Airflow connection, or none when there is no such connection."""
    found = as_connection(name)
    return found["url"] if found else None


def as_url(connection: Connection) -> str:
    """``type://login:password@host:port/schema``, by the conventions of Airflow's own providers.

    SQLite holds its path in the host field, a file system in the extra ``path``, HTTP its scheme in the schema field.
    """
    kind, host = connection.conn_type or "", connection.host or ""
    if kind in ("file", "fs"):
        return f"file://{json.loads(connection.extra or '{}').get('path') or host}"
    if kind == "sqlite":
        return f"sqlite:///{host}"
    scheme, database = _SCHEMES.get(kind, kind), f"/{quote(connection.schema or '', safe='/')}"
    if kind in ("http", "https"):
        scheme, database = connection.schema or kind, ""
    if "://" in host:
        scheme, _, host = host.partition("://")
    secret = f":{quote(connection.password, safe='')}" if connection.password else ""
    login = f"{quote(connection.login or '', safe='')}{secret}"
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{login}{'@' if login else ''}{host}{port}{database if database != '/' else ''}"


def source_names() -> list[str]:
    """The sources that are configured, by file name: a DAG file that is parsed may not read more than that."""
    return _stems("sources")


def annotation_projects() -> list[str]:
    """The projects in Label Studio, by the name of their labelling page."""
    return _stems("label_studio", "*.xml")


def profile_names() -> list[str]:
    return _stems("profiles")


def train_devices() -> int:
    """GPUs of one training: pool slots are settled when a DAG file is parsed. A wrong value is told by the task."""
    import yaml

    found = os.environ.get("OPSTUNE__TRAIN__DEVICES")
    if found is None:
        train = (yaml.safe_load((_config() / "opstune.yaml").read_text()) or {}).get("train") or {}
        found = str(train.get("devices", 1))
    return int(found) if found.isdecimal() and int(found) else 1


def source_connections(source: str) -> list[str]:
    """The connections that a source's file names: its own, and those of what it is joined with."""
    from opstune.settings import config_dir, read_yaml

    return sorted(set(_named(read_yaml(config_dir() / "sources" / f"{source}.yaml"))))


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "connection" and inner:
                yield str(inner)
            else:
                yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def _stems(folder: str, pattern: str = "*.yaml") -> list[str]:
    return sorted(file.stem for file in (_config() / folder).glob(pattern))


def _config() -> Path:
    # opstune.settings.config_dir, without the tenth of a second that pydantic-settings takes to import
    return Path(os.environ.get("OPSTUNE_CONFIG", Path(opstune.__file__).parents[1] / "config"))
