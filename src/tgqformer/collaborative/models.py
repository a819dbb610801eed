"""From a preset and a split to a model that can be trained, evaluated and embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tgqformer.collaborative.base import Features, Task
from tgqformer.collaborative.counting import cooccurrence, ease, item_knn, popularity_task, similarity_task, swing
from tgqformer.collaborative.data import Ints, Split
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.lightgcn import lightgcn
from tgqformer.collaborative.ngcf import ngcf
from tgqformer.collaborative.pinsage import pinsage
from tgqformer.collaborative.sasrec import sasrec
from tgqformer.collaborative.settings import Preset
from tgqformer.errors import TgqError

LEARNED: dict[str, Callable[..., Task]] = {"lightgcn": lightgcn, "ngcf": ngcf, "sasrec": sasrec, "pinsage": pinsage}


def make_task(
    preset: Preset, split: Split, *, device: str | torch.device = "cpu", features: Features | None = None,
    pairs: tuple[Ints, Ints] | None = None,
) -> Task:  # fmt: skip
    """Build the model of a preset for a split, with random weights by the preset's seed.

    features: float32 [N, Df], content of the items in the order of `split.item_names`, for pinsage and lightgcn.
    pairs: places of two items each, int64 [M], which pinsage trains on in the place of two items of one user.

    Raises:
        TgqError: where the model takes no features, or they are not one finite row an item.
    """
    options = preset.model_options()
    if features is not None and (len(features) != split.items or not bool(torch.from_numpy(features).isfinite().all())):
        raise TgqError(f"features must be one finite row for each of {split.items} items; got {list(features.shape)}")
    if pairs is not None and preset.model != "pinsage":
        raise TgqError(f"{preset.model} trains on users' items and takes no pairs; pinsage does")
    if preset.model in LEARNED:
        make, more = LEARNED[preset.model], {} if pairs is None else {"pairs": pairs}
        return make(
            options, split, batch=preset.training.batch, seed=preset.seed, device=torch.device(device),
            features=features, **more,
        )  # fmt: skip
    if features is not None:
        raise TgqError(f"{preset.model} only counts and takes no features; use pinsage or lightgcn")
    if preset.model == "popularity":
        return popularity_task(split)
    return similarity_task(similarity(preset.model, options, split), split.items)


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
