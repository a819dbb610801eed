"""Tasks on a Ray cluster: one partition each, by the same functions that one machine calls.

Plain tasks, not actors: Ray starts them on any node that is there or joins later, and a worker process keeps what it
has opened (a model), as an actor would. What a lost node had in work is begun again elsewhere; what it had finished
lies on the shared disk. The driver keeps few tasks in flight.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tgqformer.cluster.work import Work
from tgqformer.errors import TgqError
from tgqformer.objects import absolute
from tgqformer.packages import need
from tgqformer.progress import progress

LOSSES = 10
"""How often one task may be lost with its node or process: then it is to blame itself."""
AHEAD = 2
"""Tasks in flight for each that can run: so many that no core waits, and so few that the driver stays small."""

PATIENCE = 10
"""Seconds until the head node of a cluster must answer."""

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")
Do = Callable[[T], R]


@dataclass(frozen=True)
class Cluster:
    """Where tasks run. address: `local`, `auto`, or that of a Ray cluster. cores, gpus: of one task."""

    address: str
    cores: int = 1
    gpus: int = 0

    def room(self, ray: Any) -> int:
        """Return how many tasks can run at once, on the nodes that are there now."""
        there = ray.cluster_resources()
        fit = there.get("CPU", 0) // self.cores
        return int(min(fit, there.get("GPU", 0) // self.gpus) if self.gpus else fit)


def fill_on(cluster: Cluster, opened: Callable[[Path], Work], work: Work, *, shown: bool = True) -> int:
    """Make the missing partitions of a stage on a cluster; return how many rows were made.

    opened: opens the stage in its folder on another machine, which must see the same paths.
    """
    missing, lost, done = work.missing(), Counter[str](), 0
    opening = partial(_filler, opened, absolute(work.path))
    with progress(work.title, sum(map(work.rows, missing)), shown=shown and bool(missing)) as bar:
        for partition, rows in on_cluster(cluster, opening, missing, lost) if missing else ():
            bar.advance(work.rows(partition))
            bar.note(f"{lost['tasks']} lost and done again" if lost["tasks"] else "")
            done += rows
    return done


def _filler(opened: Callable[[Path], Work], folder: Path) -> Do[int, int]:
    work = opened(folder)
    return lambda partition: sum(work.fill([partition]))


def on_cluster(
    cluster: Cluster, opened: Callable[[], Do[T, R]], tasks: Sequence[T], lost: Counter[str] | None = None
) -> Iterator[tuple[T, R]]:
    """Do tasks on a cluster; yield each with its result as it is done, in any order.

    opened: called once in each process, gives what does tasks there. lost: counts `tasks` that a lost node or process
        had in work; they are done again.

    Raises:
        TgqError: as the task does; where one was lost too often; where there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, key, waiting, lost = need("ray"), uuid4().hex, deque(tasks), Counter() if lost is None else lost
    with _connected(ray, cluster):
        remote = ray.remote(num_cpus=cluster.cores, num_gpus=cluster.gpus, max_retries=0)(_do)
        running, losses = dict[Any, T](), Counter[T]()
        while waiting or running:
            while waiting and len(running) < max(1, AHEAD * cluster.room(ray)):
                task = waiting.popleft()
                running[remote.remote(key, cluster.cores, opened, task)] = task
            [ready], _ = ray.wait(list(running))
            task = running.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, TgqError) else error from None
            except ray.exceptions.RayError as error:
                lost["tasks"] += 1
                losses[task] += 1
                if losses[task] > LOSSES:
                    raise TgqError(
                        f"task {task} was lost {LOSSES + 1} times with its node or process: {error}"
                    ) from error
                waiting.append(task)
            else:
                yield task, result


_KEPT: dict[str, Do[Any, Any]] = {}
"""In a worker process: what does the tasks of a call."""


def _do(key: str, cores: int, opened: Callable[[], Do[Any, Any]], task: Any) -> Any:
    """Do a task in a worker process; what was opened for one is kept for the next."""
    if key not in _KEPT:
        import torch

        torch.set_num_threads(cores)
        _KEPT.clear()
        _KEPT[key] = opened()
    return _KEPT[key](task)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray itself would ask for minutes, and then end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine; whoever is connected already stays so."""
    if ray.is_initialized():
        yield
        return
    own = {"include_dashboard": False} if cluster.address == "local" else {}
    try:
        _knock(cluster.address)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise TgqError(f"--cluster {cluster.address}: no Ray cluster answers there ({error})") from error
    try:
        if cluster.address == "local" and not cluster.room(ray):
            raise TgqError(f"this machine has no room for a task of {cluster.cores} cores and {cluster.gpus} GPUs")
        yield
    finally:
        ray.shutdown()
