"""`tgq bench`: every connector under one protocol, in restartable cells."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import Change, names_of, shipped_sheet
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.cli.work import ClusterOption, Cores, cluster_of
from tgqformer.errors import TgqError
from tgqformer.objects import in_shell

READ = dict.fromkeys(("tokens", "seeds", "queries"), int) | dict.fromkeys(("mean", "low", "high"), float)
"""What a column of table.csv is read as; the others are words, also a name that looks like a number."""


def bench(
    grid: Annotated[
        str | None,
        typer.Argument(
            metavar="BENCH",
            help="A YAML file, or the name of a shipped bench (see `tgq bench --list`).",
            autocompletion=names_of("tgqformer.experiments.bench", "grids"),
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder of the bench.  [default: runs/bench-NAME]")] = None,
    change: Change = None,
    catalog: Annotated[
        str | None, typer.Option(help="Bench your own data: files of a shop, as in `tgq catalog import`.")
    ] = None,
    log: Annotated[str | None, typer.Option(help="With --catalog: a log of (session, item, time).")] = None,
    pairs: Annotated[str | None, typer.Option(help="With --catalog: or a file of pairs.")] = None,
    cell: Annotated[
        Path | None, typer.Option(help="Do one finished cell again and compare its metrics to the last digit.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only cells whose grid title or path (`smollm2-6/tokens-4/q-former/`) holds this; may be repeated."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells side by side, each in a process of its own.")] = 1,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    listed: Annotated[bool, typer.Option("--list", help="List the shipped benches.")] = False,
) -> Sheet | None:
    """Compare connectors on equal terms: same pairs, steps, batch, language model, visual tokens, tuning and seeds.

    Every combination of model, language model, token budget, noise and seed is a cell: a folder with its recipe,
    metrics and versions. A killed bench goes on where it was. It ends in table.md, table.csv and report.html.

    Examples:

        tgq bench small

        tgq bench small --jobs 2

        tgq bench small --cluster local --cores 2

        tgq bench fashion --to runs/bench --only "token budget" --only /seed-0

        tgq bench fashion --to runs/bench --set set.catalog.source=data/fashion

        tgq bench small --catalog shop/items.csv --log shop/clicks.csv

        tgq bench --cell runs/bench-small/cells/catalogue/minilm/tokens-4/tgq-former/seed-0
    """
    from tgqformer.config import slug
    from tgqformer.experiments.bench.bench import Bench
    from tgqformer.experiments.bench.grid import load_bench, shipped_benches

    if listed:
        return shipped_sheet(shipped_benches())
    if cell is not None:
        others = {"BENCH": grid, "--set": change, "--only": only, "--catalog": catalog, "--log": log, "--pairs": pairs}
        if ignored := [name for name, value in others.items() if value]:
            raise TgqError(f"--cell does a finished cell again, just as it was made; leave {ignored[0]} away")
        _again(cell, to)
        return None
    if grid is None:
        raise TgqError("name a bench: a YAML file or one of `tgq bench --list`")
    loaded = load_bench(grid, (*_own(catalog, log, pairs), *(change or ())))
    folder = to or Path("runs") / slug(f"bench-{loaded.name}")
    made = Bench(loaded, folder, only=only or (), jobs=jobs, cluster=cluster_of(cluster, cores, jobs=jobs))
    page = made.report()
    then(f"open {in_shell(page)}")
    return _sheet(made.folder)


def _sheet(folder: Path) -> Sheet:
    """Lay H@10 of every model out, a line for each setting and view; JSON has all that is in table.csv."""
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: READ.get(name, str)(text) for name, text in row.items()} for row in csv.DictReader(file)]
    keys = ("language", "noise", "tokens", "view", "model")
    shown = [row for row in rows if row["metric"] == "hit@10"]
    several = [key for key in keys if key in ("view", "model") or len({row[key] for row in shown}) > 1]
    columns = [*(Column(key, cut=True) for key in several), *(Column(key, ".1f") for key in ("H@10 %", "low", "high"))]
    cells = [
        [*(str(row[key]) for key in several), *(_percent(row[key]) for key in ("mean", "low", "high"))] for row in shown
    ]
    return Sheet(columns, cells, note=f"all figures: {folder / 'table.md'} and {folder / 'table.csv'}", data=rows)


def _percent(share: str | float) -> float | None:
    return 100 * share if isinstance(share, float) and share == share else None


def _again(cell: Path, to: Path | None) -> None:
    from tempfile import TemporaryDirectory

    from tgqformer.experiments.bench.cell import rerun_cell

    with TemporaryDirectory(prefix="tgq-") as aside:  # a bench has no place for a cell that it did not ask for
        different = rerun_cell(cell, to or Path(aside) / "cell")
    if different:
        raise TgqError(f"{cell} has other metrics when it is done again: " + "; ".join(different[:5]))
    say(f"{cell} has the same metrics when it is done again, to the last digit.")


def _own(catalog: str | None, log: str | None, pairs: str | None) -> list[str]:
    """Return the changes that put a shop's own data instead of the bench's."""
    given = {key: path for key, path in (("interactions", log), ("pairs", pairs)) if path is not None}
    if (catalog is not None) != (len(given) == 1):
        raise TgqError("give --catalog together with one of --log and --pairs: what is sold, and what was clicked")
    if catalog is None:
        return []
    [(kind, path)] = given.items()
    others = [f"set.pairs.{key}=null" for key in ("shoppers", "interactions", "pairs", "related") if key != kind]
    return [f"set.catalog.source={catalog}", f"set.pairs.{kind}={path}", *others]
