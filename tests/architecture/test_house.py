"""The house's own rules: arrows, file sizes, pins that agree, nothing of one machine in the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
]
CODE = [path for path in TRACKED if path.suffix == ".py"]
TEXT = [path for path in TRACKED if path.suffix not in {".safetensors", ".png"}]


def test_import_contracts_hold() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "dags",
        "plugins",
        "include",
        "tests",
        "docker-compose.yaml",
        "requirements.txt",
        "airflow_settings.yaml",
        "README.md",
    ],
)
def test_the_top_level_is_the_users(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_file_is_wiring(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80


def test_every_requirement_is_pinned_exactly_and_agrees_with_the_constraints() -> None:
    pin = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;]+)$")
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    constraints = {
        _canonical(match[1]): match[2]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if (match := pin.match(line))
    }
    for line in lines:
        match = pin.match(line)
        assert match, f"{line} is not an exact pin"
        assert constraints.get(_canonical(match[1])) == match[2], line


def test_every_requirement_has_its_reason_in_the_decisions() -> None:
    decisions = (ROOT / "docs" / "decisions.md").read_text().lower()
    names = re.findall(r"^([A-Za-z0-9_.-]+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert [name for name in names if name.lower() not in decisions] == []


def test_nothing_in_the_tree_names_one_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(work|root|home)/[A-Za-z]")
    allowed = {"docker-compose.yaml", "Dockerfile"}
    found = [
        path.name for path in TEXT if path.name not in allowed and machine.search(path.read_text(errors="replace"))
    ]
    assert found == []


def test_every_source_and_profile_is_yaml_with_a_first_comment() -> None:
    for path in sorted((ROOT / "include" / "config").rglob("*.yaml")):
        text = path.read_text()
        assert isinstance(yaml.safe_load(text), dict), path
        assert text.startswith("#"), f"{path.name} does not say what it is for"


@pytest.mark.parametrize(
    ("call", "where"),
    [
        # The writer decides, on the signed verdict; the catalogue does what the ledger says, and nobody else does.
        ("set_registered_model_alias", {"registry/catalogue.py"}),
        ("delete_registered_model_alias", {"registry/catalogue.py"}),
        ("set_aliases", {"registry/writing.py"}),
        ("proof.check", {"registry/shelf.py"}),
        # Nothing is sent anywhere, or written for others, but what was proven.
        ("Release", {"pipeline/deploying.py"}),
    ],
)
def test_what_answers_in_production_is_decided_in_one_place(call: str, where: set[str]) -> None:
    library = ROOT / "include" / "opstune"
    calls = re.compile(rf"(?<!class )(?<!def )(?<![\w]){re.escape(call)}\(")
    found = [path for path in CODE if path.is_relative_to(ROOT / "include") or path.is_relative_to(ROOT / "plugins")]
    calling = {str(path.relative_to(library)) for path in found if calls.search(path.read_text())}
    assert calling - {"bench/registry.py"} == where


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
