"""`tgq plan`: what a run will take, before anything is downloaded."""

from __future__ import annotations

from typing import Annotated

import typer

from tgqformer.cli.options import say


def plan(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe (see `tgq recipes`)")],
    items: Annotated[int | None, typer.Option(min=1, help="items of the catalogue  [default: as the recipe]")] = None,
    clicks: Annotated[int, typer.Option(min=0, help="rows of the log that is mined")] = 0,
    gpu: Annotated[str, typer.Option(help="h200, h100, a100, l40s, l4, 4090, or cpu")] = "h100",
    cores: Annotated[int, typer.Option(min=1, help="processor cores that read pictures")] = 8,
    change: Annotated[list[str] | None, typer.Option("--set", help="change a key, as in `tgq run`")] = None,
) -> None:
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
    say(f"{loaded.name}: {count:,} items, {clicks:,} clicks, one {gpu}\n")
    for need in needs:
        sizes = f"memory {need.memory / 1e9:.1f} GB, disk {need.disk / 1e9:.1f} GB"
        say(f"{need.stage}: {_time(need.seconds)}, {sizes}\n  {need.how}")
    most, disk = max(need.memory for need in needs), sum(need.disk for need in needs)
    say(f"\nall: {_time(sum(n.seconds for n in needs))}, memory {most / 1e9:.1f} GB, disk {disk / 1e9:.1f} GB")
    if machine.memory is not None and most > machine.memory:
        say(f"more than the {machine.memory / 1e9:.0f} GB of one {gpu}: lower training.batch")
    say(f"{gpu}: {machine.about}. One picture an item; downloads and the time of the hub are not counted.")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
