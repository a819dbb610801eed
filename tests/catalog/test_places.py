"""IdPlaces of ids: looked up as a dictionary would, ids of one hash too."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgqformer.catalog import places
from tgqformer.catalog.places import IdPlaces

ids = st.lists(st.text(max_size=3), unique=True, max_size=40)


@given(ids, st.lists(st.text(max_size=3), max_size=20), st.integers(1, 7))
def test_as_a_dictionary(known: list[str], asked: list[str], chunk: int) -> None:
    column = pa.chunked_array([known[at : at + chunk] for at in range(0, len(known), chunk)], pa.string())
    where = {name: place for place, name in enumerate(known)}
    wanted = [*asked, *known, *known[:2]]
    assert IdPlaces(column).of(wanted).tolist() == [where.get(name, -1) for name in wanted]


def test_ids_that_share_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "hash", len, raising=False)
    assert IdPlaces(pa.array(["b", "a", "cc", "d"])).of(["d", "cc", "a", "x", "yy", "", "b"]).tolist() == [
        3,
        2,
        1,
        -1,
        -1,
        -1,
        0,
    ]
