"""Mining as work for several: the sorted clicks are written once, then ranges of items are mined by whoever comes.

They lie in a hidden folder beside the file that is asked for. `clicks.arrow` is mapped into the memory of each process.
The pairs of an item depend on the clicks alone, so they are the same wherever the ranges are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tgqformer import config
from tgqformer.cluster import begun
from tgqformer.errors import TgqError
from tgqformer.files import read_arrow, write_arrow
from tgqformer.pairs.clicks import Clicks
from tgqformer.pairs.mining import MiningSettings, mined, mutual
from tgqformer.pairs.pairs import Pairs
from tgqformer.stages import digest_of

KIND, CLICKS = "mining begun", "clicks.arrow"
SIZE = 1 << 16
"""Items of a partition, by default."""
MADE_OF = "made_of"
"""In the file of pairs: the digest of the plan that its parts were begun with."""
_COLUMNS = ("item", "starts", "back", "ahead")
_FOUND = ("a", "b", "weight", "count")


@dataclass(frozen=True)
class MiningPlan:
    """What all who mine together must mean. log: a digest of what decides the clicks. size: items of a partition."""

    log: str
    mining: dict[str, Any]
    size: int = SIZE

    @classmethod
    def of(cls, log: str, mining: MiningSettings, size: int = SIZE) -> MiningPlan:
        """Make the plan of these settings."""
        return cls(log, config.plain(mining), size)

    def digest(self) -> str:
        """Return a short name of all that it says."""
        return digest_of(asdict(self))


class MiningWork(begun.Ranges):
    """The `Work` of mining pairs. A partition is a range of items, in the order of their names.

    path: the folder, begun by `begin`.

    Raises:
        TgqError: where it holds no clicks, or damaged ones.
    """

    title = "mining pairs"

    def __init__(self, path: Path) -> None:
        table, plan = begun.read(path / CLICKS)
        self.plan = MiningPlan(**plan)
        self.mining = config.parse(MiningSettings, self.plan.mining, "the mining")
        item, starts, back, ahead = (begun.of_row(table, name).to_numpy() for name in _COLUMNS)
        self.clicks = Clicks(item, begun.of_row(table, "names"), starts, back, ahead)
        super().__init__(path, len(self.clicks.names), self.plan.size, "part-{:05d}.arrow")

    @classmethod
    def begin(cls, to: Path, plan: MiningPlan, read: Callable[[], Clicks], *, alone: bool = True) -> MiningWork:
        """Begin beside the file `to`, or take up what another job began; several may do so at once.

        read: returns the clicks, where nobody has written them. alone: whether nobody else is at work; what was begun
            of another log or with other settings is removed then.

        Raises:
            TgqError: where that is there and this is not done `alone`.
        """
        folder = beside_of(to)
        begun.begin(folder / CLICKS, KIND, asdict(plan), lambda: _table_of(read()), of="log", alone=alone)
        return cls(folder)

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Mine the pairs of the items of partitions; yield numbers of items as they are done."""
        for partition in partitions:
            if self.part(partition).exists():
                yield self.rows(partition)
                continue
            found = []
            for items, columns in mined(self.clicks, self.mining, *self.bounds(partition)):
                found.append(pa.table([pa.array(column) for column in columns], names=_FOUND))
                yield items
            table = pa.concat_tables(found).combine_chunks()
            write_arrow(self.part(partition), begun.saying(table, asdict(self.plan)))

    def finish(self) -> Pairs:
        """Return the pairs that stand in both directions.

        Raises:
            TgqError: where a partition is missing, damaged, or of other clicks.
        """
        parts = [self._read(number) for number in range(len(self))]
        return Pairs(mutual([tuple(one[name].to_numpy() for name in _FOUND) for one in parts], self.clicks.names))

    def _read(self, partition: int) -> pa.Table:
        try:
            table = read_arrow(self.part(partition), sealed=True)
            if begun.said(table) == asdict(self.plan):
                return table
            why = "it is of other clicks"
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            why = str(error)
        raise TgqError(f"{self.part(partition)} cannot be used: {why}; remove it and call the same again")


def beside_of(to: Path) -> Path:
    """Name the hidden folder beside the file `to` in which the work is done."""
    return begun.beside_of(to, "mining")


def _table_of(clicks: Clicks) -> pa.Table:
    columns = {name: pa.array(np.ascontiguousarray(getattr(clicks, name))) for name in _COLUMNS}
    return begun.as_row({**columns, "names": clicks.names})
