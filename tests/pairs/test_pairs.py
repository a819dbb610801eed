from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.config import parse, plain
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import PairsSection
from tgqformer.pairs import clicks, mining
from tgqformer.pairs.clicks import in_order
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import MiningSettings, Weighting, Window
from tgqformer.pairs.pairs import Pairs, mine_pairs, pairs_from_related, split_pairs
from tgqformer.pairs.splits import ItemSplit

Row = tuple[str, str, int]
WEIGHTINGS = ("count", "pmi", "swing")
SESSIONS = {"u1": "abc", "u2": "ab" + "d", "u3": "ab", "u4": "cd", "u5": "ca"}
LOG = Interactions.of(
    [user for user, items in SESSIONS.items() for _ in items],
    [item for items in SESSIONS.values() for item in items],
    [10 * place for items in SESSIONS.values() for place in range(len(items))],
)


def found(pairs: Pairs) -> dict[tuple[str, str], tuple[float, int]]:
    return {(row["a"], row["b"]): (row["weight"], row["count"]) for row in pairs.table.to_pylist()}


# Hand-worked: every weighting on five small sessions.


def test_counts_by_hand() -> None:
    assert found(mine_pairs(LOG)) == {("a", "b"): (3.0, 3), ("a", "c"): (2.0, 2)}
    every = found(mine_pairs(LOG, MiningSettings(min_support=1)))
    assert every == {
        ("a", "b"): (3.0, 3), ("a", "c"): (2.0, 2), ("a", "d"): (1.0, 1),
        ("b", "c"): (1.0, 1), ("b", "d"): (1.0, 1), ("c", "d"): (1.0, 1),
    }  # fmt: skip


def test_pmi_by_hand() -> None:
    # 5 sessions; a is in 4, b in 3, c in 3, d in 2. a-b: 3·5/(4·3) = 1.25; a-c: 2·5/(4·3) < 1 is dropped.
    pairs = found(mine_pairs(LOG, MiningSettings(weighting="pmi")))
    assert pairs == {("a", "b"): (pytest.approx(math.log(1.25)), 3)}


def test_swing_by_hand() -> None:
    # a-b is in u1 {a, b, c}, u2 {a, b, d}, u3 {a, b}; all overlaps are 2, α = 1:
    # u1u2 1/(3·√(3·3)), u1u3 1/(3·√(3·2)), u2u3 the same. a-c is in u1 and u5 {ca}: overlap 2, sizes 3 and 2.
    pairs = found(mine_pairs(LOG, MiningSettings(weighting="swing")))
    assert pairs == {
        ("a", "b"): (pytest.approx(1 / 9 + 2 / (3 * math.sqrt(6))), 3),
        ("a", "c"): (pytest.approx(1 / (3 * math.sqrt(6))), 2),
    }
    softer = found(mine_pairs(LOG, MiningSettings(weighting="swing", alpha=4.0)))
    assert softer[("a", "c")][0] == pytest.approx(1 / (6 * math.sqrt(6)))


def test_windows_by_hand() -> None:
    def mined(window: Window) -> set[tuple[str, str]]:
        return set(found(mine_pairs(LOG, MiningSettings(window=window, min_support=1))))

    assert (
        mined(Window(items=1))
        == mined(Window(seconds=10))
        == {("a", "b"), ("b", "c"), ("b", "d"), ("c", "d"), ("a", "c")}
    )
    assert ("a", "d") in mined(Window(items=2)) & mined(Window(seconds=20))
    assert ("a", "d") not in mined(Window(items=2, seconds=19))
    assert mined(Window(seconds=0)) == set()


@pytest.mark.parametrize("later", [0, 2**61])
def test_a_window_leads_out_of_no_session_however_far_times_lie_apart(later: int) -> None:
    log = Interactions.of(["s", "s", "t", "t"], list("abca"), [0, 5, later + 6, later + 8])
    found_in = {
        seconds: set(found(mine_pairs(log, MiningSettings(window=Window(seconds=seconds), min_support=1))))
        for seconds in (1, 3, 10**10)
    }
    assert found_in == {1: set(), 3: {("a", "c")}, 10**10: {("a", "b"), ("a", "c")}}


@pytest.mark.parametrize(
    ("written", "window"),
    [
        (10, Window(items=10)), ("30m", Window(seconds=1800)), (["5", "7d"], Window(5, 604_800)), ("session", Window()),
        (None, Window()), ({"items": 3}, Window(items=3)),
    ],
)  # fmt: skip
def test_windows_as_they_are_written(written: object, window: Window) -> None:
    settings = parse(MiningSettings, {"window": written}, "mining")
    assert settings.window == window
    assert parse(MiningSettings, plain(settings), "mining") == settings


def test_recipe_and_command_have_the_same_defaults() -> None:
    assert PairsSection(pairs="x").mining == MiningSettings() == parse(MiningSettings, {}, "mining")
    assert MiningSettings().window == Window(items=10)


def test_an_item_clicked_again_and_again_counts_once_a_session() -> None:
    log = Interactions.of(["s"] * 4 + ["t"] * 2, list("abab") + list("ab"))
    assert found(mine_pairs(log)) == {("a", "b"): (2.0, 2)}
    assert found(mine_pairs(log, MiningSettings(window=Window(items=1)))) == {("a", "b"): (2.0, 2)}


def test_only_the_latest_clicks_of_a_long_session_count() -> None:
    log = Interactions.of(["s"] * 4, list("dcba"), [4, 3, 2, 1])
    assert set(found(mine_pairs(log, MiningSettings(min_support=1, max_session=2)))) == {("c", "d")}


# Properties, against a count that compares every click with every other.

rows = st.lists(
    st.tuples(st.sampled_from("stuvw"), st.sampled_from("abcdef"), st.integers(0, 12)), max_size=40
)  # fmt: skip
windows = st.builds(Window, items=st.none() | st.integers(1, 4), seconds=st.none() | st.integers(0, 6))


def log_of(rows: list[Row]) -> Interactions:
    return Interactions.of([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def naive_sessions(rows: list[Row], window: Window) -> dict[tuple[str, str], set[str]]:
    """The sessions of every pair."""
    clicks = defaultdict(list)
    for session, item, time in sorted(rows, key=lambda row: (row[0], row[2], row[1])):
        clicks[session].append((time, item))
    together = defaultdict(set)
    for session, seen in clicks.items():
        for (i, (time, a)), (j, (later, b)) in combinations(enumerate(seen), 2):
            near = (window.items is None or j - i <= window.items) and (
                window.seconds is None or later - time <= window.seconds
            )
            if a != b and near:
                together[min(a, b), max(a, b)].add(session)
    return together


def naive_weight(rows: list[Row], pair: tuple[str, str], sessions: set[str], weighting: Weighting) -> float:
    items = defaultdict(set)
    for session, item, _ in rows:
        items[session].add(item)
    if weighting == "count":
        return len(sessions)
    if weighting == "pmi":
        has = Counter(item for seen in items.values() for item in seen)
        return math.log(len(sessions) * len(items) / (has[pair[0]] * has[pair[1]]))
    return sum(
        1 / math.sqrt(len(items[u]) * len(items[v])) / (1.0 + len(items[u] & items[v]))
        for u, v in combinations(sorted(sessions), 2)
    )


@settings(max_examples=150, deadline=None)
@given(rows, windows, st.integers(1, 3), st.sampled_from(WEIGHTINGS))
def test_mining_equals_the_naive_count(rows: list[Row], window: Window, support: int, how: Weighting) -> None:
    mined = found(mine_pairs(log_of(rows), MiningSettings(window=window, min_support=support, weighting=how)))
    wanted = {}
    for pair, sessions in naive_sessions(rows, window).items():
        weight = naive_weight(rows, pair, sessions, how)
        if len(sessions) >= support and weight > 1e-9:
            wanted[pair] = (pytest.approx(weight, rel=1e-5), len(sessions))
    assert mined == wanted


@settings(max_examples=60, deadline=None)
@given(rows.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), windows, st.integers(1, 2))
def test_the_order_of_rows_and_the_size_of_blocks_do_not_matter(
    both: tuple[list[Row], list[Row]], window: Window, cap: int
) -> None:
    for weighting in WEIGHTINGS:
        chosen = MiningSettings(window=window, min_support=1, cap=cap, weighting=weighting)
        first = mine_pairs(log_of(both[0]), chosen)
        with pytest.MonkeyPatch.context() as patch:
            for module in (clicks, mining):
                patch.setattr(module, "EXPANSION", 3)
            second = mine_pairs(log_of(both[1]), chosen)
        assert first.table.equals(second.table)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 3), st.integers(1, 3), st.sampled_from(WEIGHTINGS), st.sets(st.sampled_from("abcdef")))
def test_cap_support_and_known_items(rows: list[Row], cap: int, support: int, how: Weighting, known: set[str]) -> None:
    chosen = MiningSettings(window=Window(items=3), min_support=support, cap=cap, weighting=how)
    pairs = mine_pairs(log_of(rows).within(sorted(known)), chosen)
    table = pairs.table.to_pylist()
    assert all(row["a"] < row["b"] and row["count"] >= support for row in table)
    assert len({(row["a"], row["b"]) for row in table}) == len(table)
    assert max(Counter(row[side] for row in table for side in "ab").values(), default=0) <= cap
    assert set(pairs.ids()) <= known


def test_columns_are_sorted_as_one_number_and_otherwise_where_it_does_not_fit() -> None:
    luck = np.random.default_rng(0)
    codes, places = luck.integers(0, 5, 300).astype(np.int32), luck.integers(-3, 4, 300).astype(np.int32)
    for times in (luck.integers(-9, 9, 300), luck.integers(-(2**62), 2**62, 300)):
        order = np.lexsort((places, times, codes))
        found = in_order(codes, times, places)
        for column, sorted_column in zip((codes, times, places), found, strict=True):
            assert sorted_column.dtype == column.dtype and (sorted_column == column[order]).all()
    assert [len(column) for column in in_order(codes[:0], places[:0])] == [0, 0]


def test_times_very_far_apart_are_told_apart() -> None:
    times = [-(2**62), -(2**62) + 40, 0, 30, 71, 2**62, 2**62 + 41]
    rows = [(session, f"{session}{n}", time) for session in "st" for n, time in enumerate(times)]
    log = Interactions.of(*(list(column) for column in zip(*rows, strict=True)))
    pairs = mine_pairs(log, MiningSettings(window=Window(seconds=40), min_support=1))
    assert set(found(pairs)) == {(f"{one}{a}", f"{one}{b}") for one in "st" for a, b in ((0, 1), (2, 3))}


def test_the_heaviest_partners_stay() -> None:
    log = Interactions.of([f"s{n}" for n in range(5) for _ in "xx"], list("ababacbdbd"))
    assert set(found(mine_pairs(log, MiningSettings(min_support=1, cap=1)))) == {("a", "b")}


def test_swing_of_a_pair_in_very_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "MAX_COMMON", 3)
    log = Interactions.of([f"s{n}" for n in range(9) for _ in "xx"], list("ab" * 9))
    assert found(mine_pairs(log, MiningSettings(weighting="swing"))) == {
        ("a", "b"): (pytest.approx(3 * 1 / (2 * 3)), 9)
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weighting": "cosine"}, "'cosine' is not known; choose from count, pmi, swing"),
        ({"cap": 0}, "cap: input should be greater than 0, found 0"),
        ({"min_support": 0}, "min_support: .*greater than 0"),
        ({"max_session": 1}, "max_session: .*greater than or equal to 2, found 1"),
        ({"alpha": 0.0}, "alpha: .*greater than 0"),
        ({"window": 0}, "window.items: .*greater than 0"),
        ({"window": "soon"}, "window: a window is a number of items .*not 'soon'"),
        ({"window": ["5", "7"]}, "window: a window has one limit in items, found 5 and 7"),
        ({"min_suport": 2}, "did you mean 'min_support'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], words: str) -> None:
    with pytest.raises(TgqError, match=words):
        parse(MiningSettings, settings, "mining")


def test_seconds_without_times() -> None:
    with pytest.raises(TgqError, match=r"needs times.*name it with --time"):
        mine_pairs(Interactions.of(["s"], ["a"]), MiningSettings(window=Window(seconds=5)))


def test_no_interactions_give_no_pairs() -> None:
    assert len(mine_pairs(Interactions.of([], []))) == 0


# The table of pairs.


def test_pairs_are_turned_summed_and_sorted(tmp_path: Path) -> None:
    pairs = Pairs.of(["z", "a", "b", "c"], ["a", "z", "b", "a"], [1.0, 2.5, 9.0, 1.0], [1, 2, 9, 1])
    assert found(pairs) == {("a", "c"): (1.0, 1), ("a", "z"): (3.5, 3)}
    pairs.write(tmp_path / "pairs.parquet")
    assert Pairs.read(tmp_path / "pairs.parquet").table.equals(pairs.table)
    assert pairs.ids() == ["a", "c", "z"]
    assert pairs.positions(["z", "c", "a"]).tolist() == [[2, 1], [2, 0]]
    assert found(pairs.within(["a", "c"])) == {("a", "c"): (1.0, 1)}
    with pytest.raises(TgqError, match="1 pair with an unknown item"):
        pairs.positions(["a", "c"])


def test_a_plain_list_of_pairs_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"b": [1, 3], "a": [2, 3]}), tmp_path / "list.parquet")
    assert found(Pairs.read(tmp_path / "list.parquet")) == {("1", "2"): (1.0, 1)}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "wrong.parquet")
    with pytest.raises(TgqError, match="not a file of pairs"):
        Pairs.read(tmp_path / "wrong.parquet")
    with pytest.raises(TgqError, match="no file of pairs"):
        Pairs.read(tmp_path / "none.parquet")


@pytest.fixture
def related(tmp_path: Path) -> Path:
    columns = {"id": ["a", "b", "a", "c"], "other": ["b", "a", "d", "c"], "kind": ["buy", "buy", "view", "buy"]}
    pq.write_table(pa.table(columns), tmp_path / "related.parquet")
    return tmp_path / "related.parquet"


def test_co_purchase_lists(related: Path) -> None:
    assert found(pairs_from_related(related)) == {("a", "b"): (2.0, 2), ("a", "d"): (1.0, 1)}
    assert found(pairs_from_related(related, ["view"])) == {("a", "d"): (1.0, 1)}
    with pytest.raises(TgqError, match="no kind 'bought'; it has buy, view"):
        pairs_from_related(related, ["bought"])
    with pytest.raises(TgqError, match="there is no file"):
        pairs_from_related(related.with_name("none.parquet"))
    pq.write_table(pa.table({"id": ["a"]}), related)
    with pytest.raises(TgqError, match="not id, other and kind"):
        pairs_from_related(related)


def test_pairs_across_parts_are_left_out() -> None:
    split = ItemSplit(tuple("abcdef"), np.array([0, 0, 1, 1, 2, 2], np.int8))
    sets = split_pairs(Pairs.of(list("acebax"), list("bdfcfy")), split)
    assert [set(found(part)) for part in (sets.train, sets.val, sets.test)] == [
        {("a", "b")},
        {("c", "d")},
        {("e", "f")},
    ]
    assert sets.split is split


# The commands.


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["pairs", *map(str, words)])
    if isinstance(result.exception, TgqError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_mine_and_show(tmp_path: Path) -> None:
    LOG.write(tmp_path / "log.parquet")
    to = tmp_path / "pairs.parquet"
    output = run(
        "mine", tmp_path / "log.parquet", "--to", to, "--weighting", "swing", "--window", "2", "--window", "1m"
    )
    assert "12 rows read" in output
    assert "2 pairs of 3 items" in output
    assert set(found(Pairs.read(to))) == {("a", "b"), ("a", "c")}
    assert "a  b   0.383      3" in run("show", to)
    assert "1.3 an item" in run("show", to, "c")
    with pytest.raises(TgqError, match="no pair with the item 'zz'"):
        run("show", to, "zz")


def test_mine_lists_and_dates(tmp_path: Path, related: Path) -> None:
    to = tmp_path / "pairs.parquet"
    run("mine", related, "--kind", "buy", "--to", to)
    assert set(found(Pairs.read(to))) == {("a", "b")}
    assert "1 pair of" in run("mine", to, "--to", tmp_path / "again.parquet")
    log = tmp_path / "log.csv"
    log.write_text("user,item,t_dat\nu,a,2020-01-01\nu,b,2020-01-01\nu,c,2020-02-01\nu,,2020-02-01\n")
    output = run("mine", log, "--to", to, "--min-support", "1", "--before", "2020-01-15", "--overwrite")
    assert "row 4: item is empty" in " ".join(output.split())
    assert set(found(Pairs.read(to))) == {("a", "b")}
    with pytest.raises(TgqError, match="is not a date"):
        run("mine", log, "--to", to, "--before", "spring", "--overwrite")
    with pytest.raises(TgqError, match="not 'soon'"):
        run("mine", log, "--to", to, "--window", "soon", "--overwrite")
