"""Which settings a model is trained with: as given, gentle, or both; and all that decides its weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from tgqformer import config
from tgqformer.evaluation.results import read_log
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import ModelSection, Recipe
from tgqformer.model.version import version_of
from tgqformer.packages import pretrained_folder
from tgqformer.training.settings import TrainingSettings

CHOICE = "choice.json"
"""What validation chose for a model: the settings it was trained with, the learned share, and why."""
FROM = "earlier"
"""The key of the inputs of a training under which stands what it goes on from."""
MANY_PAIRS = 20_000
"""With more training pairs than this the settings as given are safe; else gentle ones are tried beside them."""
GENTLE_STEPS, GENTLE_PASSES, GENTLE_HIDDEN = 300, 13, 0.3
GENTLE: dict[str, Any] = {
    "lr": 3e-4,
    "weight_decay": 0.1,
    "visual_steps": 0,
    "visual_loss": 0.0,
}
"""For shops with few pairs: slower, without what learns from the picture alone; at most so many steps and passes
through the pairs, with so many of the pictures hidden."""


def presets_of(
    given: TrainingSettings, section: ModelSection, pairs: int, folder: Path
) -> dict[str, tuple[TrainingSettings, Path]]:
    """Return the settings that a model is trained with, by name, each with its folder; the safest first.

    Args:
        given: those of the recipe. section: the model. pairs: how many there are for training. folder: of the trial.
    """
    if section.preset == "given" or (section.preset == "auto" and pairs > MANY_PAIRS):
        return {"given": (given, folder)}
    steps = min(GENTLE_STEPS, given.steps or math.ceil(GENTLE_PASSES * pairs / given.batch))
    warmup = given.warmup if given.warmup is not None and given.warmup < steps else None
    hidden = min(GENTLE_HIDDEN, 1 - given.drop_text)
    gentle = replace(given, steps=steps, warmup=warmup, drop_picture=hidden, **GENTLE).resolved(pairs)
    if section.preset == "gentle":
        return {"gentle": (gentle, folder)}
    return {"gentle": (gentle, folder / "gentle"), "given": (given, folder / "given")}


def kept_share(folder: Path, settings: TrainingSettings, data: Dataset) -> float:
    """Return after which share of its steps a training had the weights that validation kept; 1 without validation.

    Args:
        folder: of the training, which patience may have stopped early. settings, data: that it was trained with.
    """
    kept = [row["kept_step"] for row in read_log(folder / "log.jsonl") if "kept_step" in row]
    return kept[-1] / (settings.resolved(len(data.pairs.train)).steps or 1) if kept else 1.0


def trial_inputs(recipe: Recipe, data: Dataset, section: ModelSection, seed: int) -> dict[str, Any]:
    """Return all that decides the trained weights of one model of one seed, but for those that it goes on from."""
    pairs, training = recipe.pairs, config.plain(recipe.training.resolved(len(data.pairs.train)))
    del training["from"], training["compatible"]
    if training["processes"] == 1:  # as it was before there could be more
        del training["processes"]
    del training["fsdp"]  # where weights lie decides nothing
    return (
        data.inputs()
        | _whole(section, data)
        | {
            "split": [pairs.by, pairs.seed, *pairs.shares],
            "pairs": data.pairs_digest,
            "seed": seed,
            "model": config.plain(section),
            "pretrained": section.pretrained and version_of(pretrained_folder(section.pretrained)),
            "gentle": None if section.preset == "given" else GENTLE,
            "alignment": config.plain(data.alignment_settings),
            "training": training,
            "language": data.language_inputs() if section.language else None,
            "validation_pool": recipe.evaluation.validation_pool,
        }
    )


def _whole(section: ModelSection, data: Dataset) -> dict[str, str]:
    """Return the digest of a whole multimodal model that lies in a folder; nothing for other models."""
    if section.multimodal is None:
        return {}
    from tgqformer.model.peers import SENTENCE  # here, because it imports torch

    folder = Path(section.multimodal.removeprefix(SENTENCE))
    return {"whole": data.digests.of(folder)} if folder.is_dir() else {}
