"""`tgq bench`: every connector under one protocol, in restartable cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.options import list_shipped, say
from tgqformer.errors import TgqError


def bench(
    grid: Annotated[
        str | None, typer.Argument(help="a YAML file, or the name of a shipped bench (see `tgq bench --list`)")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="folder of the bench  [default: runs/bench-NAME]")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="change a key: `--set set.training.steps=200`; repeatable")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="bench your own data: files of a shop, as in `tgq catalog import`")
    ] = None,
    interactions: Annotated[str | None, typer.Option(help="with --catalog: a log of (session, item, time)")] = None,
    pairs: Annotated[str | None, typer.Option(help="with --catalog: or a file of pairs")] = None,
    cell: Annotated[
        Path | None, typer.Option(help="do one finished cell again and compare its metrics to the last digit")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="run only cells whose grid title or path (`smollm2-6/tokens-4/q-former/`) holds this; repeatable"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="cells side by side, each in a process of its own")] = 1,
    listed: Annotated[bool, typer.Option("--list", help="list the shipped benches")] = False,
) -> None:
    """Compare connectors on equal terms: same pairs, steps, batch, language model, visual tokens, tuning and seeds.

    Every combination of model, language model, token budget, noise and seed is a cell: a folder with its recipe,
    metrics and versions. A killed bench goes on where it was. It ends in table.md, table.csv and report.html.

    Examples:

        tgq bench small

        tgq bench small --jobs 2

        tgq bench fashion --to runs/bench --only "token budget" --only /seed-0

        tgq bench fashion --to runs/bench --set catalog.source=data/fashion

        tgq bench small --catalog shop/items.csv --interactions shop/clicks.csv

        tgq bench --cell runs/bench-small/cells/catalogue/minilm/tokens-4/tgq-former/seed-0
    """
    from rich.markdown import Markdown

    from tgqformer.config import slug
    from tgqformer.experiments.bench.bench import Bench
    from tgqformer.experiments.bench.grid import load_bench, shipped_benches
    from tgqformer.progress import Terminal

    if listed:
        list_shipped(shipped_benches())
    elif cell is not None:
        _again(cell, to or cell.with_name(f"{cell.name}-again"))
    elif grid is None:
        raise TgqError("name a bench: a YAML file or one of `tgq bench --list`")
    else:
        loaded = load_bench(grid, (*_own(catalog, interactions, pairs), *(change or ())))
        made = Bench(loaded, to or Path("runs") / slug(f"bench-{loaded.name}"), only=only or (), jobs=jobs)
        page = made.report()
        Terminal().print(Markdown((made.folder / "table.md").read_text(encoding="utf-8")))
        say(f"report in {page}")


def _again(cell: Path, to: Path) -> None:
    from tgqformer.experiments.bench.cell import rerun_cell

    different = rerun_cell(cell, to)
    if different:
        raise TgqError(f"{cell} and {to} differ: " + "; ".join(different[:5]))
    say(f"{to} has the metrics of {cell}, to the last digit")


def _own(catalog: str | None, interactions: str | None, pairs: str | None) -> list[str]:
    """Return the changes that put a shop's own data instead of the bench's."""
    given = {key: path for key, path in (("interactions", interactions), ("pairs", pairs)) if path is not None}
    if (catalog is not None) != (len(given) == 1):
        raise TgqError(
            "give --catalog together with one of --interactions and --pairs: what is sold, and what was clicked"
        )
    if catalog is None:
        return []
    [(kind, path)] = given.items()
    return [f"set.catalog.source={catalog}", f"set.pairs.{kind}={path}", "set.pairs.shoppers=null"]


def register(app: typer.Typer) -> None:
    """Put the command on the root."""
    app.command()(bench)
