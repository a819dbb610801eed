"""The training loop, to be read top to bottom."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tgqformer.encoders.frozen import resolve_precision
from tgqformer.errors import TgqError
from tgqformer.files import restore, write_text
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.progress import progress
from tgqformer.training.checkpoint import get_weights, load_checkpoint, save_checkpoint, set_weights
from tgqformer.training.losses import SecondLook
from tgqformer.training.memory import Bank
from tgqformer.training.objectives import Objective, VisualLoss, VisualStage
from tgqformer.training.sampling import PairSampler
from tgqformer.training.settings import TrainingSettings


class Features(Protocol):
    """Where batches come from: what the frozen encoders saw in the items of a catalogue."""

    def batch(self, positions: np.ndarray, *, noised: np.ndarray | None = None) -> ItemBatch:
        """Give the items at these positions; those where bool [n] `noised` is True wear other noise."""
        ...

    def differs(self, positions: np.ndarray) -> np.ndarray:
        """Tell, bool [n], which items look another way with noise than they do."""
        ...

    def empty(self) -> ItemBatch:
        """Give one item without picture and text."""
        ...


@dataclass
class Progress:
    """Where a training stands: steps done, best validation so far, of which step the kept weights are, validations
    waited for a better one."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    stopped: bool = False


def train(
    model: ItemEmbedder,
    features: Features,
    sampler: PairSampler,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int = 0,
    validate: Callable[[ItemEmbedder], tuple[float, float]] | None = None,
    shown: bool = True,
) -> Progress:
    """Train a model on pairs; stop and resume gives the same weights, bit for bit, on CPU.

    Writes `log.jsonl` (a row a step), `checkpoint/` and TensorBoard events into `folder`. A folder with a checkpoint
    is resumed. Under `accelerate launch` every process takes `settings.batch` pairs a step, and each sees the others'
    as negatives.

    With `visual_steps` the connector learns first, alone, and writes the same into `folder/visual`.

    `validate` gives H@10 and its standard error. At the end the model holds the latest weights that validated within
    two standard errors of the best before them (the last ones without `validate`): the learning rate falls to the end,
    so that of two that cannot be told apart the later one is the better guess.

    Raises:
        TgqError: when the loss or its gradient is no longer finite, with what to look at.
    """
    torch.manual_seed(seed)  # for the head of the visual loss, whatever was drawn since the model was made
    learn, visual = partial(_learn, model, features, seed=seed, shown=shown), VisualLoss.wanted(model, settings)
    if visual is not None and settings.visual_steps:
        first = settings.visual_stage(len(sampler.a))
        learn(VisualStage(model, visual), sampler.sized(first.batch), first, folder / "visual")
    objective = Objective(model, settings, visual if settings.visual_loss else None)
    at = learn(objective, sampler, settings, folder, validate=validate)
    model.eval()
    return at


def _learn(
    model: ItemEmbedder, features: Features, objective: Objective | VisualStage, sampler: PairSampler,
    settings: TrainingSettings, folder: Path, *, seed: int, shown: bool,
    validate: Callable[[ItemEmbedder], tuple[float, float]] | None = None,
) -> Progress:  # fmt: skip
    """Minimise one objective: go on from the checkpoint in `folder`, if there is one, to the last step."""
    accelerator = Accelerator()
    weights = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    optimizer = _optimizer(weights, settings)
    at, best, bank = Progress(), None, Bank(settings.memory, sampler)
    if restore(folder / "checkpoint"):
        state, best, kept = load_checkpoint(folder / "checkpoint", weights, optimizer)
        at = Progress(**state)
        bank.restore(kept, accelerator.device)
    prepared, stepper = accelerator.prepare(objective, optimizer)
    empty = features.empty().to(accelerator.device)
    main = accelerator.is_main_process
    half_precision = resolve_precision(settings.precision, accelerator.device) is torch.bfloat16
    with (
        _log(folder, at.step, settings, main) as log,
        progress(objective.title, settings.steps, shown=shown and main) as bar,
    ):
        bar.advance(at.step)
        while at.step < settings.steps and not at.stopped:
            prepared.train()
            torch.manual_seed((seed * 1_000_003 + at.step) * accelerator.num_processes + accelerator.process_index)
            lr = _set_lr(optimizer, at.step, settings)
            positions, queries, positives = _draw(sampler, at.step, accelerator)
            noised = torch.rand(len(positions)).numpy() < settings.augment if settings.augment else None
            second = None
            if settings.two_views:
                second = _second_look(features, sampler, queries, accelerator.device)
                positions, noised = _look_twice(positions, noised)
            batch = features.batch(positions, noised=noised).to(accelerator.device)
            batch = _drop_modalities(model, batch, empty, settings, whole=len(positions) // 3 if second else 0)
            false_negatives = torch.from_numpy(sampler.false_negatives(queries, positives)).to(accelerator.device)

            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half_precision):
                memory = bank.against(queries, positives)
                contrastive, redundancy, embedded = prepared(batch, false_negatives, memory, second)
            loss = contrastive + settings.redundancy * redundancy
            _check_finite("loss", loss, at.step, lr, objective, folder)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
            _check_finite("norm of the gradient", norm, at.step, lr, objective, folder)
            stepper.step()
            stepper.zero_grad()
            objective.keep_above_floor()
            bank.add(np.concatenate([queries, positives]), embedded)
            at.step += 1

            row = {"step": at.step, "loss": contrastive.item(), "redundancy": redundancy.item(), "lr": lr,
                   "temperature": objective.loss.temperature.item(), "gradient_norm": float(norm)}  # fmt: skip
            if validate is not None and _due(at.step, settings.validate_every, settings):
                row["val_hit@10"], row["val_error"] = validate(model.eval())
                best = _keep(at, row["val_hit@10"], row["val_error"], weights, best, settings)
                row["kept_step"] = at.best_step
            log(row)
            bar.advance()
            bar.note(f"loss {row['loss']:.3f}" + (f" · val H@10 {100 * at.best:.1f}" if at.best >= 0 else ""))
            if main and _due(at.step, settings.checkpoint_every, settings):
                save_checkpoint(folder / "checkpoint", weights, optimizer, vars(at), best, bank.state())
    if best is not None:
        set_weights(weights, best)
    return at


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up to `lr`, then a cosine that reaches `lr · floor` when the last step (counted from 0) is done."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * done)) / 2)


def _optimizer(weights: dict[str, nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; vectors and scalars without weight decay, the agreement bias β with its own learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        factor = settings.beta_lr if name.endswith(".beta") else 1.0
        factor = settings.alignment_lr if name.removeprefix("model.").startswith("alignment.") else factor
        kind = factor, settings.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault(kind, []).append(weight)
    return torch.optim.AdamW(
        [{"params": alike, "factor": factor, "weight_decay": decay} for (factor, decay), alike in groups.items()],
        lr=settings.lr,
    )


def _set_lr(optimizer: torch.optim.Optimizer, step: int, settings: TrainingSettings) -> float:
    lr = learning_rate(step, settings)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    return lr


def _draw(sampler: PairSampler, step: int, accelerator: Accelerator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of this process's items (queries, then positives), and of all processes' queries and positives."""
    world = accelerator.num_processes
    drawn = [sampler.batch_at(step * world + rank) for rank in range(world)]
    queries, positives = (np.concatenate(side) for side in zip(*drawn, strict=True))
    return np.concatenate(drawn[accelerator.process_index]), queries, positives


def _look_twice(positions: np.ndarray, noised: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Join to 2B items (queries, positives) the queries once more, with noise where they had none and the reverse."""
    first = np.zeros(len(positions), bool) if noised is None else noised
    half = len(positions) // 2
    return np.r_[positions, positions[:half]], np.r_[first, ~first[:half]]


def _second_look(features: Features, sampler: PairSampler, queries: np.ndarray, device: torch.device) -> SecondLook:
    known = sampler.false_negatives(queries, queries)
    return SecondLook(torch.from_numpy(known).to(device), torch.from_numpy(features.differs(queries)).to(device))


def _drop_modalities(
    model: ItemEmbedder, batch: ItemBatch, empty: ItemBatch, settings: TrainingSettings, whole: int = 0
) -> ItemBatch:
    """Hide some pictures and some texts of items that have both; a model that reads one of the two keeps it.

    whole: so many items at the end stay as they are.
    """
    touched = (torch.arange(len(batch)) < len(batch) - whole).to(batch.has_picture.device)
    if model.language is None or not model.connector.tokens:
        return batch
    if settings.wrong_text:
        swapped = torch.rand(len(batch)).to(batch.has_picture.device) < settings.wrong_text
        batch = batch.with_swapped_text(swapped & touched)
    chance = torch.rand(len(batch)).to(batch.has_picture.device)
    both = touched & batch.has_picture & batch.metadata_mask.any(1)
    without_picture = both & (chance < settings.drop_picture)
    without_text = both & (chance >= settings.drop_picture) & (chance < settings.drop_picture + settings.drop_text)
    return batch.without_pictures(without_picture).without_text(without_text, empty)


def _due(step: int, every: int, settings: TrainingSettings) -> bool:
    return bool(every) and (step % every == 0 or step == settings.steps)


def _keep(
    at: Progress, found: float, error: float, weights: dict[str, nn.Parameter], kept: dict[str, Tensor] | None,
    settings: TrainingSettings,
) -> dict[str, Tensor] | None:  # fmt: skip
    """Copy the weights unless they validate clearly worse than some before; stop when patience is at its end."""
    at.waited = 0 if found > at.best else at.waited + 1
    at.best = max(at.best, found)
    at.stopped = bool(settings.patience) and at.waited >= settings.patience
    if found < at.best - 2 * error:
        return kept
    at.best_step = at.step
    return get_weights(weights)


def _check_finite(
    what: str, value: Tensor, step: int, lr: float, objective: Objective | VisualStage, folder: Path
) -> None:
    if torch.isfinite(value):
        return
    spoiled = [name for name, weight in objective.named_parameters() if not torch.isfinite(weight).all()]
    where = (
        f"weights no longer finite: {', '.join(spoiled[:5])}"
        if spoiled
        else "all weights are still finite, so the input or an activation overflowed"
    )
    raise TgqError(
        f"the {what} is {value.item()} at step {step + 1} (learning rate {lr:.2g}, temperature "
        f"{objective.loss.temperature.item():.3g}); {where}. Lower training.lr, raise training.warmup, or train with "
        f"precision float32. The last checkpoint is in {folder / 'checkpoint'}"
    )


@contextmanager
def _log(folder: Path, done: int, settings: TrainingSettings, main: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Append rows to `log.jsonl` (rows after the checkpoint that is resumed are cut) and to TensorBoard.

    Of several processes only the main one writes.
    """
    if not main:
        yield lambda _: None
        return
    path = folder / "log.jsonl"
    kept = path.read_text().splitlines()[:done] if path.exists() else []
    write_text(path, "".join(line + "\n" for line in kept))
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a"))
        writer = _tensorboard(folder / "tensorboard", done) if settings.tensorboard else None
        if writer is not None:
            stack.callback(writer.close)

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if writer is not None:
                for name in row.keys() - {"step"}:
                    writer.add_scalar(name, row[name], row["step"])

        yield write


def _tensorboard(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TgqError("training.tensorboard needs a package: pip install 'tgqformer[tensorboard]'") from error
    return SummaryWriter(folder, purge_step=done + 1)
