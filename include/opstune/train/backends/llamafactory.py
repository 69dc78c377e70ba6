"""LLaMA-Factory as a backend: its own command, in an environment of its own, on our examples and settings.

It pins other versions of transformers, PEFT and TRL than opstune runs on, so it is never imported here. It is
followed by its log and its checkpoints, which are sealed as ours are, and what it learnt comes back in our form.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from opstune.artifacts import write_text
from opstune.errors import ConfigError
from opstune.tables import read_examples
from opstune.train import checkpoints, result
from opstune.train.backends.llamafactory_files import Files, arguments, write_data
from opstune.train.backends.llamafactory_follow import Follower, family, kill
from opstune.train.progress import Tell
from opstune.train.spec import Spec

#: The folder of LLaMA-Factory's environment.
ENVIRONMENT = "OPSTUNE_LLAMAFACTORY"
_RUNNER = Path(__file__).with_name("llamafactory_runner.py")
#: It goes on without an internet connection, and with the versions that it was installed with.
_VARIABLES = {"HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", "WANDB_DISABLED": "true"}


def run(spec: Spec, tell: Tell) -> None:
    """Train what a spec says with LLaMA-Factory and put the result at ``spec.finished``, whole.

    Raises:
        ConfigError: its environment is not there.
        Diverged: the loss is no number, or has run away.
        SystemExit: LLaMA-Factory failed; its own last lines stand in the log, and its exit status is ours.
        DataError: an example cannot become a prompt (it is named), or none fits.
    """
    started = time.monotonic()
    program = interpreter()
    from opstune.train import machine
    from opstune.train.chats import tokenizer_of

    means, tokenizer = machine.means(spec), tokenizer_of(spec)
    if means.turned_off:
        tell("note", text=f"On this machine these are off: {'; '.join(means.turned_off)}.")
    files = Files(spec.work / "llamafactory")
    shutil.rmtree(files.folder, ignore_errors=True)
    written = write_data(files.data, read_examples(spec.examples), tokenizer, spec.max_length)
    base = spec.base if means.cuda else in_float32(spec.base, files.base)
    found = checkpoints.last_complete(spec.checkpoints)
    checkpoints.drop_after(spec.checkpoints, found[0] if found else 0)
    if found:
        tell("resumed", step=found[0])
    asked = arguments(spec, files, base, means, resume=found[1] if found else None)
    write_text(files.yaml, yaml.safe_dump(asked, sort_keys=False))
    with running(program, files.yaml, sys.stderr) as process:
        Follower(spec, files.output, written.tokens, tell, process, from_step=found[0] if found else 0).follow()
    history = json.loads((files.output / "trainer_state.json").read_text())
    told = result.facts(
        spec,
        result.curve(history["log_history"]),
        precision=means.precision,
        examples=len(written.rows),
        too_long=written.too_long,
        steps=history["global_step"],
        epochs=history["epoch"],
        tokens=round(history["epoch"] * written.tokens),
        seconds=round(time.monotonic() - started, 1),
        resumed_from=found[0] if found else None,
    )
    result.put(spec, told, lambda folder: bring_back(files.output, folder, tokenizer, spec))
    tell("finished", step=history["global_step"])


def interpreter() -> Path:
    """The Python of LLaMA-Factory's environment.

    Raises:
        ConfigError: no environment is named, or it holds no LLaMA-Factory.
    """
    named = os.environ.get(ENVIRONMENT)
    todo = f"Run .ci/llamafactory, or install llamafactory==0.9.5 elsewhere, and name its folder in {ENVIRONMENT}."
    if not named:
        raise ConfigError("the backend llamafactory needs an environment of its own", ENVIRONMENT, todo)
    if not (Path(named) / "bin" / "llamafactory-cli").is_file():
        raise ConfigError("there is no LLaMA-Factory in the environment that is named for it", named, todo)
    return Path(named) / "bin" / "python"


def in_float32(base: Path, copy: Path) -> Path:
    """The base, or a copy of it in float32 where its weights are in 16 bits.

    LLaMA-Factory trains in the precision of the checkpoint, and a CPU emulates 16 bits, six times slower.
    """
    import torch
    from transformers import AutoModelForCausalLM

    kept = json.loads((base / "config.json").read_text())
    if kept.get("dtype", kept.get("torch_dtype")) in (None, "float32"):
        return base
    shutil.copytree(base, copy, ignore=lambda _folder, names: [name for name in names if name.endswith("tensors")])
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True).save_pretrained(copy)
    return copy


@contextmanager
def running(program: Path, config: Path, output: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """LLaMA-Factory at work; it is ended with the block, and by itself when this process dies."""
    path = os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])  # it starts torchrun by name
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [program, str(_RUNNER), "train", str(config)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**variables, **_VARIABLES, "PATH": path},
    )
    try:
        yield process
    finally:
        for one in family(process):
            kill(one)
        process.wait()
        if process.stdin:
            process.stdin.close()


def bring_back(output: Path, folder: Path, tokenizer: Any, spec: Spec) -> None:
    """Put what LLaMA-Factory learnt into a folder as our own trainer would leave it; an adapter in fp32."""
    import torch
    from safetensors.torch import load_file, save_file

    if spec.whole:
        for path in [*output.glob("*.safetensors*"), output / "config.json", output / "generation_config.json"]:
            if path.is_file():
                shutil.copy2(path, folder)
    else:
        learnt = load_file(output / "adapter_model.safetensors")
        plain = {name: value.to(torch.float32).contiguous() for name, value in learnt.items()}
        save_file(plain, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        shutil.copy2(output / "adapter_config.json", folder)
        result.name_base(folder, spec)
    tokenizer.save_pretrained(folder)
