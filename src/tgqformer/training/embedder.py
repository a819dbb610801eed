"""The training of an embedder on pairs: the connector alone first, then all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from tgqformer.encoders.frozen import resolve_precision
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.training.batches import ItemFeatures, PairBatches
from tgqformer.training.loop import Objective, Plan, TrainingState, Validation, fit
from tgqformer.training.objectives import PairObjective, VisualLoss, VisualObjective
from tgqformer.training.processes import check_group, is_rank
from tgqformer.training.sampling import PairSampler
from tgqformer.training.schedules import warm_cosine
from tgqformer.training.settings import TrainingSettings
from tgqformer.training.sharded import leave_to_fsdp, shard
from tgqformer.types import Vectors


def train_embedder(
    model: ItemEmbedder,
    features: ItemFeatures,
    sampler: PairSampler,
    settings: TrainingSettings,
    folder: Path,
    *,
    seed: int = 0,
    validate: Callable[[ItemEmbedder], tuple[float, float]] | None = None,
    until: float = 1.0,
    old: Vectors | None = None,
    trackers: Sequence[Any] = (),
    shown: bool = True,
) -> TrainingState:
    """Train a model on pairs; see `fit` for what is written, kept and raised.

    With several processes (`torchrun`, `tgq run --nproc`) each takes `settings.batch` pairs a step, with those of the
    others as negatives. A launcher that starts fewer than it was asked for is refused.
    With `visual_steps` the connector learns first, alone, and writes its log and checkpoint into `folder/visual`.

    Args:
        settings: numbers of steps that are left out follow from the number of pairs.
        validate: returns H@10 and its standard error. until: the share of the steps after which to stop.
        old: vectors [N, d] of an earlier model for `settings.compatible`.
        trackers: `accelerate.tracking.GeneralTracker` objects, besides those that the settings name.
    """
    check_group()
    if settings.fsdp and is_rank():
        shard(model.language, Accelerator())
    *before, (objective, settings) = _stages(model, features, sampler, settings, seed, old)
    for alone, first in before:
        _fit(alone, first, folder / "visual", shown=shown)

    def validated() -> Validation:
        assert validate is not None
        hit, error = validate(model)
        return Validation({"val_hit@10": hit, "val_error": error}, hit, error)

    check = validated if validate else None
    return _fit(objective, settings, folder, validate=check, until=until, trackers=trackers, shown=shown)


def seconds_of_training(
    model: ItemEmbedder, features: ItemFeatures, sampler: PairSampler, settings: TrainingSettings, *, seed: int = 0
) -> float:
    """Return about how long `train_embedder` will take, validations aside: a step of each stage is timed.

    The weights stay as they are, and so does what a training draws at random, since that starts from its own seed.
    """
    total, place = 0.0, Accelerator()
    for objective, stage in _stages(model, features, sampler, settings, seed):
        prepared, took = place.prepare(objective).train(), 0.0
        half = resolve_precision(stage.precision, place.device) is torch.bfloat16
        for attempt in range(2):  # the first one sets things up
            started = time.perf_counter()
            batch = objective.batch(attempt, place)
            with torch.autocast(place.device.type, torch.bfloat16, enabled=half):
                losses = prepared(batch)
            place.backward(sum(losses.values()))
            took = time.perf_counter() - started
        objective.zero_grad(set_to_none=True)
        total += (stage.steps or 0) * took
    return total


def _stages(
    model: ItemEmbedder,
    features: ItemFeatures,
    sampler: PairSampler,
    settings: TrainingSettings,
    seed: int,
    old: Vectors | None = None,
) -> list[tuple[Objective, TrainingSettings]]:
    """Return what is minimised, one after the other, each with its settings; all numbers of steps are filled in."""
    settings = settings.resolved(len(sampler.a))
    torch.manual_seed(seed)  # for the head of the visual loss, whatever was drawn since the model was made
    visual = VisualLoss.wanted(model, settings)
    batches, stages = partial(PairBatches, model, features, seed=seed), list[tuple[Objective, TrainingSettings]]()
    if visual is not None and settings.visual_steps:
        first = settings.visual_stage()
        stages.append((VisualObjective(model, first, visual, batches(sampler.sized(first.batch), first)), first))
    beside = visual if settings.visual_loss else None
    return [*stages, (PairObjective(model, settings, beside, batches(sampler, settings, old=old)), settings)]


def _fit(
    objective: Objective,
    settings: TrainingSettings,
    folder: Path,
    *,
    validate: Callable[[], Validation] | None = None,
    until: float = 1.0,
    trackers: Sequence[Any] = (),
    shown: bool,
) -> TrainingState:
    optimizer, plan = optimizer_of(objective, settings), plan_of(settings)
    plan = replace(plan, trackers=(*plan.trackers, *trackers))
    if until < 1:
        plan = replace(plan, until=max(1, round(until * plan.steps)))
    leave_to_fsdp(objective)
    return fit(objective, optimizer, plan, folder, place=Accelerator(), validate=validate, shown=shown)


def plan_of(settings: TrainingSettings) -> Plan:
    """Return the plan of resolved settings."""
    steps, warmup, validate_every = settings.steps, settings.warmup, settings.validate_every
    assert steps is not None and warmup is not None and validate_every is not None
    return Plan(
        steps=steps,
        schedule=warm_cosine(settings.lr, steps, warmup=warmup, floor=settings.floor),
        clip=settings.clip,
        validate_every=validate_every,
        patience=settings.patience,
        checkpoint_every=settings.checkpoint_every,
        precision=settings.precision,
        trackers=settings.trackers,
        told=vars(settings),
    )


def optimizer_of(objective: Objective, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; vectors and scalars without weight decay, the agreement bias β and the alignment with their own rates."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weight in objective.named_parameters():
        if weight.requires_grad:
            factor = settings.beta_lr if name.endswith(".beta") else 1.0
            factor = settings.alignment_lr if name.removeprefix("model.").startswith("alignment.") else factor
            groups.setdefault((factor, settings.weight_decay if weight.ndim > 1 else 0.0), []).append(weight)
    alike = [{"params": some, "factor": factor, "weight_decay": decay} for (factor, decay), some in groups.items()]
    return torch.optim.AdamW(alike, lr=settings.lr)
