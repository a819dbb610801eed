from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tgqformer.collaborative.data import SplitSettings, histories, joined, part, read_split, take, transposed
from tgqformer.errors import TgqError
from tgqformer.pairs.interactions import Interactions

GAMES = Path(__file__).parents[3] / "shared/data/games/Video.txt"
GOWALLA = Path(__file__).parents[3] / "shared/data/gowalla"


def named(split: object, rows: str) -> dict[str, list[str]]:
    users, items, csr = split.user_names, split.item_names, getattr(split, rows)  # type: ignore[attr-defined]
    return {users[u]: [items[i] for i in csr.row(u)] for u in range(len(users)) if len(csr.row(u))}


def test_leave_one_out_keeps_the_last_for_the_test_and_the_one_before_for_validation() -> None:
    log = Interactions.of(
        ["a", "b", "a", "a", "b", "a"], ["x", "x", "y", "z", "y", "w"], times=[4, 1, 3, 2, 2, 1]
    )  # fmt: skip
    split = part(log, SplitSettings("leave-one-out"))
    assert named(split, "train") == {"a": ["w", "z"], "b": ["x", "y"]}
    assert named(split, "valid") == {"a": ["y"]}
    assert named(split, "test") == {"a": ["x"]}
    assert [split.item_names[i] for i in split.known().row(split.user_names.index("a"))] == ["w", "z", "y"]


def test_without_times_the_order_of_rows_counts() -> None:
    log = Interactions.of(["a", "a", "a"], ["x", "y", "z"])
    assert named(part(log, SplitSettings()), "test") == {"a": ["z"]}


def test_random_split_parts_every_interaction_once_and_drops_doubles() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(20, size=2000).astype(str), rng.integers(50, size=2000).astype(str)
    log = Interactions.of(users.tolist(), items.tolist())
    split = part(log, SplitSettings("random", test=0.3, valid=0.2, seed=5))
    parts = [{(u, i) for u, row in named(split, rows).items() for i in row} for rows in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set(zip(users, items, strict=True))) == len(set().union(*parts))
    assert 0.2 < len(parts[2]) / len(set().union(*parts)) < 0.4 and len(parts[1]) > 50
    again = part(log, SplitSettings("random", test=0.3, valid=0.2, seed=5))
    assert again.fingerprint == split.fingerprint and (again.test.indices == split.test.indices).all()
    assert part(log, SplitSettings("random", test=0.3, valid=0.2, seed=6)).fingerprint != split.fingerprint


def test_given_split_reads_two_files_as_one_catalogue(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 10 11\n1 11 12\n")
    (tmp_path / "test.txt").write_text("0 13\n1 10\n")
    split = read_split(tmp_path, SplitSettings("given"))
    assert named(split, "train") == {"0": ["10", "11"], "1": ["11", "12"]}
    assert named(split, "test") == {"0": ["13"], "1": ["10"]}
    assert (split.users, split.items, len(split.valid.indices)) == (2, 4, 0)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match=r"train\.txt"):
        read_split(tmp_path, SplitSettings("given"))
    (tmp_path / "train.txt").write_text("0 10 11\n")
    with pytest.raises(TgqError, match=r"split\.kind: given"):
        read_split(tmp_path, SplitSettings())
    (tmp_path / "log.csv").write_text("user,item\na,x\na,y\n")
    with pytest.raises(TgqError, match="0 to test on"):
        read_split(tmp_path / "log.csv", SplitSettings())
    with pytest.raises(ValueError, match=r"test\n.*less than 1"):
        SplitSettings(test=1.0)


def test_rows_are_gathered_joined_taken_and_turned() -> None:
    rows = histories(np.array([2, 0, 2]), np.array([5, 1, 3]), 3)
    assert [row.tolist() for row in map(rows.row, range(3))] == [[1], [], [5, 3]]
    both = joined(rows, histories(np.array([1, 2]), np.array([4, 9]), 3))
    assert [row.tolist() for row in map(both.row, range(3))] == [[1], [4], [5, 3, 9]]
    place, items = take(both, np.array([2, 0, 2]))
    assert (place.tolist(), items.tolist()) == ([0, 0, 0, 1, 2, 2, 2], [5, 3, 9, 1, 5, 3, 9])
    assert [row.tolist() for row in map(transposed(rows, 6).row, range(6))] == [[], [0], [], [2], [], [2]]


@pytest.mark.skipif(not GAMES.is_file(), reason="the public data are not beside the project")
def test_games_has_the_published_counts() -> None:
    split = read_split(GAMES, SplitSettings("leave-one-out"))
    counts = [len(rows.indices) for rows in (split.train, split.valid, split.test)]
    assert (split.users, split.items, sum(counts)) == (31_013, 23_715, 287_107)
    assert counts[1] == counts[2] > 30_000


@pytest.mark.skipif(not GOWALLA.is_dir(), reason="the public data are not beside the project")
def test_gowalla_has_the_published_counts() -> None:
    split = read_split(GOWALLA, SplitSettings("given"))
    assert (split.users, split.items) == (29_858, 40_981)
    assert (len(split.train.indices), len(split.test.indices)) == (810_128, 217_242)
