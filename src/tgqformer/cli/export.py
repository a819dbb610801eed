"""`tgq export`: a model for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import MODEL_HELP, Overwrite
from tgqformer.objects import in_shell

CHECKED = 500
"""Items of a catalogue that an exported model is checked on."""


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    to: Annotated[Path, typer.Option(help="Folder for the exported model.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="For ONNX Runtime: the form that there is.")] = True,
    int8: Annotated[
        bool, typer.Option("--int8", help="Keep most weights in 8 bits: a third of the size, less exact.")
    ] = False,
    catalog: Annotated[
        Path | None, typer.Option(help=f"Catalogue whose first {CHECKED} items it is checked on; --int8 needs it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as one graph for ONNX Runtime, from pixels and token ids to the embedding.

    It is compared with the model itself before it counts. In Python, `OnnxEmbedder(FOLDER).encode(items)` runs it
    without PyTorch.

    Examples:

        tgq export small --onnx --to small-onnx

        tgq export small --onnx --int8 --catalog demo/catalog --to small-int8
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.errors import TgqError, counted
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.export import CLOSE, export_onnx, made_up_items, seen_items
    from tgqformer.model.hub import locate_model

    if int8 and catalog is None:
        raise TgqError("--int8 changes vectors: name a --catalog, on whose items it is measured how much")
    shop = None if catalog is None else Catalog.open(catalog)
    items, root = made_up_items(), None
    if shop is not None:
        items, root = seen_items(shop, CHECKED), shop.root
    if not items:
        raise TgqError(f"{catalog} has no items to check the exported model on")
    checked = export_onnx(ItemEmbedder.load(locate_model(model)), to, items, root, int8=int8, overwrite=overwrite)
    size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file()) / 1e6
    tried = counted(checked.items, "item")
    say(f"{to}: {size:.0f} MB; in float32 vectors of {tried} differ by {checked.difference:.1g} at most")
    if checked.overlap is not None:
        form = "in 8 bits" if int8 else "in float32"
        say(f"{form} {100 * checked.overlap:.1f} % of the ten nearest among these items stay (at most {CLOSE:g} off)")
    then(f"tgq serve STORE --runtime onnx --model {in_shell(to)}")
