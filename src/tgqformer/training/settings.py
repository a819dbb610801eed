"""Settings of training; the recipe's `training` and `alignment` sections are these classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AlignmentSettings:
    """The alignment stage: a minute on the catalogue's own picture-title pairs of training items.

    Args:
        steps, batch, lr: of the contrastive training. noised: share of pictures shown noised.
    """

    steps: int = 400
    batch: int = 256
    lr: float = 1e-3
    noised: float = 0.5


@dataclass(frozen=True)
class TrainingSettings:
    """How one model is trained.

    Args:
        steps: optimiser steps. batch: pairs a step. group: pairs of one category in a row (hard negatives).
        lr: peak learning rate; `warmup` steps up, cosine down to `lr · floor`. beta_lr: factor for the agreement bias.
        weight_decay, clip: of AdamW and of the gradient's norm.
        temperature: where the learnable temperature starts.
        redundancy: λ, weight of the redundancy loss.
        drop_picture, drop_text: how often a modality is hidden, so that a missing one is no surprise.
        validate_every: steps between validations; 0 for none. patience: validations without a better one before the
            training stops; 0 never stops it. The best validated weights are kept.
        checkpoint_every: steps between checkpoints; 0 for none.
        precision: `no` (float32) or `bf16`.
        tensorboard: also log for TensorBoard, into the run's folder.
    """

    steps: int = 700
    batch: int = 64
    group: int = 16
    lr: float = 1e-3
    warmup: int = 50
    floor: float = 0.02
    beta_lr: float = 5.0
    weight_decay: float = 0.01
    clip: float = 1.0
    temperature: float = 0.05
    redundancy: float = 0.0
    drop_picture: float = 0.05
    drop_text: float = 0.05
    validate_every: int = 100
    patience: int = 0
    checkpoint_every: int = 100
    precision: Literal["no", "bf16"] = "no"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.batch % self.group:
            raise ValueError(f"training.batch ({self.batch}) must be a multiple of training.group ({self.group})")
        if self.steps < 1 or self.warmup >= self.steps:
            raise ValueError(f"training.warmup ({self.warmup}) must be below training.steps ({self.steps})")
