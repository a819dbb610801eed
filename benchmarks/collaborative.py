"""One training step of LightGCN, NGCF, SASRec and PinSage against straightforward code, side by side in one run.

    python benchmarks/collaborative.py [--data ../shared/data/gowalla] [--steps 3] [--device cpu]

The peers are the plain forms: a sparse matrix of coordinates, products kept for PyTorch's own gradient, negatives drawn
user by user; for SASRec every sequence padded to its 50 places; for PinSage every neighbour of every item of a batch,
as often as it is one. Both sides get the same weights, their losses and
gradients must agree on the same batch (without dropout), they take turns, and medians count. Without the public data a
graph of Gowalla's size is drawn.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.sparse import eye_array
from torch import Tensor
from torch.nn import functional as F

from tgqformer.collaborative.data import Split, SplitSettings, histories, read_split
from tgqformer.collaborative.graph import bipartite, row_norm, symmetric_norm, to_tensors
from tgqformer.collaborative.lightgcn import LightGCNSettings, lightgcn
from tgqformer.collaborative.ngcf import NGCF, NGCFSettings, ngcf
from tgqformer.collaborative.pinsage import PinSage, PinSageSettings, pinsage
from tgqformer.collaborative.sasrec import SASRec, SASRecSettings, sasrec
from tgqformer.collaborative.training import EpochObjective

BATCH, LENGTH = 2048, 50
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


class PlainGraph:
    """LightGCN or NGCF as one writes it down first."""

    def __init__(self, split: Split, matrix: Any, device: torch.device) -> None:
        found = matrix.tocoo()
        places = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
        self.matrix = torch.sparse_coo_tensor(places, torch.from_numpy(found.data), found.shape).coalesce().to(device)
        self.split, self.liked = split, [split.train.row(user).tolist() for user in range(split.users)]
        self.sets = [set(row) for row in self.liked]

    def draw(self, batch: int) -> tuple[np.ndarray, ...]:
        """Draw triples, user by user."""
        triples = []
        while len(triples) < batch:
            user = random.randrange(self.split.users)
            other = random.randrange(self.split.items)
            while other in self.sets[user]:
                other = random.randrange(self.split.items)
            triples.append((user, random.choice(self.liked[user]), other))
        return tuple(np.array(column) for column in zip(*triples, strict=True))

    def lightgcn(self, table: Tensor, *triple: Tensor) -> Tensor:
        """The loss of triples, by the formulas."""
        layers = [table]
        for _ in range(3):
            layers.append(torch.sparse.mm(self.matrix, layers[-1]))
        rows = self._rows(triple)
        return ranked(torch.stack(layers, dim=1).mean(1), rows, L2, sum(table[row].norm().pow(2) for row in rows))

    def ngcf(self, model: NGCF, *triple: Tensor) -> Tensor:
        """The loss of triples, by the formulas, no edge dropped."""
        layers = [torch.cat([model.user_table, model.item_table])]
        layer = layers[0]
        for of_sum, of_product in zip(model.sums, model.products, strict=True):
            side = torch.sparse.mm(self.matrix, layer)
            layer = F.leaky_relu(of_sum(side), 0.2) + F.leaky_relu(of_product(layer * side), 0.2)
            layers.append(F.normalize(layer, dim=1))
        final, rows = torch.cat(layers, 1), self._rows(triple)
        return ranked(final, rows, 1e-5, sum(final[row].norm().pow(2) for row in rows))

    def _rows(self, triple: tuple[Tensor, ...]) -> list[Tensor]:
        return [triple[0], self.split.users + triple[1], self.split.users + triple[2]]


def ranked(final: Tensor, rows: list[Tensor], l2: float, squares: Any) -> Tensor:
    """BPR and L2 of triples."""
    user, liked, other = (final[row] for row in rows)
    return F.softplus((user * other).sum(1) - (user * liked).sum(1)).mean() + l2 * squares / (2 * len(user))


class PlainSequences:
    """SASRec's batches user by user, and its loss over all that pads."""

    def __init__(self, split: Split) -> None:
        self.split, self.users = split, np.flatnonzero(np.diff(split.train.indptr) > 1)

    def draw(self, batch: int) -> tuple[np.ndarray, ...]:
        """Draw sequences as the authors' sampler does."""
        found = np.zeros((3, batch, LENGTH), np.int64)
        for n in range(batch):
            row = self.split.train.row(int(random.choice(self.users))).tolist()
            touched = set(row)
            for place, (item, after) in enumerate(zip(row[-2::-1][:LENGTH], row[:0:-1], strict=False), 1):
                other = random.randrange(self.split.items)
                while other in touched:
                    other = random.randrange(self.split.items)
                found[:, n, LENGTH - place] = item + 1, after + 1, other + 1
        return tuple(found)

    def loss(self, model: SASRec, sequence: Tensor, following: Tensor, negatives: Tensor) -> Tensor:
        """The loss at every place that does not pad."""
        states, real = model(sequence), following > 0
        liked, other = ((states * model.table(items)).sum(-1)[real] for items in (following, negatives))
        return F.softplus(-liked).mean() + F.softplus(other).mean()


class PlainPinSage:
    """PinSage's pairs drawn user by user, and its vectors item by item of a batch."""

    def __init__(self, split: Split, settings: PinSageSettings) -> None:
        self.split, self.settings = split, settings
        self.users = np.flatnonzero(np.diff(split.train.indptr) > 1)

    def draw(self, batch: int) -> tuple[np.ndarray, ...]:
        """Draw pairs of two items of one user, and shared negatives; the first epoch has no hard ones."""
        rows = (self.split.train.row(int(user)).tolist() for user in random.choices(self.users, k=batch))
        pairs = np.array([random.sample(row, 2) for row in rows])
        shared = [random.randrange(self.split.items) for _ in range(self.settings.negatives)]
        return pairs[:, 0], pairs[:, 1], np.array(shared), np.zeros((batch, 0), np.int64)

    def loss(self, model: PinSage, queries: Tensor, positives: Tensor, shared: Tensor, _: Tensor) -> Tensor:
        """The max-margin loss by the formulas."""
        depth = len(model.convolutions)
        q, p, s = (F.normalize(model.final(self.vectors(model, x, depth)), dim=1) for x in (queries, positives, shared))
        short = F.relu(q @ s.T - (q * p).sum(1, keepdim=True) + self.settings.margin)
        counts = (shared != queries[:, None]) & (shared != positives[:, None])
        return short[counts].mean()

    def vectors(self, model: PinSage, items: Tensor, depth: int) -> Tensor:
        """Algorithm 1 for items int64 [n]."""
        if not depth:
            return model.table[items]
        layer, around = model.convolutions[depth - 1], model.neighbours[items]
        others = F.relu(layer.inner(self.vectors(model, around.flatten(), depth - 1))).unflatten(0, around.shape)
        pooled = (others * model.weights[items][:, :, None]).sum(1)
        own = self.vectors(model, items, depth - 1)
        return F.normalize(F.relu(layer.outer(torch.cat([own, pooled], 1))), dim=1)


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


def compare(
    name: str,
    ours: EpochObjective,
    draw: Callable[[], tuple[np.ndarray, ...]],
    loss: Callable[..., Tensor],
    steps: int,
) -> None:
    """Check that both give one loss and gradient; then take turns, and print seconds a step and an epoch."""
    weights, device = list(ours.parameters()), ours.device
    batch = to_tensors(ours.draw(0, 0), device)
    pair = ours.loss(*batch), loss(*batch)
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-6)
    for one, other in zip(*(torch.autograd.grad(value, weights) for value in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    optimizer = torch.optim.Adam(weights, lr=1e-3, fused=True)
    seconds = []
    for number in range(steps + 1):
        mine = step(lambda number=number: ours.draw(0, number), ours.loss, optimizer, device)
        seconds.append((mine, step(draw, loss, optimizer, device)))
    taken = [median(column) for column in zip(*seconds[1:], strict=True)]
    for side, one in zip(("ours", "plain"), taken, strict=True):
        print(f"{name:<9} {side:<6} {one:8.3f} s a step {one * ours.steps:8.0f} s an epoch of {ours.steps} steps")
    print(f"{name:<9} plain / ours {taken[1] / taken[0]:.2f}")


def main() -> None:
    """Read the options and compare."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, default=Path("../shared/data/gowalla"))
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    device = torch.device(given.device)
    split = read_split(given.data, SplitSettings("given")) if given.data.is_dir() else drawn()
    random.seed(0)
    adjacency = bipartite(split.train, split.items)
    ours = lightgcn(LightGCNSettings(l2=L2), split, batch=BATCH, seed=0, device=device).objective
    plain, table = PlainGraph(split, symmetric_norm(adjacency), device), next(iter(ours.parameters()))
    compare("LightGCN", ours, lambda: plain.draw(BATCH), lambda *triple: plain.lightgcn(table, *triple), given.steps)
    still = NGCFSettings(edge_dropout=0.0, message_dropout=0.0)
    ours = ngcf(still, split, batch=BATCH, seed=0, device=device).objective
    model, looped = ours.model, row_norm(adjacency + eye_array(adjacency.shape[0], format="csr"))
    plain = PlainGraph(split, looped, device)
    compare("NGCF", ours, lambda: plain.draw(BATCH), lambda *triple: plain.ngcf(model, *triple), given.steps)
    ours = sasrec(SASRecSettings(dropout=0.0, length=LENGTH), split, batch=128, seed=0, device=device).objective
    sequences, reader = PlainSequences(split), ours.model
    compare("SASRec", ours, lambda: sequences.draw(128), lambda *batch: sequences.loss(reader, *batch), 5 * given.steps)
    settings = PinSageSettings()
    ours = pinsage(settings, split, batch=1024, seed=0, device=device).objective
    pairs, walker = PlainPinSage(split, settings), ours.model
    compare("PinSage", ours, lambda: pairs.draw(1024), lambda *batch: pairs.loss(walker, *batch), given.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
