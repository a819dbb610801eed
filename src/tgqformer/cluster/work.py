"""Work that is cut into partitions. Whoever makes them calls the same `Work`: one process, shards of it, a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tgqformer.errors import TgqError
from tgqformer.objects import told
from tgqformer.progress import progress


class Work(Protocol):
    """A stage as a list of partitions, each of which is written whole or not at all.

    title: words before the progress bar. path: the folder of the partitions.
    """

    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> Path: ...  # noqa: D102

    def missing(self) -> list[int]:
        """List the partitions that are not yet written."""
        ...

    def rows(self, partition: int) -> int:
        """Return how many rows a partition has."""
        ...

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Write partitions; yield how many rows were done since it was asked before."""
        ...


Maker = Callable[[Work], int]
"""Makes what is missing, all or a part of it; returns how many rows it made."""


@dataclass(frozen=True)
class Shard:
    """The part `number` of `of`, counted from 1: every `of`-th partition."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`. Raise TgqError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise TgqError(f"--shard {text!r}: write I/N, such as 2/8 for the second of eight")
        number, of = int(found[1]), int(found[2])
        if not 1 <= number <= of:
            raise TgqError(
                f"--shard {text!r}: shards are counted from 1; the first of {of} is 1/{of}, the last {of}/{of}"
            )
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def part(self, partitions: Sequence[int]) -> list[int]:
        """Return those that are of this shard."""
        return [one for one in partitions if one % self.of == self.number - 1]


def fill_nothing(work: Work) -> int:
    """Make nothing; raise TgqError where something is missing."""
    if missing := work.missing():
        raise TgqError(f"{told(work.path)} is not finished: {listed(missing)}")
    return 0


def listed(missing: Sequence[int], most: int = 10) -> str:
    """Say which partitions are missing."""
    some = ", ".join(map(str, missing[:most])) + (", …" if len(missing) > most else "")
    return f"{len(missing)} partition{'s are' if len(missing) > 1 else ' is'} missing ({some}; counted from 0)"


def fill_here(work: Work, shard: Shard = Shard(), *, shown: bool = True) -> int:
    """Make the missing partitions of a shard in this process; return how many rows were made."""
    missing, done = shard.part(work.missing()), 0
    with progress(work.title, sum(map(work.rows, missing)), shown=shown and bool(missing)) as bar:
        for rows in work.fill(missing) if missing else ():
            bar.advance(rows)
            done += rows
    return done
