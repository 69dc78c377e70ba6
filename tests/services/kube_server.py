"""A stand-in for Kubernetes' API: a pod is a process here. It serves what the provider's own client and operator ask.

What a pod ends with may be set: ``ends`` changes its status as a kubelet would tell it (OOMKilled, Evicted).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

POD = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(?:/(?P<name>[^/]+))?(?P<log>/log)?$")

Status = dict[str, Any]


class Kube:
    """The cluster: its pods, what was asked of it, and how the next pod ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pods: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ends: Callable[[Status, int], None] = lambda status, code: None
        self.refuses: int | None = None
        self.starts = True

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        self.made.append(json.loads(json.dumps(pod)))
        environment = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        pod["metadata"].update(uid=name, creationTimestamp="2026-11-21T00:00:00Z")
        pod["status"] = {"phase": "Pending"}
        self.pods[name] = pod
        if self.starts:
            with (self.folder / f"{name}.log").open("wb") as log:
                command = [*container["command"], *container.get("args", [])]
                self.processes[name] = subprocess.Popen(
                    command, stdout=log, stderr=log, env={**os.environ, **environment}
                )
        return pod

    def read(self, name: str) -> dict[str, Any] | None:
        pod, process = self.pods.get(name), self.processes.get(name)
        if pod is None or process is None:
            return pod
        code = process.poll()
        state: dict[str, Any] = {"running": {"startedAt": "2026-11-21T00:00:00Z"}}
        if code is not None:
            state = {
                "terminated": {
                    "exitCode": code if code >= 0 else 128 - code,
                    "finishedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),  # else its log counts as too old
                    "reason": "Error" if code else "Completed",
                }
            }
        base = {"name": pod["spec"]["containers"][0]["name"], "image": "x", "imageID": "x", "restartCount": 0}
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        pod["status"] = {"phase": phase, "containerStatuses": [{**base, "ready": code is None, "state": state}]}
        if code is not None:
            self.ends(pod["status"], code)
        return pod

    def delete(self, name: str) -> None:
        self.pods.pop(name, None)
        if process := self.processes.get(name):
            process.kill()
            process.wait()

    def select(self, selector: str) -> list[dict[str, Any]]:
        def fits(labels: dict[str, str], term: str) -> bool:
            if term.startswith("!"):
                return term[1:] not in labels
            key, unequal, value = term.partition("!=")
            if unequal:
                return labels.get(key) != value
            key, _, value = term.partition("=")
            return labels.get(key) == value

        found = [pod for name in list(self.pods) if (pod := self.read(name))]
        return [
            pod for pod in found if all(fits(pod["metadata"]["labels"], term) for term in selector.split(",") if term)
        ]


class _Handler(BaseHTTPRequestHandler):
    kube: Kube
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self._refused():
            return
        if not (asked := POD.match(url.path)):
            self._answer({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif asked["log"]:
            self._log(asked["name"])
        elif asked["name"]:
            pod = self.kube.read(asked["name"])
            self._answer(pod or {"kind": "Status", "code": 404}, 200 if pod else 404)
        else:
            items = self.kube.select(query.get("labelSelector", ""))
            self._answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    def do_POST(self) -> None:
        body = self._body()
        if not self._refused():
            self._answer(self.kube.create(body), 201)

    def do_PATCH(self) -> None:
        body, asked = self._body(), POD.match(urlparse(self.path).path)
        assert asked
        pod = self.kube.pods[asked["name"]]
        pod["metadata"]["labels"].update(body["metadata"]["labels"])
        self._answer(pod)

    def do_DELETE(self) -> None:
        self._body()
        asked = POD.match(urlparse(self.path).path)
        assert asked
        self.kube.delete(asked["name"])
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _refused(self) -> bool:
        if self.kube.refuses:
            self._answer({"kind": "Status", "code": self.kube.refuses, "message": "no"}, self.kube.refuses)
        return bool(self.kube.refuses)

    def _log(self, name: str) -> None:
        """The log as it grows, until the process has ended."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with (self.kube.folder / f"{name}.log").open("rb") as log:
            while True:
                over = self.kube.processes[name].poll() is not None
                if data := log.read():
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                elif over:
                    break
                else:
                    time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length) or b"{}")

    def _answer(self, value: Any, code: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Kube, Path]]:
    """A running cluster, and the kubeconfig that leads to it."""
    folder.mkdir(parents=True, exist_ok=True)
    kube = Kube(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": kube}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "config.json").write_text(json.dumps(config))
    try:
        yield kube, folder / "config.json"
    finally:
        for name in list(kube.processes):
            kube.delete(name)
        server.shutdown()
        server.server_close()
