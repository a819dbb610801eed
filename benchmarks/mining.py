"""`tgq pairs mine` against DuckDB, side by side in one run: the same clicks, the same pairs, one thread each.

    pip install duckdb
    python benchmarks/mining.py [--clicks 500000] [--repeats 3]

Each turn runs in a process of its own. What counts is the median of processor seconds; beside it stands by how many MB
the peak of memory grew. The weighting is `count`; pairs of both are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from _growth import clicks
from growth import peak
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import MiningSettings, Window
from tgqformer.pairs.pairs import mine_pairs

CASES = {
    "100 clicks a customer in a year, 12 hours": (100, Window(seconds=43_200)),
    "visits of 10 clicks, 10 clicks": (10, Window(items=10)),
    "visits of 10 clicks, the whole visit": (10, Window()),
}
CAP, SUPPORT, MOST = 50, 2, 200


def duck(log: Interactions, window: Window) -> pa.Table:
    """Mine in DuckDB; it may take 3 GB and then goes to its disk."""
    engine: Any = import_module("duckdb").connect()
    for setting in ("threads=1", "preserve_insertion_order=false", "memory_limit='3GB'"):
        engine.execute(f"set {setting}")
    engine.register("raw", pa.table({"s": log.sessions, "i": log.items, "t": log.times}))
    engine.execute(
        "create temp table c as select s, i, t, (row_number() over (partition by s order by t desc, i desc))::int p"
        f" from raw qualify p <= {MOST}"
    )
    if window.items is not None:
        leads = ", ".join(f"lead(i, {step}) over w" for step in range(1, window.items + 1))
        near = (
            f"select s, least(i, o) a, greatest(i, o) b from (select s, i, unnest([{leads}]) o from c"
            " window w as (partition by s order by p)) where o <> i"
        )
    else:
        apart = "true" if window.seconds is None else f"abs(x.t - y.t) <= {window.seconds}"
        near = (
            "select x.s, least(x.i, y.i) a, greatest(x.i, y.i) b from c x join c y"
            f" on x.s = y.s and x.p < y.p and {apart} where x.i <> y.i"
        )
    engine.execute(
        f"create temp table p as select a, b, count(*)::int n from (select distinct s, a, b from ({near}))"
        f" group by a, b having n >= {SUPPORT}"
    )
    found: pa.Table = engine.sql(
        "with two as (select a, b, n from p union all select b, a, n from p), kept as (select a, b, row_number() over"
        f" (partition by a order by n desc, b) k from two qualify k <= {CAP}) select x.a, x.b from kept x join kept y"
        " on x.a = y.b and x.b = y.a where x.a < x.b order by 1, 2"
    ).to_arrow_table()
    return found


def once(case: str, side: str, count: int) -> tuple[float, float, int]:
    """Mine once: processor seconds, megabytes, and how many pairs came out."""
    per, window = CASES[case]
    log = clicks(count, per)
    names = [pa.array([f"{code:09d}" for code in range(len(one))]) for one in (log.session_names, log.item_names)]
    log = Interactions(log.sessions, log.items, *names, log.times)  # names in the order of the codes, as DuckDB's are
    mine_pairs(log.where(np.arange(count) < 1000), MiningSettings(window=window))
    before, start = peak(), time.process_time()
    settings = MiningSettings(window=window, cap=CAP, min_support=SUPPORT, max_session=MOST)
    found = mine_pairs(log, settings).table if side == "ours" else duck(log, window)
    return time.process_time() - start, peak() - before, found.num_rows


def main() -> None:
    """Take turns; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(once(*asked.one, asked.clicks)))
        return
    for case in CASES:
        taken: dict[str, list[tuple[float, float, int]]] = {"ours": [], "duckdb": []}
        for _ in range(asked.repeats):
            for side, turns in taken.items():
                command = [sys.executable, __file__, "--clicks", str(asked.clicks), "--one", case, side]
                turns.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        pairs = {turn[2] for turns in taken.values() for turn in turns}
        assert len(pairs) == 1, f"different pairs: {pairs}"
        told = [
            f"{side} {{:.2f}} s, {{:.0f}} MB".format(
                *(statistics.median(column) for column in list(zip(*turns, strict=True))[:2])
            )
            for side, turns in taken.items()
        ]
        print(f"{case:<42} {'; '.join(told)}; {pairs.pop():,} pairs", flush=True)


if __name__ == "__main__":
    main()
