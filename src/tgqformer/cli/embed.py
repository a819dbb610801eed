"""`tgq embed`: the vectors of a catalogue."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import MODEL_HELP, BatchSize, Device, Dim, Overwrite, Workers
from tgqformer.cli.work import AFTER_SHARD, ClusterOption, Cores, Finish, ShardOption, maker, only_whole, still_missing
from tgqformer.errors import TgqError, counted
from tgqformer.objects import in_shell

Precision = Literal["auto", "float32", "bfloat16"]  # as encoders.frozen has it; not imported for the help


def embed(
    catalog: Annotated[
        Path, typer.Argument(metavar="CATALOG", help="Made by `tgq catalog import`: a folder, or s3://…")
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help=MODEL_HELP)],
    to: Annotated[Path, typer.Option(help="Folder for the embeddings, or s3://…")],
    batch_size: BatchSize = 64,
    workers: Workers = None,
    dim: Dim = None,
    device: Device = "cpu",
    precision: Annotated[
        Precision, typer.Option(help="Of matrix products; auto: bfloat16 where the processor has it, which is faster.")
    ] = "float32",
    partition_size: Annotated[int, typer.Option(min=1, help="Items of a partition.")] = 4096,
    shard: ShardOption = None,
    finish: Finish = False,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    overwrite: Overwrite = False,
) -> None:
    """Embed every item of a catalogue, in partitions: a killed job goes on where it was, a finished one stays as it is.

    Examples:

        tgq embed catalogs/shop --model small --to embeddings

        tgq embed catalogs/shop --model small --to embeddings --shard 2/8

        tgq embed catalogs/shop --model small --to embeddings --cluster local

        tgq embed catalogs/shop --model runs/shop/models/tgq-former/served/model --to embeddings
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.hub import locate_model
    from tgqformer.objects import absolute, told
    from tgqformer.stages import make_way
    from tgqformer.store.embed import Embedding, EmbedOptions, embed_catalog

    only_whole(overwrite, shard, finish)
    if cluster is not None and workers is not None:
        raise TgqError("with --cluster a task has as many threads as --cores says; leave --workers out")
    folder = locate_model(model)
    make_way(to, "embeddings", resumable=True, objects=True, sources=[folder, catalog])
    options = EmbedOptions(batch_size, workers or (cores if cluster is not None else None), dim, precision)
    opened = partial(Embedding.open, model=folder.resolve(), device=device, catalog=absolute(catalog), options=options)
    make = maker(opened, shard=shard, finish=finish, cluster=cluster, cores=cores, gpus=int(device.startswith("cuda")))
    report = embed_catalog(
        ItemEmbedder.load(folder, "cpu" if cluster is not None else device),
        Catalog.open(catalog),
        to,
        make=make,
        partition_size=partition_size,
        overwrite=overwrite,
        **vars(options),
    )
    say(f"embedded {counted(report.embedded, 'item')} into {told(to)}")
    if report.missing:
        say(still_missing(report.missing))
        then(AFTER_SHARD)
        return
    if report.unreadable:
        kept = told(to / "unreadable.json")
        count = len(report.unreadable)
        say(f"{counted(count, 'picture')} could not be read; those items are embedded by their text, see {kept}")
    then(
        f"tgq index {in_shell(to)} --catalog {in_shell(catalog)} --model {in_shell(model)} --to store",
        f"tgq neighbours {in_shell(to)} --to neighbours",
    )
