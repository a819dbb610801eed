"""The service killed (SIGKILL) at random moments while items are put: every acknowledged write is there once.

    python benchmarks/faults_http.py --kills 30

Eight connections put items, change them and delete them. After each kill the service is started again over the same
folders; every write that was answered with 200 must be there, once, as it was written, and search must work. A write
that was not answered may be there or not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import uvloop

from _shop import (
    CATEGORIES,
    Line,
    Process,
    add_version,
    decoded,
    environment,
    form,
    request,
    tiny_models,
    write_neighbours,
)
from tgqformer.store import open_store

WRITERS = 8


def main() -> None:
    """Kill and check, again and again."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=30)
    options.add_argument("--items", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        [model] = tiny_models(folder, 1)
        version = add_version(folder / "store", model, given.items, serve=True)
        write_neighbours(folder / "neighbours", version.model_version, given.items)
        options_of = ("--neighbours", str(folder / "neighbours"), "--model", str(model))
        known = Known()
        for turn in range(given.kills):
            served = Process.serve(folder / "store", folder / "log", *options_of)
            try:
                uvloop.run(check(served.port, known, folder / "store", given.items))
                uvloop.run(write_until_killed(served, known, rng.uniform(0.05, 1.5), turn))
            finally:
                served.kill()
        served = Process.serve(folder / "store", folder / "log", *options_of)
        uvloop.run(check(served.port, known, folder / "store", given.items))
        assert served.stop() == 0
    print(f"{given.kills} kills, {known.acknowledged:,} acknowledged writes of {len(known.titles):,} items, each there"
          f" once and as written; {environment()}: ok")  # fmt: skip


class Known:
    """What was acknowledged: id -> title, None for deleted; and what was sent without an answer."""

    def __init__(self) -> None:
        self.titles: dict[str, str | None] = {}
        self.doubtful: dict[str, set[str | None]] = {}
        self.acknowledged = 0

    def sent(self, name: str, title: str | None) -> None:
        """A write is on its way: until it is answered it may be there or not."""
        self.doubtful.setdefault(name, {self.titles.get(name)}).add(title)

    def answered(self, name: str, title: str | None) -> None:
        """A write was acknowledged."""
        self.titles[name] = title
        self.doubtful.pop(name, None)
        self.acknowledged += 1

    def allowed(self, name: str) -> set[str | None]:
        """What may be there of an item."""
        return self.doubtful.get(name) or {self.titles.get(name)}


async def write_until_killed(served: Process, known: Known, seconds: float, turn: int) -> None:
    """Write on all connections and kill the server in the middle."""

    async def work(writer: int) -> None:
        line, n = await Line.open(served.port), 0
        while True:
            name, n = f"put-{writer}-{turn}-{n % 40}", n + 1
            title = None if n % 7 == 0 and known.titles.get(name) else f"red {CATEGORIES[n % 8]} {turn} {n}"
            known.sent(name, title)
            asked = request("DELETE", f"/items/{name}") if title is None else form("PUT", f"/items/{name}", title=title)
            status, body = await line.ask(asked)
            assert status == 200, (status, body)
            known.answered(name, title)

    works = [asyncio.create_task(work(writer)) for writer in range(WRITERS)]
    await asyncio.sleep(seconds)
    served.process.kill()
    for ended in await asyncio.gather(*works, return_exceptions=True):
        if not isinstance(ended, ConnectionError):
            raise SystemExit(f"a writer ended with {ended!r}")


async def check(port: int, known: Known, store: Path, items: int) -> None:
    """See that everything acknowledged is there once, nothing else was lost, and search works."""
    table = open_store(store).table()
    rows = Counter(item_id for item_id, _ in table.contents())
    assert max(rows.values(), default=1) == 1, f"twice: {[i for i, n in rows.items() if n > 1][:3]}"
    assert sum(name.startswith("item-") for name in rows) == items, "an item of the catalogue is lost"
    titles = {row.id: row.title for row in table.get([name for name in known.titles if name in rows])}
    for name in {*known.titles, *known.doubtful}:
        found = titles.get(name) if name in rows else None
        assert found in known.allowed(name) or name not in known.titles, (
            f"{name}: {found!r} not in {known.allowed(name)}"
        )
    line = await Line.open(port)
    for name in [name for name, title in known.titles.items() if title and name not in known.doubtful][-5:]:
        status, body = await line.ask(form("POST", "/search?k=3", title=str(known.titles[name])))
        assert status == 200 and len(decoded(body)["results"]) == 3, body
        status, body = await line.ask(request("GET", f"/items/{name}/similar?k=3"))
        assert status == 200, body
    line.close()


if __name__ == "__main__":
    main()
