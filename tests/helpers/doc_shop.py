"""The shop that the pages speak of: shop.csv, photos/, clicks.csv; and a small set in the layout of the fashion set."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

SERVED = "models/tgq-former/served/model"  # below a run
DEMO = "demo/models/tgq-former/seed-0/model"
Place = Callable[..., Path]


def write_shop(folder: Path, count: int) -> None:
    """A shop as the README has it: shop.csv, photos/, clicks.csv."""
    rng = random.Random(0)
    (folder / "photos").mkdir()
    with (folder / "shop.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sku", "name", "brand", "category", "price", "photo"])
        for i in range(count):
            kind, colour = ("Shirt", "Hat", "Shoe", "Bag")[i % 4], ("red", "blue", "green")[i // 4 % 3]
            photo = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(photo).rectangle((8, 8, 30 + 8 * (i % 4), 50), fill=colour)
            photo.save(folder / f"photos/{i}.jpg")
            table.writerow([1040 + i, f"{kind} {i}", "Acme", f"Clothes > {kind}", 5 + i, f"{i}.jpg"])
    with (folder / "clicks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["session", "item", "time"])
        for session in range(300):
            first = rng.randrange(count)
            table.writerow([session, 1040 + first, 1_700_000_000 + 10_000 * session])
            table.writerow([session, 1040 + (first + 12) % count, 1_700_000_000 + 10_000 * session + 60])


def write_fashion(folder: Path, count: int) -> Path:
    """Write items-00.parquet, of so many drawn products from number 15970 on, into the folder; return the folder."""
    rows = []
    for n in range(count):
        kind, colour = (("Shirts", "Topwear"), ("Jeans", "Bottomwear"))[n % 2], ("Navy Blue", "Red", "Green")[n % 3]
        rows.append(
            {
                "id": 15970 + n, "gender": ("Men", "Women")[n % 4 // 2], "master_category": "Apparel",
                "sub_category": kind[1], "article_type": kind[0], "base_colour": colour, "season": "Fall",
                "year": "2011.0", "usage": "Casual", "title": f"Acme {colour} {kind[0]} {n}", "image": _photo(n),
            }
        )  # fmt: skip
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "items-00.parquet")
    return folder


def _photo(n: int) -> bytes:
    file, made = io.BytesIO(), Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(made).rectangle((8, 8, 24 + n % 5 * 7, 30 + n % 7 * 6), fill=("navy", "red", "green")[n % 3])
    made.save(file, "JPEG")
    return file.getvalue()
