"""Writes a Qwen2-shaped Hugging Face folder as a float32 GGUF, so that tests need no converter.

The layout is GGUF version 3 (ggml's docs/gguf.md); names are llama.cpp's of the qwen2 architecture.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    **{f"self_attn.{x}_proj.{kind}": f"attn_{x}.{kind}" for x in "qkv" for kind in ("weight", "bias")},
}


def write_gguf(folder: Path, out: Path) -> Path:
    """The model, tokenizer and chat template of ``folder`` as one file."""
    tensors = {
        _tensor_name(name): value.astype(np.float32) for name, value in load_file(folder / "model.safetensors").items()
    }
    fields = _fields(folder)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    header += b"".join(_text(key) + struct.pack("<I", kind) + _value(kind, value) for key, kind, value in fields)
    offset, data = 0, b""
    for name, value in tensors.items():
        shape = value.shape[::-1]
        header += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", 0, offset)
        data += _padded(value.tobytes())
        offset = len(data)
    out.write_bytes(_padded(header) + data)
    return out


def _fields(folder: Path) -> list[tuple[str, int, Any]]:
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {entry["id"]: entry["content"] for entry in tokenizer["added_tokens"]}
    tokens = {index: token for token, index in tokenizer["model"]["vocab"].items()} | special
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    numbers = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
    }
    return [
        ("general.architecture", _STRING, "qwen2"),
        *((f"qwen2.{name}", _UINT32, value) for name, value in numbers.items()),
        ("qwen2.attention.layer_norm_rms_epsilon", _FLOAT32, config["rms_norm_eps"]),
        ("qwen2.rope.freq_base", _FLOAT32, config["rope_parameters"]["rope_theta"]),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "qwen2"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, [tokens[index] for index in range(len(tokens))])),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, [3 if index in special else 1 for index in range(len(tokens))])),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, merges)),
        ("tokenizer.ggml.eos_token_id", _UINT32, config["eos_token_id"]),
        ("tokenizer.ggml.add_bos_token", _BOOL, False),
        ("tokenizer.chat_template", _STRING, (folder / "chat_template.jinja").read_text()),
    ]


def _tensor_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest]}"


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind], value)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
