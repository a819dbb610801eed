"""Small graphs that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tgqformer.collaborative.data import Split, histories

torch.set_num_threads(1)


def clustered_log(path: Path, users: int = 60, items: int = 12, groups: int = 3, each: int = 7) -> Path:
    """A log in which the users of a group touch its items only: what is held out can be told from what is not."""
    rng = np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(users):
        own = rng.choice(items, each, replace=False) + items * (user % groups)
        lines += [f"u{user},i{item},{when}" for when, item in enumerate(own, 1_700_000_000)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return clustered_log(tmp_path / "log.csv")


@pytest.fixture
def split() -> Split:
    """Seven users, nine items, drawn once; user 6 has one item in training and none held out."""
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(6), 4)
    items = np.concatenate([rng.choice(9, 4, replace=False) for _ in range(6)])
    held = np.tile([0, 0, 0, 2], 6)
    train = histories(np.r_[users[held == 0], 6], np.r_[items[held == 0], 8], 7)
    test = histories(users[held == 2], items[held == 2], 7)
    nothing = histories(users[:0], items[:0], 7)
    return Split(train, nothing, test, [f"u{u}" for u in range(7)], [f"i{i}" for i in range(9)])
