"""Every way to change what was registered, at every load: refused, and the file, the alias or the tag is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stages import MakeRun, Refs, run_maker

from opstune import artifacts, tracking
from opstune.errors import InputError, IntegrityError
from opstune.registry import Registry, bundle, signing
from opstune.registry.catalogue import Catalogue
from opstune.registry.ledger import Entry
from opstune.security import signing as keys_signing
from opstune.settings import RegistrySettings

STAGES = {
    "dataset": ("dataset.json", "card.html"),
    "adapter": ("adapter_model.safetensors", "training.json"),
    "gguf": ("model.gguf", "Modelfile", "chat_template.jinja", "tokenizer_config.json"),
    "evaluation": ("evaluation.json",),
    "verdict": ("verdict.json", "report.html"),
    "shipped_evaluation": ("evaluation.json", "n"),
    "shipped_verdict": ("verdict.json", "report.html", "n"),
}
FILES = ["version.json"] + [
    f"{stage}/{file}" for stage, files in STAGES.items() for file in (*files, "manifest.json", "manifest.sig")
]
SETTINGS = RegistrySettings(model_name="tampered", experiment="tampered")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> Path:
    """A home with 1.0.0 as ``previous`` and 1.0.1 as ``champion``; each test harms a copy."""
    home = tmp_path_factory.mktemp("original")
    registry, make_run = Registry(tracking_uri, SETTINGS, home), run_maker(home / "runs", home / "keys")
    for number, parent in enumerate((None, "1.0.0")):
        version = registry.register(make_run(f"run-{number}"), "incremental" if parent else "full", parent, str(number))
        registry.promote(version.version, who="anna", why="it is better")
    return home


@pytest.fixture
def copied(original: Path, tmp_path: Path, tracking_uri: str) -> Registry:
    shutil.copytree(original, tmp_path / "copy")
    return Registry(tracking_uri, SETTINGS, tmp_path / "copy")


def test_the_list_of_files_is_complete(copied: Registry) -> None:
    folder = copied.show("1.0.1").folder
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {*FILES, "model.sig"}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        *((flip, file) for file in FILES),
        *((Path.unlink, file) for file in FILES),
        *((Path.touch, f"{stage}/added") for stage in STAGES),
        (Path.touch, ".gitattributes"),
    ],
)
def test_a_file_that_is_changed_removed_or_added_is_named(
    copied: Registry, tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    harm(tmp_path / "copy" / "models" / "1.0.1" / file)
    for load in (copied.champion, lambda: copied.show("1.0.1"), lambda: copied.proven("1.0.1")):
        with pytest.raises(IntegrityError, match=file):
            load()
    assert copied.show("1.0.0").version == "1.0.0"


def test_a_changed_file_is_named_in_words_whatever_its_hash(tmp_path: Path) -> None:
    """Of some hashes model-signing's message is quoted otherwise."""
    folder, keys = tmp_path / "bundle", tmp_path / "keys"
    folder.mkdir()
    (folder / "weights").write_text("as signed")
    signing.sign(folder, keys)
    for number in range(20):
        (folder / "weights").write_text(str(number))
        with pytest.raises(IntegrityError, match="weights changed after it was signed"):
            signing.verify(folder, keys)


@pytest.mark.parametrize(("harm", "told"), [(flip, "cannot be checked|not made by"), (Path.unlink, "is missing")])
def test_a_harmed_signature_is_named(copied: Registry, tmp_path: Path, harm: Callable[[Path], None], told: str) -> None:
    harm(tmp_path / "copy" / "models" / "1.0.1" / "model.sig")
    with pytest.raises(IntegrityError, match=rf"model\.sig.*({told})"):
        copied.champion()


def test_a_signed_bundle_in_another_ones_place_is_refused(copied: Registry, tmp_path: Path) -> None:
    models = tmp_path / "copy" / "models"
    shutil.rmtree(models / "1.0.1")
    shutil.copytree(models / "1.0.0", models / "1.0.1")
    with pytest.raises(IntegrityError, match=r"1\.0\.1 holds version 1\.0\.0"):
        copied.champion()


def test_a_bundle_that_was_signed_anew_is_not_the_one_that_was_registered(copied: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "copy" / "models" / "1.0.1"
    (folder / "gguf" / "model.gguf").write_text("another model")
    signing.sign(folder, tmp_path / "copy" / "keys")
    with pytest.raises(IntegrityError, match=r"not the bundle that was registered as 1\.0\.1"):
        copied.champion()


def test_a_link_and_a_foreign_key_are_refused(copied: Registry, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    model = home / "models" / "1.0.1" / "gguf" / "model.gguf"
    model.rename(home / "elsewhere")
    model.symlink_to(home / "elsewhere")
    with pytest.raises(IntegrityError, match="symlink"):
        copied.champion()
    for file in ("signing.pem", "signing.pub"):
        (home / "keys" / file).unlink()
    with pytest.raises(IntegrityError, match=r"signing\.pub is missing"):
        copied.champion()
    keys_signing.ensure_key(home / "keys")
    with pytest.raises(IntegrityError, match=r"000001\.json was made by the key"):
        copied.champion()


def rewrite(number: int, **changes: object) -> Callable[[Path], None]:
    """Change a line and hash it anew, without the key."""

    def harm(folder: Path) -> None:
        file = folder / f"{number:06}.json"
        entry = Entry.model_validate_json(file.read_text()).model_copy(update=changes)
        file.write_text(entry.model_copy(update={"hash": entry._digest()}).model_dump_json())

    return harm


def swap(first: int, second: int) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        one, other = (folder / f"{number:06}.json" for number in (first, second))
        one.rename(folder / "kept")
        other.rename(one)
        (folder / "kept").rename(other)

    return harm


def cut(*numbers: int) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for number in numbers:
            (folder / f"{number:06}.json").unlink()

    return harm


def forge(folder: Path) -> None:
    """A line more, whole and signed, by somebody else's key."""
    last = Entry.model_validate_json((folder / "000004.json").read_text())
    moves: dict[str, tuple[str | None, str | None]] = {"champion": ("1.0.1", "1.0.0")}
    entry = last.model_copy(update={"who": "mallory", "moves": moves, "before": last.hash})
    (folder / "000005.json").write_text(entry.sealed(folder / "mallory").model_dump_json())


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: flip(folder / "000002.json"), r"000002\.json (cannot be read|changed after it was signed)"),
        (rewrite(2, who="mallory"), r"000002\.json changed after it was signed"),
        (rewrite(4, moves={}), r"000004\.json changed after it was signed"),
        (rewrite(3, signed=None), r"000003\.json changed after it was signed"),
        (cut(1), r"000001\.json is missing"),
        (cut(3), r"000003\.json is missing"),
        (swap(2, 3), r"000002\.json does not follow"),
        (swap(3, 4), r"000003\.json does not follow"),
        (forge, r"signature of .*000005\.json was made by the key"),
    ],
)
def test_a_ledger_that_was_changed_cut_or_put_in_another_order_is_refused_at_every_load(
    copied: Registry, tmp_path: Path, harm: Callable[[Path], None], told: str
) -> None:
    harm(tmp_path / "copy" / "ledger")
    for load in (copied.champion, copied.list, lambda: copied.show("1.0.0")):
        with pytest.raises(IntegrityError, match=told):
            load()


@pytest.mark.parametrize("numbers", [(4,), (3, 4), (1, 2, 3, 4)])
def test_a_ledger_that_lost_its_end_is_refused_where_mlflow_is_asked(
    copied: Registry, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    cut(*numbers)(tmp_path / "copy" / "ledger")
    with pytest.raises(IntegrityError, match="the ledger lost lines that MLflow knows of"):
        copied.verify("1.0.0")
    with pytest.raises(IntegrityError, match="the ledger lost lines"):
        copied.rollback(who="anna", why="any")


def move(catalogue: Catalogue, alias: str, number: str | None) -> None:
    if number:
        catalogue._client.set_registered_model_alias(SETTINGS.model_name, alias, number)
    else:
        catalogue._client.delete_registered_model_alias(SETTINGS.model_name, alias)


@pytest.mark.parametrize(
    ("alias", "number", "back", "told"),
    [
        ("champion", "1", "2", r"alias champion was moved by hand to 1\.0\.0"),
        ("previous", None, "1", r"alias previous was moved by hand to nothing"),
        ("challenger", "2", None, r"alias challenger was moved by hand to 1\.0\.1"),
    ],
)
def test_an_alias_moved_by_hand_stops_every_move_until_it_is_back(
    copied: Registry, tracking_uri: str, alias: str, number: str | None, back: str | None, told: str
) -> None:
    catalogue = Catalogue(tracking_uri, SETTINGS)
    move(catalogue, alias, number)
    try:
        for load in (
            copied.agree,
            lambda: copied.verify("1.0.1"),
            lambda: copied.promote("1.0.0", who="anna", why="any"),
            lambda: copied.rollback(who="anna", why="any"),
        ):
            with pytest.raises(IntegrityError, match=told):
                load()
        champion = copied.champion()
        assert champion and champion.version == "1.0.1"
    finally:
        move(catalogue, alias, back)
    copied.agree()


def test_a_tag_forged_in_mlflow_is_named(copied: Registry, tracking_uri: str) -> None:
    client = tracking.connect(tracking_uri)
    kept = client.get_model_version(SETTINGS.model_name, "1").tags["sha256.gguf"]
    client.set_model_version_tag(SETTINGS.model_name, "1", "sha256.gguf", "0" * 64)
    with pytest.raises(IntegrityError, match=r"the tag sha256\.gguf of 1\.0\.0 was changed by hand"):
        copied.verify("1.0.0")
    client.set_model_version_tag(SETTINGS.model_name, "1", "sha256.gguf", kept)
    copied.verify("1.0.0")


def say_promote(refs: Refs, keys: Path) -> Refs:
    """The verdict rewritten and its manifest with it; only the key is missing."""
    folder = refs["shipped_verdict"].path
    (folder / "verdict.json").write_text('{"verdict": "promote"}')
    kept = artifacts.open_ref(folder).manifest
    (folder / "manifest.sig").rename(folder.parent / "manifest.sig")
    artifacts.seal(folder, "verdict", {}, {name: kept[name] for name in ("asked", "inputs", "settings")})
    (folder.parent / "manifest.sig").rename(folder / "manifest.sig")
    return {**refs, "shipped_verdict": artifacts.open_ref(folder)}


def sign_with_another_key(refs: Refs, keys: Path) -> Refs:
    forged = say_promote(refs, keys)
    keys_signing.sign(forged["shipped_verdict"].path, keys.with_name("mallory"))
    return forged


def take_no_signature(refs: Refs, keys: Path) -> Refs:
    (refs["shipped_verdict"].path / "manifest.sig").unlink()
    return refs


@pytest.mark.parametrize(
    ("forge_it", "told"),
    [
        (say_promote, r"shipped_verdict/manifest\.json changed after it was signed"),
        (sign_with_another_key, r"shipped_verdict/manifest\.sig was made by the key"),
        (take_no_signature, r"shipped_verdict/manifest\.sig is missing"),
    ],
)
def test_a_forged_verdict_is_neither_registered_nor_promoted(
    registry: Registry, make_run: MakeRun, home: Path, forge_it: Callable[[Refs, Path], Refs], told: str
) -> None:
    refs = forge_it(make_run("run", verdict="reject"), home / "keys")
    with pytest.raises(IntegrityError, match=told):
        registry.register(refs, "full", None, "run")
    assert registry.list() == []


def test_a_verdict_of_another_run_is_not_registered(registry: Registry, make_run: MakeRun) -> None:
    ours, others = make_run("ours", verdict="reject"), make_run("others")
    with pytest.raises(InputError, match="shipped_verdict was not made from the files it is registered with"):
        registry.register({**ours, "shipped_verdict": others["shipped_verdict"]}, "full", None, "ours")
    both = {name: others[name] for name in ("shipped_evaluation", "shipped_verdict")}
    with pytest.raises(InputError, match="shipped_evaluation was not made from"):
        registry.register({**ours, **both}, "full", None, "ours")


def drop_signature(folder: Path) -> None:
    (folder / "shipped_verdict" / "manifest.sig").unlink()


def rewrite_verdict(folder: Path) -> None:
    (folder / "shipped_verdict" / "verdict.json").write_text(json.dumps({"verdict": "promote", "lines": []}))


def swap_gguf(folder: Path) -> None:
    """Another model, signed here as well, where the judged one stood."""
    shutil.rmtree(folder / "gguf")
    shutil.copytree(folder.parent / "1.1.0" / "gguf", folder / "gguf")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (drop_signature, r"shipped_verdict/manifest\.sig is missing"),
        (rewrite_verdict, r"shipped_verdict/verdict\.json changed"),
        (swap_gguf, r"1\.2\.0/gguf is not the gguf that .*version\.json names"),
    ],
)
def test_a_signed_bundle_around_what_nobody_judged_is_never_registered(
    registry: Registry, make_run: MakeRun, home: Path, harm: Callable[[Path], None], told: str
) -> None:
    """As somebody may put it there who can sign bundles but was never given a verdict."""
    registry.register(make_run("first", verdict="reject"), "full", None, "first")
    registry.register(make_run("other"), "full", None, "other")
    folder = home / "models" / "1.2.0"
    shutil.copytree(home / "models" / "1.0.0", folder)
    facts = json.loads((folder / bundle.FACTS).read_text())
    (folder / bundle.FACTS).write_text(json.dumps({**facts, "version": "1.2.0"}))
    harm(folder)
    signing.sign(folder, home / "keys")
    with pytest.raises(IntegrityError, match=told):
        registry.promote("1.2.0", who="mallory", why="trust me")
    with pytest.raises(InputError, match=r"no version 1\.2\.0"):
        registry.proven("1.2.0")
    assert registry.champion() is None
