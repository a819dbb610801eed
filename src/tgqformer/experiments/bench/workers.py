"""Work on a bench in several processes side by side: each does a task in its folder, and asks for the next."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tgqformer.experiments.bench.grid import Cell
from tgqformer.parallel import cores

Do = Callable[["Task"], None]


@dataclass(frozen=True)
class Task:
    """A cell to train and measure, or (`tuning`) a learning rate to try on validation alone."""

    cell: Cell
    lr: float
    tuning: bool = False

    @property
    def path(self) -> Path:
        """Its folder, below that of the bench."""
        return Path("tuning") / self.cell.path / f"lr-{self.lr:g}" if self.tuning else Path("cells") / self.cell.path

    @property
    def kind(self) -> Path:
        """What it shares with tasks that take alike long: all but seed and learning rate."""
        return self.path.parent.parent if self.tuning else self.path.parent

    @property
    def title(self) -> str:
        """For people."""
        own = self.cell
        return f"{own.model} · {own.setting.title} · " + (f"lr {self.lr:g}" if self.tuning else f"seed {own.seed}")


@dataclass(frozen=True)
class Done:
    """A task that was done, and the seconds it took."""

    task: Task
    seconds: float


def work(tasks: Sequence[Task], folder: Path, jobs: int, here: Do) -> Iterator[Done]:
    """Do tasks, in this process or in `jobs` others; give each as it is done.

    What they share (data, features, alignments) must be ready: side by side, none of them may make it. A process whose
    parent was killed ends by itself; what it had begun is gone on with by the next bench.

    Args:
        folder: of the bench, with its bench.yaml. here: does a task in this process, where `jobs` is 1.
    """
    if jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield _timed(here, task)
        return
    threads = max(1, cores() // jobs)
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), get_context("spawn"), initializer=_start, initargs=(str(folder), threads, os.getpid())
    )
    try:
        for future in as_completed([pool.submit(_in_worker, task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(do: Do, task: Task) -> Done:
    started = time.perf_counter()
    do(task)
    return Done(task, time.perf_counter() - started)


_do: list[Do] = []
"""In a worker: what does its tasks."""


def _start(folder: str, threads: int, parent: int) -> None:
    """Set a worker up: its bench, its share of the processors, no bars of its own."""
    import torch

    from tgqformer.experiments.bench.bench import Bench
    from tgqformer.experiments.bench.grid import load_bench
    from tgqformer.progress import console

    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    console.quiet = True
    torch.set_num_threads(threads)
    _do.append(Bench(load_bench(str(Path(folder) / "bench.yaml")), Path(folder)).do)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _in_worker(task: Task) -> Done:
    return _timed(_do[0], task)
