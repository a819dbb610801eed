"""Tables of a bench, from results made by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsing import assert_accessible, needs_browser

from tgqformer.evaluation.intervals import Interval
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.experiments.bench import summary
from tgqformer.experiments.bench.cell import Measured
from tgqformer.experiments.bench.grid import BenchModel, BenchRecipe, Cell, Grid, Headline, Setting
from tgqformer.experiments.bench.page import write_bench_page
from tgqformer.experiments.recipe import LanguageSection

QUERIES = 200
MODELS = {"TGQ-Former": 0.6, "Q-Former": 0.5, "MLP": 0.4, "text only": 0.3, "no gates": 0.55}


def bench() -> BenchRecipe:
    models = tuple(
        BenchModel(name, "none" if name == "text only" else "mlp", ablation=name == "no gates") for name in MODELS
    )
    grid = Grid("all", ("minilm",), tokens=(2, 4), seeds=3)
    return BenchRecipe("b", "demo", models, {"minilm": LanguageSection()}, (grid,), Headline("TGQ-Former", "minilm"))


def scores(share: float, seed: int) -> ViewScores:
    """Exactly a share of the queries is hit; which ones depends on the seed a little."""
    hits = (np.roll(np.arange(QUERIES), seed) < round(share * QUERIES)).astype(float)
    return ViewScores([f"q{at}" for at in range(QUERIES)], {"hit@10": hits})


def cells(tokens: tuple[int, ...] = (2, 4)) -> dict[Cell, Measured]:
    made = {}
    for budget in tokens:
        for name, share in MODELS.items():
            for seed in range(3):
                views = {
                    "mixed": scores(share, seed),
                    "clean": scores(share + 0.1, seed),
                    "noised": scores(share, seed),
                }
                probes = {"clean": scores(share + 0.1, seed), "no-text": scores(share - 0.2, seed)}
                probes |= {f"poster-{step}": scores(share - step / 50, seed) for step in range(1, 6)}
                gates = {"anchored": {"mean": 1.0 + seed / 10, "over_channels": 0.2, "over_items": 0.1}}
                if name == "text only" and budget > tokens[0]:
                    continue
                made[Cell(Setting("minilm", "catalogue", budget), name, seed)] = Measured(
                    Result(name, seed, views, (), probes),
                    {"query": 0.1 + seed / 10, "even attention": 0.3} if name != "text only" else {},
                    gates if name == "TGQ-Former" else {}, {"connector": 1e6 * budget, "language model": 2e6},
                    1e-3, 0.5, {"training": 1.0, "measuring": 1.0},
                )  # fmt: skip
    return made


def test_variants_are_left_out_of_the_connectors() -> None:
    table = summary.tables(bench(), cells())[0]
    shown = summary.connectors(bench(), table)
    names = [name for name in MODELS if name != "no gates"]
    assert list(dict.fromkeys(row.model for row in shown.rows)) == names
    assert {result.model for result in shown.results} == set(names)
    alone = summary.SettingTable(
        table.setting, [r for r in table.results if r.model in ("no gates", "TGQ-Former")], table.rows
    )
    assert summary.connectors(bench(), alone) is alone


def test_models_that_were_not_probed_have_no_line() -> None:
    table = summary.tables(bench(), cells())[0]
    few = [Result(r.model, r.seed, r.views) if r.model == "MLP" else r for r in table.results]
    _, lines = summary.probe_lines(summary.SettingTable(table.setting, few, table.rows))
    assert [name for name, _ in lines] == [name for name in MODELS if name != "MLP"]


def test_text_only_stands_in_every_table_of_its_language() -> None:
    made = summary.tables(bench(), cells())
    assert [table.setting.tokens for table in made] == [2, 4]
    assert all({row.model for row in table.rows} == set(MODELS) for table in made)


def test_a_part_with_one_model_is_shown_too() -> None:
    found = cells()
    for name, tokens in (("MLP", [2, 4]), ("text only", [2])):
        made = summary.tables(bench(), {cell: one for cell, one in found.items() if cell.model == name})
        assert [table.setting.tokens for table in made] == tokens
        assert all({row.model for row in table.rows} == {name} for table in made)


def test_the_headline_is_against_the_strongest_other_connector_and_no_ablation() -> None:
    table = summary.of_headline(bench(), summary.tables(bench(), cells()))
    assert table is not None
    [lead] = [lead for lead in summary.leads(bench(), table) if lead.view == "mixed"]
    assert lead.other == "Q-Former"
    assert lead.mean.mean == pytest.approx(0.6)
    assert lead.comparison.difference.mean == pytest.approx(0.1)
    assert lead.comparison.relative.mean == pytest.approx(0.2)
    assert lead.comparison.difference.low > 0


def test_variants_losses_probes_attention_and_gates() -> None:
    table = summary.tables(bench(), cells())[0]
    assert summary.ablation_lines(bench(), table)[0][0] == "no gates"
    assert summary.ablation_lines(bench(), table)[0][1][0].startswith("−5.0 [")
    assert all(loss.startswith("−10.0 [") for _, loss in summary.loss_lines(table))
    names, lines = summary.probe_lines(table)
    assert names == ["clean", "no-text"]
    assert dict(lines)["MLP"][1].startswith("20.0 ±")
    inside = {name: (share, even) for name, _, share, even in summary.inside_lines(table, cells())}
    assert inside["MLP"] == ("20.0 %", "30.0 %") and "text only" not in inside
    assert summary.gate_lines(table, cells()) == [("TGQ-Former", "anchored", ["1.100", "0.200", "0.100"])]


def test_what_noise_costs_a_query_is_parted_for_models_that_were_asked() -> None:
    table = summary.tables(bench(), cells())[0]
    asked = {"clean": 0.7, "noised": 0.5, "cover": 0.65, "spill": 0.6}
    kinds = {"kind": np.array(["poster", "distractor"]).repeat(QUERIES // 2)}  # the first half: where the hits are

    def probes() -> dict[str, ViewScores]:
        seen = {name: scores(share, 0) for name, share in asked.items()}
        return {name: ViewScores(view.query, view.values, kinds) for name, view in seen.items()}

    results = [Result(r.model, r.seed, r.views, (), probes()) if r.model == "TGQ-Former" else r for r in table.results]
    [(name, costs)] = summary.noise_lines(summary.SettingTable(table.setting, results, table.rows))
    assert name == "TGQ-Former"
    assert [cost.split()[0] for cost in costs] == ["+0.0"] * 3  # only second products lost anything
    kinds["kind"] = kinds["kind"][::-1]
    [(_, costs)] = summary.noise_lines(summary.SettingTable(table.setting, results, table.rows))
    assert [cost.split()[0] for cost in costs] == ["−40.0", "−10.0", "−20.0"]


def test_an_interval_of_what_noise_costs_knows_the_spread_of_the_seeds() -> None:
    table, costs = summary.tables(bench(), cells())[0], (0.1, 0.2, 0.3)
    results = [Result("MLP", seed, {"clean": scores(0.6, 0), "noised": scores(0.6 - cost, 0)})
               for seed, cost in enumerate(costs)]  # fmt: skip
    [(_, loss)] = summary.loss_lines(summary.SettingTable(table.setting, results, table.rows))
    mean, low, high = (float(number.strip("[],")) for number in loss.replace("−", "-").split())
    assert mean == -20 and low <= -29 and high >= -12  # over queries alone it would be some 5 points on either side


def test_the_room_is_from_the_strongest_other_on_the_mixed_view_to_the_best_in_clean_pictures() -> None:
    table = summary.tables(bench(), cells())[0]
    found = summary.room(bench(), table)
    assert found is not None and (found.best, found.other) == ("TGQ-Former", "Q-Former")
    assert found.clean.mean == pytest.approx(0.7) and found.points == pytest.approx(0.7 - 0.5)
    assert found.relative == pytest.approx(0.2 / 0.5)
    mixed = [row for row in table.rows if row.view != "clean"]
    assert summary.room(bench(), summary.SettingTable(table.setting, table.results, mixed)) is None
    high = Interval(0.9, 0.9, 0.9)  # of a variant, which is no connector of its own
    variant = [replace(row, interval=high) if row.model == "no gates" else row for row in table.rows]
    assert summary.room(bench(), summary.SettingTable(table.setting, table.results, variant)) == found


def test_the_report_says_at_its_head_what_clean_pictures_are_worth(tmp_path: Path) -> None:
    page = write_bench_page(tmp_path / "report.html", bench(), cells(), []).read_text()
    assert "20.0 points or 40 per cent above what Q-Former finds on the mixed view" in page


def test_plots_show_every_model() -> None:
    made, known = summary.tables(bench(), cells()), cells()
    [poster] = summary.severity_plots(made[0])
    assert poster.caption == "poster" and "severity" in poster.svg
    [budget] = summary.token_plots(bench(), made)
    assert budget.caption == "minilm"
    cost = summary.cost_plot(made[1], known)
    assert cost is not None and "TGQ-Former 6 M, 60.0" in cost.svg
    assert summary.token_plots(bench(), made[:1]) == []


def test_markdown_and_csv_hold_all_figures() -> None:
    text = summary.markdown_of(bench(), cells())
    assert "| mixed | Q-Former | +10.0 [" in text and "| no gates | −5.0 [" in text and "60.0 ± 0.0" in text
    rows = list(csv.DictReader(io.StringIO(summary.csv_of(bench(), cells()))))
    found = {(r["tokens"], r["model"], r["view"]): float(r["mean"]) for r in rows}
    assert found["4", "Q-Former", "mixed"] == 0.5 and found["2", "MLP", "probe:poster-5"] == pytest.approx(0.3)


@needs_browser
def test_axe_finds_nothing(tmp_path: Path) -> None:
    assert_accessible(write_bench_page(tmp_path / "report.html", bench(), cells(), []))
