"""Training in several processes of this machine: started, watched, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc

from tgqformer.errors import TgqError
from tgqformer.files import write_text
from tgqformer.progress import console


def in_processes(count: int, train: Callable[[], object], what: str) -> None:
    """Call `train` in so many processes, the ranks of one group; what it learns it leaves in its checkpoint.

    train: can be sent to another process, and is the same in each.

    Raises:
        TgqError: as `train` does; where a process was killed. The others are ended then.
        RuntimeError: with the traceback of any other error.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = get_context("spawn")
    with TemporaryDirectory() as folder:
        given = (count, port, os.getpid(), Path(folder), train)
        ranks = [spawn.Process(target=_rank, args=(rank, *given)) for rank in range(count)]
        for rank in ranks:
            rank.start()
        try:
            alive = ranks
            while alive and not any(rank.exitcode for rank in ranks):
                wait([rank.sentinel for rank in alive])
                alive = [rank for rank in ranks if rank.is_alive()]
            codes = [rank.exitcode for rank in ranks]  # a killed one is known: that is why others fail
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
        _check(codes, what, Path(folder))


def _check(codes: list[int | None], what: str, told: Path) -> None:
    for number, code in enumerate(codes, 1):
        if code is not None and code < 0:
            raise TgqError(
                f"{what}: process {number} of {len(codes)} was killed ({signal.Signals(-code).name}), so all have"
                " ended; run the same command again, it goes on from the last checkpoint"
            )
    if any(codes):
        first = min(told.iterdir(), key=lambda one: one.stat().st_mtime_ns, default=None)
        if first is None:
            raise RuntimeError(f"{what}: processes ended with {codes}, and said nothing")
        words = first.read_text(encoding="utf-8", errors="backslashreplace")
        raise (TgqError if first.suffix == ".told" else RuntimeError)(words)


def _rank(rank: int, count: int, port: int, parent: int, told: Path, train: Callable[[], object]) -> None:
    import torch

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in group.items()})
    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    console.quiet = rank > 0
    try:
        check_group()
        train()
        torch.distributed.destroy_process_group()
    except Exception as error:  # noqa: BLE001 - of whatever kind: the parent tells it
        own, words = (".told", str(error)) if isinstance(error, TgqError) else (".txt", format_exc())
        write_text(told / f"{rank}{own}", words)
        os._exit(1)  # at once: the others may wait for this one


def end_with(parent: int) -> None:
    """End this process once its parent has ended, in a thread of its own."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def is_rank() -> bool:
    """Say whether this process is one of several that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_group() -> None:
    """Raise TgqError where a launcher promised more processes than there are: `accelerate launch --cpu` does so."""
    from accelerate import Accelerator

    found, wanted = Accelerator().num_processes, int(os.environ.get("WORLD_SIZE", promised()))
    if found != wanted:
        raise TgqError(f"{wanted} processes were asked for, and {found} train together; use `tgq run --nproc {wanted}`")


def promised(process: Path = Path("/proc")) -> int:
    """Return how many processes `accelerate launch` was asked for, where it is what started this one; else 1."""
    try:
        words = (process / str(os.getppid()) / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return 1
    if not any(Path(word).name in ("accelerate", "accelerate-launch") for word in words[:2]):
        return 1
    for at, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("--num_processes", "--num-processes"):
            return int(value or words[at + 1])
    return 1
