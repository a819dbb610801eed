"""The data of a recipe with its pairs parted anew: folds for validation, and everything for what is served."""

from __future__ import annotations

from typing import Any

import numpy as np

from tgqformer.experiments.dataset import Dataset
from tgqformer.pairs.pairs import Pairs, PairSets, split_pairs
from tgqformer.pairs.splits import PARTS, ItemSplit, stable_uniform
from tgqformer.types import Bytes

FOLDS, FEW_QUERIES = 4, 500
"""With fewer validation queries than this, the items of training and validation validate in so many folds."""
TRAIN, VAL, TEST = range(len(PARTS))


def folds_of(data: Dataset) -> list[Dataset]:
    """Return the data with other items for validation, a fold each; none where validation has queries enough.

    The items of training and validation are dealt into folds by a stable hash; each fold validates once and is left
    out of the training then. Test items stay what they are. What is fitted without pairs is that of the whole.
    """
    found = data.any_validation
    if found is not None and len(found[1]) >= FEW_QUERIES:
        return []
    split = data.pairs.split
    dealt = np.array([int(FOLDS * stable_uniform("fold", name)) for name in split.ids])
    sets, folds = data.pairs, list[Dataset]()
    every = Pairs.together([sets.train, sets.val] if sets.by_time else [sets.train, sets.val, sets.test, sets.cross])
    for fold in range(FOLDS):
        parts: Bytes = np.where(split.parts == TEST, TEST, np.where(dealt == fold, VAL, TRAIN)).astype(np.int8)
        folds.append(_with_pairs(data, split_pairs(every, ItemSplit(split.ids, parts)), frozen=data.frozen))
    for one in folds:
        vars(one)["validation"] = one.any_validation  # pairs inside a fold alone would be few again
    folds = [one for one in folds if len(one.pairs.train) and one.validation is not None]
    for number, one in enumerate(folds):
        vars(one)["part"] = number
    return folds


def everything(data: Dataset) -> Dataset:
    """Return the data with all pairs for training, those of validation, test and across parts too."""
    ids, nothing = data.pairs.split.ids, Pairs.of([], [])
    split = ItemSplit(ids, np.full(len(ids), TRAIN, np.int8))
    sets = data.pairs
    every = Pairs.together([sets.train, sets.val, sets.test, sets.cross])
    found = _with_pairs(data, PairSets(every, nothing, nothing, split, nothing))
    vars(found)["part"] = "everything"
    return found


def name_of(data: Dataset) -> int | str | None:
    """Return which part of some data these are: the number of a fold, or `everything`; None for the data themselves."""
    return vars(data).get("part")


def part_of(data: Dataset, part: int | str | None) -> Dataset:
    """Return the part of some data that `name_of` names."""
    if part is None:
        return data
    return everything(data) if isinstance(part, str) else folds_of(data)[part]


def _with_pairs(data: Dataset, sets: PairSets, **made: Any) -> Dataset:
    """Return the same data with other pairs, sharing what was made of the catalogue, and `made`."""
    other = Dataset(data.recipe, data.folder, stages=data.stages, digests=data.digests)
    shared = {name: getattr(data, name) for name in ("catalog", "encoders", "features", "categories")}
    vars(other).update(shared, pairs=sets, alignment=data.alignment, **made)
    return other
