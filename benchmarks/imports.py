"""What an import costs: processor seconds of this version, and of another one, in turns.

    python benchmarks/imports.py --other FOLDER/src
    python benchmarks/imports.py --other FOLDER/src --file ../shared/data/fashion/items-00.parquet

Sources: 20,000 drawn rows of text with 8 columns, as CSV, JSON lines and Parquet, and 200 drawn photos of 1000 x 1000;
or files of your own, the first 4,000 rows of each. Each turn imports three times and counts the least; the table has
the median over turns.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from PIL import Image

ONCE = """
import shutil, sys, time
from tgqformer.catalog import import_catalog
source, to, seconds = sys.argv[1], sys.argv[2], []
for _ in range(3):
    shutil.rmtree(to, ignore_errors=True)
    began = time.process_time()
    import_catalog(source, to, limit=int(sys.argv[3]))
    seconds.append(time.process_time() - began)
print(min(seconds))
"""


def draw(folder: Path) -> dict[str, Path]:
    """Write the sources; return them by name."""
    luck = np.random.default_rng(0)
    made = {name: folder / name / "shop.csv" for name in ("photos", "text")}
    for file in made.values():
        file.parent.mkdir()
    with made["text"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "brand", "category", "price", "color", "size", "material"])
        for n in range(20_000):
            color, kind, size = (luck.choice(one) for one in (["red", "blue"], ["Lamps", "Shirts"], ["S", "M", "L"]))
            about = [f"{color} {kind} no {n}", f"Brand {n % 50}", f"Home > {kind} > X{n % 9}", luck.integers(99) + 0.5]
            rows.writerow([f"SKU-{n:06d}", *about, color, size, "wood"])
    table = pa.csv.read_csv(made["text"])
    made |= {"text as JSON lines": folder / "shop.jsonl", "text as Parquet": folder / "shop.parquet"}
    pq.write_table(table, made["text as Parquet"])
    made["text as JSON lines"].write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    with made["photos"].open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "picture"])
        for n in range(200):
            coarse = Image.fromarray(luck.integers(0, 255, (60, 60, 3), np.uint8))
            coarse.resize((1000, 1000), Image.Resampling.BICUBIC).save(file_of(made["photos"], n), quality=88)
            rows.writerow([f"p{n}", f"photo {n}", f"{n}.jpg"])
    return made


def file_of(source: Path, n: int) -> Path:
    """Name a photo beside its source."""
    return source.parent / f"{n}.jpg"


def seconds(code: Path, source: Path, to: Path, rows: int) -> float:
    """Import so many rows with the package that lies in a folder; return the least processor seconds."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ONCE, str(source), str(to), str(rows)]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(said.stdout.split()[-1])


def main() -> None:
    """Take turns and print a table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--other", type=Path, required=True, help="src/ of a checkout of another version")
    options.add_argument("--file", type=Path, nargs="+", help="a source of your own, in place of those that are drawn")
    options.add_argument("--turns", type=int, default=3)
    given = options.parse_args()
    sides = {"other": given.other.resolve(), "this": Path(__file__).parents[1] / "src"}
    with tempfile.TemporaryDirectory() as made:
        print("| source | other | this | ratio |\n|---|--:|--:|--:|")
        drawn = {str(file): file for file in given.file} if given.file else draw(Path(made))
        for name, source in drawn.items():
            took = {side: list[float]() for side in sides}
            for _ in range(given.turns):
                for side, code in sides.items():
                    took[side].append(seconds(code, source, Path(made) / "imported", 4000 if given.file else 20_000))
            other, this = median(took["other"]), median(took["this"])
            print(f"| {name} | {other:.2f} | {this:.2f} | {this / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
