"""Cut the power while a store is written, or a job runs: what was acknowledged is there once, and everything opens.

    python benchmarks/faults_power.py --cuts 200
    python benchmarks/faults_power.py --cuts 40 --what jobs

The store (or what a job makes) lies on a file system in a file, mounted through a loop device (needs root). At a random
moment the writer is stopped, the file is copied as it is, without sync, and the copy is mounted: as after a power cut.
Jobs are `catalog import` (with pictures), `embed`, `neighbours`, `index` and `sync` over what an earlier call made: old
or new must be there.
"""

from __future__ import annotations

import argparse
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


def stores(folder: Path, cuts: int, seed: int = 0, optimize: int = 5) -> int:
    """Cut the power during writes to LanceDB, again and again; return the number of batches acknowledged."""
    disk, luck, done = Disk(folder, 512), random.Random(seed), -1
    where = str(disk.at / "store")
    try:
        store = make_store(where)
        store.serve(store.create(VersionSpec("m1", DIM), []).name)
        for turn in range(cuts):
            done, job = stopped_writer(where, done + 1, luck.uniform(0, 1.0))
            del store
            disk.cut(job)
            store = open_store(where)
            table = store.table()
            check(table, done)
            done += any(name.startswith(f"own-{done + 1}-") for name, _ in table.contents())
            table.delete([f"own-{done}-0"])  # of a batch whose own delete was cut off
            if turn % optimize == optimize - 1:
                table.optimize()
            del table
    finally:
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
        "embeddings": ["embed", made, str(shop), "--to", to, "--overwrite"],
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
    parser.add_argument("--what", choices=["store", "jobs"], default="store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", type=Path, help="folder for the image; /dev/shm spares a slow disk")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.on) as folder:
        if asked.what == "store":
            written = stores(Path(folder), asked.cuts, asked.seed)
            print(f"{asked.cuts} power cuts, {written} batches of {2 * SIZE} rows acknowledged, none lost: ok")
        else:
            cut = jobs(Path(folder), asked.cuts, asked.seed)
            print(f"power cuts during jobs: {cut}; old or new was there each time: ok")


if __name__ == "__main__":
    main()
