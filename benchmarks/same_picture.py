"""Near-identical pictures: which products count as one by them, and which copies of a picture are found.

    python benchmarks/same_picture.py CATALOG [--sample 3000] [--copies 300]

CATALOG is a folder of `tgq catalog import`. Each picture of a sample is held against all others; pairs of the same file
are left out. Then copies are written, at other sizes and qualities of JPEG: of the pictures as they are, and of the
same eight times as large, as shops have them.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import KDTree

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.pictures import look_of, near_identical, picture_bytes, read_picture

COARSE = 16  # shades of 255 by which no place differs: what looks alike at 8 x 8 pixels
COPIES = ((1.0, 85), (1.0, 60), (0.6, 85), (1.5, 85), (3.0, 85))  # times the size, quality
LARGE = ((1.0, 60), (0.6, 85), (0.4, 70), (1.5, 85), (0.25, 75))


def main() -> None:
    """Read, compare, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--sample", type=int, default=3000)
    parser.add_argument("--copies", type=int, default=300)
    asked = parser.parse_args()
    catalog, rng = Catalog.open(asked.catalog), np.random.default_rng(0)
    table = catalog.table(["title", "pictures"])
    first = [pictures[0] if pictures else {"look": None} for pictures in table["pictures"].to_pylist()]
    known = np.array([place for place, picture in enumerate(first) if picture["look"]])
    looks = np.frombuffer(b"".join(first[place]["look"] for place in known), np.uint8).reshape(len(known), -1)
    sample = rng.choice(len(known), min(asked.sample, len(known)), replace=False)
    pairs = compared(looks.astype(np.int16), sample)
    one, other = known[pairs[:, 0]].tolist(), known[pairs[:, 1]].tolist()
    digests, titles = [picture.get("digest") for picture in first], table["title"].to_pylist()
    apart = np.array([digests[a] != digests[b] for a, b in zip(one, other, strict=True)], bool)
    named = np.array([titles[a] != titles[b] for a, b in zip(one, other, strict=True)], bool)
    same = near_identical(*(looks[pairs[:, side]].astype(np.int16) for side in (0, 1)))
    print(f"{len(sample):,} of {len(known):,} pictures against all")
    print("\n| measure | pairs | of other titles |\n|---|---|---|")
    for name, found in {f"no place differs by more than {COARSE}": apart, "near-identical": apart & same}.items():
        print(f"| {name} | {found.sum():,} | {(found & named).sum():,} |")
    print("\n| copies | " + " | ".join(f"{size:g} x, {quality}" for size, quality in (*COPIES, *LARGE)) + " |")
    items = catalog.take_positions(known[sample[: asked.copies]])
    images = [
        (picture_bytes(item.pictures[0], catalog.root), read_picture(item.pictures[0], catalog.root)) for item in items
    ]
    found = [share(images, 1, *how) for how in COPIES] + [share(images, 8, *how) for how in LARGE]
    print("|---" * (len(found) + 1) + "|\n| found | " + " | ".join(f"{one:.2f}" for one in found) + " |")


def compared(looks: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return the pairs [n, 2] of a sample and all others that look alike at 8 x 8 pixels."""
    centre = looks.reshape(-1, 8, 8, 3)[:, 2:6, 2:6, 1].reshape(len(looks), -1)
    pairs, tree = [np.empty((0, 2), np.int64)], KDTree(centre)
    for place in sample.tolist():
        near = np.array(tree.query_ball_point(centre[place], COARSE + 1e-3, p=np.inf), np.int64)
        near = near[(near != place) & (np.abs(looks[near] - looks[place]).max(1) <= COARSE)]
        pairs.append(np.stack([np.full(len(near), place), near], 1))
    return np.concatenate(pairs)


def share(images: list[tuple[bytes, Image.Image]], times: int, size: float, quality: int) -> float:
    """Return the share of copies that are near-identical to what they are copies of."""
    looks = np.empty((2, len(images), 192), np.int16)
    for number, (data, image) in enumerate(images):
        if times > 1:
            image = image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)
            data = written(image, 92)
        small = image.resize((round(image.width * size), round(image.height * size)), Image.Resampling.LANCZOS)
        for side, encoded in enumerate((data, written(small, quality))):
            looks[side, number] = np.frombuffer(look_of(encoded) or b"", np.uint8)
    return float(near_identical(*looks).mean())


def written(image: Image.Image, quality: int) -> bytes:
    """Return a picture as JPEG."""
    image.save(buffer := BytesIO(), "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
