"""Cut embeddings: what is lost where the model was trained for it (`training.matryoshka`), and where it was not.

    python benchmarks/truncate.py [--recipe demo] [--to runs/truncate] [--widths 16 32 64 128] [--set KEY=VALUE]

The first model of the recipe is trained twice, with the same data, seed and budget: as the recipe says, and with the
loss asked for at these widths, too. Each is embedded once; then its vectors are cut to the first so many dimensions
and normalised again, as `--dim` of a store does. At each width: H@10 of the test queries in the full pool, and recall,
the share of the ten nearest by the full vectors that are among the ten nearest by the cut ones. Folders are kept in
`--to`, so a second call measures at once.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tgqformer.evaluation.metrics import evaluate
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import Run
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.store.rows import quantised, unit
from tgqformer.topk.vectors import nearest_items

NEAR = 10
SHARED = ("alignment", "catalog", "pairs", "cache", "shown")  # folders of a run that do not hang on the training


def run_of(asked: argparse.Namespace, name: str, *more: str) -> Run:
    """Open a run; the second one takes what does not hang on the training from the first."""
    folder, first = asked.to / name, asked.to / "plain"
    if folder != first and not folder.exists():
        for part in [first / shared for shared in SHARED if (first / shared).is_dir()]:
            shutil.copytree(part, folder / part.name)
    return Run(load_recipe(asked.recipe, (*asked.change, *more)), folder)


def vectors_of(run: Run) -> np.ndarray:
    """Train the recipe's first model, and embed all items [N, d] as shoppers see them."""
    trial = run.trial(run.recipe.models[0], run.recipe.seeds[0])
    model = ItemEmbedder.load(run.train(trial.section, trial.seed))
    return trial.embed(model, np.arange(len(run.data.catalog)))


def recall(whole: np.ndarray, cut: np.ndarray, sample: np.ndarray) -> float:
    """Share of the ten nearest by whole vectors that are among the ten nearest by cut ones."""
    truth, found = nearest_items(whole, sample, NEAR)[0], nearest_items(cut, sample, NEAR)[0]
    return float(np.mean([len(set(a) & set(b)) / NEAR for a, b in zip(truth, found, strict=True)]))


def measure(run: Run, widths: list[int]) -> list[tuple[str, float, float]]:
    """Give (what is kept, H@10, recall) for the whole vectors, for each width, and for int8 of each."""
    whole = unit(vectors_of(run))
    sample = np.random.default_rng(0).choice(len(whole), min(1000, len(whole)), replace=False)
    found = []
    for width in (whole.shape[1], *reversed(widths)):
        for dtype in ("float32", "int8"):
            cut = unit(quantised(unit(whole[:, :width]), dtype))
            hit = evaluate(cut, run.data.queries).means()["hit@10"]
            found.append((f"{width} x {dtype}", hit, recall(whole, cut, sample)))
    return found


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--to", type=Path, default=Path("runs/truncate"))
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--set", dest="change", action="append", default=[], help="change a key of the recipe")
    asked = parser.parse_args()
    plain = measure(run_of(asked, "plain"), asked.widths)
    trained = measure(run_of(asked, "matryoshka", f"training.matryoshka={asked.widths}"), asked.widths)
    table = Table(title="first dimensions kept: H@10 in % / recall@10 of the full vectors' neighbours")
    for column in ("kept", "plain", "trained for it"):
        table.add_column(column, justify="right")
    for (kept, *one), (_, *other) in zip(plain, trained, strict=True):
        table.add_row(kept, *(f"{100 * hit:.1f} / {share:.3f}" for hit, share in (one, other)))
    Console().print(table)


if __name__ == "__main__":
    main()
