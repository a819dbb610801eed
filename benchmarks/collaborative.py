"""One training step of LightGCN, and drawing SASRec's batches, against straightforward code, side by side in one run.

    python benchmarks/collaborative.py [--data ../shared/data/gowalla] [--steps 3] [--device cpu]

The peer of LightGCN is the plain form: a sparse matrix of coordinates, three products kept for PyTorch's own gradient,
negatives drawn user by user. Both get the same weights, their losses and gradients must agree on the same batch, they
take turns, and medians count. Without the public data a graph of Gowalla's size is drawn.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tgqformer.collaborative.data import Split, SplitSettings, histories, read_split
from tgqformer.collaborative.graph import bipartite, symmetric_norm, to_tensors
from tgqformer.collaborative.lightgcn import LightGCN, LightGCNSettings, lightgcn
from tgqformer.collaborative.sampling import SequenceSampler

BATCH = 2048
L2 = 1e-4
USERS, ITEMS, INTERACTIONS = 29_858, 40_981, 810_128  # of Gowalla


def drawn() -> Split:
    """Draw a graph of Gowalla's size, items by a power law."""
    rng = np.random.default_rng(0)
    users = rng.integers(USERS, size=INTERACTIONS)
    items = (ITEMS * rng.random(INTERACTIONS) ** 2).astype(np.int64)
    keys = np.unique(users * ITEMS + items)
    rows, nothing = histories(*np.divmod(keys, ITEMS), USERS), histories(keys[:0], keys[:0], USERS)
    return Split(rows, nothing, nothing, [""] * USERS, [""] * ITEMS)


class Plain:
    """LightGCN as one writes it down first."""

    def __init__(self, split: Split, table: Tensor) -> None:
        found = symmetric_norm(bipartite(split.train, split.items)).tocoo()
        places = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
        self.matrix = torch.sparse_coo_tensor(places, torch.from_numpy(found.data), found.shape).coalesce()
        self.matrix, self.split = self.matrix.to(table.device), split
        self.table = table.detach().clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.table], lr=1e-3)
        self.liked = [split.train.row(user).tolist() for user in range(split.users)]
        self.sets = [set(row) for row in self.liked]

    def draw(self) -> tuple[np.ndarray, ...]:
        """Draw triples, user by user."""
        triples = []
        while len(triples) < BATCH:
            user = random.randrange(self.split.users)
            other = random.randrange(self.split.items)
            while other in self.sets[user]:
                other = random.randrange(self.split.items)
            triples.append((user, random.choice(self.liked[user]), other))
        return tuple(np.array(column) for column in zip(*triples, strict=True))

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """The loss of triples, by the formulas."""
        layers = [self.table]
        for _ in range(3):
            layers.append(torch.sparse.mm(self.matrix, layers[-1]))
        final = torch.stack(layers, dim=1).mean(1)
        at = users, self.split.users + positives, self.split.users + negatives
        u, p, n = (final[rows] for rows in at)
        squares = sum(self.table[rows].norm().pow(2) for rows in at) / (2 * len(users))
        return F.softplus((u * n).sum(1) - (u * p).sum(1)).mean() + L2 * squares


def step(draw: Callable[[], tuple[np.ndarray, ...]], loss: Callable[..., Tensor], optimizer: torch.optim.Optimizer,
         device: torch.device) -> float:  # fmt: skip
    """Do one training step; give its seconds."""
    start = time.perf_counter()
    found = loss(*to_tensors(draw(), device))
    optimizer.zero_grad()
    found.backward()
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare_lightgcn(split: Split, steps: int, device: torch.device) -> None:
    """Take turns; print seconds a step and an epoch."""
    task = lightgcn(LightGCNSettings(l2=L2), split, batch=BATCH, seed=0, device=device)
    assert isinstance(task.module, LightGCN)
    own = torch.optim.Adam(task.module.parameters(), lr=1e-3, fused=True)
    plain = Plain(split, task.module.table)
    batch = to_tensors(task.draw(0, 0), device)
    losses = task.loss(*batch), plain.loss(*batch)
    gradients = [
        torch.autograd.grad(one, of)[0] for one, of in zip(losses, (task.module.table, plain.table), strict=True)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-7)
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(steps + 1):
        pair = (
            step(lambda number=number: task.draw(0, number), task.loss, own, device),
            step(plain.draw, plain.loss, plain.optimizer, device),
        )
        if number:
            for kept, taken in zip(seconds, pair, strict=True):
                kept.append(taken)
    ours, theirs = median(seconds[0]), median(seconds[1])
    for name, taken in (("ours", ours), ("plain", theirs)):
        print(f"LightGCN {name:<6} {taken:8.3f} s a step {taken * task.steps:10.0f} s an epoch of {task.steps} steps")
    print(f"LightGCN plain / ours {theirs / ours:.2f}")


def compare_sequences(split: Split, steps: int) -> None:
    """Draw batches of sequences at once, and user by user as SASRec's own sampler does."""
    sampler, rows = SequenceSampler(split.train, split.items, batch=128, length=50, seed=0), split.train

    def plain() -> None:
        for _ in range(128):
            row = rows.row(int(random.choice(sampler.users))).tolist()
            touched = set(row)
            inputs, following, negatives = np.zeros((3, 50), np.int64)
            for place, (item, after) in enumerate(zip(row[-2::-1][:50], row[:0:-1], strict=False)):
                other = random.randrange(split.items)
                while other in touched:
                    other = random.randrange(split.items)
                inputs[49 - place], following[49 - place], negatives[49 - place] = item + 1, after + 1, other + 1

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    turns = [(timed(lambda n=n: sampler.draw(0, n)), timed(plain)) for n in range(5 * steps)]
    ours, theirs = (1e3 * median(column) for column in zip(*turns, strict=True))
    print(f"SASRec batches: ours {ours:.1f} ms, user by user {theirs:.1f} ms, {theirs / ours:.1f} times as long")


def main() -> None:
    """Read the options and compare."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data/gowalla"))
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    split = read_split(given.data, SplitSettings("given")) if given.data.is_dir() else drawn()
    random.seed(0)
    compare_lightgcn(split, given.steps, torch.device(given.device))
    compare_sequences(split, given.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
