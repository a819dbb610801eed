"""`tgq plan`: what a run will take, before anything is downloaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tgqformer.cli.commands import say
from tgqformer.cli.options import Change
from tgqformer.cli.run import Recipe
from tgqformer.cli.sheets import Column, Sheet


def plan(
    recipe: Recipe,
    items: Annotated[int | None, typer.Option(min=1, help="Items of the catalogue.  [default: as the recipe]")] = None,
    clicks: Annotated[int, typer.Option(min=0, help="Rows of the log that is mined.")] = 0,
    gpu: Annotated[str, typer.Option(help="One of h200, h100, a100, l40s, l4, 4090, and cpu.")] = "h100",
    cores: Annotated[int, typer.Option(min=1, help="Processor cores that read pictures.")] = 8,
    change: Change = None,
) -> Sheet:
    """Say what each stage of a recipe takes: time, memory, disk; and how each figure was worked out.

    Nothing is loaded or downloaded. What is measured and what is assumed is said; trust the figures to a factor of two.

    Examples:

        tgq plan paper-amazon-2018 --gpu h100

        tgq plan paper-hm --items 105542 --clicks 31788324 --gpu l4
    """
    from tgqformer.errors import TgqError, nearest
    from tgqformer.experiments.plan import MACHINES
    from tgqformer.experiments.plan import plan as work_out
    from tgqformer.experiments.recipe import load_recipe

    if gpu not in MACHINES:
        raise TgqError(f"--gpu {gpu!r} is not known; {nearest(gpu, MACHINES)}")
    loaded, machine = load_recipe(recipe, tuple(change or ()), deep=False), MACHINES[gpu]
    count = items or loaded.catalog.items
    if not count:
        raise TgqError(f"{loaded.name} takes all items; say with --items how many there are")
    needs = work_out(loaded, machine, items=count, clicks=clicks, cores=cores)
    say(f"{loaded.name}: {count:,} items, {clicks:,} clicks, one {gpu}")
    most, disk = max(need.memory for need in needs), sum(need.disk for need in needs)
    say(f"all: {_time(sum(n.seconds for n in needs))}, memory {most / 1e9:.1f} GB, disk {disk / 1e9:.1f} GB")
    if machine.memory is not None and most > machine.memory:
        say(f"more than the {machine.memory / 1e9:.0f} GB of one {gpu}: lower training.batch")
    say(f"{gpu}: {machine.about}. One picture an item; downloads and the time of the hub are not counted.")
    columns = (
        Column("stage", wrap=True),
        Column("time", "s"),
        Column("memory GB", ".1f"),
        Column("disk GB", ".1f"),
        Column("how", wrap=True),
    )
    rows = [(need.stage, _time(need.seconds), need.memory / 1e9, need.disk / 1e9, need.how) for need in needs]
    return Sheet(columns, rows, data=[asdict(need) for need in needs])


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
