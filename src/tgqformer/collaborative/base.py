"""What every model of this stage offers: scores of items for users; if it learns, a loss and item vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tgqformer.collaborative.data import Ints, take
from tgqformer.evaluation.metrics import Csr

Scorer: TypeAlias = Callable[[Ints], Tensor]
"""Users int64 [b] → scores float32 [b, N] of all items, higher is better."""
Features: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Recommender:
    """What is evaluated and embedded.

    scorer: given what is known of each user (Csr of U rows), makes a `Scorer`; call it after training.
    vectors: gives the item vectors float32 [N, d], as the score takes them; None for models that only count pairs.
    score: how two vectors are compared: `dot` (lengths matter) or `cosine` (of unit length already).
    """

    scorer: Callable[[Csr], Scorer]
    vectors: Callable[[], Tensor] | None = None
    score: Literal["dot", "cosine"] = "dot"


@dataclass(frozen=True)
class Task:
    """A model, the batches that train it, and what it is good for afterwards.

    module: its parameters are trained; None for models that only count.
    steps: batches of an epoch. draw: (epoch, step), both from 0 → the arrays of that batch, by nothing else.
    loss: those arrays on the module's device → a scalar.
    """

    recommender: Recommender
    module: nn.Module | None = None
    steps: int = 0
    draw: Callable[[int, int], tuple[Ints, ...]] = lambda epoch, step: ()
    loss: Callable[..., Tensor] = lambda: torch.zeros(())


def profile_scorer(vectors: Callable[[], Tensor]) -> Callable[[Csr], Scorer]:
    """Score items by the mean vector of what a user touched: for models that only know items."""

    def scorer(known: Csr) -> Scorer:
        table = vectors()

        def scores(users: Ints) -> Tensor:
            place, items = (torch.from_numpy(one).to(table.device) for one in take(known, users))
            profile = table.new_zeros(len(users), table.shape[1]).index_add_(0, place, table[items])
            counts = torch.bincount(place, minlength=len(users)).clamp_min(1)
            return (profile / counts[:, None]) @ table.T

        return scores

    return scorer
