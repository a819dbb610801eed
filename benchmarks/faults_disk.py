"""Fill the disk under a service: what was answered 2xx is there after a restart, what was answered 503 is not.

    python benchmarks/faults_disk.py --writes 300

Store and state lie on a small file system in a file, mounted through a loop device (needs root). Before every few
writes it is filled so that a random number of bytes is left, from none to two megabytes. Then room is made, the service
is killed (SIGKILL) and started again, and every item must be as the last write left it that was answered 2xx.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import uvloop

from _disk import Disk
from _shop import CATEGORIES, Line, Process, add_version, environment, form, request, tiny_models
from tgqformer.store import open_store

EACH = 12  # writes at one level of the disk
MOST = 2 << 20  # bytes that are left at most


def fill(ballast: Path, left: int) -> None:
    """Write a file that leaves so many bytes of its file system."""
    with ballast.open("wb") as sink:
        seen = os.statvfs(ballast.parent)
        size = max(0, seen.f_bavail * seen.f_frsize - left)
        with suppress(OSError):  # what the file system needs to note it did not fit: it is full, then
            os.posix_fallocate(sink.fileno(), 0, max(size, 1))


async def write_some(
    port: int, luck: random.Random, known: dict[str, str | None], said: Counter[int], turn: int
) -> None:
    """Put, change and delete items; note what was answered 2xx."""
    line = await Line.open(port)
    for n in range(EACH):
        name = f"put-{luck.randrange(40)}"
        deletes = known.get(name) is not None and luck.random() < 0.3
        title = f"red {CATEGORIES[n % 8]} {turn} {n} " + "x" * luck.choice([0, 10, 1500])
        asked = request("DELETE", f"/items/{name}") if deletes else form("PUT", f"/items/{name}", title=title.strip())
        status, body = await line.ask(asked)
        said[status] += 1
        assert status in (200, 503), (status, body)
        if status == 200:
            known[name] = None if deletes else title.strip()
    line.close()


async def check_shelf(port: int, known: dict[str, str | None]) -> None:
    """See that the service answers with what was put."""
    line = await Line.open(port)
    for name, title in known.items():
        status, body = await line.ask(request("GET", f"/items/{name}"))
        assert status == (404 if title is None else 200), (name, status, body)
    line.close()


def check(store: Path, known: dict[str, str | None], items: int) -> None:
    """See that every item is as its last acknowledged write left it, and none besides."""
    table = open_store(store).table()
    names = [name for name, _ in table.contents()]
    put = {name for name in names if name.startswith("put-")}
    assert len(names) == len(set(names)) == items + len(put), "an item is lost, or there twice"
    wanted = {name: title for name, title in known.items() if title is not None}
    assert put == set(wanted), f"lost {set(wanted) - put}, refused and there {put - set(wanted)}"
    for row in table.get(sorted(put)):
        assert row.title == wanted[row.id], f"{row.id}: {row.title!r}, not {wanted[row.id]!r}"


def main() -> None:
    """Fill, write, restart and check, again and again."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--writes", type=int, default=300)
    options.add_argument("--items", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--on", type=Path, help="folder for the image; /dev/shm spares a slow disk")
    given = options.parse_args()
    luck, known, said = random.Random(given.seed), dict[str, str | None](), Counter[int]()
    with tempfile.TemporaryDirectory(dir=given.on) as made:
        folder = Path(made)
        [model] = tiny_models(folder, 1)
        disk = Disk(folder / "disk", 48)
        try:
            store, ballast = disk.at / "store", disk.at / "ballast"
            add_version(store, model, given.items, serve=True)
            begin = ("--model", str(model), "--state", str(disk.at / "state"))
            for turn in range(-(-given.writes // EACH)):
                served = Process.serve(store, folder / "log", *begin)
                try:
                    check(store, known, given.items)
                    uvloop.run(check_shelf(served.port, known))
                    fill(ballast, luck.choice([0, 4096, luck.randrange(MOST)]))
                    try:
                        uvloop.run(write_some(served.port, luck, known, said, turn))
                    except ConnectionError as error:
                        raise SystemExit(
                            f"the service: {served.process.poll()}\n{served.log.read_text()[-3000:]}"
                        ) from error
                finally:
                    served.kill()
                ballast.unlink()
            check(store, known, given.items)
        finally:
            disk.close()
    assert said[503], "the disk was never full"
    print(f"{sum(said.values())} writes, {said[200]} answered 200 and there, {said[503]} answered 503 and not there;"
          f" {environment()}: ok")  # fmt: skip


if __name__ == "__main__":
    main()
