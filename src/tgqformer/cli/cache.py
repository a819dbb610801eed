"""`tgq cache`: what the frozen encoders say of a run's catalogue, made before its training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import Change
from tgqformer.cli.run import Recipe
from tgqformer.cli.work import AFTER_SHARD, ClusterOption, Cores, Finish, ShardOption, maker, still_missing
from tgqformer.errors import TgqError
from tgqformer.objects import in_shell


def cache(
    recipe: Recipe,
    to: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")] = None,
    change: Change = None,
    partition_size: Annotated[int, typer.Option(min=1, help="Pictures or texts of a piece, at most.")] = 1024,
    shard: ShardOption = None,
    finish: Finish = False,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    gpus: Annotated[int, typer.Option(min=0, help="With --cluster: GPUs of one task.")] = 0,
) -> None:
    """Encode the pictures and texts of a run's catalogue, in pieces: `tgq run` then trains on them at once.

    `tgq run` does this by itself, in one process. Call this where several machines shall do it, or to do it before.
    One process must have made the catalogue and the pairs: `tgq run RECIPE --until pairs`.

    Examples:

        tgq cache shop.yaml

        tgq cache shop.yaml --shard 2/8

        tgq cache shop.yaml --cluster local --cores 4
    """
    from tgqformer.config import slug
    from tgqformer.experiments.caching import fill_cache, open_cache
    from tgqformer.experiments.recipe import load_recipe
    from tgqformer.objects import object_address

    if to is not None and (address := object_address(to)):
        raise TgqError(f"{address} is the address of an object store; a run lies on a disk: name a folder")
    if gpus and cluster is None:
        raise TgqError("--gpus goes with --cluster; without it the recipe says where to compute")
    loaded = load_recipe(recipe, tuple(change or ()), deep=False)  # the rest is checked with the models
    folder = to or Path("runs") / slug(loaded.name)
    opened = partial(open_cache, recipe=loaded, size=partition_size, workers=cores)
    make = maker(opened, shard=shard, finish=finish, cluster=cluster, cores=cores, gpus=gpus)
    alone = shard is None and not finish
    done, missing = fill_cache(loaded, folder, make, alone=alone, size=partition_size)
    say(f"encoded {done:,} pictures and texts into {folder / 'cache'}")
    if missing:
        say(still_missing(missing))
        then(AFTER_SHARD)
        return
    then(f"tgq run {in_shell(recipe)} --to {in_shell(folder)}")
