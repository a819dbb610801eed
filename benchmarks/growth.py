"""How the cost of a step grows with the number of rows: the slope in log-log, and the memory it takes.

Each size runs in a process of its own, on rows that are made up; the code is the one that runs in a shop. What it needs
is made by another process before. A slope of 1 means that twice the rows take twice the processor time. What a service
holds in memory is measured in MB, the slope too.

    python benchmarks/growth.py [STEP ...] [--sizes 10000 40000 160000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import _growth as made
from _growth import Step
from tgqformer.evaluation import metrics
from tgqformer.pairs.mining import MiningSettings, Weighting, Window
from tgqformer.pairs.pairs import mine_pairs
from tgqformer.pairs.source import read_source

SIZES = (10_000, 40_000, 160_000, 640_000, 2_500_000)


def nothing(_: int, folder: Path) -> None:
    """Make nothing beforehand."""


def ids(count: int, _: Path) -> None:
    """Check `count` ids, all different, for duplicates, many at a time as an import does."""
    from tgqformer.catalog.checks import SeenIds

    seen = SeenIds()
    for first in range(0, count, 1000):
        seen.repeated([f"item-{number}" for number in range(first, min(first + 1000, count))])


def export(count: int, folder: Path) -> None:
    """Write the export of a shop, without pictures."""
    with (folder / "shop.csv").open("w") as file:
        file.write("id,title,brand,category,price\n")
        for item in made.items(count):
            file.write(f"{item.id},{item.title},{item.brand},{item.category[0]},{item.price}\n")


def rows(_: int, folder: Path) -> None:
    """Import it: `tgq catalog import`."""
    from tgqformer.catalog.importer import import_catalog

    import_catalog(folder / "shop.csv", folder / "shop")


def shared_out(count: int, folder: Path) -> None:
    """Write the export, and its parts."""
    export(count, folder)
    parts(folder)


def parts(folder: Path) -> Any:
    """Import the export in parts where they are not there; return the work, whose last step is left."""
    from tgqformer.catalog.importer import plan_import
    from tgqformer.catalog.parts import ImportWork

    work = ImportWork.begin(plan_import(folder / "shop.csv", folder / "shop"), alone=False, shown=False)
    for _ in work.fill(work.missing()):
        pass
    return work


def unsaved(_: int, folder: Path) -> float:
    """Do what several machines cannot share: read the ids, pass over the rows, join the parts; return the seconds."""
    from tgqformer.catalog.importer import rows_of
    from tgqformer.catalog.parts import _numbered

    work = parts(folder)
    start = time.process_time()
    _numbered(work.plan, shown=False)
    for _ in rows_of(work.plan):
        pass
    work.finish(shown=False)
    return time.process_time() - start


def photos(count: int, folder: Path) -> None:
    """Write an export with photos of 1000 x 1000: 100 of them, copied."""
    from PIL import Image

    luck = np.random.default_rng(0)
    for number in range(min(count, 100)):
        coarse = Image.fromarray(luck.integers(0, 255, (60, 60, 3), np.uint8))
        coarse.resize((1000, 1000), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=88)
    for number in range(100, count):
        shutil.copy(folder / f"{number % 100}.jpg", folder / f"{number}.jpg")
    lines = [f"p{number},photo {number},{number}.jpg" for number in range(count)]
    (folder / "shop.csv").write_text("\n".join(["id,title,picture", *lines]))


def shop(count: int, folder: Path) -> None:
    """Write a catalogue."""
    made.catalog(count, folder / "shop")


def look(count: int, folder: Path) -> float:
    """Look the places of 200 items up, one by one; return the seconds of the look-ups alone."""
    from tgqformer.catalog.catalog import Catalog

    shop, wanted = Catalog.open(folder / "shop"), [f"item-{n:08d}" for n in range(0, count, max(1, count // 200))]
    shop.positions(wanted[:1])
    start = time.process_time()
    for item_id in wanted:
        shop.positions([item_id])
    return time.process_time() - start


def scan(count: int, folder: Path) -> float:
    """Do the same by comparing each with all ids, as before."""
    from tgqformer.catalog.catalog import Catalog

    def searched(shop: Catalog, ids: list[str]) -> Any:
        return pc.index_in(shop._ids, value_set=pa.array(ids, pa.string()))

    with patch.object(Catalog, "positions", searched):
        return look(count, folder)


def embed(_: int, folder: Path) -> None:
    """Embed a catalogue by an encoder that costs nothing: `tgq embed`."""
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.store.embed import embed_catalog

    embed_catalog(made.stub(), Catalog.open(folder / "shop"), folder / "embeddings", shown=False)


def embedded(count: int, folder: Path) -> None:
    """Write a catalogue and its embeddings."""
    made.embeddings(count, folder / "embeddings", made.catalog(count, folder / "shop").ids())


def index(_: int, folder: Path) -> None:
    """Make a store of them: `tgq index`."""
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.store.build import build_store
    from tgqformer.store.embeddings import Embeddings

    found = Embeddings.open(folder / "embeddings")
    build_store(found, Catalog.open(folder / "shop"), folder / "store", show_progress_bar=False)


def neighbours(_: int, folder: Path) -> None:
    """Find approximate neighbours: `tgq neighbours --approximate`."""
    from tgqformer.store.approximate import build_approximate
    from tgqformer.store.embeddings import Embeddings

    found = Embeddings.open(folder / "embeddings")
    build_approximate(found, folder / "neighbours", 20, show_progress_bar=False)


def stored(count: int, folder: Path) -> None:
    """Sync an empty store with a catalogue; then change the titles of one item in a hundred."""
    from tgqformer.store import make_store
    from tgqformer.store.sync import SyncSettings, sync

    first = made.catalog(count, folder / "shop")
    how = SyncSettings(new_version=True, batch_rows=65_536)
    sync(first, make_store(folder / "store"), made.stub(), how, shown=False)
    made.catalog(count, folder / "shop", changed=count // 100)


def synced(_: int, folder: Path) -> None:
    """Bring the store up to date: `tgq sync`."""
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.store import make_store
    from tgqformer.store.sync import SyncSettings, sync

    sync(Catalog.open(folder / "shop"), make_store(folder / "store"), made.stub(), SyncSettings(), shown=False)


def served(count: int, folder: Path) -> None:
    """Make what `tgq serve` holds in memory: the index of a store."""
    from tgqformer.store import make_store
    from tgqformer.store.live import LiveTable

    embedded(count, folder)
    index(count, folder)
    live = LiveTable.build(make_store(folder / "store").table())
    assert live is not None
    live.save(folder / "live")


def memory(_: int, folder: Path) -> float:
    """Read it, as a service does when it starts again; return the megabytes that it holds."""
    from tgqformer.service.memory import give_back, use_system_memory
    from tgqformer.store import make_store
    from tgqformer.store.live import LiveTable

    use_system_memory()
    table = make_store(folder / "store").table()
    give_back()
    before = made.resident()
    live = LiveTable.load(table, folder / "live")
    assert live is not None
    give_back()
    return made.resident() - before


def log(count: int, folder: Path) -> None:
    """Write a log of clicks."""
    import pyarrow.csv

    pyarrow.csv.write_csv(made.clicks(count).table(), folder / "clicks.csv")


def read(_: int, folder: Path) -> None:
    """Read it, as `tgq pairs mine` does."""
    from tgqformer.pairs.interactions import read_interactions

    read_interactions(folder / "clicks.csv")


def drawn(count: int, folder: Path, per: int = 100) -> None:
    """Draw clicks and keep them as they are in memory."""
    log = made.clicks(count, per)
    np.savez(folder / "clicks.npz", sessions=log.sessions, items=log.items, times=log.times)


def drawn_visits(count: int, folder: Path) -> None:
    """Draw visits of 10 clicks."""
    drawn(count, folder, per=10)


def mine(_: int, folder: Path, weighting: Weighting = "count", per: int = 100) -> float:
    """Mine clicks with a window of 12 hours; return the seconds of the mining alone."""
    clicks = made.log_of(**np.load(folder / "clicks.npz"))
    window = Window(seconds=43_200) if per > 10 else Window(items=10)
    start = time.process_time()
    mine_pairs(clicks, MiningSettings(window=window, weighting=weighting))
    return time.process_time() - start


def visits(count: int, folder: Path) -> float:
    """Mine visits of 10 clicks, each with all others of its visit."""
    return mine(count, folder, per=10)


def swing(count: int, folder: Path) -> float:
    """Do the same with the weights of Swing."""
    return mine(count, folder, "swing", per=10)


def shop_log(count: int, folder: Path) -> None:
    """Write a log of visits of 10 clicks, in the order of time, as Parquet."""
    log = made.clicks(count, per=10).table().sort_by("time")
    plain = pa.schema([("session", pa.string()), ("item", pa.string()), ("time", pa.int64())])
    with pq.ParquetWriter(folder / "clicks.parquet", plain) as writer:
        for start in range(0, count, 1 << 20):
            writer.write_table(log.slice(start, 1 << 20).select(plain.names).cast(plain))


def from_log(_: int, folder: Path, weighting: Weighting = "count") -> None:
    """Read the log and mine it, as `tgq pairs mine` does."""
    read_source(folder / "clicks.parquet", mining=MiningSettings(weighting=weighting))


def from_log_pmi(count: int, folder: Path) -> None:
    """Do the same with the weights of PMI."""
    from_log(count, folder, "pmi")


def from_log_swing(count: int, folder: Path) -> None:
    """Do the same with the weights of Swing."""
    from_log(count, folder, "swing")


def rank(count: int, _: Path) -> float:
    """Rank the positives of 256 queries in a pool of `count` vectors; return the seconds of the ranking alone."""
    luck = np.random.default_rng(0)
    vectors = luck.standard_normal((count, 32), dtype=np.float32)
    queries = metrics.Queries.from_pairs(np.arange(128), np.arange(128, 256))
    start = time.process_time()
    metrics.retrieve_ranks(vectors, queries)
    return time.process_time() - start


def rank_few(count: int, folder: Path) -> float:
    """Do the same where as many queries are scored at once as fit with the whole pool."""
    with patch.object(metrics, "_FEW", 0):
        return rank(count, folder)


STEPS = {
    "ids": Step(nothing, ids, SIZES),
    "import": Step(export, rows, SIZES),
    "import-shared": Step(shared_out, unsaved, SIZES),
    "photos": Step(photos, rows, (500, 2000)),
    "look": Step(shop, look, SIZES),
    "look-scan": Step(shop, scan, SIZES),
    "embed": Step(shop, embed, SIZES),
    "read": Step(log, read, SIZES),
    "mine": Step(drawn, mine, SIZES),
    "mine-visits": Step(drawn_visits, visits, SIZES),
    "mine-swing": Step(drawn_visits, swing, SIZES),
    "log": Step(shop_log, from_log, SIZES),
    "log-pmi": Step(shop_log, from_log_pmi, SIZES),
    "log-swing": Step(shop_log, from_log_swing, SIZES),
    "index": Step(embedded, index, SIZES),
    "neighbours": Step(embedded, neighbours, SIZES),
    "sync": Step(stored, synced, SIZES),
    "memory": Step(served, memory, SIZES[:-1]),
    "rank": Step(nothing, rank, (2_000_000, 8_000_000)),
    "rank-few": Step(nothing, rank_few, (2_000_000, 8_000_000)),
}
"""By name: what is made, what is timed, and the sizes."""


def main() -> None:
    """Measure the steps that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--dim", type=int, default=made.DIM, help="of the vectors of items")
    parser.add_argument("--one", nargs=3, metavar=("PART", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    made.DIM = asked.dim
    for name in asked.steps or STEPS:
        if asked.one:
            print(json.dumps(once(STEPS[name], asked.one[0], int(asked.one[1]), Path(asked.one[2]))))
        else:
            tell(name, asked.sizes or STEPS[name].sizes, asked.repeats)


def tell(name: str, sizes: tuple[int, ...], repeats: int) -> None:
    """Run all sizes in turn, `repeats` times; print the medians and the slope."""
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    unit = "MB" if name == "memory" else "seconds"
    print(f"{name:<12} {'rows':>12} {unit:>9} {'a million':>9} {'MB more':>9}", flush=True)
    for _ in range(repeats):
        for size, taken in found.items():
            taken.append(apart(name, size))
            if len(taken) == repeats:
                cost, more = (statistics.median(column) for column in zip(*taken, strict=True))
                print(f"{'':<12} {size:>12,} {cost:>9.2f} {cost / size * 1e6:>9.2f} {more:>9.0f}", flush=True)
    costs = [statistics.median(cost for cost, _ in taken) for taken in found.values()]
    slope = np.polyfit(np.log(sizes), np.log(costs), 1)[0] if len(sizes) > 1 else float("nan")
    print(f"{'':<12} slope {slope:.2f}", flush=True)


def apart(name: str, size: int) -> tuple[float, float]:
    """Make what is needed in one process and time the step in another; see `once`."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("ready", "run"):
            command = [sys.executable, __file__, name, "--dim", str(made.DIM), "--one", part, str(size), folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost, more = json.loads(done.stdout.splitlines()[-1])
    return cost, more


def once(step: Step, part: str, size: int, folder: Path) -> tuple[float, float]:
    """Return what one size costs (processor seconds, or what the step returns), and by how many MB the peak grew."""
    warm, timed = folder / "warm", folder / "timed"
    if part == "ready":
        for count, to in ((1000, warm), (size, timed)):
            to.mkdir()
            step.ready(count, to)
        return 0.0, 0.0
    step.run(1000, warm)
    before, start = peak(), time.process_time()
    told = step.run(size, timed)
    spent = time.process_time() - start
    return (told if isinstance(told, float) else spent), peak() - before


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
