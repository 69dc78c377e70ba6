from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from stages import MakeRun

from opstune.errors import InputError, IntegrityError, ServiceDown
from opstune.registry import Registry
from opstune.registry.catalogue import Catalogue
from opstune.registry.ledger import Entry, Ledger
from opstune.settings import RegistrySettings


def aliases(registry: Registry) -> dict[str, str]:
    return {alias: version.version for version in registry.list() for alias in version.aliases}


def promoted(registry: Registry, make_run: MakeRun, count: int) -> None:
    for number in range(count):
        parent = registry.champion()
        version = registry.register(
            make_run(f"run-{number}"),
            "incremental" if parent else "full",
            parent.version if parent else None,
            f"run-{number}",
        )
        registry.promote(version.version, who="test", why=f"number {number}")


def test_a_run_becomes_a_signed_version_that_holds_all_it_needs(
    registry: Registry, make_run: MakeRun, home: Path, catalogue: Catalogue
) -> None:
    refs = make_run("first")
    version = registry.register(refs, "full", None, "first")
    assert (version.version, version.aliases, version.base.name) == ("1.0.0", ("challenger",), "tiny-ops")
    assert version.folder == home / "models" / "1.0.0"
    assert version.gguf.read_text() == "first"
    assert (version.adapter / "adapter_model.safetensors").is_file()
    assert json.loads((version.dataset / "dataset.json").read_text())["train_ids"] == ["first"]
    assert not (version.dataset / "train.parquet").exists()
    assert version.report == version.folder / "shipped_verdict" / "report.html"
    assert {name: stage.sha256 for name, stage in version.stages.items()} == {
        name: ref.sha256 for name, ref in refs.items()
    }
    assert str(home) not in (version.folder / "version.json").read_text()
    assert catalogue.seen().aliases == {"challenger": "1.0.0"}
    assert (home / "keys").stat().st_mode & 0o777 == 0o700
    assert (home / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_the_same_run_again_is_the_same_version_and_other_bytes_are_another(
    registry: Registry, make_run: MakeRun
) -> None:
    first = registry.register(make_run("run"), "full", None, "run")
    assert registry.register(make_run("run"), "full", None, "run") == first
    assert len(registry.ledger()) == 1
    assert registry.register(make_run("again", say="other"), "full", None, "run").version == "1.1.0"


def test_champion_previous_and_challenger_follow_promotions_and_rollbacks(
    registry: Registry, make_run: MakeRun, catalogue: Catalogue
) -> None:
    assert registry.champion() is None
    promoted(registry, make_run, 2)
    assert aliases(registry) == catalogue.seen().aliases == {"champion": "1.0.1", "previous": "1.0.0"}
    assert registry.rollback(who="anna", why="too many restarts").version == "1.0.0"
    assert aliases(registry) == catalogue.seen().aliases == {"champion": "1.0.0", "previous": "1.0.1"}
    last = registry.ledger()[-1]
    assert (last.action, last.who, last.why) == ("rollback", "anna", "too many restarts")
    assert last.moves == {"champion": ("1.0.1", "1.0.0"), "previous": ("1.0.0", "1.0.1")}
    before = len(registry.ledger())
    registry.promote("1.0.0", who="test", why="already there")
    assert len(registry.ledger()) == before


def test_a_new_base_is_a_major_version(registry: Registry, make_run: MakeRun) -> None:
    promoted(registry, make_run, 1)
    assert registry.register(make_run("new", base="c" * 64), "full", None, "new").version == "2.0.0"


@pytest.mark.parametrize("run", [{"verdict": "reject"}, {"verdict": "insufficient_data"}, {"measured": "adapter"}])
def test_only_a_verdict_to_promote_the_gguf_makes_a_champion(
    registry: Registry, make_run: MakeRun, run: dict[str, str]
) -> None:
    version = registry.register(make_run("run", **run), "full", None, "run")
    with pytest.raises(InputError, match="verdict"):
        registry.promote(version.version, who="test", why="please")
    assert registry.champion() is None


def test_nothing_can_be_promoted_or_rolled_back_to_that_is_not_there(registry: Registry, make_run: MakeRun) -> None:
    with pytest.raises(InputError, match=r"no version 9\.9\.9"):
        registry.promote("9.9.9", who="test", why="typo")
    promoted(registry, make_run, 1)
    with pytest.raises(InputError, match="no previous version"):
        registry.rollback(who="test", why="panic")


def test_a_ref_whose_bytes_changed_or_that_is_of_another_run_is_not_registered(
    registry: Registry, make_run: MakeRun
) -> None:
    refs = make_run("one")
    with pytest.raises(InputError, match="gguf was not made from"):
        registry.register({**refs, "gguf": make_run("two")["gguf"]}, "full", None, "one")
    (refs["adapter"].path / "adapter_model.safetensors").write_text("changed")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors"):
        registry.register(refs, "full", None, "one")
    assert registry.list() == []


def test_a_registration_that_mlflow_refuses_at_once_leaves_nothing(
    registry: Registry, make_run: MakeRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise ServiceDown("MLflow is down")

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "seen", unreachable)
        with pytest.raises(ServiceDown):
            registry.register(make_run("run"), "full", None, "run")
    assert registry.list() == []
    assert list((home / "models").iterdir()) == []
    assert registry.register(make_run("run"), "full", None, "run").version == "1.0.0"


@pytest.mark.parametrize("step", ["claim", "put", "add", "set_aliases", "set_head"])
def test_a_registration_killed_half_way_is_completed_by_the_next(
    registry: Registry, make_run: MakeRun, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A power cut is an exception after which nothing of ours runs."""

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(Ledger if step == "put" else Catalogue, step, cut)
        registry.register(make_run("run"), "full", None, "run")
    version = registry.register(make_run("run"), "full", None, "run")
    assert version.version == "1.0.0"
    assert catalogue.seen().aliases == {"challenger": "1.0.0"}
    assert [entry.action for entry in registry.ledger()] == ["register"]


def test_a_promotion_killed_half_way_is_completed_by_the_next_look(
    registry: Registry, make_run: MakeRun, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(registry, make_run, 1)
    registry.register(make_run("next"), "full", None, "next")
    move = catalogue._client.set_registered_model_alias

    def move_one(*asked: str) -> None:
        move(*asked)
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(catalogue._client, "set_registered_model_alias", move_one)
        registry.promote("1.1.0", who="test", why="half of its aliases")
    registry.agree()
    assert catalogue.seen().aliases == aliases(registry) == {"champion": "1.1.0", "previous": "1.0.0"}


class PowerCut(BaseException):
    pass


def test_two_writers_at_once_get_two_versions(
    make_run: MakeRun, home: Path, tracking_uri: str, settings: RegistrySettings
) -> None:
    runs = {name: make_run(name) for name in ("one", "two", "three")}
    got: list[str] = []

    def register(name: str) -> None:
        registry = Registry(tracking_uri, settings, home)
        got.append(registry.register(runs[name], "full", None, name).version)

    threads = [threading.Thread(target=register, args=(name,)) for name in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["1.0.0", "1.1.0", "1.2.0"]
    assert len(Registry(tracking_uri, settings, home).ledger()) == 3


def test_a_machine_that_was_overtaken_begins_anew(
    registry: Registry,
    make_run: MakeRun,
    home: Path,
    tracking_uri: str,
    settings: RegistrySettings,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two machines that share the disk, where the lock of one means nothing to the other."""
    promoted(registry, make_run, 2)
    monkeypatch.setattr("opstune.registry.writing.FileLock", lambda _: nullcontext())
    claim, other = Catalogue.claim, Registry(tracking_uri, settings, home)
    late: list[int] = []

    def overtaken(self: Catalogue, entry: Entry) -> int:
        if not late:
            late.append(0)
            other.register(make_run("theirs"), "full", None, "theirs")
            other.rollback(who="theirs", why="at the same moment")
            late[0] = claim(self, entry)
            return late[0]
        return claim(self, entry)

    monkeypatch.setattr(Catalogue, "claim", overtaken)
    assert registry.register(make_run("ours"), "full", None, "ours").version == "1.1.0"
    assert [(entry.action, entry.version) for entry in registry.ledger()[4:]] == [
        ("register", "1.1.0"), ("register", "1.2.0"), ("rollback", "1.0.0"),
    ]  # fmt: skip
    assert late[0] not in catalogue.claims()
    assert catalogue.seen().aliases == aliases(registry)
    registry.verify("1.1.0")
    registry.verify("1.2.0")


def test_reading_the_champion_does_not_import_mlflow(registry: Registry, make_run: MakeRun, home: Path) -> None:
    promoted(registry, make_run, 1)
    told = subprocess.run(
        [sys.executable, "-c", _READS, str(home)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert told == ["1.0.0", "False"]


_READS = """
import sys
from pathlib import Path
from opstune.registry import Registry, signing
from opstune.settings import RegistrySettings
print(Registry("sqlite:///nowhere", RegistrySettings(), Path(sys.argv[1])).champion().version, "mlflow" in sys.modules)
"""
