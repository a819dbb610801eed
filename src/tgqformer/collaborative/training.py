"""The training loop of this stage, to be read top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgqformer.collaborative.base import Task
from tgqformer.collaborative.graph import to_tensors
from tgqformer.collaborative.settings import LoopSettings
from tgqformer.errors import TgqError
from tgqformer.files import restore, write_text
from tgqformer.progress import Bar, progress
from tgqformer.training.checkpoint import get_weights, load_checkpoint, save_checkpoint, set_weights

Evaluation = Callable[[], dict[str, float]]


@dataclass
class Progress:
    """Where a training stands: epochs done, best validation, evaluations waited for a better one."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    waited: int = 0
    stopped: bool = False


def train(
    task: Task, settings: LoopSettings, folder: Path, *, seed: int = 0, evaluate: Evaluation | None = None,
    watch: str | None = None, shown: bool = True,
) -> Progress:  # fmt: skip
    """Train a task; stop and resume gives the same weights, bit for bit, on CPU.

    Writes `log.jsonl` (a row an epoch: loss, seconds, and what `evaluate` gives every so many epochs) and `checkpoint/`
    into `folder`; a folder with a checkpoint is resumed. `watch` names the figure of `evaluate` by which the best
    weights are kept and by which training stops early; without it the last weights stay.

    Raises:
        TgqError: when the loss is no longer finite.
    """
    at = Progress()
    if task.module is None:
        return at
    weights = {name: weight for name, weight in task.module.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.Adam(list(weights.values()), lr=settings.lr, betas=settings.betas, fused=True)
    best: dict[str, Tensor] | None = None
    if restore(folder / "checkpoint"):
        state, best, _ = load_checkpoint(folder / "checkpoint", weights, optimizer)
        at = Progress(**state)
    log = _log(folder, at.epoch)
    with progress("training", settings.epochs * task.steps, shown=shown) as bar:
        bar.advance(at.epoch * task.steps)
        while at.epoch < settings.epochs and not at.stopped:
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * settings.decay**at.epoch
            start = time.perf_counter()
            row: dict[str, Any] = {"epoch": at.epoch + 1, "loss": _epoch(task, optimizer, at.epoch, seed, bar)}
            row["seconds"] = round(time.perf_counter() - start, 3)
            at.epoch += 1
            if evaluate is not None and _due(at.epoch, settings.evaluate_every, settings.epochs):
                row |= _judged(task.module, evaluate)
                if watch is not None:
                    best = _keep_best(at, row[watch], weights, best, settings.patience)
            log(row)
            bar.note(" · ".join(f"{name} {value:.4f}" for name, value in row.items() if isinstance(value, float))[:60])
            if _due(at.epoch, settings.checkpoint_every, settings.epochs) or at.stopped:
                save_checkpoint(folder / "checkpoint", weights, optimizer, vars(at), best, {})
    if best is not None:
        set_weights(weights, best)
    task.module.eval()
    return at


def _epoch(task: Task, optimizer: torch.optim.Optimizer, epoch: int, seed: int, bar: Bar) -> float:
    """Go through the batches of an epoch; give the mean loss."""
    module = task.module
    assert module is not None
    module.train()
    device = next(module.parameters()).device
    losses = []
    for step in range(task.steps):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0]))
        loss = task.loss(*to_tensors(task.draw(epoch, step), device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
        bar.advance()
        if step % 50 == 0 and not torch.isfinite(loss):
            break
    mean = float(torch.stack(losses).mean())
    if not np.isfinite(mean):
        raise TgqError(f"the loss is no longer finite in epoch {epoch + 1}; lower training.lr and start again from the"
                       " last checkpoint")  # fmt: skip
    return mean


@torch.no_grad()
def _judged(module: nn.Module, evaluate: Evaluation) -> dict[str, float]:
    module.eval()
    return evaluate()


def _keep_best(
    at: Progress, found: float, weights: dict[str, nn.Parameter], best: dict[str, Tensor] | None, patience: int
) -> dict[str, Tensor] | None:
    """Copy the weights if they validate better than any before; stop when patience is at its end."""
    if found > at.best:
        at.best, at.best_epoch, at.waited = found, at.epoch, 0
        return get_weights(weights)
    at.waited += 1
    at.stopped = bool(patience) and at.waited >= patience
    return best


def _due(epoch: int, every: int, last: int) -> bool:
    return bool(every) and (epoch % every == 0 or epoch == last)


def _log(folder: Path, done: int) -> Callable[[dict[str, Any]], None]:
    """Append rows to `log.jsonl`; rows after the checkpoint that is resumed are cut."""
    path = folder / "log.jsonl"
    kept = path.read_text(encoding="utf-8").splitlines()[:done] if path.exists() else []
    write_text(path, "".join(line + "\n" for line in kept))

    def write(row: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    return write
