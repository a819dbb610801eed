"""Settings of training; the recipe's `training` and `alignment` sections are these classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


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

    def __post_init__(self) -> None:
        _require("alignment", vars(self), positive=("steps", "lr"), share=("noised",))
        if self.batch < 2:
            raise ValueError(f"alignment.batch must be at least 2, found {self.batch}: one pair has no negatives")


@dataclass(frozen=True)
class TrainingSettings:
    """How one model is trained.

    Args:
        steps: optimiser steps. batch: pairs a step. group: pairs of one category in a row (hard negatives).
        lr: peak learning rate; `warmup` steps up, a cosine down towards `lr · floor`.
        beta_lr: factor for the agreement bias.
        weight_decay, clip: of AdamW and of the gradient's norm.
        temperature: where the learnable temperature starts.
        redundancy: λ, weight of the redundancy loss.
        augment: share of the pictures that are shown with other noise than they wear.
        two_views: weight of a second loss, in which a query and the same query with other noise are the pair; one
            that looks alike in both serves as a negative only.
        visual_loss: weight of a pair loss of the visual tokens by themselves, so that they learn faster than through
            the language model alone, which has the text to go by.
        visual_steps: steps before the first one, in which the connector learns alone, by that loss, from `visual_batch`
            pairs a step (whole groups): cheap, since no language model is asked. Never more than `visual_passes`
            through the training pairs, or it learns them by heart. Their learning rate has a warm-up and a fall of its
            own. visual_wrong_text, visual_drop_text: as `wrong_text` and `drop_text`, in these steps.
        memory: how many embeddings of earlier steps serve as further negatives (XBM, arXiv 1912.06798); 0 for none.
        matryoshka: widths at which the loss is asked for too, so that embeddings may be cut there (arXiv 2205.13147).
        wrong_text: how often an item wears the text of another one, so that a wrong title is no surprise.
        alignment_lr: factor of the learning rate with which the alignment goes on learning with the model; 0: frozen.
        drop_picture, drop_text: how often a modality is hidden, so that a missing one is no surprise; only of items
            that have both, and in models that read both.
        validate_every: steps between validations; 0 for none. patience: validations without a better one before the
            training stops; 0 never stops it. The latest weights within two standard errors of the best are kept.
        checkpoint_every: steps between checkpoints; 0 for none.
        precision: `float32`, `bfloat16` (matrix products only), or `auto`: bfloat16 where the processor has it.
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
    augment: float = 0.0
    two_views: float = 0.0
    visual_loss: float = 0.5
    visual_steps: int = 400
    visual_batch: int = 256
    visual_passes: float = 3.0
    visual_wrong_text: float = 0.2
    visual_drop_text: float = 0.15
    memory: int = 0
    matryoshka: tuple[int, ...] = ()
    wrong_text: float = 0.0
    alignment_lr: float = 0.3
    drop_picture: float = 0.05
    drop_text: float = 0.05
    validate_every: int = 100
    patience: int = 0
    checkpoint_every: int = 100
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _require("training", vars(self),
                 positive=("steps", "batch", "visual_batch", "visual_passes", "group", "lr", "clip", "temperature"),
                 share=("floor", "augment", "wrong_text", "drop_picture", "drop_text", "visual_wrong_text",
                        "visual_drop_text"),
                 natural=("warmup", "beta_lr", "weight_decay", "redundancy", "two_views", "visual_loss", "visual_steps",
                          "memory", "alignment_lr", "validate_every", "patience", "checkpoint_every"))  # fmt: skip
        first = bool(self.visual_steps)  # what the first stage is told matters where there is one
        for name in ("drop_text", "visual_drop_text")[: 1 + first]:
            if self.drop_picture + vars(self)[name] > 1:
                raise ValueError(f"training.drop_picture and training.{name} together must not be above 1")
        if any(width < 1 for width in self.matryoshka):
            raise ValueError(f"training.matryoshka lists widths of 1 or more, found {list(self.matryoshka)}")
        if self.batch % self.group:
            raise ValueError(f"training.batch ({self.batch}) must be a multiple of training.group ({self.group})")
        if first and self.visual_batch < self.group:
            raise ValueError(f"training.visual_batch ({self.visual_batch}) must hold a training.group ({self.group})")
        if self.warmup >= self.steps:
            raise ValueError(f"training.warmup ({self.warmup}) must be below training.steps ({self.steps})")

    def visual_stage(self, pairs: int) -> TrainingSettings:
        """Settings of the steps in which the connector learns alone, from so many training pairs."""
        batch = self.visual_batch // self.group * self.group
        steps = min(self.visual_steps, math.ceil(self.visual_passes * pairs / batch))
        return replace(self, steps=steps, batch=batch, warmup=min(self.warmup, steps // 4), memory=0,
                       wrong_text=self.visual_wrong_text, drop_text=self.visual_drop_text, two_views=0.0,
                       validate_every=0)  # fmt: skip


def _require(
    section: str, values: Mapping[str, Any], *, positive: tuple[str, ...] = (), natural: tuple[str, ...] = (),
    share: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Refuse numbers out of range: `positive` above 0, `natural` from 0 on, `share` from 0 to 1."""
    for names, low, high, words in (
        (positive, 0.0, math.inf, "above 0"), (natural, 0.0, math.inf, "0 or more"), (share, 0.0, 1.0, "from 0 to 1"),
    ):  # fmt: skip
        for name in names:
            value = values[name]
            if not (low <= value <= high and math.isfinite(value)) or (words == "above 0" and value == 0):
                raise ValueError(f"{section}.{name} must be {words}, found {value}")
