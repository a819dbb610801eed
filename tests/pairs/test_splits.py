from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgqformer.errors import TgqError
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.splits import PARTS, ItemSplit, cut_by_time, split_by_time, stable_uniform

ids_lists = st.lists(st.text(max_size=8), unique=True, max_size=40)


@given(ids_lists, ids_lists, st.integers(0, 5))
def test_items_that_join_never_move_the_others(ids: list[str], more: list[str], seed: int) -> None:
    before = ItemSplit.by_hash(ids, seed=seed)
    after = ItemSplit.by_hash([*[name for name in more if name not in ids], *ids], seed=seed)
    assert after.codes(ids).tolist() == before.parts.tolist()


def test_the_split_is_the_same_on_every_machine() -> None:
    # Written down once: a change of the hash would silently move test items into training.
    assert stable_uniform(0, "15970") == pytest.approx(0.872489914590702, abs=1e-12)
    assert ItemSplit.by_hash(["15970", "39386", "59263"]).parts.tolist() == [2, 0, 2]


def test_fractions_are_kept_and_seeds_differ() -> None:
    ids = [str(number) for number in range(20_000)]
    split = ItemSplit.by_hash(ids, (0.6, 0.1, 0.3))
    assert [split.counts()[part] / len(ids) for part in PARTS] == pytest.approx([0.6, 0.1, 0.3], abs=0.02)
    other = ItemSplit.by_hash(ids, (0.6, 0.1, 0.3), seed=1)
    assert 0.4 < (split.parts == other.parts).mean() < 0.52  # by chance 0.36 + 0.01 + 0.09 = 0.46


def test_parts_hold_every_item_once() -> None:
    split = ItemSplit.by_hash([str(number) for number in range(100)])
    assert sorted(item for name in PARTS for item in split.part(name)) == sorted(split.ids)
    assert len(split) == 100
    assert split.codes(["nobody"]).tolist() == [-1]


def test_all_in_train() -> None:
    assert ItemSplit.by_hash(["a", "b", "c"], (1.0, 0.0, 0.0)).part("train") == ["a", "b", "c"]


def test_save_and_load(tmp_path: Path) -> None:
    split = ItemSplit.by_hash(["a", "b", "007", "7"], (0.4, 0.3, 0.3))
    split.save(tmp_path / "split.parquet")
    loaded = ItemSplit.load(tmp_path / "split.parquet")
    assert loaded.ids == split.ids
    assert loaded.parts.tolist() == split.parts.tolist()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"item": ["a"]}, "not id and part"),
        ({"id": ["a"], "part": ["dev"]}, "'dev'"),
        ({"id": ["a", "a"], "part": ["train", "val"]}, "more than once"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, columns: dict[str, list[str]], words: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "split.parquet")
    with pytest.raises(TgqError, match=words):
        ItemSplit.load(tmp_path / "split.parquet")


def test_user_errors() -> None:
    with pytest.raises(TgqError, match="sum to 1"):
        ItemSplit.by_hash(["a"], (0.5, 0.2, 0.2))
    with pytest.raises(TgqError, match="three shares"):
        ItemSplit.by_hash(["a"], (0.5, 0.5))
    with pytest.raises(TgqError, match="'a' stands more than once"):
        ItemSplit.by_hash(["a", "a"])
    with pytest.raises(TgqError, match="no part 'dev'"):
        ItemSplit.by_hash(["a"]).part("dev")
    with pytest.raises(TgqError, match="there is no split"):
        ItemSplit.load(Path("nowhere.parquet"))


def test_split_by_time() -> None:
    log = Interactions.of(["s", "s", "t"], ["a", "b", "a"], [10, 20, 30])
    early, late = split_by_time(log, 20)
    assert early.table().to_pydict() == {"session": ["s"], "item": ["a"], "time": [10]}
    assert late.table().to_pydict() == {"session": ["s", "t"], "item": ["b", "a"], "time": [20, 30]}
    with pytest.raises(TgqError, match="no times"):
        split_by_time(Interactions.of(["s"], ["a"]), 1)


def test_a_log_is_cut_into_periods_of_these_shares() -> None:
    items = ["a", "b", "c", "a", "b", "c", "d", "a", "d", "e"]
    log = Interactions.of([f"s{at}" for at in range(10)], items, [10 * at for at in reversed(range(10))])
    periods, split = cut_by_time(log, [*"abcdef"], (0.5, 0.2, 0.3))
    assert [sorted(period.times.tolist()) for period in periods if period.times is not None] == [
        [0, 10, 20, 30, 40],
        [50, 60],
        [70, 80, 90],
    ]
    found = {name: split.part(name) for name in PARTS}
    assert found == {"train": ["a", "c", "d", "e", "f"], "val": ["b"], "test": []}
    with pytest.raises(TgqError, match="no times"):
        cut_by_time(Interactions.of(["s"], ["a"]), ["a"])


def test_what_came_at_one_second_is_not_cut() -> None:
    log = Interactions.of([*"stuv"], [*"abcd"], [10, 20, 20, 30])
    periods, _ = cut_by_time(log, [*"abcd"], (0.5, 0.0, 0.5))
    assert [len(period) for period in periods] == [1, 0, 3]


def test_uniform_is_uniform() -> None:
    values = np.array([stable_uniform("x", number) for number in range(4000)])
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, 4, (0, 1))[0] == pytest.approx(np.full(4, 1000), abs=120)
