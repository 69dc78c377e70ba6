"""Every way in to a real Prometheus: a login, a token at a proxy that stands before it, a certificate of one's own
authority, a forward proxy."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alert_place import AlertPlace
from alert_truth import DAY, Truth, groups, history, series
from authority import write_certificates
from fault_server import Answer, FaultServer, Request, forwarding
from prometheus_server import backfill, prometheus

from opstune.errors import AccessDenied, OpstuneError

#: The bcrypt of PASSWORD, at the least cost that there is.
_HASH = "$2b$04$lEUfBliTI6UEGCchHawixuNa.WncC0QB8MUPuyXqH8v3WuLoDBR.S"
PASSWORD, TOKEN = "let me in", "a+token/with=signs"
LOGIN = "ann:let%20me%20in"


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    now = int(time.time() * 1000)
    return history(seed=11, count=40, begin=now - 5 * DAY, end=now - DAY // 12)


@pytest.fixture(scope="module")
def open_server(truths: list[Truth], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("open")
    backfill(folder, series(truths))
    with prometheus(folder, groups()) as url:
        yield url


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(truths: list[Truth], authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with its own TLS and login."""
    folder = tmp_path_factory.mktemp("guarded")
    backfill(folder, series(truths))
    certificate = {"cert_file": str(authority.parent / "server.pem"), "key_file": str(authority.parent / "server.key")}
    web = {"tls_server_config": certificate, "basic_auth_users": {"ann": _HASH}}
    with prometheus(folder, groups(), web=web, verify=str(authority), auth=("ann", PASSWORD)) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertPlace:
    return AlertPlace(tmp_path, monkeypatch)


@pytest.fixture
def token_proxy(open_server: str) -> Iterator[FaultServer]:
    """A reverse proxy that lets nobody through without the token."""
    pass_on = forwarding(open_server)

    def answer(request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Answer({"error": "no token"}, 401, {"WWW-Authenticate": "Bearer"})
        return pass_on(request)

    with FaultServer(answer) as server:
        yield server


@pytest.fixture
def forward_proxy(open_server: str) -> Iterator[FaultServer]:
    """A proxy with a login of its own, which alone knows where prometheus.internal is."""
    pass_on = forwarding(open_server)
    wanted = "Basic " + base64.b64encode(b"proxy:secret").decode()

    def answer(request: Request) -> Answer:
        if request.headers.get("Proxy-Authorization") != wanted:
            return Answer({"error": "who are you"}, 407)
        if urlsplit(request.path).netloc != "prometheus.internal:9090":
            return Answer({"error": "not through here"}, 502)
        return pass_on(request)

    with FaultServer(answer) as server:
        yield server


def known(truths: list[Truth]) -> list[tuple[tuple[tuple[str, str], ...], str, str]]:
    return sorted(truth.known_as for truth in truths)


def test_a_login_and_a_certificate_of_an_own_authority(
    place: AlertPlace, truths: list[Truth], guarded: str, authority: Path
) -> None:
    place.connect("opstune_prometheus", guarded.replace("https://", f"https://{LOGIN}@"), ca_file=authority)
    place.pull()
    assert place.found() == known(truths)


def test_a_token_at_a_proxy_that_stands_before_it(
    place: AlertPlace, truths: list[Truth], token_proxy: FaultServer
) -> None:
    place.connect("opstune_prometheus", token_proxy.url.replace("http://", "http://:a%2Btoken%2Fwith%3Dsigns@"))
    place.pull()
    assert place.found() == known(truths)


def test_a_forward_proxy(place: AlertPlace, truths: list[Truth], forward_proxy: FaultServer) -> None:
    through = forward_proxy.url.replace("http://", "http://proxy:secret@")
    place.connect("opstune_prometheus", "http://prometheus.internal:9090", proxy=through)
    place.pull()
    assert place.found() == known(truths)
    assert all(request.path.startswith("http://prometheus.internal:9090/api/") for request in forward_proxy.requests)


@pytest.mark.parametrize(
    ("login", "trusted", "told"),
    [
        pytest.param(
            "ann:wrong-secret@", True, r"Prometheus refuses access \(HTTP 401\).*Correct the login", id="login"
        ),
        pytest.param("", True, r"Prometheus refuses access \(HTTP 401\)", id="no login"),
        pytest.param(f"{LOGIN}@", False, r"certificate of Prometheus cannot be trusted.*ca_file", id="authority"),
    ],
)
def test_who_is_not_let_in_learns_why_and_no_secret_is_told(
    place: AlertPlace,
    guarded: str,
    authority: Path,
    caplog: pytest.LogCaptureFixture,
    login: str,
    trusted: bool,
    told: str,
) -> None:
    url = guarded.replace("https://", f"https://{login}")
    place.connect("opstune_prometheus", url, ca_file=authority if trusted else None)
    with caplog.at_level("DEBUG"):
        _refused(place, AccessDenied, told)
    assert not any(secret in caplog.text for secret in ("wrong-secret", PASSWORD, LOGIN))


def test_a_wrong_token_is_refused(place: AlertPlace, token_proxy: FaultServer) -> None:
    place.connect("opstune_prometheus", token_proxy.url.replace("http://", "http://:another@"))
    _refused(place, AccessDenied, r"refuses access \(HTTP 401\): .*no token")


def test_a_proxy_that_refuses_is_told(place: AlertPlace, forward_proxy: FaultServer) -> None:
    place.connect("opstune_prometheus", "http://prometheus.internal:9090", proxy=forward_proxy.url)
    _refused(place, AccessDenied, r"HTTP 407")


def _refused(place: AlertPlace, error: type[OpstuneError], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        place.pull()
    assert PASSWORD not in str(caught.value) and "wrong-secret" not in str(caught.value)
    assert place.check().problem == str(caught.value) and not place.store.joinpath("source=alert_episodes").exists()
