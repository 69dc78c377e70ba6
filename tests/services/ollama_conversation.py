"""What opstune says to Ollama, as docs/ollama.md has it: deployments to the stand-in, written down.

python tests/services/ollama_conversation.py > docs/ollama.md
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fault_server import Answer, FaultServer, Request
from ollama_server import VERSION, Ollama
from pydantic import SecretStr
from release_place import SETTINGS, release, write_gguf

from opstune.serve.deploy import Release, target_of
from opstune.settings import Connection

HEAD = f"""# What opstune says to Ollama

Written by `python tests/services/ollama_conversation.py` from deployments to the stand-in of `tests/services`, and held
against it by a test. The stand-in is written after Ollama's source; **no real Ollama was asked where this was
written.** The blocks are a shell script that asks a real one the same (`docker-compose.yaml` names {VERSION}): each
line that is a number is the HTTP status, and should be the one in the heading above it.

```sh
OLLAMA=${{OLLAMA:-http://127.0.0.1:11434}}
GGUF=${{GGUF:?the model.gguf of a version}}         # opstune models show VERSION names its folder
NEXT=${{NEXT:?the model.gguf of another version}}
SHA256=$(sha256sum "$GGUF" | cut -d' ' -f1)
NEXT_SHA256=$(sha256sum "$NEXT" | cut -d' ' -f1)
ask() {{ curl --silent --show-error --write-out '\\n%{{http_code}}\\n' "$@"; }}
```

A login or token of the connection `opstune_ollama` goes along as `Authorization`, for a proxy that asks for one.
"""
NOTES = {
    "HEAD": "Is the file there? Then it is not uploaded.",
    "POST /api/blobs": "The bytes as they are. Ollama takes the sha256 of what arrives and refuses another (400).",
    "POST /api/create": "The version's tag, made once. Template, system message and parameters are the Modelfile's.",
    "POST /api/show": "What does the version's tag hold? Blob, template, system and parameters must be its own.",
    "POST /api/copy": "Only names move: a copy has the digest of what it was copied from.",
    "render": "The prompt that Ollama makes of a question must be the one that training saw; nothing is generated.",
    "chat": "A question under its schema. The answer must be the one that the same GGUF gives in this process.",
    "GET": "Every name and the digest that it stands for.",
}


@dataclass(frozen=True)
class Exchange:
    request: Request
    answer: Answer

    @property
    def heading(self) -> str:
        return f"{self.request.method} {self.request.path}"


def deployments(folder: Path) -> list[tuple[str, list[Exchange]]]:
    """A first version, the next one, the same again, and the first one again; with what was said."""
    heard: list[Exchange] = []
    (folder / "blobs").mkdir()
    ollama = Ollama(folder / "blobs")

    def answer(request: Request) -> Answer:
        heard.append(Exchange(request, ollama(request)))
        return heard[-1].answer

    gguf = write_gguf(folder / "base.gguf")
    one, two = (replace(release(gguf, folder, number), skills=("log_error",)) for number in ("1.0.0", "1.0.1"))
    told = []
    with FaultServer(answer) as server:
        for title, version in (
            ("The first version", one), ("The next version", two), ("The same again", two), ("Back to the first", one),
        ):  # fmt: skip
            heard.clear()
            _deploy(version, server.url)
            told.append((title, _named(list(heard), one, two)))
    return told


def _deploy(version: Release, url: str) -> None:
    connection = Connection(url=SecretStr(url))
    with target_of("ollama", version, SETTINGS, lambda name: connection) as target:
        target.prepare(version)
        target.switch(version)


def _named(heard: list[Exchange], one: Release, two: Release) -> list[Exchange]:
    """With variables instead of what is only these files'."""
    known = {one.digest(): "$SHA256", two.digest(): "$NEXT_SHA256"}

    def named(text: str) -> str:
        for digest, name in known.items():
            text = text.replace(digest, name)
        return re.sub(r"\b[0-9a-f]{64}\b", "...", text)  # layers that only this server has

    return [
        Exchange(
            replace(
                exchange.request,
                path=named(exchange.request.path),
                body=b"" if exchange.request.body[:4] == b"GGUF" else named(exchange.request.body.decode()).encode(),
            ),
            replace(exchange.answer, body=named(exchange.answer.content.decode()).encode()),
        )
        for exchange in heard
    ]


def written(told: list[tuple[str, list[Exchange]]]) -> str:
    """The page: the first two deployments in full, the others as a list."""
    parts = [HEAD]
    seen: set[str] = set()
    for title, exchanges in told[:2]:
        parts.append(f"## {title}\n")
        parts += [_block(exchange, seen) for exchange in exchanges]
    for title, exchanges in told[2:]:
        rows = "\n".join(f"- `{one.heading}` → {one.answer.status}" for one in exchanges)
        parts.append(f"## {title}\n\nThe bodies are as above.\n\n{rows}\n")
    return "\n".join(parts).rstrip() + "\n"


def _block(exchange: Exchange, seen: set[str]) -> str:
    request = exchange.request
    body: Any = json.loads(request.body) if request.body else None
    kind = next((name for name in NOTES if exchange.heading.startswith(name)), "chat")
    if "_debug_render_only" in (body or {}):
        kind = "render"
    again = kind in seen
    note = "" if again else f"\n\n{NOTES[kind]}"
    seen.add(kind)
    lines = [
        f"### `{exchange.heading}` → {exchange.answer.status}{note}\n",
        "```sh",
        *_curl(request, body, None if again else 1),
        "```\n",
    ]
    if told := _answer(exchange, kind):
        lines += ["```json", told, "```\n"]
    return "\n".join(lines)


def _curl(request: Request, body: Any, indent: int | None) -> list[str]:
    url = f'"$OLLAMA{request.path}"'
    if request.method == "HEAD":
        return [f"ask --head --output /dev/null {url}"]
    if request.method == "GET":
        return [f"ask {url}"]
    if "/blobs/" in request.path:
        file = "$NEXT" if "NEXT" in request.path else "$GGUF"
        kind = {name.lower(): value for name, value in request.headers.items()}["content-type"]
        return [f"ask --request POST --header 'Content-Type: {kind}' --upload-file \"{file}\" {url}"]
    head = f"ask --request {request.method} --header 'Content-Type: application/json' --data @- {url} <<JSON"
    return [head, json.dumps(body, indent=indent, ensure_ascii=False), "JSON"]


def _answer(exchange: Exchange, kind: str) -> str:
    """What matters of an answer. What weights say and how long they took is another machine's."""
    text = exchange.answer.content.decode().strip()
    if kind in ("chat", "GET") or not text:
        return ""
    if kind == "POST /api/show" and exchange.answer.status == 200:
        return ""
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(written(deployments(Path(folder))))


if __name__ == "__main__":
    main()
