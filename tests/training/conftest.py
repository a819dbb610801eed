"""A toy shop without files, and a tiny model that reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tgqformer.connectors import ConnectorWidths
from tgqformer.encoders.alignment import Alignment
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.language import LoRA, make_language
from tgqformer.training.sampling import PairSampler

torch.set_num_threads(1)
ITEMS, ALIKE = 48, 4
WIDTHS = ConnectorWidths(visual=6, vector=5, metadata=7, grid=(2, 2))


class ToyFeatures:
    """48 items in families of four that look and read alike; two families make a category."""

    def __init__(self, width: int = 16) -> None:
        rng = np.random.default_rng(0)
        family = np.arange(ITEMS) // ALIKE

        def draw(*shape: int) -> torch.Tensor:
            own, shared = rng.normal(size=(ITEMS, *shape)), rng.normal(size=(ITEMS // ALIKE, *shape))
            return torch.from_numpy(0.6 * own + shared[family]).float()

        length = torch.from_numpy(rng.integers(1, 4, ITEMS))
        mask = torch.arange(3) < length[:, None]
        self.whole = ItemBatch(
            draw(4, 6).half(), draw(5), torch.ones(ITEMS, dtype=torch.bool), draw(3, 7), mask, draw(7),
            draw(3, width), mask,
        )  # fmt: skip

    def batch(self, positions: np.ndarray) -> ItemBatch:
        given = {name: value for name, value in vars(self.whole).items() if value is not None}
        return ItemBatch(**{name: value[positions] for name, value in given.items()})

    def empty(self) -> ItemBatch:
        one = self.batch(np.array([0]))
        nothing = {name: torch.zeros_like(value) for name, value in vars(one).items() if value is not None}
        return ItemBatch(**{**nothing, "states_mask": torch.tensor([[True, False, False]])})


def toy_sampler(batch: int = 8, group: int = 4) -> PairSampler:
    """All pairs within families."""
    a, b = zip(*((i, j) for i in range(ITEMS) for j in range(i + 1, ITEMS) if i // ALIKE == j // ALIKE), strict=True)
    category = np.arange(ITEMS) // (2 * ALIKE)
    return PairSampler(np.array(a), np.array(b), category, items=ITEMS, batch=batch, group=group, seed=0)


@pytest.fixture
def toy() -> ToyFeatures:
    return ToyFeatures()


@pytest.fixture
def sampler() -> PairSampler:
    return toy_sampler()


@pytest.fixture
def make_model(tiny_model: Callable[[str], Path]) -> Callable[..., ItemEmbedder]:
    """Give a function that makes the same fresh tiny model at every call."""

    def made(connector: str = "tgq", language: bool = True, **options: Any) -> ItemEmbedder:
        folder = tiny_model("bert")  # the first call writes it, and draws from the generator
        torch.manual_seed(5)
        lm = None
        if language:
            lm = make_language(f"hf:{folder}", lora=LoRA(rank=2, dropout=0.1), frozen_layers=2)
        default = {} if connector in ("none", "mean") else {"dim": 8}
        default |= {"heads": 2, "dropout": 0.1} if connector in ("tgq", "qformer") else {}
        alignment = Alignment(WIDTHS.visual, WIDTHS.metadata) if connector == "tgq" else None
        return ItemEmbedder(connector, {**default, **options}, WIDTHS, lm, alignment=alignment)

    return made
