"""A cell of the bench: one trial in a folder of its own, with its recipe, metrics and versions."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tgqformer import config
from tgqformer.errors import TgqError
from tgqformer.evaluation.report import versions
from tgqformer.evaluation.results import Result
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe, load_recipe
from tgqformer.experiments.reporting import Inspection, NoisedSample, cost_of
from tgqformer.experiments.trial import Trial
from tgqformer.files import read_json, write_json
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.stages import Stage, clear, note_of
from tgqformer.training.checkpoint import drop_checkpoints

UNSEEN: dict[str, Any] = {"attention": {}, "gates": {}, "cost": {}}
"""What is not known of a whole multimodal model; `tgq cost` counts its FLOPs."""
SAMPLE = 1000
"""How many queries are inspected for attention and gates."""


@dataclass(frozen=True)
class Measured:
    """What is known of a finished cell.

    attention: stream -> share of its attention inside the noise; `even attention` is the noise's share of the picture.
    gates: stream -> mean factor, its spread over channels and over items. cost: parameters, trained, and FLOPs an item
    by part. lr: the learning rate. validation: H@10 there of the kept weights. seconds: of training and of measuring.
    """

    result: Result
    attention: Mapping[str, float]
    gates: Mapping[str, Mapping[str, float]]
    cost: Mapping[str, float]
    lr: float
    validation: float
    seconds: Mapping[str, float]


def cell_stage(recipe: Recipe, data: Dataset, folder: Path, sample: Callable[[], NoisedSample]) -> Stage:
    """Return the stage that trains and measures the one model of a recipe; a killed one goes on where it was.

    Args:
        recipe: with one model and one seed. data: made for this recipe. folder: of the cell. sample: what attention and
            gates are inspected on.
    """
    trial = _trial(recipe, data, folder)
    inputs = trial.inputs() | {"evaluation": config.plain(recipe.evaluation)}
    make = partial(_measure, trial, sample)
    return Stage(folder.parent.name, folder, "cell", inputs, make, keep="same inputs")


def _measure(trial: Trial, sample: Callable[[], NoisedSample]) -> None:
    folder, data = trial.folder, trial.data
    config.write(trial.recipe, folder / "recipe.yaml")
    write_json(folder / "versions.json", versions())
    threads = torch.get_num_threads()  # sums are taken in another order with another number of them
    write_json(folder / "data.json", {"data": os.path.relpath(data.folder, folder), "threads": threads})
    started = time.perf_counter()
    model = trial.fit()
    trained = time.perf_counter()
    trial.measure(model).write(folder)
    inspected = _inspect(model, data, sample()) if isinstance(model, ItemEmbedder) else UNSEEN
    seconds = {"training": trained - started, "measuring": time.perf_counter() - trained}
    found = {"lr": trial.recipe.training.lr, "validation": validation_of(folder), "seconds": seconds}
    write_json(folder / "measured.json", inspected | found)
    drop_checkpoints(folder)


def tuning_stage(recipe: Recipe, data: Dataset, folder: Path) -> Stage:
    """Return the stage that trains the one model of a recipe; nothing of the test is measured."""
    trial = _trial(recipe, data, folder)

    def make() -> None:
        config.write(recipe, folder / "recipe.yaml")
        trial.fit()
        drop_checkpoints(folder)

    return Stage(folder.parent.name, folder, "tuning", trial.inputs(), make, keep="same inputs")


def is_whole(folder: Path) -> bool:
    """Say whether a cell was finished, whatever it was made from."""
    note = note_of(folder)
    return note is not None and note.get("done") is True


def read_cell(folder: Path) -> Measured:
    """Read a finished cell."""
    return Measured(Result.read(folder), **read_json(folder / "measured.json"))


def rerun_cell(folder: Path, to: Path) -> list[str]:
    """Do a cell again from its folder; give the differences between its metrics and those found now, none if equal.

    Args:
        folder: of the finished cell. to: folder for the new one.

    Raises:
        TgqError: if the folder is no cell, or its data have moved.
    """
    if not (folder / "data.json").is_file():
        raise TgqError(f"{folder} is not a cell of a bench: no data.json; give a folder that holds metrics.json")
    recipe = load_recipe(str(folder / "recipe.yaml"))
    made = read_json(folder / "data.json")
    shared = (folder / made["data"]).resolve()
    torch.set_num_threads(made.get("threads", torch.get_num_threads()))
    if not (shared / "catalog").is_dir():
        raise TgqError(f"the data of {folder} are not in {shared}; keep the bench's folder whole")
    data = Dataset(recipe, shared)
    clear(to, "cell")
    data.stages.run(cell_stage(recipe, data, to, lambda: noised_sample(data)))
    before, after = (_flat(read_json(place / "metrics.json")) for place in (folder, to))
    different = [key for key in before | after if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)} before, {after.get(key)} now" for key in different]


def noised_sample(data: Dataset) -> NoisedSample:
    """Items that attention and gates are inspected on: noised ones among a sample of the queries."""
    chosen = np.random.default_rng(0).permutation(data.queries.query)[:SAMPLE]
    return NoisedSample(data.encoders, data.views["mixed"], chosen)


def _trial(recipe: Recipe, data: Dataset, folder: Path) -> Trial:
    return Trial(recipe, data, recipe.models[0], recipe.seeds[0], folder)


def _inspect(model: ItemEmbedder, data: Dataset, sample: NoisedSample) -> dict[str, Any]:
    inspection = Inspection(model, data.features, sample)
    shares = inspection.shares()
    attention = {stream: share.mean for stream, share in shares.items()}
    if shares:
        attention["even attention"] = next(iter(shares.values())).uniform_mean
    gates = {
        gate.stream: {"mean": gate.mean, "over_channels": gate.over_channels, "over_items": gate.over_items}
        for gate in inspection.gates()
    }
    cost = cost_of("", model, data.features, timed=False)
    counted = {"parameters": cost.parameters, "trained": cost.trainable, **cost.flops}
    return {"attention": attention, "gates": gates, "cost": counted}


def validation_of(folder: Path) -> float:
    """The H@10 that the kept weights had on the validation queries; NaN without training or validation."""
    if not (folder / "log.jsonl").exists():  # a model that was not trained
        return math.nan
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {row["step"]: row["val_hit@10"] for row in rows if "val_hit@10" in row}
    kept = [row["kept_step"] for row in rows if "kept_step" in row]
    return found[kept[-1]] if kept else math.nan


def _flat(tree: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{place}{key}.") if isinstance(value, Mapping) else {f"{place}{key}": value}
    return flat
