"""Going on from an earlier training: the weights that a run held before its data changed, or those of another run.

A training is a stage like any other, so its inputs name what it goes on from by content. The earlier weights are put
aside in a stage of their own, `models/NAME/earlier/`, when today's inputs differ from those of the weights that stand
there: a second call with nothing new finds the same weights, and changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tgqformer.config import slug
from tgqformer.errors import TgqError, nearest
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.presets import CHOICE, FROM, trial_inputs
from tgqformer.experiments.recipe import ModelSection, Recipe
from tgqformer.files import read_json, write_json
from tgqformer.model.version import version_of
from tgqformer.stages import Stage, Stages, atomic_folder, is_made, note_of

WEIGHTS, SPLIT, SERVED = "weights", "split.json", "served"


@dataclass(frozen=True)
class Earlier:
    """What a training goes on from.

    model: a saved model. choice: what validation chose when it was trained; empty where there was nothing to choose.
    compatible: whether new vectors are to be comparable with its own.
    """

    model: Path
    choice: Mapping[str, Any]
    compatible: float

    @property
    def inputs(self) -> dict[str, Any]:
        """All of it that decides the weights that are trained from it."""
        return {FROM: version_of(self.model), "chosen": dict(self.choice), "compatible": self.compatible}


class Origins:
    """What each training of a run goes on from, and all that decides its weights; each is looked at once.

    A training is named by its folder: `seed-N`, or `served` for the refit on all pairs.
    """

    def __init__(self, recipe: Recipe, data: Dataset, stages: Stages) -> None:
        self.recipe, self.data, self.stages = recipe, data, stages
        self._known: dict[Path, Earlier | None] = {}

    def of(self, section: ModelSection, trial: Path) -> Earlier | None:
        """Return what a training goes on from, see `find_earlier`."""
        if trial not in self._known:
            self._known[trial] = find_earlier(self.recipe, section, trial, self._own(section, trial), self.stages)
        return self._known[trial]

    def inputs(self, section: ModelSection, trial: Path) -> dict[str, Any]:
        """Return all that decides the weights in the folder of a training."""
        earlier = self.of(section, trial)
        return self._own(section, trial) | ({} if earlier is None else {FROM: earlier.inputs})

    def _own(self, section: ModelSection, trial: Path) -> dict[str, Any]:
        if trial.name == SERVED:
            return trial_inputs(self.recipe, self.data, section, self.recipe.seeds[0]) | {"pairs of": "all parts"}
        return trial_inputs(self.recipe, self.data, section, int(trial.name.removeprefix("seed-")))


def find_earlier(
    recipe: Recipe, section: ModelSection, trial: Path, inputs: Mapping[str, Any], stages: Stages
) -> Earlier | None:
    """Return what a trial goes on from; None where the recipe does not say so, or there is nothing yet.

    Args:
        trial: its folder. inputs: all that decides its weights but for these.

    Raises:
        TgqError: if the run that is named holds no such model; if the earlier one was trained on another split, so that
            it knows items of the test.
    """
    source = recipe.training.from_
    if source is None or not section.trains:
        return None
    held = trial if source == "run" else _elsewhere(Path(source), section, trial)
    to = trial.parent / "earlier" / trial.name
    key = {"of": dict(inputs), "from": "run" if source == "run" else version_of(held / "model")}
    make = partial(_put_aside, held, to, inputs)
    stages.run(Stage(f"earlier weights of {section.name}, {trial.name}", to, "earlier", key, make, keep="all"))
    kept = to / WEIGHTS
    if not kept.exists():
        return None
    known, now = read_json(kept / SPLIT), inputs["split"]
    if known is not None and known != now and trial.name != "served":
        raise TgqError(
            f"training.from: the earlier {section.name} was trained on another split (pairs: by, seed and shares were"
            f" {known}, are {now}), so it knows items of today's test; keep the split, or train anew once without"
            " training.from"
        )
    choice = read_json(kept / CHOICE) if (kept / CHOICE).is_file() else {}
    return Earlier(kept / "model", choice, recipe.training.compatible)


def _elsewhere(run: Path, section: ModelSection, trial: Path) -> Path:
    """Return the folder of the same trial in another run."""
    held = run / "models" / slug(section.name) / trial.name
    if not is_made(held):
        models = sorted(path.name for path in (run / "models").glob("*") if path.is_dir())
        hint = nearest(slug(section.name), models, "its models are") if models else "it is no folder of a run"
        raise TgqError(f"training.from: {run} has no trained {section.name} ({trial.name}); {hint}")
    return held


def _put_aside(held: Path, to: Path, inputs: Mapping[str, Any]) -> None:
    """Copy the weights that stand in a trial, unless they are not whole, or just those of today's inputs."""
    made = (note_of(held) or {}).get("inputs", {})
    same = {name: value for name, value in made.items() if name != FROM} == dict(inputs)
    if not is_made(held) or same:
        return
    with atomic_folder(to / WEIGHTS, "earlier", overwrite=True) as unfinished:
        shutil.copytree(held / "model", unfinished / "model")
        if (held / CHOICE).is_file():
            shutil.copy(held / CHOICE, unfinished / CHOICE)
        write_json(unfinished / SPLIT, made.get("split"))
