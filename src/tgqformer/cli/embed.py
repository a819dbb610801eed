"""`tgq embed`: the vectors of a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import MODEL_HELP, BatchSize, Device, Dim, Overwrite, Workers

Precision = Literal["auto", "float32", "bfloat16"]  # as encoders.frozen has it; not imported for the help


def embed(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="A catalogue made by `tgq catalog import`.")],
    model: Annotated[str, typer.Option(metavar="MODEL", help=MODEL_HELP)],
    to: Annotated[Path, typer.Option(help="Folder for the embeddings.")],
    batch_size: BatchSize = 64,
    workers: Workers = None,
    dim: Dim = None,
    device: Device = "cpu",
    precision: Annotated[
        Precision, typer.Option(help="Of matrix products; auto: bfloat16 where the processor has it, which is faster.")
    ] = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Embed every item of a catalogue, in partitions: a killed job goes on where it was, a finished one stays as it is.

    Examples:

        tgq embed catalogs/shop --model small --to embeddings

        tgq embed catalogs/shop --model runs/shop/models/tgq-former/served/model --to embeddings
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.hub import locate_model
    from tgqformer.stages import make_way
    from tgqformer.store.embed import embed_catalog

    folder = locate_model(model)
    make_way(to, "embeddings", resumable=True, sources=[folder, catalog])
    report = embed_catalog(
        ItemEmbedder.load(folder, device),
        Catalog.open(catalog),
        to,
        batch_size=batch_size,
        workers=workers,
        truncate_dim=dim,
        precision=precision,
        overwrite=overwrite,
    )
    say(f"embedded {report.embedded:,} items into {to}")
    if report.unreadable:
        kept = to / "unreadable.json"
        count = len(report.unreadable)
        say(f"{count:,} pictures could not be read; those items are embedded by their text, see {kept}")
    then(
        f"tgq index {to} --catalog {catalog} --model {model} --to store",
        f"tgq neighbours {to} --to neighbours",
    )
