"""What a report says in words: the meaning of each column, and why a validation falls."""

from __future__ import annotations

from collections.abc import Sequence

from tgqformer.evaluation.results import Result
from tgqformer.evaluation.tables import NAMES

MEANINGS = {
    "H@10": "Hit rate: the share of queries with at least one of their partners among the ten nearest items.",
    "H@50": "The share of queries with at least one of their partners among the 50 nearest items.",
    "H@100": "The share of queries with at least one of their partners among the 100 nearest items.",
    "MRR": "Mean reciprocal rank: the mean of 1 where the first partner stands first, 1/2 where second, and so on.",
    "nDCG@10": "How many partners are among the ten nearest; those that stand higher count more, 1 is the best.",
    "recall@10": "The share of a query's partners that are among its ten nearest items.",
    "recall@100": "The share of a query's partners that are among its 100 nearest items.",
    "mixed": "The catalogue as shoppers see it: half of the pictures wear noise, such as banners or a second product.",
    "clean": "The same catalogue with no noise on any picture.",
    "noised": "The same catalogue with noise on every picture.",
    "as it is": "The catalogue as it was imported; nothing was drawn on its pictures.",
    "new item": "Queries are items that no training pair holds; their partners may be any items.",
    "known item": "Queries are items that the training pairs hold.",
    "all": "All queries together.",
    "warm": "Queries with more than a few clicks in the training log.",
    "few clicks": "Queries with only a few clicks in the training log.",
    "brand-new": "Queries without any click in the training log.",
    "points": "The difference of two shares in per cent: from 40 % to 42 % are 2 points.",
    "model": "Each name is one model of the recipe; the same colour stands for it on the whole page.",
    "stream": "Anchored queries are made of an item's own text; exploratory ones are the same for all items.",
    "share": "How much of the attention lies inside the noise, on average.",
    "even attention": "What it would be if the attention lay evenly on the whole picture: the share of noise in it.",
    "mean factor": "What the gate multiplies a channel by, on average. A factor of 1 changes nothing.",
    "spread over channels": "The standard deviation of the factors from channel to channel: a fixed scale.",
    "spread over items": "The standard deviation from item to item: what the gate answers to the item.",
    "parameters": "All numbers of the model, the frozen ones too.",
    "trained": "Those numbers that training changed.",
    "FLOPs an item": "Multiplications and additions for one item; a multiply-add counts as two.",
    "items a second": "Measured on this machine, with one batch after another.",
    "queries": "How many queries the line is over.",
    "category": "The first level of the query's category.",
}
"""What the head of a column means; one that is not here says it itself."""
FALL = 0.05
"""A validation has fallen where it ends lower than its best by this share of the best."""


def falls(results: Sequence[Result]) -> list[str]:
    """Explain every validation that ends well below its best, a sentence or two for each training."""
    return [line for result in results for line in _fall(result)]


def _fall(result: Result) -> list[str]:
    key = next((name for row in result.log for name in row if name.startswith("val_")), None)
    rows = [row for row in result.log if key in row] if key else []
    if key is None or len(rows) < 2:
        return []
    best, last = max(rows, key=lambda row: row[key]), rows[-1]
    if last[key] > best[key] * (1 - FALL):
        return []
    kept = int(last.get("kept_step", best["step"]))
    name = NAMES.get(key[4:], key[4:])
    return [
        f"{result.model}, seed {result.seed}: validation {name} was best at step {best['step']:,.0f} "
        f"({100 * best[key]:.1f} %) and fell to {100 * last[key]:.1f} % by step {last['step']:,.0f}. From there on the "
        f"model learns its training pairs by heart and knows new ones less well (overfitting). The weights of step "
        f"{kept:,} were kept, so what is measured here does not suffer; a shorter training or more pairs would do."
    ]
