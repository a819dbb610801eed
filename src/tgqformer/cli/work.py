"""Options of commands whose work is cut into partitions: who makes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.errors import TgqError

if TYPE_CHECKING:
    from tgqformer.cluster.ray import Cluster
    from tgqformer.cluster.work import Maker, Work

ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Make every N-th partition, from the I-th on: for arrays of jobs."),
]
Finish = Annotated[
    bool, typer.Option("--finish", help="Make nothing: finish what all shards have made, or say what is missing.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="Work in tasks of Ray: `local`, or a cluster's address."),
]
Cores = Annotated[int, typer.Option(min=1, help="With --cluster: processor cores of one task.")]

AFTER_SHARD = "the same command with --finish in place of --shard, once all jobs have ended"


def maker(
    opened: Callable[[Path], Work], *, shard: str | None, finish: bool, cluster: str | None, cores: int, gpus: int
) -> Maker | None:
    """Return who makes the partitions of a stage; None for this process alone.

    opened: opens the stage's folder on another machine. cores, gpus: of a task of the cluster.

    Raises:
        TgqError: for options that contradict each other.
    """
    from tgqformer.cluster.work import Shard, fill_here, fill_nothing

    given = [name for name, value in (("--shard", shard), ("--finish", finish), ("--cluster", cluster)) if value]
    if len(given) > 1:
        raise TgqError(f"{given[0]} and {given[1]} do not go together: one says who makes what; leave one out")
    where = cluster_of(cluster, cores, gpus=gpus)
    if shard is not None:
        return partial(fill_here, shard=Shard.parse(shard))
    if where is not None:
        from tgqformer.cluster.ray import fill_on

        return partial(fill_on, where, opened)
    return fill_nothing if finish else None


def cluster_of(address: str | None, cores: int, *, gpus: int = 0, jobs: int = 1) -> Cluster | None:
    """Return where tasks run; None for this machine. Raise TgqError for options that say two things."""
    from tgqformer.cluster.ray import Cluster

    if address is None and cores != 1:
        raise TgqError("--cores goes with --cluster; without it all cores of this machine work")
    if address is not None and jobs != 1:
        raise TgqError("--jobs and --cluster do not go together: a cluster does as much at once as it has room for")
    return None if address is None else Cluster(address, cores, gpus)


def only_whole(overwrite: bool, shard: str | None, finish: bool) -> None:
    """Raise TgqError where what stands there is to be replaced by parts."""
    if overwrite and (shard is not None or finish):
        raise TgqError("shards fill one folder together, and none of them may replace it: name a new one with --to")


def still_missing(partitions: list[int]) -> str:
    """Say what other shards have to make yet."""
    from tgqformer.cluster.work import listed

    if not partitions:
        return "nothing is missing: another job joins the partitions"
    return f"not finished yet: {listed(partitions)}; whoever makes the last one finishes the folder"
