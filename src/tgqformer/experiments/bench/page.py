"""The report of a bench: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgqformer.evaluation import sections
from tgqformer.evaluation.report import versions, write_page
from tgqformer.evaluation.results import models
from tgqformer.evaluation.tables import caption, percent, points
from tgqformer.experiments.bench import summary
from tgqformer.experiments.bench.grid import BenchRecipe, base_recipe
from tgqformer.experiments.bench.summary import Cells, SettingTable
from tgqformer.objects import in_shell


def write_bench_page(
    to: Path,
    bench: BenchRecipe,
    cells: Cells,
    tuning: Sequence[Mapping[str, Any]],
    untrained: summary.Untrained | None = None,
) -> Path:
    """Write the report of a bench; tuning: what `Bench.tune` wrote. Gives the path."""
    made = summary.tables(bench, cells, untrained)
    first = summary.of_headline(bench, made)
    return write_page(
        to,
        "bench.html",
        {
            "title": f"Bench {bench.name}",
            "headline": bench.headline.model,
            "headlines": _headlines(bench, first) if first else [],
            "settings": _settings(bench),
            "parts": [_part(bench, table, cells) for table in made],
            "budgets": summary.token_plots(bench, made),
            "guests": [model.name for model in bench.models if model.connector != "none"],
            "tuned": [_tuned(bench, row) for row in tuning],
            "commands": [
                f"tgq bench {in_shell(to.parent / 'bench.yaml')} --to {in_shell(to.parent)}",
                f"tgq bench --cell {in_shell(to.parent / 'cells')}/…   # one cell again, compared to the last digit",
            ],
            "versions": versions(),
        },
    )


def _headlines(bench: BenchRecipe, table: SettingTable) -> list[str]:
    sentences = []
    for lead in summary.leads(bench, table):
        gap = lead.comparison
        sure = "" if gap.difference.apart_from_zero else "; this may be chance"
        sentences.append(
            f"{lead.view}: {bench.headline.model} {percent(lead.mean)}, {points(gap.difference)} points and "
            f"{points(gap.relative)} per cent against {lead.other}, the strongest other connector{sure}."
        )
    room = summary.room(bench, table)
    if room is not None:
        sentences.append(
            f"Even in clean pictures no connector finds more than {percent(room.clean)} ({room.best}): "
            f"{100 * room.points:.1f} points or {100 * room.relative:.0f} per cent above what {room.other} finds on "
            "the mixed view."
        )
    return sentences


def _part(bench: BenchRecipe, table: SettingTable, cells: Cells) -> dict[str, Any]:
    shown = summary.connectors(bench, table)  # variants have a table of their own: twenty lines in a plot say nothing
    rows, results, whole = shown.rows, shown.results, shown.whole()
    probes, probed = summary.probe_lines(table)
    return {
        "title": table.setting.title,
        "models": models(results),
        "caption": caption(whole.rows),
        "views": list(dict.fromkeys(row.view for row in rows)),
        "tables": sections.tables(whole.rows, sections.Leads(whole.results, whole.rows)),
        "bars": sections.view_bars(rows),
        "leads": [
            (lead.view, lead.other, points(lead.comparison.difference), points(lead.comparison.relative))
            for lead in summary.leads(bench, table)
        ],
        "ablations": [(name, *found) for name, found in summary.ablation_lines(bench, table)],
        "losses": summary.loss_lines(table),
        "noised_parts": list(summary.NOISE_PARTS),
        "noised": [(name, *found) for name, found in summary.noise_lines(table)],
        "probes": probes,
        "probed": [(name, *found) for name, found in probed],
        "severity": summary.severity_plots(shown),
        "agreement": sections.agreement_curves(results),
        "categories": sections.category_tables(results),
        "inside": summary.inside_lines(table, cells),
        "gates": [(name, stream, *found) for name, stream, found in summary.gate_lines(table, cells)],
        "cost": summary.cost_plot(table, cells),
        "curves": sections.training_curves(results),
    }


def _settings(bench: BenchRecipe) -> dict[str, object]:
    base, by_pairs = base_recipe(bench), "by the number of pairs"
    alone = base.training.visual_steps
    return {
        "catalogue": base.catalog.source,
        "language models": ", ".join(bench.languages),
        "vision encoder": base.encoders.vision,
        "steps": by_pairs if base.training.steps is None else base.training.steps,
        "pairs a step": base.training.batch,
        "steps of the connector alone before": by_pairs if alone is None else alone,
        "learning rates tried": ", ".join(f"{lr:g}" for lr in bench.tuning.lr),
    }


def _tuned(bench: BenchRecipe, row: Mapping[str, Any]) -> tuple[str, ...]:
    tried = (
        "not tuned"
        if len(row["tried"]) == 1
        else ", ".join(f"{lr}: {100 * score:.1f}" for lr, score in row["tried"].items())
    )
    own = bench.model(row["model"]).training
    extra = ", ".join(f"{key} {value}" for key, value in own.items())
    how = f"as {row['tuned_as']}; {tried}" if row["tuned_as"] else tried
    return row["model"], row["language"], f"{row['lr']:g}", how, extra
