"""From a preset and a split to a model that can be trained, evaluated and embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.counting import by_similarity, cooccurrence, ease, item_knn, popularity, swing
from tgqformer.collaborative.data import Split
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.lightgcn import lightgcn
from tgqformer.collaborative.ngcf import ngcf
from tgqformer.collaborative.pinsage import pinsage
from tgqformer.collaborative.sasrec import sasrec
from tgqformer.collaborative.settings import Preset
from tgqformer.errors import TgqError
from tgqformer.types import Ints, Vectors

LEARNED: dict[str, Callable[..., Recommender]] = {
    "lightgcn": lightgcn,
    "ngcf": ngcf,
    "sasrec": sasrec,
    "pinsage": pinsage,
}
WITH_CONTENT = ("pinsage", "lightgcn")


def make_recommender(
    preset: Preset,
    split: Split,
    *,
    device: str | torch.device = "cpu",
    features: Vectors | None = None,
    pairs: tuple[Ints, Ints] | None = None,
) -> Recommender:
    """Build the model of a preset for a split, with random weights by the preset's seed.

    features: float32 [N, Df], content of the items in the order of `split.item_names`, for pinsage and lightgcn.
    pairs: places of two items each, int64 [M], which pinsage trains on instead of two items of one user.

    Raises:
        TgqError: where the model takes no features, or they are not one finite row an item.
    """
    options, more = preset.model_options(), dict[str, Any]()
    if features is not None:
        if preset.model not in WITH_CONTENT:
            raise TgqError(f"{preset.model} takes no content features; use {' or '.join(WITH_CONTENT)}")
        if len(features) != split.items or not np.isfinite(features).all():
            raise TgqError(f"features must be one finite row for each of {split.items} items; got {features.shape}")
        more["features"] = features
    if pairs is not None:
        if preset.model != "pinsage":
            raise TgqError(f"{preset.model} trains on users' items and takes no pairs; pinsage does")
        more["pairs"] = pairs
    if preset.model in LEARNED:
        batch, seed = preset.training.batch, preset.seed
        return LEARNED[preset.model](options, split, batch=batch, seed=seed, device=torch.device(device), **more)
    if preset.model == "popularity":
        return popularity(split)
    return by_similarity(similarity(preset.model, options, split), split.items)


def similarity(model: str, options: Any, split: Split) -> Any:
    """Count the item x item similarities [N, N] of a counting model: sparse, but for EASE."""
    matrix = interactions_matrix(split.train, split.items)
    if model == "co-occurrence":
        return cooccurrence(matrix, options.neighbours)
    if model == "item-knn":
        return item_knn(matrix, options.neighbours, options.shrink)
    if model == "swing":
        return swing(split.train, split.items, options)
    if model == "ease":
        return ease(matrix, options.l2, options.max_items)
    raise TgqError(f"{model} has no item x item similarities; co-occurrence, item-knn, swing and ease have")
