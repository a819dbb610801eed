"""The model card of a run: its data and figures, the strongest rival in the same line, and what they do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tgqformer.evaluation.results import Result, SummaryRow, compare, summarize
from tgqformer.evaluation.tables import NAMES, caption, percent, points
from tgqformer.evaluation.untrained import PREFIX
from tgqformer.experiments.recipe import Recipe
from tgqformer.files import write_text
from tgqformer.model.card import card_of
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders
from tgqformer.model.version import CARD

SHOWN = ("hit@10", "hit@100", "mrr")
FEW = 200
"""With fewer queries the figures are not worth reading."""


def write_cards(
    folders: Mapping[str, Path],
    encoders: Encoders,
    recipe: Recipe,
    results: Sequence[Result],
    settings: Mapping[str, object],
    verdict: str,
) -> None:
    """Write the card of every served model, by its name in the recipe, into its folder; see `measured_card`.

    encoders: those of the run, which all its models were saved with.
    """
    for name, folder in folders.items():
        model = ItemEmbedder.load(folder, encoders=encoders)
        card = measured_card(model, name, recipe, results, settings, verdict)
        write_text(folder / CARD, card)


def measured_card(
    model: ItemEmbedder, name: str, recipe: Recipe, results: Sequence[Result], settings: Mapping[str, object],
    verdict: str,
) -> str:  # fmt: skip
    """Write the card of a served model of a run.

    Args:
        model: the served one. name: in the recipe. results: of all models and seeds, and of what needs no training.
        settings: rows of the table of settings. verdict: whether training pays, in words.
    """
    data = "\n".join(["| | |", "|---|---|", *(f"| {key} | {cell(value)} |" for key, value in settings.items())])
    parts = [
        f"## Trained by\nThe recipe *{recipe.name}* (`recipe.yaml` of the run).\n\n{data}",
        f"## Figures\n{figures(name, results)}",
        f"## Limits\n{limits(recipe, results, verdict)}",
    ]
    return card_of(model, f"{name}, of the run {recipe.name}", "\n\n".join(parts) + "\n")


def figures(name: str, results: Sequence[Result]) -> str:
    """Write a line for each view and metric: this model, its strongest rival there, and the paired difference."""
    rows = [row for row in summarize(results) if row.metric in SHOWN]
    own = [row for row in rows if row.model == name]
    table = ["| view | metric | this model | strongest rival | difference [95 %] |", "|---|---|--:|--:|--:|"]
    differences: dict[tuple[str, str, str], str] = {}
    for rival in dict.fromkeys(row.model for row in rows if row.model != name):
        found = compare(results, name, rival)
        differences |= {(rival, one.view, one.metric): points(one.difference) for one in found}
    for row in own:
        others = [one for one in rows if one.model != name and (one.view, one.metric) == (row.view, row.metric)]
        best = max(others, key=lambda one: one.interval.mean, default=None)
        beside = "none measured" if best is None else f"{percent(best.interval)} ({best.model.replace(PREFIX, '')})"
        ahead = "" if best is None else differences.get((best.model, row.view, row.metric), "")
        metric = NAMES.get(row.metric, row.metric)
        table.append(f"| {row.view} | {metric} | {percent(row.interval)} | {cell(beside)} | {ahead} |")
    return "\n".join([*table, "", f"{caption(own)}. The whole catalogue is searched. {MEANING}"])


MEANING = (
    "H@10: for how many of 100 queries one of the ten nearest is a right one. Rivals are the other models of the run "
    "and what needs no training. Differences are paired by query, in points."
)


def limits(recipe: Recipe, results: Sequence[Result], verdict: str) -> str:
    """List what the figures do not say."""
    rows: list[SummaryRow] = summarize(results)
    queries, seeds = min(row.queries for row in rows), len(recipe.seeds)
    said = [verdict] if verdict else []
    if recipe.pairs.shoppers is not None:
        said.append("The clicks are **simulated**; nobody bought anything here.")
    if recipe.catalog.source == "studio":
        said.append("The products are drawn by the program, not photographed.")
    if recipe.noise.share:
        said.append(f"The noise on {100 * recipe.noise.share:.0f} % of the pictures is drawn.")
    if seeds == 1:
        said.append("One seed: the intervals are over queries, and another training may differ by more.")
    if queries < FEW:
        said.append(f"{queries} test queries are few: the figures are not worth much.")
    said += [
        "Measured on this catalogue alone. Another shop's pictures and titles may give other figures.",
        "Titles in languages that the text encoder and the language model were not trained on are read badly.",
    ]
    return "\n".join(f"- {one}" for one in said)


def cell(value: object) -> str:
    """Write a value so that it is one cell of a table."""
    return " ".join(str(value).split()).replace("|", r"\|")
