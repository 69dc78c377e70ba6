"""The registry beside a real MLflow server that asks for a login, where others may write too."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import needs
import pytest
import requests
from mlflow_server import ADMIN, MlflowServer

from opstune import tracking
from opstune.errors import AccessDenied, IntegrityError, ServiceDown
from opstune.registry import Registry
from opstune.settings import RegistrySettings

sys.path.insert(0, STAGES := str(Path(__file__).parents[1] / "unit" / "registry"))
from stages import run_maker

PASSWORD, EVES = "admins-own-4711", "eves-own-0815"
_REGISTER = """
import sys
from contextlib import nullcontext
from pathlib import Path
from opstune import settings
from opstune.registry import Registry, writing
sys.path.insert(0, sys.argv[1])
from stages import run_maker
if sys.argv[3] == "two machines":
    writing.FileLock = lambda _: nullcontext()
found = settings.load({"registry": {"model_name": sys.argv[4], "experiment": "e"}})
refs = run_maker(found.home / "runs", found.keys_dir)(sys.argv[2])
registry = Registry(found.tracking_uri, found.registry, found.home)
print("ready", flush=True)
sys.stdin.readline()
print(registry.register(refs, "full", None, sys.argv[2]).version)
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server hashes the password for every request, which busy cores take their time for."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    needs.module("flask_wtf", "`mlflow server --app-name basic-auth` imports it: pip install Flask-WTF==1.3.0")
    with MlflowServer(tmp_path_factory.mktemp("mlflow"), PASSWORD) as found:
        yield found


def address(server: MlflowServer, user: str, password: str) -> str:
    return server.url.replace("//", f"//{user}:{password}@")


@pytest.fixture
def registry(server: MlflowServer, own_home: Path, tmp_path: Path) -> Registry:
    model = RegistrySettings(model_name=tmp_path.name, experiment="e")
    return Registry(address(server, ADMIN, PASSWORD), model, own_home)


@pytest.fixture
def champion(registry: Registry, own_home: Path) -> str:
    """The second of two champions."""
    make_run = run_maker(own_home / "runs", own_home / "keys")
    for name in ("first", "second"):
        version = registry.register(make_run(name), "full", None, name).version
        registry.promote(version, who="anna", why="it passed its gate")
    return version


@pytest.mark.parametrize("where", ["one machine", "two machines"])
def test_two_registrations_at_once_get_two_versions(
    server: MlflowServer, own_home: Path, tmp_path: Path, where: str
) -> None:
    """``two machines`` share the disk, but no lock; the login is in the environment and nowhere else."""
    login = {"OPSTUNE__CONNECTIONS__OPSTUNE_MLFLOW__URL": address(server, ADMIN, PASSWORD)}
    keys_of = run_maker(own_home / "runs", own_home / "keys")
    keys_of("before")  # both take the key that is there
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _REGISTER, STAGES, name, where, tmp_path.name],
            env={**os.environ, **login}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert sorted(out.strip() for out, _ in told) == ["1.0.0", "1.1.0"]
    assert PASSWORD not in str(told)
    registry = Registry(
        address(server, ADMIN, PASSWORD), RegistrySettings(model_name=tmp_path.name, experiment="e"), own_home
    )
    assert sorted(entry.version for entry in registry.ledger()) == ["1.0.0", "1.1.0"]
    assert {registry.verify(version).run_id for version in ("1.0.0", "1.1.0")} == {"one", "two"}


def test_an_alias_that_somebody_with_edit_permission_moves_is_refused_and_named(
    server: MlflowServer, registry: Registry, champion: str, tmp_path: Path
) -> None:
    eve = tracking.connect(invite(server, tmp_path.name))
    eve.set_registered_model_alias(tmp_path.name, "champion", "1")
    eve.set_model_version_tag(tmp_path.name, "1", "opstune.verdict", "promoted by eve")
    for move in (
        registry.agree,
        lambda: registry.promote("1.0.0", who="anna", why="any"),
        lambda: registry.rollback(who="anna", why="any"),
    ):
        with pytest.raises(IntegrityError, match=r"the alias champion was moved by hand to 1\.0\.0"):
            move()
    standing = registry.champion()
    assert standing and standing.version == champion
    eve.set_registered_model_alias(tmp_path.name, "champion", "2")
    with pytest.raises(IntegrityError, match=r"the tag opstune\.verdict of 1\.0\.0 was changed by hand"):
        registry.verify("1.0.0")
    assert registry.rollback(who="anna", why="too many restarts").version == "1.0.0"
    assert tracking.connect(address(server, ADMIN, PASSWORD)).get_registered_model(tmp_path.name).aliases == {
        "champion": "1", "previous": "2",
    }  # fmt: skip


def test_a_rollback_asks_the_server_no_more_often_than_it_must(
    registry: Registry, champion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request pays for a login: three to look, one to claim, two aliases, one tag, and one last look."""
    send, asked = requests.Session.send, list[str]()

    def counted(self: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        asked.append(f"{request.method} {urlsplit(request.url).path.rpartition('mlflow/')[2]}")
        return send(self, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", counted)
        registry.rollback(who="anna", why="too many restarts")
    assert asked == [
        "GET registered-models/get", "GET model-versions/search", "GET model-versions/search",
        "POST model-versions/create", "POST registered-models/alias", "POST registered-models/alias",
        "POST registered-models/set-tag", "GET model-versions/search",
    ]  # fmt: skip


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_fifty_rollbacks_by_alias_are_timed(
    registry: Registry, champion: str, record_property: Callable[[str, object], None]
) -> None:
    """Busy cores take their time for fifty times eight hashed passwords; on quiet ones `make bench` has the figure."""
    seconds = []
    for number in range(50):
        began = time.perf_counter()
        found = registry.rollback(who="anna", why="timed")
        seconds.append(time.perf_counter() - began)
        assert found.version == ("1.0.0", "1.1.0")[number % 2]
    p99 = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    record_property("rollback_p99_seconds", round(p99, 3))
    assert p99 < 60
    assert [entry.action for entry in registry.ledger()[4:]] == ["rollback"] * 50
    assert registry.verify("1.1.0").aliases == ("champion",)


def test_no_log_and_no_traceback_holds_a_password(
    server: MlflowServer, own_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(url: str) -> str:
        with caplog.at_level(logging.DEBUG), pytest.raises((AccessDenied, ServiceDown)) as told:
            Registry(url, RegistrySettings(model_name="nobody", experiment="e"), own_home).agree()
        return type(told.value).__name__ + "".join(traceback.format_exception(told.value))

    wrong = refused(address(server, ADMIN, "wrong-" + PASSWORD))
    down = refused(f"http://{ADMIN}:{PASSWORD}@127.0.0.1:9")
    assert wrong.startswith("AccessDenied")
    assert down.startswith("ServiceDown")
    assert PASSWORD not in wrong + down + caplog.text


def invite(server: MlflowServer, model: str) -> str:
    """Eve's address: she may edit one registered model."""
    post: Callable[..., httpx.Response] = httpx.Client(base_url=server.url, auth=(ADMIN, PASSWORD), timeout=60).post
    post("/api/2.0/mlflow/users/create", json={"username": "eve", "password": EVES}).raise_for_status()
    wanted = {"username": "eve", "resource_type": "registered_model", "resource_id": model, "permission": "EDIT"}
    post("/api/3.0/mlflow/users/permissions/grant", json=wanted).raise_for_status()
    return address(server, "eve", EVES)
