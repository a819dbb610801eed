"""Interactions as the models of this stage read them: histories, and what of them is held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tgqformer.config import Natural, settings
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.interactions import Interactions, read_interactions
from tgqformer.types import Ints

SplitKind = Literal["given", "leave-one-out", "random"]


@dataclass(frozen=True)
class Split:
    """U users and N items: what each user did, in the order of time, and what is held out of it.

    train, valid, test: Csr of U rows, places of items; `valid` and `test` may have empty rows. No interaction stands
    in two of them, but an item may where a user came back to it: of `leave-one-out` and `given`, not of `random`.
    user_names, item_names: the ids in the file. fingerprint: of the file's content, 16 hex digits.
    """

    train: Csr
    valid: Csr
    test: Csr
    user_names: list[str] = field(repr=False)
    item_names: list[str] = field(repr=False)
    fingerprint: str = ""

    @property
    def users(self) -> int:
        """U."""
        return len(self.user_names)

    @property
    def items(self) -> int:
        """N."""
        return len(self.item_names)

    def known(self) -> Csr:
        """What is known of each user when `test` is asked for: training and validation, in this order."""
        return joined(self.train, self.valid)


@settings
class SplitSettings:
    """How interactions are split.

    Args:
        kind: `given`, a folder with `train.txt` and `test.txt`, lines `user item item …` (the public Gowalla split);
            `leave-one-out`, a log: the last item of each user is the test, the one before it validation, users with
            fewer than three interactions only train (SASRec); `random`, a log: `test` of each user's interactions.
        test: share held out for the test, for `random`.
        valid: share of the rest held out for validation, for `given` and `random`; 0 for none.
        seed: of the draws.
    """

    kind: SplitKind = "leave-one-out"
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    valid: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Natural = 0


def read_split(path: Path, settings: SplitSettings, log: LogSettings = LogSettings()) -> Split:  # noqa: B008
    """Read interactions and part them; the same file and settings give the same split.

    Raises:
        TgqError: where a file is absent or unreadable, or nothing is left to train or test on.
    """
    given = settings.kind == "given"
    if not given and (path / "train.txt").is_file():
        raise TgqError(f"{path} holds train.txt, a log that is parted already; use split.kind: given")
    split = _read_given(path, settings, log) if given else part(read_interactions(path, log), settings)
    if not len(split.train.indices) or not len(split.test.indices):
        raise TgqError(
            f"{path}: {len(split.train.indices)} interactions to train on and {len(split.test.indices)} to test on;"
            f" the split {settings.kind!r} needs some of both"
        )
    return split


def part(log: Interactions, settings: SplitSettings) -> Split:
    """Part a log; interactions are ordered by time (their order in the log where there is none).

    A user's second interaction with an item is dropped, but for `leave-one-out`, which keeps the sequence as it is.
    """
    when = np.arange(len(log)) if log.times is None else log.times
    order = np.lexsort((np.arange(len(log)), when, log.sessions))
    users, items = log.sessions[order].astype(np.int64), log.items[order].astype(np.int64)
    if settings.kind == "leave-one-out":
        held = _last_two(users)
    else:
        users, items = _once(users, items, len(log.item_names))
        held = _drawn(len(users), settings)
    return _split(log, users, items, held)


def histories(users: Ints, items: Ints, count: int) -> Csr:
    """Gather items [n] by user [n], in their order: Csr of `count` rows."""
    order = np.argsort(users, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=count))]).astype(np.int64)
    return Csr(indptr, items[order].astype(np.int64))


def joined(first: Csr, second: Csr) -> Csr:
    """Put each row of `second` behind the same row of `first`."""
    users = np.concatenate([first.rows(), second.rows()])
    return histories(users, np.concatenate([first.indices, second.indices]), len(first))


def transposed(rows: Csr, items: int) -> Csr:
    """Turn users' items into items' users: Csr of `items` rows."""
    return histories(rows.indices, rows.rows(), items)


def take(rows: Csr, chosen: Ints) -> tuple[Ints, Ints]:
    """Return the entries of some rows as (place in `chosen`, item), int64 [n] each."""
    part = rows.at(chosen)
    return part.rows(), part.indices


def _read_given(path: Path, settings: SplitSettings, log: LogSettings) -> Split:
    parts = [read_interactions(path / name, log) for name in ("train.txt", "test.txt")]
    both = Interactions.from_table(pa.concat_tables([one.table() for one in parts], promote_options="default"))
    users, items = both.sessions.astype(np.int64), both.items.astype(np.int64)
    rng, first = np.random.default_rng([settings.seed, 1]), len(parts[0])
    held = np.where(np.arange(len(both)) < first, 0, 2)
    held[:first][rng.random(first) < settings.valid] = 1
    return _split(both, users, items, held)


def _last_two(users: Ints) -> Ints:
    """Code each interaction of sorted users: 0 train, 1 validation, 2 test."""
    counts = np.bincount(users)
    from_end = np.cumsum(counts)[users] - 1 - np.arange(len(users))
    long = counts[users] >= 3
    return np.where(long & (from_end == 0), 2, np.where(long & (from_end == 1), 1, 0)).astype(np.int64)


def _drawn(count: int, settings: SplitSettings) -> Ints:
    luck = np.random.default_rng([settings.seed, 2]).random((2, count))
    held = np.where(luck[1] < settings.valid, 1, 0)
    return np.where(luck[0] < settings.test, 2, held).astype(np.int64)


def _once(users: Ints, items: Ints, count: int) -> tuple[Ints, Ints]:
    _, first = np.unique(users * count + items, return_index=True)
    kept = np.sort(first)
    return users[kept], items[kept]


def _split(log: Interactions, users: Ints, items: Ints, held: Ints) -> Split:
    names = log.session_names.to_pylist(), log.item_names.to_pylist()
    rows = [histories(users[held == code], items[held == code], len(names[0])) for code in (0, 1, 2)]
    digest = blake2b(digest_size=8)
    for values in (users, items, held):
        digest.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())
    for name in names[0] + names[1]:
        digest.update(name.encode() + b"\0")
    return Split(rows[0], rows[1], rows[2], *names, digest.hexdigest())
