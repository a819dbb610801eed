"""Work on a bench in several processes side by side: each does a task in its folder, and asks for the next."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context

from tgqformer.cluster.ray import Cluster, on_cluster
from tgqformer.experiments.bench.tasks import CellTask, Done
from tgqformer.parallel import cores
from tgqformer.progress import console
from tgqformer.training.processes import end_with

Do = Callable[[CellTask], None]


def work(
    tasks: Sequence[CellTask], jobs: int, here: Do, opened: Callable[[], Do], cluster: Cluster | None = None
) -> Iterator[Done]:
    """Do tasks, in this process, in `jobs` others, or on a cluster; yield each as it is done.

    What they share (data, features, alignments) must be ready: side by side, none of them may make it. A process whose
    parent was killed ends by itself; what it had begun is gone on with by the next bench.

    Args:
        here: does a task in this process, where `jobs` is 1. opened: called once in each other process, gives what
            does tasks there.
    """
    if cluster is not None:
        for task, seconds in on_cluster(cluster, partial(_timer, opened), tasks):
            yield Done(task, seconds)
        return
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield _timed(here, task)
        return
    threads = max(1, cores() // jobs)
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), get_context("spawn"), initializer=_start, initargs=(opened, threads, os.getpid())
    )
    try:
        for future in as_completed([pool.submit(_in_worker, task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(do: Do, task: CellTask) -> Done:
    started = time.perf_counter()
    do(task)
    return Done(task, time.perf_counter() - started)


def _timer(opened: Callable[[], Do]) -> Callable[[CellTask], float]:
    console.quiet, do = True, opened()
    return lambda task: _timed(do, task).seconds


_do: list[Do] = []
"""In a worker: what does its tasks."""


def _start(opened: Callable[[], Do], threads: int, parent: int) -> None:
    """Set a worker up: its bench, its share of the processors, no bars of its own."""
    import torch

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    console.quiet = True
    torch.set_num_threads(threads)
    _do.append(opened())


def _in_worker(task: CellTask) -> Done:
    return _timed(_do[0], task)
