"""`tgq studio`: draw the catalogue that needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import Overwrite, written_as
from tgqformer.errors import counted
from tgqformer.objects import in_shell


def studio(
    to: Annotated[Path, typer.Option(help="Folder for the catalogue.")],
    items: Annotated[int, typer.Option(min=1, help="How many products to draw.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same catalogue, byte for byte.")] = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(callback=written_as(".png"), help="Also write a contact sheet of all silhouettes to this PNG."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the studio catalogue: products of a small shop, with pictures whose truth is known to the pixel.

    Colour, pattern and silhouette stand in no text, only in the pictures, and in `truth.parquet` beside the catalogue.

    Example:

        tgq studio --to studio --items 2000
    """
    from tgqformer.files import atomic_path
    from tgqformer.stages import make_way
    from tgqformer.synthetic.studio import draw_studio, studio_sheet

    if sheet is not None:
        make_way(sheet, "contact sheet", overwrite=overwrite, file=True)
    drawn = draw_studio(to, items=items, seed=seed, overwrite=overwrite)
    say(f"wrote {counted(len(drawn), 'item')} with {counted(drawn.about['pictures'], 'picture')} to {to}")
    then(
        f"tgq catalog show {in_shell(to)}",
        f"tgq pairs simulate {in_shell(to)} --shoppers studio --to {in_shell(to)}-pairs",
    )
    if sheet is not None:
        with atomic_path(sheet) as unfinished:
            studio_sheet(seed=seed).save(unfinished, "PNG")
        say(f"wrote {sheet}")
