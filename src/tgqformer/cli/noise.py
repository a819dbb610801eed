"""`tgq noise`: draw banners, clutter and second products on pictures, and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import Overwrite, written_as
from tgqformer.errors import counted
from tgqformer.objects import in_shell

app = Group(name="noise", no_args_is_help=True, help="Draw promo noise on pictures, and look at it.")


@app.command()
def sheet(
    catalog: Annotated[
        Path, typer.Argument(metavar="CATALOG", help="A catalogue made by `tgq catalog import` or `tgq studio`.")
    ],
    to: Annotated[Path, typer.Option(callback=written_as(".png"), help="PNG file to write.")] = Path("noise.png"),
    items: Annotated[int, typer.Option(min=1, help="How many products it shows.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice and the drawing.")] = 0,
    outlines: Annotated[bool, typer.Option(help="Show the edge of the noise mask.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw a contact sheet: a row for each kind of noise, columns clean and severities 1 to 5.

    Example:

        tgq noise sheet demo/catalog --to noise.png --items 3
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.files import atomic_path
    from tgqformer.stages import make_way
    from tgqformer.synthetic.noise.sheet import contact_sheet

    make_way(to, "contact sheet", overwrite=overwrite, file=True, sources=[catalog])
    drawn = contact_sheet(Catalog.open(catalog), items=items, seed=seed, outlines=outlines)
    with atomic_path(to) as unfinished:
        drawn.save(unfinished, "PNG")
    say(f"wrote {to} ({drawn.width} x {drawn.height})")
    then(f"open {in_shell(to)}")


@app.command()
def apply(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="A catalogue.")],
    to: Annotated[Path, typer.Option(help="Folder for the noised catalogue.")],
    view: Annotated[Literal["mixed", "noised", "collage"], typer.Option(help="Which items get noise.")] = "mixed",
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the items that get noise in `mixed`.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a catalogue whose first pictures have noise; everything else stays.

    Example:

        tgq noise apply demo/catalog --view noised --to noised-catalog
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.synthetic.noise import NoisePlan, NoiseView, write_view

    noised = NoiseView(Catalog.open(catalog), view, NoisePlan(share=share, seed=seed))
    written = write_view(noised, to, overwrite=overwrite)
    say(f"wrote {counted(len(written), 'item')} to {to}")
    then(f"tgq catalog show {in_shell(to)}")
