"""Settings of training; the recipe's `training` and `alignment` sections are these classes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from tgqformer.config import FilePath, Natural, NaturalFloat, Positive, PositiveFloat, Share, settings
from tgqformer.errors import TgqError

MOST_STEPS, PASSES = 700, 4
"""Steps where there are pairs enough; passes through the pairs where there are few."""
MOST_VISUAL_STEPS, VISUAL_PASSES = 400, 3
"""The same of the first stage."""
MOST_ALIGNMENT, FEWEST_ALIGNMENT, ALIGNMENT_PASSES = 400, 100, 20
"""Steps of the alignment at most and at least; passes through the items in between."""


@settings
class AlignmentSettings:
    """The alignment stage: a minute on the catalogue's own picture-title pairs of training items.

    Args:
        steps: of the contrastive training; what is left out follows from the number of items, see `resolved`.
        batch, lr: of the same. noised: share of pictures shown noised.
    """

    steps: Positive | None = None
    batch: Annotated[int, Field(ge=2)] = 256  # one pair has no negatives
    lr: PositiveFloat = 1e-3
    noised: Share = 0.5

    def resolved(self, items: int) -> AlignmentSettings:
        """Return these settings with the number of steps filled in.

        Few items are soon learned by heart, so training goes twenty times through them, but takes at least 100 steps.
        From some 5,000 items on that is no limit any more, and 400 steps are enough.

        Args:
            items: the number of training items.
        """
        steps = math.ceil(ALIGNMENT_PASSES * max(1, items) / self.batch)
        return replace(self, steps=self.steps or min(MOST_ALIGNMENT, max(FEWEST_ALIGNMENT, steps)))


@settings
class TrainingSettings:
    """How one model is trained. Most people need none of these.

    To train longer or shorter; what is left out follows from the number of training pairs, see `resolved`:
        steps: optimiser steps.
        visual_steps: steps before the first one, in which the connector learns alone, by the visual loss (below):
            cheap, since no language model runs. 0 for none.
        warmup: steps in which the learning rate rises; then it falls as a cosine down towards `lr · floor`.
        validate_every: steps between validations; 0 for none.

    To go on from an earlier training, see the page *Every day*:
        from_: `run`: each model goes on from the weights that the folder of the run held before its data changed, and
            starts afresh where there are none; or the folder of another run.
        compatible: weight of the loss that keeps vectors comparable with those of the earlier model; 0 for none.

    Shops with pictures or titles of their own kind:
        drop_picture, drop_text: how often a modality is hidden, so that a missing one is no surprise; only of items
            that have both, and in models that read both.
        wrong_text: how often an item has the text of another one, so that a wrong title is no surprise. It costs hits
            where titles are right.
        visual_drop_text, visual_wrong_text: the same in the steps of the connector alone.
        matryoshka: widths at which the loss is computed too, so that embeddings may be cut there (arXiv 2205.13147).

    Fitting a machine:
        batch: pairs a step. visual_batch: pairs a step of the connector alone (whole groups).
        processes: how many train together on one machine. Each takes `batch` pairs a step, with those of the others as
            negatives: as one process with so many times the batch, in fewer steps.
        fsdp: spread the frozen weights of the language model over the processes, where one GPU has no room for them
            and a step; the same weights are learned, more slowly.
        precision: `float32`, `bfloat16` (matrix products only), or `auto`: bfloat16 where the processor has it.
        checkpoint_every: steps between checkpoints; 0 for none.
        trackers: who else is given the rows of the log: what Accelerate knows by name, `tensorboard`, `wandb`, `mlflow`
            and others.

    Experiments with the method:
        lr: peak learning rate. floor: see `warmup`. beta_lr: factor for the agreement bias. alignment_lr: factor with
            which the alignment goes on learning with the model; 0 freezes it.
        group: pairs of one category in a row (hard negatives).
        redundancy: λ, weight of the redundancy loss.
        visual_loss: weight of a pair loss of the visual tokens by themselves, so that they learn faster than through
            the language model alone, which has the text to go by.
        temperature: where the learnable temperature starts.
        weight_decay, clip: of AdamW and of the gradient's norm.
        patience: validations without a better one before the training stops; 0 never stops it. The latest weights
            within two standard errors of the best are kept.
    """

    steps: Positive | None = None
    visual_steps: Natural | None = None
    warmup: Natural | None = None
    validate_every: Natural | None = None
    from_: Annotated[Literal["run"] | FilePath, Field(union_mode="left_to_right")] | None = None
    compatible: NaturalFloat = 0.0
    drop_picture: Share = 0.05
    drop_text: Share = 0.05
    wrong_text: Share = 0.0
    visual_drop_text: Share = 0.15
    visual_wrong_text: Share = 0.2
    matryoshka: tuple[Positive, ...] = ()
    batch: Positive = 64
    visual_batch: Positive = 256
    processes: Positive = 1
    fsdp: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: Natural = 100
    trackers: tuple[str, ...] = ()
    lr: PositiveFloat = 1e-3
    floor: Share = 0.02
    beta_lr: NaturalFloat = 5.0
    alignment_lr: NaturalFloat = 0.3
    group: Positive = 16
    redundancy: NaturalFloat = 0.0
    visual_loss: NaturalFloat = 0.5
    temperature: PositiveFloat = 0.05
    weight_decay: NaturalFloat = 0.01
    clip: PositiveFloat = 1.0
    patience: Natural = 0

    def __post_init__(self) -> None:
        first = self.visual_steps != 0  # how texts are dropped there counts only where there is one
        for name, share in (("drop_text", self.drop_text), ("visual_drop_text", first * self.visual_drop_text)):
            if self.drop_picture + share > 1:
                raise ValueError(f"drop_picture and {name} together must not be above 1")
        if self.compatible and self.from_ is None:
            raise ValueError("compatible says with what: give from, `run` or the folder of a run")
        if self.batch % self.group:
            raise ValueError(f"batch ({self.batch}) must be a multiple of group ({self.group})")
        if first and self.visual_batch < self.group:
            raise ValueError(f"visual_batch ({self.visual_batch}) must hold a group ({self.group})")
        if self.processes > 1 and not self.checkpoint_every:
            raise ValueError("processes above 1 leave what they learn in a checkpoint: give checkpoint_every")
        if self.fsdp and self.processes == 1:
            raise ValueError("fsdp spreads weights over several processes: give processes")
        if self.steps is not None and self.warmup is not None and self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be below steps ({self.steps})")

    def resolved(self, pairs: int) -> TrainingSettings:
        """Return these settings with every number of steps filled in; what was given stays as it is.

        Few pairs are soon learned by heart, so training goes at most four times through them, the connector alone at
        most three times: in trials more passes found the training pairs better and new items worse. From some 11,000
        pairs on (34,000 for the connector alone) that is no limit any more, and 700 and 400 steps were enough on
        10,000 to 120,000 pairs.

        Args:
            pairs: the number of training pairs.
        """
        share = max(1, pairs) / self.processes
        steps = self.steps or min(MOST_STEPS, math.ceil(PASSES * share / self.batch))
        visual = min(MOST_VISUAL_STEPS, math.ceil(VISUAL_PASSES * share / self._visual_batch))
        return replace(
            self,
            steps=steps,
            visual_steps=visual if self.visual_steps is None else self.visual_steps,
            warmup=min(50, steps // 3) if self.warmup is None else self.warmup,
            validate_every=min(100, max(1, steps // 2)) if self.validate_every is None else self.validate_every,
        )

    def continued(self) -> TrainingSettings:
        """Return the settings with which a training goes on from earlier weights: the connector has learned alone."""
        return replace(self, visual_steps=self.visual_steps or 0)

    def visual_stage(self) -> TrainingSettings:
        """Return the settings of the steps in which the connector learns alone, of resolved ones."""
        steps, warmup = self.visual_steps, self.warmup
        assert steps and warmup is not None
        return replace(
            self,
            steps=steps,
            batch=self._visual_batch,
            warmup=min(warmup, steps // 4),
            wrong_text=self.visual_wrong_text,
            drop_text=self.visual_drop_text,
            validate_every=0,
        )

    @property
    def _visual_batch(self) -> int:
        return max(1, self.visual_batch // self.group) * self.group


def check_afresh(settings: TrainingSettings, what: str) -> None:
    """Raise TgqError where a training is to go on from earlier weights, which only a run does."""
    if settings.from_ is not None:
        raise TgqError(f"training.from: every model of a {what} starts afresh; leave it out")
