"""The content side of a study: the recipe's model, trained on the pairs of the training log alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tgqformer.errors import TgqError
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.study.log import StudyLog
from tgqformer.experiments.trial import Trial
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.pairs.pairs import Pairs, PairSets
from tgqformer.pairs.splits import ItemSplit
from tgqformer.stages import Stage, Stages
from tgqformer.training.settings import check_afresh
from tgqformer.types import Vectors

NEW = 2  # the place of brand-new items in `log.BUCKETS`


class LoggedDataset(Dataset):
    """A recipe's catalogue and features, with the pairs of a study's training log.

    Brand-new items stand in the test part: neither the alignment nor the model learns from them.
    """

    def __init__(self, recipe: Recipe, folder: Path, log: StudyLog, stages: Stages) -> None:
        super().__init__(recipe, folder, stages=stages)
        self._log = log

    @cached_property
    def pairs(self) -> PairSets:
        """The pairs of the training log."""
        parts = np.where(self._log.bucket == NEW, 2, 0).astype(np.int8)
        nothing = Pairs.of([], [])
        return PairSets(self._log.pairs(), nothing, nothing, ItemSplit(tuple(self._log.ids), parts), nothing)

    @property
    def pairs_digest(self) -> str:
        """Digest of the log, which decides pairs and split."""
        return self._log.fingerprint

    split_digest = pairs_digest


def content_vectors(recipe: Recipe, data: Path, log: StudyLog, seed: int, folder: Path, stages: Stages) -> Vectors:
    """Train the recipe's model on the training log and embed the catalogue, as shoppers see it: float32 [N, d].

    Args:
        recipe: with one model. data: folder of catalogue and token cache, which other seeds and studies share.
        folder: of this seed; a killed training goes on where it was. stages: of the study.
    """
    dataset = LoggedDataset(recipe, data, log, stages)
    if dataset.catalog.ids() != log.ids:
        raise TgqError(f"{data} holds another catalogue than the study's log; choose another folder")
    check_afresh(recipe.training, "study")
    recipe = replace(recipe, seeds=(seed,))
    section = replace(recipe.models[0], share=1.0, preset="given")  # there are no validation pairs
    trial = Trial(recipe, dataset, section, seed, folder)

    def make() -> None:
        model = trial.fit()
        if not isinstance(model, ItemEmbedder):
            raise TgqError(f"{trial.section.name} is a whole multimodal model, which a study does not train")
        model.save(folder / "model")
        np.save(folder / "vectors.npy", trial.embed(model, np.arange(len(log.ids))))

    name = f"content: {trial.section.name}, seed {seed}"
    stages.run(Stage(name, folder, "content", trial.inputs(), make, keep="same inputs"))
    vectors: Vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    return vectors
