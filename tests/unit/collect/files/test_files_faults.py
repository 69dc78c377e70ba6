"""What goes wrong with files: which error it is, what it tells, and that nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from collecting import Place, record

from opstune.collect import Quarantine, watermark
from opstune.collect.files import files
from opstune.errors import AccessDenied, ConfigError, OpstuneError, ServiceDown
from opstune.store import ExampleStore, Upserted


def missing(path: Path) -> None:
    path.unlink()


def missing_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def of_unknown_format(path: Path) -> None:
    path.rename(path.with_suffix(".jsonl_old"))


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (missing, ConfigError, r"no file matches incidents\*\.jsonl.*Put the file there"),
        (missing_folder, ConfigError, r"no file matches incidents\*\.jsonl"),
        (of_unknown_format, ConfigError, "no file matches"),
    ],
)
def test_a_fault_is_told_and_nothing_is_lost(
    place: Place, spoil: Callable[[Path], None], error: type[OpstuneError], told: str
) -> None:
    path = place.write(record(1))
    place.pull()
    mark = watermark.load(place.store, "history")
    spoil(path)
    with pytest.raises(error, match=told):
        place.pull()
    assert watermark.load(place.store, "history") == mark
    place.write(record(1), record(2))
    assert (place.pull().new, len(place.examples())) == (1, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run as another user")
@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_file_that_may_not_be_read_is_an_access_that_is_denied(place: Place, part: str) -> None:
    path = place.write(record(1))
    closed = path if part == "file" else path.parent
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        with pytest.raises(AccessDenied, match=r"may not be read.*Give opstune's user the right"):
            place.pull()
    finally:
        closed.chmod(mode)
    assert place.pull().new == 1


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (PermissionError(13, "Permission denied"), AccessDenied, "may not be read"),
        (OSError(5, "Input/output error"), ServiceDown, "cannot be read: Input/output error"),
        (FileNotFoundError(2, "No such file or directory"), ServiceDown, "No such file"),
    ],
)
@pytest.mark.parametrize("step", ["sha256_file", "format_of"])
def test_a_disk_that_fails_is_told_by_what_may_help(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str, fault: OSError, error: type[OpstuneError], told: str
) -> None:
    place.write(record(1))

    def failing(_: object) -> object:
        raise fault

    with monkeypatch.context() as patched:
        if step == "sha256_file":
            patched.setattr(files, step, failing)
        else:
            patched.setattr(files.formats, step, lambda _name: failing)
        with pytest.raises(error, match=told):
            place.pull()
    assert watermark.load(place.store, "history") is None
    assert place.pull().new == 1


def test_an_empty_file_is_no_fault_and_what_is_appended_is_read(place: Place) -> None:
    place.write()
    assert (place.pull().read, place.pull().read) == (0, 0)
    place.write(record(1))
    assert place.pull().new == 1


def test_half_a_line_is_refused_until_its_end_is_written(place: Place) -> None:
    path = place.write(record(1), record(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    report = place.pull()
    assert (report.new, report.quarantined) == (1, 1)
    assert "may be half a line" in Quarantine(place.store, "history").entries()[0].reason
    path.write_bytes(whole)
    report = place.pull()
    assert (report.new, report.standing) == (1, 0)


def test_a_run_killed_in_the_middle_goes_on_at_its_file_and_keeps_what_stood_refused_elsewhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PAGE", 2)
    for name in "abc":
        place.write(record(ord(name)), record(ord(name) + 9, level="purple"), name=f"incidents-{name}.jsonl")
    upsert, calls = ExampleStore.upsert, []

    def killed_at_the_third(self: ExampleStore, examples: list[object]) -> Upserted:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upsert(self, examples)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ExampleStore, "upsert", killed_at_the_third)
        place.pull()
    report = place.pull()
    assert (report.read, report.new, report.standing) == (2, 1, 3)
    assert len(place.examples()) == 3


def test_a_name_that_is_not_utf8_is_written_out(place: Place) -> None:
    place.write(record(1), "{")
    (place.data / "incidents.jsonl").rename(os.fsdecode(os.fsencode(place.data) + b"/incidents-\xe9.jsonl"))
    assert (place.pull().new, place.pull().read) == (1, 0)
    assert Quarantine(place.store, "history").entries()[0].origin == "incidents-\\xe9.jsonl:2"
