"""The token cache: every picture and every text is encoded once, and read from memory-mapped files after that.

A cache stands under `root/<fingerprint of the encoder>/`, so another encoder, level, precision or preprocessing never
meets the tokens of this one. Values are float16; what lies beyond its range is clamped to ±65504.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tgqformer.encoders.base import TextFeatures, VisionEncoder, VisualFeatures
from tgqformer.encoders.parts import PartFolder, PartWriter, digests_of
from tgqformer.errors import TgqError
from tgqformer.parallel import ahead, batches, cores, one_thread_each
from tgqformer.progress import Bar, progress
from tgqformer.types import Array, Bools, Halves, Hashes, Ints

P = TypeVar("P")
T = TypeVar("T")
Load = Callable[[], Image.Image]
_Batch = list[tuple[Hashes, tuple[str, T]]]
_Rows = tuple[Hashes, dict[str, Array]]
LARGEST = 65504.0  # of float16
CHUNK = 1024  # keys looked up at once
# What PIL raises on damaged pictures of one kind or another.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error),
    *(Image.DecompressionBombError, TgqError),
)


class TokenSource(Protocol):
    """What a text cache needs of an encoder: a `TextEncoder`, or the frozen prefix of a language model."""

    @property
    def fingerprint(self) -> str:
        """Keys the cache."""
        ...

    @property
    def width(self) -> int:
        """Width of a token."""
        ...

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Encode B texts."""
        ...


class VisualCache:
    """Visual tokens [P, Dv] and global vectors [Dg] of pictures, by a key of their content (a digest, as a string)."""

    def __init__(self, root: Path, encoder: VisionEncoder) -> None:
        self._encoder, self.fingerprint = encoder, encoder.fingerprint
        self._parts = PartFolder(root / encoder.fingerprint)

    def __len__(self) -> int:
        return len(self._parts)

    def fill(
        self,
        jobs: Iterable[tuple[str, Load]],
        *,
        total: int | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        partition: int = 1024,
        shown: bool = True,
    ) -> int:
        """Encode the pictures whose key is not there yet, each key once; return how many were encoded.

        See `filling`.
        """
        with progress("Encoding pictures", total, shown=shown) as bar:
            work = self.filling([jobs], batch_size, workers, partition=partition, skipped=bar.advance)
            return _advanced(bar, work)

    def filling(
        self,
        pieces: Iterable[Iterable[tuple[str, Load]]],
        batch_size: int = 32,
        workers: int | None = None,
        *,
        partition: int = 1024,
        skipped: Callable[[int], object] = bool,
    ) -> Iterator[int]:
        """Encode the pictures whose key is not there yet, each key once; yield how many, batch by batch.

        pieces: of (key, function that opens the picture). Each of `workers` threads (one per processor by default)
        opens and encodes a batch at a time, so that one decodes while another computes. Whole partitions of `partition`
        rows (fewer where tokens are wide) are written as they fill, and at the end of a piece: a killed job loses at
        most one. No batch is of two pieces, so what is written for a piece does not depend on the others. Memory does
        not grow with the number of jobs. skipped: is told how many were there.

        Raises TgqError naming the key of a picture that cannot be opened; what was encoded before it is kept.
        """

        def of_piece(jobs: Iterable[tuple[str, Load]], writer: PartWriter) -> Iterator[_Batch[Load]]:
            return batches(_missing(jobs, writer, skipped), batch_size)

        return _filling(self._parts, pieces, of_piece, self._encode, workers or cores(), partition)

    def holds(self, keys: Hashes, among: Set[str] | None = None) -> Bools:
        """Say which digests of keys [n, 2] are there, or in these of the `files`: bool [n]."""
        return self._parts.holds(keys, among)

    @property
    def files(self) -> list[str]:
        """The names of the partitions, after a look at what others wrote."""
        return self._parts.names()

    @property
    def row_bytes(self) -> int:
        """How many bytes a picture takes."""
        height, width = self._encoder.grid
        return 2 * (height * width * self._encoder.width + self._encoder.vector_width) + 16

    def rows(self, keys: Sequence[str | None]) -> Ints:
        """Return the row of each key [B], -1 for None (no picture); raises TgqError for a key that was never filled."""
        return _rows(self._parts, keys, "picture")

    def gather(self, rows: Ints) -> VisualFeatures:
        """Read rows [B] as float16 tokens [B, P, Dv] and vector [B, Dg] on the CPU; zeros for -1."""
        rows = np.asarray(rows, dtype=np.int64)
        height, width = self._encoder.grid
        tokens = np.zeros((len(rows), height * width, self._encoder.width), dtype=np.float16)
        vector = np.zeros((len(rows), self._encoder.vector_width), dtype=np.float16)
        for at, part, local in self._parts.split(rows):
            tokens[at] = part["tokens"][local]
            vector[at] = part["vector"][local]
        self._parts.touched(tokens.nbytes + vector.nbytes)
        return VisualFeatures(torch.from_numpy(tokens), torch.from_numpy(vector))

    def vectors(self, rows: Ints) -> Tensor:
        """Read the vectors alone: float16 [B, Dg] on the CPU; zeros for -1."""
        vector = np.zeros((len(rows), self._encoder.vector_width), dtype=np.float16)
        for at, part, local in self._parts.split(np.asarray(rows, dtype=np.int64)):
            vector[at] = part["vector"][local]
        self._parts.touched(vector.nbytes)
        return torch.from_numpy(vector)

    def _encode(self, jobs: _Batch[Load]) -> _Rows:
        opened = [self._open(job) for job in jobs]
        features = self._encoder.encode(torch.stack([pixels for _, pixels in opened]))
        keys = np.concatenate([key for key, _ in opened])
        return keys, {"tokens": _half(features.tokens), "vector": _half(features.vector)}

    def _open(self, job: tuple[Hashes, tuple[str, Load]]) -> tuple[Hashes, Tensor]:
        digest, (key, load) = job
        try:
            return digest, self._encoder.preprocess(load())
        except UNREADABLE as error:
            raise TgqError(f"The picture with key {key} cannot be read: {error}; mend or remove it") from error


class TextCache:
    """Text tokens [t, Dt] and pooled vectors [Dt] of texts, by the text itself; ragged, padded as it is gathered."""

    def __init__(self, root: Path, encoder: TokenSource) -> None:
        self._encoder, self.fingerprint = encoder, encoder.fingerprint
        self._parts = PartFolder(root / encoder.fingerprint)

    def __len__(self) -> int:
        return len(self._parts)

    def fill(
        self,
        texts: Iterable[str],
        *,
        total: int | None = None,
        batch_size: int = 64,
        partition: int = 8192,
        shown: bool = True,
    ) -> int:
        """Encode the texts that are not there yet, each once; return how many were encoded. See `filling`."""
        with progress("Encoding texts", total, shown=shown) as bar:
            return _advanced(bar, self.filling([texts], batch_size, partition=partition, skipped=bar.advance))

    def filling(
        self,
        pieces: Iterable[Iterable[str]],
        batch_size: int = 64,
        workers: int | None = None,
        *,
        partition: int = 8192,
        skipped: Callable[[int], object] = bool,
    ) -> Iterator[int]:
        """Encode the texts that are not there yet, each once; yield how many, batch by batch.

        Texts of like length are encoded together. On a GPU one thread does it. Pieces, restarting and memory are as in
        `VisualCache.filling`.
        """

        def of_piece(texts: Iterable[str], writer: PartWriter) -> Iterator[_Batch[str]]:
            for chunk in batches(_missing(((text, text) for text in texts), writer, skipped), 16 * batch_size):
                chunk.sort(key=lambda job: len(job[1][0]))
                yield from batches(chunk, batch_size)

        device = getattr(self._encoder, "device", None)
        count = 1 if device is not None and device.type != "cpu" else workers or cores()
        return _filling(self._parts, pieces, of_piece, self._encode, count, partition)

    def holds(self, keys: Hashes, among: Set[str] | None = None) -> Bools:
        """Say which digests of texts [n, 2] are there, or in these of the `files`: bool [n]."""
        return self._parts.holds(keys, among)

    @property
    def files(self) -> list[str]:
        """The names of the partitions, after a look at what others wrote."""
        return self._parts.names()

    def _encode(self, batch: _Batch[str]) -> _Rows:
        features = self._encoder.encode([text for _, (text, _) in batch])
        return np.concatenate([digest for digest, _ in batch]), {
            "tokens": _half(features.tokens[features.mask]),
            "lengths": features.mask.sum(1).cpu().numpy().astype(np.int64),
            "vector": _half(features.vector),
        }

    def rows(self, texts: Sequence[str | None]) -> Ints:
        """Return the row of each text [B], -1 for None (no text); raises TgqError for a text that was never filled."""
        return _rows(self._parts, texts, "text")

    def gather(self, rows: Ints) -> TextFeatures:
        """Read rows [B] as float16 tokens [B, T, Dt], mask [B, T] and vector [B, Dt] on the CPU.

        Tokens stand at the left, padded with zeros to the longest (T is at least 1); a row of -1 has none.
        """
        rows = np.asarray(rows, dtype=np.int64)
        found = [(at, part, local, part["lengths"], _ends(part)) for at, part, local in self._parts.split(rows)]
        count = np.zeros(len(rows), dtype=np.int64)
        for at, _, local, lengths, _ in found:
            count[at] = lengths[local]
        width = found[0][1]["vector"].shape[1] if found else self._encoder.width
        tokens = np.zeros((len(rows), max(1, count.max(initial=0)), width), dtype=np.float16)
        vector = np.zeros((len(rows), width), dtype=np.float16)
        for at, part, local, lengths, ends in found:
            vector[at] = part["vector"][local]
            for i, row in zip(at, local, strict=True):
                tokens[i, : lengths[row]] = part["tokens"][ends[row] - lengths[row] : ends[row]]
        self._parts.touched(int(count.sum()) * width * 2 + vector.nbytes)
        mask = np.arange(tokens.shape[1]) < count[:, None]
        return TextFeatures(torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(vector))

    def vectors(self, rows: Ints) -> tuple[Tensor, Tensor]:
        """Read the vectors alone: float16 [B, Dt] on the CPU, and bool [B], which texts have a token."""
        vector, known = np.zeros((len(rows), self._encoder.width), np.float16), np.zeros(len(rows), bool)
        for at, part, local in self._parts.split(np.asarray(rows, dtype=np.int64)):
            vector[at], known[at] = part["vector"][local], part["lengths"][local] > 0
        self._parts.touched(vector.nbytes)
        return torch.from_numpy(vector), torch.from_numpy(known)


def _ends(part: Any) -> Ints:
    return np.cumsum(part["lengths"])


def half(values: Tensor) -> Tensor:
    """Round to float16 as the cache does, so that cached and fresh features are the same numbers."""
    return values.clamp(-LARGEST, LARGEST).half()


def _half(values: Tensor) -> Halves:
    if bool(values.isnan().any()):
        raise TgqError("The encoder gave values that are no numbers (NaN); try precision float32")
    return half(values).cpu().numpy()


def _rows(parts: PartFolder, keys: Sequence[str | None], what: str) -> Ints:
    given = [i for i, key in enumerate(keys) if key is not None]
    digests = digests_of([key for key in keys if key is not None])
    found = parts.index.find(digests)
    if (found < 0).any():  # another process may have written it
        parts.refresh()
        found = parts.index.find(digests)
    lost = np.flatnonzero(found < 0)
    if len(lost):
        raise TgqError(
            f"{len(lost)} of {len(given)} keys are not in the {what} cache {parts.folder}, first "
            f"{keys[given[lost[0]]]!r}; fill the cache first"
        )
    rows = np.full(len(keys), -1, dtype=np.int64)
    rows[given] = found
    return rows


def _filling(
    parts: PartFolder,
    pieces: Iterable[P],
    of_piece: Callable[[P, PartWriter], Iterable[_Batch[T]]],
    encode: Callable[[_Batch[T]], _Rows],
    workers: int,
    partition: int,
) -> Iterator[int]:
    """Encode batches in threads and write them in their order; yield how many rows each has."""
    parts.sweep()
    parts.refresh()

    def work(batch: tuple[int, _Batch[T]]) -> tuple[int, _Rows]:
        return batch[0], encode(batch[1])

    with one_thread_each(), ThreadPoolExecutor(workers) as pool, PartWriter(parts, partition) as writer:
        jobs = ((number, batch) for number, piece in enumerate(pieces) for batch in of_piece(piece, writer))
        before = 0
        for number, (keys, arrays) in ahead(pool, work, jobs, workers):
            if number != before:
                writer.flush()
            before = number
            writer.add(keys, **arrays)
            yield len(keys)


def _advanced(bar: Bar, work: Iterator[int]) -> int:
    done = 0
    for rows in work:
        bar.advance(rows)
        done += rows
    return done


def _missing(
    jobs: Iterable[tuple[str, T]], writer: PartWriter, skipped: Callable[[int], object]
) -> Iterator[tuple[Hashes, tuple[str, T]]]:
    """Return (digest [1, 2], job) of the jobs that are neither stored nor met before."""
    for chunk in batches(jobs, CHUNK):
        digests = digests_of([key for key, _ in chunk])
        fresh = writer.new(digests)
        skipped(len(chunk) - len(fresh))
        for i in fresh:
            yield digests[i : i + 1], chunk[i]
