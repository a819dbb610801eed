"""The token cache: every picture and every text is encoded once, and read from memory-mapped files after that.

A cache stands under `root/<fingerprint of the encoder>/`, so another encoder, level, precision or preprocessing never
meets the tokens of this one. Values are float16; what lies beyond its range is clamped to ±65504.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tgqformer.types import Halves, Hashes, Ints

T = TypeVar("T")
Load = Callable[[], Image.Image]
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
        self._encoder = encoder
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

        jobs: (key, function that opens the picture). Each of `workers` threads (one per processor by default) opens and
        encodes a batch at a time, so that one decodes while another computes. Whole partitions of `partition` rows
        (fewer where tokens are wide) are written as they fill, so a killed job loses at most one. Memory does not grow
        with the number of jobs.

        Raises TgqError naming the key of a picture that cannot be opened; what was encoded before it is kept.
        """
        self._parts.sweep()
        self._parts.refresh()
        count = workers or cores()
        with (
            progress("Encoding pictures", total, shown=shown) as bar,
            one_thread_each(),
            ThreadPoolExecutor(count) as pool,
            PartWriter(self._parts, partition) as writer,
        ):
            for keys, tokens, vector in ahead(
                pool, self._encode, batches(_missing(jobs, writer, bar), batch_size), count
            ):
                writer.add(keys, tokens=tokens, vector=vector)
                bar.advance(len(keys))
        return writer.count

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

    def _encode(self, jobs: list[tuple[Hashes, tuple[str, Load]]]) -> tuple[Hashes, Halves, Halves]:
        opened = [self._open(job) for job in jobs]
        features = self._encoder.encode(torch.stack([pixels for _, pixels in opened]))
        return np.concatenate([key for key, _ in opened]), _half(features.tokens), _half(features.vector)

    def _open(self, job: tuple[Hashes, tuple[str, Load]]) -> tuple[Hashes, Tensor]:
        digest, (key, load) = job
        try:
            return digest, self._encoder.preprocess(load())
        except UNREADABLE as error:
            raise TgqError(f"The picture with key {key} cannot be read: {error}; mend or remove it") from error


class TextCache:
    """Text tokens [t, Dt] and pooled vectors [Dt] of texts, by the text itself; ragged, padded as it is gathered."""

    def __init__(self, root: Path, encoder: TokenSource) -> None:
        self._encoder = encoder
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
        """Encode the texts that are not there yet, each once; return how many were encoded.

        Texts of like length are encoded together. Restarting and memory are as in `VisualCache.fill`.
        """
        self._parts.sweep()
        self._parts.refresh()
        with progress("Encoding texts", total, shown=shown) as bar, PartWriter(self._parts, partition) as writer:
            missing = _missing(((text, text) for text in texts), writer, bar)
            for chunk in batches(missing, 16 * batch_size):
                chunk.sort(key=lambda job: len(job[1][0]))
                for batch in batches(chunk, batch_size):
                    self._encode(batch, writer)
                    bar.advance(len(batch))
        return writer.count

    def _encode(self, batch: list[tuple[Hashes, tuple[str, str]]], writer: PartWriter) -> None:
        features = self._encoder.encode([text for _, (text, _) in batch])
        writer.add(
            np.concatenate([digest for digest, _ in batch]),
            tokens=_half(features.tokens[features.mask]),
            lengths=features.mask.sum(1).cpu().numpy().astype(np.int64),
            vector=_half(features.vector),
        )

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


def _missing(jobs: Iterable[tuple[str, T]], writer: PartWriter, bar: Bar) -> Iterator[tuple[Hashes, tuple[str, T]]]:
    """Return (digest [1, 2], job) of the jobs that are neither stored nor met before."""
    for chunk in batches(jobs, CHUNK):
        digests = digests_of([key for key, _ in chunk])
        fresh = writer.new(digests)
        bar.advance(len(chunk) - len(fresh))
        for i in fresh:
            yield digests[i : i + 1], chunk[i]
