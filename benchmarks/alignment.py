"""How many steps should the alignment take? Its loss and hits on items that it never saw, by the number of items.

    python benchmarks/alignment.py --data ../shared/data/fashion --to FOLDER --items 500 2000 --steps 15 30 60 100 400

Hits are those of the picture that a title belongs to among all that were held out; equal titles do not compete.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from curves import draw, recipe, shoppers
from tgqformer.encoders.alignment import Alignment, TokenNorm
from tgqformer.experiments.dataset import Dataset
from tgqformer.model.batch import ItemBatch
from tgqformer.training.alignment import fit_token_norm, train_alignment
from tgqformer.training.settings import AlignmentSettings


@torch.inference_mode()
def held_out(alignment: Alignment, norm: TokenNorm, batch: ItemBatch) -> str:
    """Return loss, and the share of titles whose picture is the first, and among the first ten."""
    visual, text = norm(batch.visual), batch.metadata_vector.float()
    same = (text[:, None] == text[None]).all(-1)
    scores = alignment.scores(visual, text)
    rivals = scores.masked_fill(same, -torch.inf)
    ahead = (rivals > scores.diagonal()[:, None]).sum(1)
    hits = [100 * float((ahead < k).float().mean()) for k in (1, 10)]
    return f"{float(alignment.loss(visual, text, same)):.2f} | {hits[0]:.1f} | {hits[1]:.1f}"


def main() -> None:
    """Print a line for each number of items, seed and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--steps", type=int, nargs="+", default=[15, 30, 60, 100, 200, 400])
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    print("| training items | seed | steps | seconds | clean: loss | H@1 | H@10 | noised: loss | H@1 | H@10 |")
    for items in asked.items:
        to = asked.to / str(items)
        to.mkdir(parents=True, exist_ok=True)
        data = Dataset(recipe(asked.data, items, to / "pairs.parquet", 0, ["TGQ-Former"]), to)
        draw(data.catalog, shoppers(1, 0, 0, 0), 1, to / "pairs.parquet")
        pictures, train = data.features.pictures, data.positions("train")
        noised, others = partial(pictures, view="noised"), np.setdiff1d(np.arange(len(data.catalog)), train)
        for seed in range(asked.seeds):
            norm = TokenNorm(data.encoders.widths.visual)
            fit_token_norm(norm, pictures, train, seed)
            for steps in asked.steps:
                began = perf_counter()
                settings = AlignmentSettings(steps=steps)
                trained = train_alignment(pictures, noised, norm, train, settings, seed=seed, shown=False)
                took = perf_counter() - began
                cells = [held_out(trained, norm, look(others)) for look in (pictures, noised)]
                print("|", " | ".join([f"{len(train)} | {seed} | {steps} | {took:.0f}", *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
