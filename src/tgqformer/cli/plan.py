"""`tgq plan`: what a run, or a catalogue of any size, will take before anything is downloaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import say
from tgqformer.cli.options import Change, amount, names_of
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import TgqError, counted, nearest

if TYPE_CHECKING:
    from tgqformer.experiments.plan import Machine


def plan(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A YAML file, or the name of a shipped recipe. Without one: a whole catalogue, stage by stage.",
            autocompletion=names_of("tgqformer.experiments", "recipes"),
            show_default=False,
        ),
    ] = None,
    items: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="How many items there are: 100e6, 10M, 250000.  [default: as the recipe]"),
    ] = None,
    clicks: Annotated[str, typer.Option(metavar="NUMBER", help="Rows of the log that is mined: 1e9, 1b.")] = "0",
    gpu: Annotated[str, typer.Option(help="One of h200, h100, a100, l40s, l4, 4090, and cpu.")] = "h100",
    cores: Annotated[int, typer.Option(min=1, help="Processor cores of a machine.")] = 8,
    within: Annotated[
        float | None, typer.Option(min=0.1, help="Hours that a stage may take on several machines.  [default: 24]")
    ] = None,
    gpu_price: Annotated[
        float | None, typer.Option(min=0, help="Dollars for an hour of the GPU.  [default: assumed]")
    ] = None,
    core_price: Annotated[
        float | None, typer.Option(min=0, help="Dollars for an hour of a core with 8 GB.  [default: 0.05, assumed]")
    ] = None,
    change: Change = None,
) -> Sheet:
    """Say what each stage takes: time, memory, disk; for a catalogue also machines and cost. The arithmetic is shown.

    Nothing is loaded or downloaded. What is measured and what is assumed is said; trust the figures to a factor of two.

    Examples:

        tgq plan paper-amazon-2018 --gpu h100

        tgq plan paper-hm --items 105542 --clicks 31788324 --gpu l4

        tgq plan --items 100e6 --clicks 1e9 --gpu h100
    """
    from tgqformer.experiments.plan import MACHINES

    if gpu not in MACHINES:
        raise TgqError(f"--gpu {gpu!r} is not known; {nearest(gpu, MACHINES)}")
    count, rows = None if items is None else amount(items), amount(clicks)
    if count == 0:
        raise TgqError("--items 0: a catalogue has at least one item")
    if recipe is None:
        if change:
            raise TgqError(f"--set {change[0]} changes a key of a recipe; name the recipe")
        if count is None:
            raise TgqError("say with --items how many items there are, or name a recipe")
        return _catalogue(count, rows, gpu, cores, (within, gpu_price, core_price))
    for name, value in (("--within", within), ("--gpu-price", gpu_price), ("--core-price", core_price)):
        if value is not None:
            raise TgqError(f"{name} is for a plan without a recipe: that of a recipe is one machine's, without prices")
    return _run(recipe, tuple(change or ()), count, rows, MACHINES[gpu], gpu, cores)


def _run(
    recipe: str, change: tuple[str, ...], items: int | None, clicks: int, machine: Machine, gpu: str, cores: int
) -> Sheet:
    """Lay out what a run of a recipe takes on one machine."""
    from tgqformer.experiments.plan import plan as work_out
    from tgqformer.experiments.recipe import load_recipe

    loaded = load_recipe(recipe, change, deep=False)
    count = items or loaded.catalog.items
    if not count:
        raise TgqError(f"{loaded.name} takes all items; say with --items how many there are")
    needs = work_out(loaded, machine, items=count, clicks=clicks, cores=cores)
    say(f"{loaded.name}: {counted(count, 'item')}, {counted(clicks, 'click')}, one {gpu}")
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


def _catalogue(
    items: int, clicks: int, gpu: str, cores: int, asked: tuple[float | None, float | None, float | None]
) -> Sheet:
    """Lay out what a catalogue takes on rented machines, and how that was worked out."""
    from tgqformer.experiments.plan import MACHINES
    from tgqformer.experiments.scale import CORE_DOLLARS, DOLLARS, Extent, Rent, scale

    within, gpu_price, core_price = (
        one if one is not None else usual for one, usual in zip(asked, (24.0, DOLLARS[gpu], CORE_DOLLARS), strict=True)
    )
    shop, rent = Extent.of(items, clicks, MACHINES[gpu]), Rent(cores, gpu_price, core_price, within)
    stages = scale(shop, rent)
    names = ("stage", "machines", "hours", "disk GB", "memory GB", "$")
    columns = [Column(name, form) for name, form in zip(names, ("", ",d", ",.2f", ",.1f", ",.1f", ",.2f"), strict=True)]
    rows = [(s.stage, s.machines, s.hours, s.disk / 1e9, s.memory / 1e9, s.dollars) for s in stages]
    say(f"{counted(items, 'item')}, {counted(clicks, 'click')}: {shop.models}")
    say(
        f"Machines of {cores} cores; ${gpu_price:g} an hour of a GPU, ${core_price:g} of a core with 8 GB"
        f"{' (assumed)' if None in asked[1:] else ''}. Disks, networks and downloads are not priced."
    )
    say(
        "Rates of processors were measured on one thread of a busy machine with two cores (docs/scale.md), and serve "
        "for processors alone. Trust all of it to a factor of two. How each stage was worked out:"
    )
    for stage in stages:
        say(f"- {stage.stage}: {stage.how}")
    return Sheet(columns, rows, data=[asdict(stage) for stage in stages])


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
