from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgqformer.pairs import clicks, gathered
from tgqformer.pairs.clicks import Clicks
from tgqformer.pairs.gathered import Gathered
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import Window

batches = st.lists(st.lists(st.sampled_from(["a", "b", "", "ä", "ccc"]), max_size=6), min_size=1, max_size=8)


@given(batches, st.integers(0, 4))
def test_ids_keep_their_numbers_while_new_ones_come(parts: list[list[str]], pending: int) -> None:
    whole, first = Gathered(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered, "PENDING", pending)
        for part in parts:
            ids = pa.array(part, pa.string()).dictionary_encode()
            whole.add(pa.table({"item": ids, "time": pa.array(range(first, first + len(part)), pa.int64())}))
            first += len(part)
        table = whole.table()
    assert table["item"].to_pylist() == [one for part in parts for one in part]
    assert table["time"].to_pylist() == list(range(first))
    assert table["item"].num_chunks == 1
    names = table["item"].chunk(0).dictionary.to_pylist()
    assert len(names) == len(set(names))


def test_interactions_share_the_memory_of_what_was_gathered() -> None:
    whole = Gathered()
    for part in (["a", "b"], ["b", "c"]):
        ids = pa.array(part).dictionary_encode()
        whole.add(pa.table({"session": ids, "item": ids, "time": pa.array([1, 2], pa.int64())}))
    table = whole.table()
    log = Interactions.from_table(table)
    assert log.times is not None
    assert log.times.ctypes.data == table["time"].chunk(0).buffers()[1].address
    assert log.items.ctypes.data == table["item"].chunk(0).indices.buffers()[1].address


def test_sessions_are_dealt_into_many_buckets_where_keys_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks, "EXPANSION", 4)
    log = Interactions.of(
        [f"s{n % 7}" for n in range(70)], [f"i{n % 5}" for n in range(70)], [(n * 37) % 11 * 2**56 for n in range(70)]
    )
    found = Clicks.of(log, 200, Window(items=3))
    rows = sorted((f"s{n % 7}", (n * 37) % 11, f"i{n % 5}") for n in range(70))
    assert [found.names[code].as_py() for code in found.item] == [item for *_, item in rows]
    assert found.starts.tolist() == list(range(0, 71, 10))
