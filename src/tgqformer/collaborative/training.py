"""The training of a model of behaviour by epochs, in the one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tgqformer.collaborative.graph import to_tensors
from tgqformer.config import Natural, Positive, PositiveFloat, settings
from tgqformer.training.loop import Objective, OneProcess, Place, Plan, TrainingState, Validation, fit
from tgqformer.types import Ints

Drop = Annotated[float, Field(ge=0, lt=1)]
"""A share below 1."""


@settings
class EpochSettings:
    """How a model is trained, by Adam.

    Args:
        epochs: at most. batch: triples, users, sequences or pairs a step. lr, betas: of Adam. decay: factor of the
            learning rate after each epoch.
        evaluate_every: epochs between evaluations: on validation where the split has it; 0 for none.
        patience: evaluations without a better one before the training stops, which needs validation; 0 never stops it.
            With validation the best weights are kept, without it the last.
        checkpoint_every: epochs between checkpoints; 0 for none.
    """

    epochs: Positive = 100
    batch: Positive = 2048
    lr: PositiveFloat = 1e-3
    betas: tuple[Drop, Drop] = (0.9, 0.999)
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    evaluate_every: Natural = 10
    patience: Natural = 0
    checkpoint_every: Natural = 1

    def __post_init__(self) -> None:
        if self.patience and not self.evaluate_every:
            raise ValueError("training.patience counts evaluations: set training.evaluate_every")


class EpochObjective(Objective):
    """A model, the batches of its epochs and its loss.

    Args:
        model: what is trained. steps: of an epoch. seed: of torch's random numbers.
        draw: (epoch, step of it), both from 0 → the arrays of that batch, by nothing else.
        loss: those arrays on the model's device → a scalar.
    """

    advice = "Lower training.lr"

    def __init__(
        self,
        model: nn.Module,
        steps: int,
        draw: Callable[[int, int], tuple[Ints, ...]],
        loss: Callable[..., Tensor],
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.steps, self.draw, self.loss, self.seed = model, steps, draw, loss, seed
        self.epoch, self._since = 0, time.perf_counter()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def batch(self, step: int, place: Place) -> tuple[Tensor, ...]:
        """Return the batch of a step."""
        self.epoch, within = divmod(step, self.steps)
        if not within:
            self._since = time.perf_counter()
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch, within]).generate_state(1)[0]))
        return to_tensors(self.draw(self.epoch, within), place.device)

    def forward(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(*batch)}

    def facts(self) -> dict[str, float]:
        """Return the epoch, counted from 1, and how long it took so far."""
        return {"epoch": self.epoch + 1, "seconds": round(time.perf_counter() - self._since, 3)}


def train_epochs(
    objective: EpochObjective | None,
    settings: EpochSettings,
    folder: Path,
    *,
    validate: Callable[[], Validation] | None = None,
    shown: bool = True,
) -> TrainingState:
    """Train a model by Adam, see `fit`; `None`, a model that only counts, is not trained.

    The log has a row an epoch: its mean loss, and what `validate` found every so many epochs.
    """
    if objective is None:
        return TrainingState()
    epoch = objective.steps
    plan = Plan(
        steps=settings.epochs * epoch,
        schedule=lambda step: {"lr": settings.lr * settings.decay ** (step // epoch)},
        validate_every=settings.evaluate_every * epoch,
        patience=settings.patience,
        checkpoint_every=settings.checkpoint_every * epoch,
        log_every=epoch,
    )
    optimizer = torch.optim.Adam(list(objective.parameters()), lr=settings.lr, betas=settings.betas, fused=True)
    return fit(objective, optimizer, plan, folder, place=OneProcess(objective.device), validate=validate, shown=shown)
