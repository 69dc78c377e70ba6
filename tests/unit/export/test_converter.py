from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from opstune.errors import ExportError, IntegrityError, ServiceDown
from opstune.export import converter

NEEDED = (
    "convert_hf_to_gguf.py",
    "convert_lora_to_gguf.py",
    "conversion/base.py",
    "gguf-py/gguf/constants.py",
    "LICENSE",
)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(converter, "runtime_version", lambda: "9.9.9")
    return "9.9.9"


def pack(file: Path, names: tuple[str, ...]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"llama_cpp_python-9.9.9/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return file


def sdist(tools: Path, version: str) -> Path:
    names = tuple(f"vendor/llama.cpp/{name}" for name in (*NEEDED, "src/llama.cpp", "gguf-py/tests/test_quants.py"))
    return pack(tools / f"llama_cpp_python-{version}.tar.gz", (*names, "CMakeLists.txt"))


def test_only_what_converts_is_unpacked_and_unpacked_once(tmp_path: Path, runtime: str) -> None:
    source = sdist(tmp_path, runtime)
    folder = converter.ensure_converter(tmp_path)
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {*NEEDED, "manifest.json"}
    source.unlink()
    assert converter.ensure_converter(tmp_path) == folder


def test_what_an_older_opstune_unpacked_is_unpacked_anew_where_it_lacks_a_file(
    tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist(tmp_path, runtime)
    with monkeypatch.context() as before:
        before.setattr(converter, "_NEEDED", tuple(name for name in converter._NEEDED if "lora" not in name))
        folder = converter.ensure_converter(tmp_path)
    assert not (folder / "convert_lora_to_gguf.py").exists()
    assert (converter.ensure_converter(tmp_path) / "convert_lora_to_gguf.py").is_file()


def test_a_converter_that_was_changed_is_refused(tmp_path: Path, runtime: str) -> None:
    sdist(tmp_path, runtime)
    changed = converter.ensure_converter(tmp_path) / "conversion" / "base.py"
    changed.write_text("import os")
    with pytest.raises(IntegrityError, match=r"conversion/base\.py changed"):
        converter.ensure_converter(tmp_path)


def test_a_package_without_a_converter_leaves_nothing(tmp_path: Path, runtime: str) -> None:
    source = pack(tmp_path / "elsewhere" / "wheel.tar.gz", ("llama_cpp/__init__.py",))
    with pytest.raises(ExportError, match="holds no converter"):
        converter.ensure_converter(tmp_path / "tools", source)
    assert [file.name for file in (tmp_path / "tools").iterdir()] == [".converter.lock"]


def test_a_source_package_other_than_the_published_one_is_refused(tmp_path: Path) -> None:
    version = converter.runtime_version()
    with pytest.raises(IntegrityError, match="not the published source package"):
        converter.ensure_converter(tmp_path, sdist(tmp_path / "other", version))


def test_an_index_that_does_not_answer_is_an_outside_fault(
    tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert f"llama-cpp-python=={runtime}" in command
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to host\n")

    monkeypatch.setattr(subprocess, "run", failed)
    with pytest.raises(ServiceDown, match="no route to host"):
        converter.ensure_converter(tmp_path)
