"""vLLM's command line. It serves base and adapter, which the first verdict measured.

Not the GGUF: reading GGUF left vLLM for a plugin of its own, which its documentation calls highly experimental. The
flags are those of vLLM 0.12 and later.
"""

from __future__ import annotations

import json

from opstune.errors import IntegrityError
from opstune.serve.deploy.base import Release
from opstune.settings import ServeSettings

PORT = 8000
#: The ranks that vLLM's kernels are made for (``--max-lora-rank``): the smallest that holds the adapter is asked for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: The engine that evaluation decodes with, writing JSON without spaces as the model was taught.
_DECODING = {"backend": "guidance", "disable_any_whitespace": True}


def command(release: Release, settings: ServeSettings, port: int = PORT) -> list[str]:
    """What starts a server that answers to the version's name.

    Raises:
        IntegrityError: the adapter's configuration cannot be read, or its rank is more than vLLM takes.
    """
    names = [release.name, f"{release.model}:{settings.deploy.production}"]
    file = release.adapter / "adapter_config.json"
    if file.is_file():
        rank = _rank(release)
        model = ["vllm", "serve", release.base, "--served-model-name", f"{release.model}-base"]
        model += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules"]
        model += [f"{name}={release.adapter}" for name in names]
    else:
        model = ["vllm", "serve", str(release.adapter), "--served-model-name", *names]
    return [
        *model,
        *("--tokenizer", str(release.adapter)),
        *("--chat-template", str(release.adapter / "chat_template.jinja")),
        *("--generation-config", "vllm"),
        *("--max-model-len", str(settings.context_tokens)),
        *("--structured-outputs-config", json.dumps(_DECODING)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


def _rank(release: Release) -> int:
    file = release.adapter / "adapter_config.json"
    try:
        rank = int(json.loads(file.read_text())["r"])
        return next(taken for taken in _RANKS if taken >= rank)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        what = "the adapter does not tell a rank that vLLM takes"
        raise IntegrityError(what, str(file), f"vLLM takes ranks up to {_RANKS[-1]}.") from error
