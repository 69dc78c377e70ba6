from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from stages import MakeRun

from opstune.errors import InputError, IntegrityError, ServiceDown
from opstune.registry import Registry, signing
from opstune.registry.catalogue import Catalogue
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
    assert catalogue.aliases() == {"challenger": "1.0.0"}
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
    assert aliases(registry) == catalogue.aliases() == {"champion": "1.0.1", "previous": "1.0.0"}
    assert registry.rollback(who="anna", why="too many restarts").version == "1.0.0"
    assert aliases(registry) == catalogue.aliases() == {"champion": "1.0.0", "previous": "1.0.1"}
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


@pytest.mark.parametrize(
    "file",
    [
        "adapter/adapter_model.safetensors", "gguf/model.gguf", "gguf/chat_template.jinja",
        "shipped_verdict/report.html", "shipped_verdict/verdict.json",
        "dataset/dataset.json", "version.json", "gguf/added.txt", ".gitattributes",
    ],
)  # fmt: skip
def test_a_changed_or_added_file_is_named_wherever_the_version_is_loaded(
    registry: Registry, make_run: MakeRun, file: str
) -> None:
    promoted(registry, make_run, 1)
    changed = registry.list()[0].folder / file
    changed.write_bytes(changed.read_bytes() + b" " if changed.exists() else b"hello")
    for load in (registry.champion, lambda: registry.show("1.0.0"), lambda: registry.verify("1.0.0")):
        with pytest.raises(IntegrityError, match=file):
            load()


def test_a_missing_file_a_symlink_and_a_foreign_signature_are_refused(
    registry: Registry, make_run: MakeRun, home: Path
) -> None:
    promoted(registry, make_run, 1)
    model = home / "models" / "1.0.0" / "gguf" / "model.gguf"
    kept = model.read_bytes()
    model.unlink()
    with pytest.raises(IntegrityError, match=r"gguf/model\.gguf is missing"):
        registry.champion()
    (home / "elsewhere").write_bytes(kept)
    model.symlink_to(home / "elsewhere")
    with pytest.raises(IntegrityError, match="symlink"):
        registry.champion()
    model.unlink()
    model.write_bytes(kept)
    registry.champion()
    for file in ("signing.pem", "signing.pub"):
        (home / "keys" / file).unlink()
    with pytest.raises(IntegrityError, match=r"signing\.pub is missing"):
        registry.champion()
    signing.ensure_key(home / "keys")
    with pytest.raises(IntegrityError, match=r"model\.sig cannot be checked: Key mismatch"):
        registry.champion()


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


def test_an_alias_moved_by_hand_is_refused(registry: Registry, make_run: MakeRun, catalogue: Catalogue) -> None:
    promoted(registry, make_run, 2)
    catalogue.set_aliases({"champion": "1.0.0", "previous": "1.0.0"})
    with pytest.raises(IntegrityError, match=r"alias champion was moved by hand to 1\.0\.0"):
        registry.rollback(who="test", why="any")
    champion = registry.champion()
    assert champion and champion.version == "1.0.1"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [lines[0].replace('"register"', '"promote"'), *lines[1:]], "line 1"),
        (lambda lines: lines[1:], "line 1"),
        (lambda lines: [*lines[:1], *lines[2:]], "line 2"),
        (lambda lines: lines[:-1], "lost lines"),
        (lambda lines: [], "lost lines"),
    ],
)
def test_a_ledger_that_was_changed_or_cut_short_is_refused(
    registry: Registry, make_run: MakeRun, home: Path, damage: object, told: str
) -> None:
    promoted(registry, make_run, 2)
    file = home / "ledger.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(damage(lines)))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=told):
        registry.verify("1.0.0")


def test_a_failed_registration_leaves_nothing(
    registry: Registry, make_run: MakeRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise ServiceDown("MLflow is down")

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "add", unreachable)
        with pytest.raises(ServiceDown):
            registry.register(make_run("run"), "full", None, "run")
    assert registry.list() == []
    assert list((home / "models").iterdir()) == []
    assert registry.register(make_run("run"), "full", None, "run").version == "1.0.0"


@pytest.mark.parametrize("step", ["add", "set_aliases", "set_head"])
def test_a_registration_killed_half_way_is_completed_by_the_next(
    registry: Registry, make_run: MakeRun, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A power cut is an exception after which nothing of ours runs: here, no clean-up."""

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(Catalogue, step, cut)
        patch.setattr(Registry, "_withdraw", cut)
        registry.register(make_run("run"), "full", None, "run")
    version = registry.register(make_run("run"), "full", None, "run")
    assert version.version == "1.0.0"
    assert catalogue.aliases() == {"challenger": "1.0.0"}
    assert [entry.action for entry in registry.ledger()] == ["register"]


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


def test_a_ledger_line_torn_by_a_crash_is_dropped(registry: Registry, make_run: MakeRun, home: Path) -> None:
    promoted(registry, make_run, 1)
    with (home / "ledger.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    assert len(registry.ledger()) == 2
    registry.register(make_run("next"), "full", None, "next")
    assert len(registry.ledger()) == 3


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
