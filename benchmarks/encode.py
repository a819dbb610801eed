"""How fast the token cache fills, against the bare forward of the same encoder on ready pixel tensors.

    python benchmarks/encode.py                                      # 512 drawn JPEGs
    python benchmarks/encode.py --parquet ../shared/data/fashion/items-00.parquet --repeats 5

Both sides run in turn, so that what else the machine does falls on both. Prints pictures a second of each repeat, the
median ratio, the cost of a gather, and the memory that filling added.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tgqformer.encoders import VisionEncoder, make_vision
from tgqformer.encoders.cache import Load, VisualCache

Job = tuple[str, Load]


def drawn_jpegs(count: int) -> list[bytes]:
    """Draw `count` smooth JPEGs of 60 x 80."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((60, 80), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        out.append(file.getvalue())
    return out


def read_jpegs(parquet: Path, count: int) -> list[bytes]:
    """Read the first `count` pictures of a Parquet file with a column `image`."""
    import pyarrow.parquet as pq

    return list(pq.read_table(parquet, columns=["image"]).slice(0, count)["image"].to_pylist())


def jobs_of(jpegs: list[bytes]) -> list[Job]:
    """Give (key, function that opens) of each picture."""
    return [(str(i), partial(open_jpeg, data)) for i, data in enumerate(jpegs)]


def open_jpeg(data: bytes) -> Image.Image:
    """Decode one picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def bare_rate(encoder: VisionEncoder, batches: list[torch.Tensor]) -> float:
    """Give pictures a second of the forward alone."""
    start = time.perf_counter()
    for batch in batches:
        encoder.encode(batch).tokens.cpu()
    return sum(map(len, batches)) / (time.perf_counter() - start)


def fill_rate(encoder: VisionEncoder, jobs: list[Job], batch_size: int, workers: int) -> float:
    """Give pictures a second of filling an empty cache: open, preprocess, encode, write."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        VisualCache(Path(folder), encoder).fill(jobs, batch_size=batch_size, workers=workers, shown=False)
        return len(jobs) / (time.perf_counter() - start)


def gather_milliseconds(encoder: VisionEncoder, jobs: list[Job], batch: int = 64, times: int = 50) -> float:
    """Give the time of gathering `batch` random rows."""
    with tempfile.TemporaryDirectory() as folder:
        cache = VisualCache(Path(folder), encoder)
        cache.fill(jobs, partition=128, shown=False)
        draws = np.random.default_rng(0).integers(0, len(cache), (times, batch))
        start = time.perf_counter()
        for rows in draws:
            cache.gather(rows)
        return (time.perf_counter() - start) / times * 1e3


def peak_megabytes() -> float:
    """Give the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--parquet", type=Path)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    encoder = make_vision(args.encoder, precision=args.precision)
    jobs = jobs_of(read_jpegs(args.parquet, args.count) if args.parquet else drawn_jpegs(args.count))
    pixels = [encoder.preprocess(load()) for _, load in jobs]
    batches = [torch.stack(pixels[i : i + args.batch_size]) for i in range(0, len(pixels), args.batch_size)]
    encoder.encode(batches[0])
    compare(
        lambda: bare_rate(encoder, batches), lambda: fill_rate(encoder, jobs, args.batch_size, args.workers),
        args.repeats,
    )  # fmt: skip
    print(f"gather of 64 rows: {gather_milliseconds(encoder, jobs):.2f} ms · peak memory {peak_megabytes():.0f} MB")


def compare(bare: Callable[[], float], fill: Callable[[], float], repeats: int) -> None:
    """Run both in turn and print their rates."""
    ratios = []
    print(f"{'repeat':>6} {'bare img/s':>11} {'fill img/s':>11} {'ratio':>6}")
    for repeat in range(repeats):
        before, filled, after = bare(), fill(), bare()
        around = (before + after) / 2
        ratios.append(filled / around)
        print(f"{repeat + 1:>6} {around:>11.1f} {filled:>11.1f} {ratios[-1]:>6.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (worst {min(ratios):.2f}, best {max(ratios):.2f})")


if __name__ == "__main__":
    main()
