"""The one training loop, to be read top to bottom. It minimises an `Objective`, and knows nothing of what that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tgqformer.encoders.frozen import Precision, resolve_precision
from tgqformer.errors import TgqError
from tgqformer.files import restore
from tgqformer.progress import progress
from tgqformer.training.checkpoint import Weights, get_weights, load_checkpoint, save_checkpoint, set_weights
from tgqformer.training.log import training_log
from tgqformer.training.schedules import Schedule


class Place(Protocol):
    """Where a training runs: the part of `accelerate.Accelerator` that the loop and objectives need."""

    device: torch.device
    num_processes: int
    process_index: int
    is_main_process: bool

    def prepare(self, *parts: Any) -> Any: ...  # noqa: D102
    def backward(self, loss: Tensor) -> None: ...  # noqa: D102
    def clip_grad_norm_(self, parameters: Iterator[nn.Parameter], max_norm: float) -> Tensor: ...  # noqa: D102


class OneProcess:
    """A `Place` that is this process alone, on one device; the objective must be there already."""

    num_processes, process_index, is_main_process = 1, 0, True

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def prepare(self, *parts: Any) -> Any:
        """Return the parts as they are."""
        return parts

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip_grad_norm_(self, parameters: Iterator[nn.Parameter], max_norm: float) -> Tensor:
        """Scale the gradient down to `max_norm`; return the norm that it had."""
        return nn.utils.clip_grad_norm_(parameters, max_norm)


class Objective(nn.Module, ABC):
    """What a training minimises: a module that turns the batch of a step into named losses.

    title: words before the progress bar. advice: what to do when a loss is no longer finite.
    weights: of the losses in their sum, which is what is minimised; a loss that is not named here has 1.
    """

    title = "training"
    advice = "Lower training.lr"
    weights: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def batch(self, step: int, place: Place) -> Any:
        """Return what `forward` takes in this step, counted from 0; None if there is nothing to learn from.

        It also seeds torch's random numbers if `forward` draws some, so that a step is a function of its number alone.
        """

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses, scalars, by name."""

    def facts(self) -> dict[str, float]:
        """Return what else the log should hold."""
        return {}

    def after_step(self) -> None:
        """Do what must be done after each step of the optimiser."""


@dataclass(frozen=True)
class Plan:
    """How an objective is minimised. Rhythms are in steps; 0 is never, else the last step is always one.

    Args:
        steps: how many. until: stop after so many of them, though the schedule is made for all.
        schedule: what the optimiser's groups are set to.
        clip: most norm of the gradient; None leaves it as it is.
        validate_every: between validations. patience: validations without a better one before the training stops; 0
            never stops it. checkpoint_every: between checkpoints.
        log_every: between rows of the log, which hold means over their steps; it divides the other two.
        precision: of matrix products. trackers, told: who else is given the rows of the log, see `training_log`.
    """

    steps: int
    schedule: Schedule
    clip: float | None = None
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 0
    log_every: int = 1
    precision: Precision = "float32"
    trackers: tuple[Any, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    until: int | None = None

    @property
    def last(self) -> int:
        """The last step."""
        return self.steps if self.until is None else self.until

    def due(self, step: int, every: int) -> bool:
        """Say whether what is done every so many steps is to be done now."""
        return bool(every) and (step % every == 0 or step == self.last)


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    figures: for the log. score: by which weights are kept, higher is better; None keeps the last ones.
    error: standard error of the score. With it the latest weights within two errors of the best are kept: the learning
        rate falls to the end, so that of two that cannot be told apart the later is the better guess. Without it the
        best ones are kept.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    error: float | None = None


@dataclass
class TrainingState:
    """How far a training is: steps done, the best validation so far, the step of the kept weights, validations waited
    for a better one."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    stopped: bool = False


def fit(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    folder: Path | None = None,
    *,
    place: Place | None = None,
    validate: Callable[[], Validation] | None = None,
    shown: bool = True,
) -> TrainingState:
    """Minimise an objective; stop and resume gives the same weights, bit for bit, on CPU.

    Write `log.jsonl`, `checkpoint/` and what trackers write into `folder`, if there is one. A folder with a checkpoint
    is resumed. At the end the objective holds the weights that validation keeps, the last ones without it.

    Raises:
        TgqError: when a loss or its gradient is no longer finite, with what to look at.
    """
    place = place or OneProcess()
    weights = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    at, best = TrainingState(), None
    if folder is not None and restore(folder / "checkpoint"):
        state, best = load_checkpoint(folder / "checkpoint", weights, optimizer)
        at = TrainingState(**state)
    prepared, stepper = place.prepare(objective, optimizer)
    seen: list[dict[str, Tensor]] = []
    with (
        training_log(folder if place.is_main_process else None, at.step, trackers=plan.trackers, told=plan.told) as log,
        progress(objective.title, plan.last, shown=shown and place.is_main_process) as bar,
    ):
        bar.advance(at.step)
        while at.step < plan.last and not at.stopped:
            rate = _set_rate(optimizer, plan.schedule(at.step))
            prepared.train()
            batch = objective.batch(at.step, place)
            if batch is not None:
                where = f"at step {at.step + 1} (learning rate {rate:.2g}"
                seen.append(_step(objective, prepared, stepper, batch, plan, place, where))
            at.step += 1
            bar.advance()

            if plan.due(at.step, plan.log_every):
                row: dict[str, float] = {"step": at.step, **_means(seen), "lr": rate, **objective.facts()}
                seen.clear()
                if validate is not None and plan.due(at.step, plan.validate_every):
                    objective.eval()
                    with torch.no_grad():
                        found = validate()
                    row |= found.figures
                    if found.score is not None:
                        best = _keep(at, found.score, found.error, weights, best, plan.patience)
                        row["kept_step"] = at.best_step
                log(row)
                bar.note(f"loss {row.get('loss', 0.0):.3f}" + (f" · best {at.best:.3f}" if at.best >= 0 else ""))
            if folder and place.is_main_process and (at.stopped or plan.due(at.step, plan.checkpoint_every)):
                save_checkpoint(folder / "checkpoint", weights, optimizer, vars(at), best)
    if best is not None:
        set_weights(weights, best)
    objective.eval()
    return at


def _step(
    objective: Objective, prepared: nn.Module, stepper: Any, batch: Any, plan: Plan, place: Place, where: str
) -> dict[str, Tensor]:
    """Take one step down the losses of a batch; return them, their sum, and the gradient's norm where it is clipped."""
    half = resolve_precision(plan.precision, place.device) is torch.bfloat16
    with torch.autocast(place.device.type, torch.bfloat16, enabled=half):
        losses: dict[str, Tensor] = prepared(batch)
    first, *others = (objective.weights.get(name, 1.0) * value for name, value in losses.items())
    loss = sum(others, first)
    _check_finite("loss", loss, objective, where)
    place.backward(loss)
    told = {"loss": loss, **losses}
    if plan.clip is not None:
        told["gradient_norm"] = place.clip_grad_norm_(prepared.parameters(), plan.clip)
        _check_finite("norm of the gradient", told["gradient_norm"], objective, where)
    stepper.step()
    stepper.zero_grad()
    objective.after_step()
    return {name: value.detach() for name, value in told.items()}


def _set_rate(optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> float:
    for group in optimizer.param_groups:
        group.update(values)
        group["lr"] = values["lr"] * group.get("factor", 1.0)
    rate: float = values["lr"]
    return rate


def _means(seen: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: torch.stack([one[name] for one in seen]).mean().item() for name in (seen[0] if seen else ())}


def _keep(
    at: TrainingState,
    score: float,
    error: float | None,
    weights: Weights,
    kept: dict[str, Tensor] | None,
    patience: int,
) -> dict[str, Tensor] | None:
    """Copy the weights if they are to be kept, see `Validation`; stop when patience is at its end."""
    better = score > at.best
    at.best, at.waited = max(at.best, score), 0 if better else at.waited + 1
    at.stopped = bool(patience) and at.waited >= patience
    if not better and (error is None or score < at.best - 2 * error):
        return kept
    at.best_step = at.step
    return get_weights(weights)


def _check_finite(what: str, value: Tensor, objective: Objective, where: str) -> None:
    if torch.isfinite(value):
        return
    spoiled = [name for name, weight in objective.named_parameters() if not torch.isfinite(weight).all()]
    reason = (
        f"weights no longer finite: {', '.join(spoiled[:5])}"
        if spoiled
        else "all weights are still finite, so the input or an activation overflowed"
    )
    facts = "".join(f", {name} {number:.3g}" for name, number in objective.facts().items())
    raise TgqError(
        f"the {what} is {value.item()} {where}{facts}); {reason}. {objective.advice} and go on from the last checkpoint"
    )
