"""What every frozen encoder needs: device, precision, fingerprint, and the config file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.parallel import has_bfloat16


def _known_device(name: str) -> str:
    if name != "auto":
        try:
            torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"{name!r} is no device; give auto, cpu, cuda or cuda:<number>") from error
    return name


Precision = Literal["auto", "float32", "bfloat16"]
Device = Annotated[str, AfterValidator(_known_device)]
"""A device of PyTorch, or "auto" for the first CUDA device where there is one, else the CPU."""


def resolve_device(device: str) -> torch.device:
    """Turn "auto" into the first CUDA device where there is one, else the CPU; anything else is taken as it is."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def best_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Turn "auto" into bfloat16 where the hardware computes in it (AVX512-BF16, AMX, recent CUDA), else float32."""
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Return "float32" or "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def fingerprint_of(config: Mapping[str, Any], state: Mapping[str, Tensor], **written: str) -> str:
    """Digest what decides an encoder's output: its config and its weights as they are used.

    written: more of the config, of which the JSON is there.

    Returns 32 hex digits of BLAKE2b over the config (keys sorted) and every tensor's name, shape, dtype and bytes.
    """
    values = {key: json.dumps(value, sort_keys=True) for key, value in config.items()} | written
    whole = ", ".join(f"{json.dumps(key)}: {values[key]}" for key in sorted(values))
    digest = blake2b(f"{{{whole}}}".encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json` into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", dict(config))


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a saved encoder; raises TgqError where there is none or where it names no type."""
    path = folder / "config.json"
    if not path.is_file():
        raise TgqError(f"{folder} holds no saved encoder: {path} is missing; give the folder that save() wrote")
    config = read_json(path)
    if not isinstance(config, dict) or "type" not in config:
        raise TgqError(f"{path} names no encoder type; give the folder that save() wrote")
    return config
