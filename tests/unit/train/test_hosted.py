"""What is refused before anything is sent to a provider, and how a profile becomes its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from child_place import make_spec
from pydantic import SecretStr

from opstune.errors import ConfigError
from opstune.settings import Connection, Patience, TrainSettings
from opstune.train import load_profile
from opstune.train.backends import openai
from opstune.train.backends.openai_api import FineTuning
from opstune.train.bases import base_folder, base_sha256

#: Nobody answers there, and no test gets so far as to ask.
NOWHERE = Connection(url=SecretStr("http://:sk-x@127.0.0.1:9"))


def ignore(event: str, **facts: Any) -> None:
    """What is told here is no matter."""


def hosted_spec(work: Path, **changes: Any) -> Any:
    return make_spec(work, Path("gpt"), load_profile("openai"), **changes)


def test_permission_is_off_by_default(tmp_path: Path) -> None:
    assert TrainSettings().allow_data_to_leave is False
    with pytest.raises(ConfigError, match="private data may not leave the house"):
        openai.run(hosted_spec(tmp_path / "work"), ignore)


def test_a_missing_connection_is_told(tmp_path: Path) -> None:
    allowed = TrainSettings(allow_data_to_leave=True)
    with pytest.raises(ConfigError, match="no connection opstune_openai"):
        openai.Hosted(None, allowed).train(hosted_spec(tmp_path / "work"), ignore)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parent": Path("champion"), "parent_sha256": "0"}, "cannot go on from a model that is here"),
        ({"epochs": 51.0}, "n_epochs: input should be less than or equal to 50"),
        ({"batch_size": 64, "accumulation": 8}, "batch_size: input should be less than or equal to 256"),
    ],
)
def test_what_the_provider_would_refuse_is_refused_before_anything_is_sent(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with (
        FineTuning(NOWHERE, Patience(attempts=1)) as service,
        pytest.raises(ConfigError, match=says),
    ):
        openai.begin(service, hosted_spec(tmp_path / "work", **changes), ignore)


def test_a_hosted_base_is_known_by_its_name_alone() -> None:
    profile = load_profile("openai")
    assert base_sha256(profile) != base_sha256(profile.model_copy(update={"base": "another"}))
    with pytest.raises(ConfigError, match="stands at a provider, not here"):
        base_folder(profile)
