"""Checkpoints: weights and optimiser state as safetensors, the rest as JSON. No pickle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.stages import atomic_folder

Weights = Mapping[str, nn.Parameter]
"""What training moves, by name, in the order of the optimiser's parameters."""


def save_checkpoint(
    folder: Path,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    best: dict[str, Tensor] | None,
) -> None:
    """Write a checkpoint atomically; the one before it stays until this one is whole."""
    moments = {
        f"{name}/{key}": value.cpu().contiguous()
        for name, weight in weights.items()
        for key, value in optimizer.state[weight].items()
    }
    with atomic_folder(folder, "checkpoint", overwrite=True) as unfinished:
        now = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
        save_file(now, unfinished / "weights.safetensors")
        save_file(moments, unfinished / "optimizer.safetensors")
        if best is not None:
            save_file(best, unfinished / "best.safetensors")
        write_json(unfinished / "state.json", state)


def load_checkpoint(
    folder: Path, weights: Weights, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Put a checkpoint back into weights and optimiser; return its state and the best weights so far.

    Raises:
        TgqError: if a file of it is damaged, or it is of another model.
    """
    try:
        set_weights(weights, load_file(folder / "weights.safetensors"))
        for place, value in load_file(folder / "optimizer.safetensors").items():
            name, key = place.rsplit("/", 1)
            weight = weights[name]
            optimizer.state[weight][key] = value if key == "step" else value.to(weight.device)
        best = folder / "best.safetensors"
        return read_json(folder / "state.json"), load_file(best) if best.exists() else None
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise TgqError(
            f"the checkpoint {folder} is damaged, or of another model ({error}); remove it, and training begins anew"
        ) from error


def drop_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a training that is done, that of its first stage too; its logs stay."""
    for stage in (folder, folder / "visual"):
        shutil.rmtree(stage / "checkpoint", ignore_errors=True)


def set_weights(weights: Weights, values: Mapping[str, Tensor]) -> None:
    """Copy values into weights of the same names.

    Raises:
        KeyError: if a weight has no value.
    """
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])


def get_weights(weights: Weights) -> dict[str, Tensor]:
    """Copy weights out."""
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}
