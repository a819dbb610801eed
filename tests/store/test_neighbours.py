from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer import topk
from tgqformer.errors import TgqError
from tgqformer.store.embeddings import Embeddings, Vectors
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.store.rows import unit
from tgqformer.topk import vectors as vectors_of
from tgqformer.topk.exact import exact, exact_of, nearest_others
from tgqformer.topk.vectors import TopK, top_k


def clusters(count: int, dim: int, seed: int = 0) -> Vectors:
    luck = np.random.default_rng(seed)
    middle = luck.normal(size=(20, dim))[luck.integers(0, 20, count)]
    return (middle + 0.7 * luck.normal(size=(count, dim))).astype(np.float32)


def normal(vectors: Vectors) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)


def brute_force(pool: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Score every pair in float64, one by one; order by score, then position."""
    exact = pool.double()
    positions, scores = [], []
    for query in range(len(pool)):
        row = (exact * exact[query]).sum(-1).float().numpy()
        others = [i for i in range(len(pool)) if i != query]
        best = sorted(others, key=lambda i: (-row[i], i))[:k]
        positions.append(best)
        scores.append(row[best])
    return np.array(positions), np.array(scores)


def answers(pool: torch.Tensor, k: int, block: int = 50) -> tuple[np.ndarray, np.ndarray]:
    search = TopK(pool, k)
    parts = [search.of(start, min(start + block, len(pool))) for start in range(0, len(pool), block)]
    return tuple(torch.cat(part).numpy() for part in zip(*parts, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(("count", "dim", "k"), [(300, 8, 10), (257, 33, 100), (130, 5, 129), (2, 3, 1)])
def test_equal_to_brute_force(monkeypatch: pytest.MonkeyPatch, count: int, dim: int, k: int, half: bool) -> None:
    monkeypatch.setattr(vectors_of, "COLUMNS", 64)
    monkeypatch.setattr(vectors_of, "has_bfloat16", lambda device: half)
    pool = normal(clusters(count, dim))
    positions, scores = answers(pool, k)
    expected, expected_scores = brute_force(pool, k)
    assert np.array_equal(positions, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert positions.dtype == np.int32 and scores.dtype == np.float32


@given(
    kinds=st.lists(st.integers(0, 5), min_size=2, max_size=90),
    k=st.integers(1, 30),
    dim=st.integers(2, 9),
    columns=st.sampled_from([7, 32, 1000]),
)
@settings(max_examples=60, deadline=None)
def test_ties_stand_in_the_order_of_the_pool(kinds: list[int], k: int, dim: int, columns: int) -> None:
    few = normal(clusters(5, dim, seed=3))
    pool = torch.cat([few, torch.zeros(1, dim)])[torch.tensor(kinds)]  # kind 5: an item without any vector
    k = min(k, len(pool) - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_of, "COLUMNS", columns)
        positions, scores = answers(pool, k, block=13)
    expected, expected_scores = brute_force(pool, k)
    assert np.array_equal(positions, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


@pytest.mark.parametrize("half", [True, False])
def test_coarse_products_find_what_sorting_whole_products_finds(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    monkeypatch.setattr(vectors_of, "COLUMNS", 2048)
    monkeypatch.setattr(vectors_of, "GROUP", 16)
    monkeypatch.setattr(vectors_of, "has_bfloat16", lambda device: half)
    vectors = clusters(5000, 24)
    vectors[::50] = vectors[7]  # copies, which tie
    search = TopK(normal(vectors), 50)
    assert search._near(search.pool[:64], torch.arange(64), 66) is not None
    near = search.of(0, 64)
    monkeypatch.setattr(TopK, "_near", lambda *_: None)
    whole = search.of(0, 64)
    assert torch.equal(near[0], whole[0]) and torch.equal(near[1], whole[1])


def test_more_copies_than_are_kept_spare_are_still_in_order() -> None:
    vectors = clusters(400, 16)
    vectors[::2] = vectors[0]  # 200 copies; the copies' top 10 is decided by position alone
    positions, scores = answers(normal(vectors), 10)
    assert positions[0].tolist() == list(range(2, 22, 2))
    assert positions[6].tolist() == [0, 2, 4, 8, 10, 12, 14, 16, 18, 20]
    assert np.allclose(scores[6], 1)


def test_block_sizes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = normal(np.repeat(clusters(120, 24), 3, axis=0))
    first, _ = answers(pool, 50, block=360)
    monkeypatch.setattr(vectors_of, "COLUMNS", 37)
    second, _ = answers(pool, 50, block=7)
    assert np.array_equal(first, second)


@given(
    levels=st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=5), k=st.integers(0, 6)
)
@settings(max_examples=60, deadline=None)
def test_best_of_scores_takes_ties_by_position(levels: list[list[int]], k: int) -> None:
    scores = np.array(levels, np.float32)
    scores[scores == -2] = -np.inf
    positions, best = topk.best_of(scores, k)
    for row, found, values in zip(scores.tolist(), positions.tolist(), best.tolist(), strict=True):
        assert found == sorted(range(6), key=lambda item: (-row[item], item))[:k]
        assert values == [row[item] for item in found]


def test_best_entries_are_those_of_each_row() -> None:
    row, position = np.array([1, 0, 1, 1, 3]), np.array([5, 2, 1, 7, 0])
    kept, rank = topk.best_entries(row, position, np.array([0.5, 0.1, 0.5, 0.9, 0.0], np.float32), 2)
    assert list(zip(kept.tolist(), rank.tolist(), strict=True)) == [(1, 0), (3, 0), (2, 1), (4, 0)]


def test_k_beyond_the_pool_is_refused_by_the_search() -> None:
    with pytest.raises(ValueError, match="fewer than k = 5"):
        TopK(torch.eye(5), 5)


def test_a_worked_case_from_disk_to_disk(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    # Lengths differ on purpose: cosine must not see them.
    vectors = np.array([[2, 0], [1, 1], [0, 3], [-1, 0]], np.float32)
    built = build_neighbours(write(vectors, ["east", "north-east", "north", "west"], size=3), tmp_path / "n", k=2)
    half = np.float32(np.sqrt(0.5))
    assert built.of("east") == [("north-east", pytest.approx(half)), ("north", 0.0)]
    assert [name for name, _ in built.of("north-east")] == ["east", "north"]  # a tie: pool order
    assert [name for name, _ in built.of("west")] == ["north", "north-east"]
    assert len(built) == 4 and "east" in built and "south" not in built
    assert not list((tmp_path / "n").glob(".pool*"))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_small_pools_give_all_there_is(tmp_path: Path, write, count: int) -> None:  # type: ignore[no-untyped-def]
    built = build_neighbours(write(clusters(count, 4)), tmp_path / "n", k=100)
    for i in range(count):
        assert {name for name, _ in built.of(f"i{i}")} == {f"i{j}" for j in range(count)} - {f"i{i}"}


def test_a_cosine_is_one_at_most(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    vectors = np.tile(np.array([[1, 0.0001], [3, 5], [7, 9.7]], np.float32), (20, 1))
    built = build_neighbours(write(vectors), tmp_path / "n", k=15)
    kept = np.concatenate([scores for _, _, scores in built.partitions()])
    assert kept.max() > 1, "as the products were rounded"
    assert max(score for item_id in built.ids() for _, score in built.of(item_id)) == 1
    assert max(built.row(item_id)[2].max() for item_id in built.ids()) == 1
    built.to_parquet(tmp_path / "n.parquet")
    assert max(map(max, pq.read_table(tmp_path / "n.parquet")["scores"].to_pylist())) == 1


def test_parquet_holds_what_lookups_give(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    built = build_neighbours(write(clusters(150, 6)), tmp_path / "n", k=5)
    built.to_parquet(tmp_path / "n.parquet")
    table = pq.read_table(tmp_path / "n.parquet").to_pydict()
    assert table["id"] == [f"i{i}" for i in range(150)]
    for row, item_id in enumerate(table["id"]):
        assert list(zip(table["neighbours"][row], table["scores"][row], strict=True)) == built.of(item_id)


def test_unknown_ids_name_the_nearest(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    built = build_neighbours(write(clusters(3, 4), ["shoe-1", "shoe-2", "hat"]), tmp_path / "n", k=2)
    with pytest.raises(TgqError, match="no item 'shoe-9'; did you mean 'shoe-2'"):
        built.of("shoe-9")
    with pytest.raises(TgqError, match="no item '77'; its ids are like"):
        built.of("77")


def test_wrong_folders_are_refused(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    embeddings = write(clusters(30, 4))
    build_neighbours(embeddings, tmp_path / "n", k=2)
    with pytest.raises(TgqError, match="holds neighbours with k 2, not 3"):
        build_neighbours(embeddings, tmp_path / "n", k=3)
    with pytest.raises(TgqError, match="at least 1"):
        build_neighbours(embeddings, tmp_path / "m", k=0)
    with pytest.raises(TgqError, match="no manifest of neighbours"):
        Neighbours.open(embeddings.path)
    (tmp_path / "n" / "ids.arrow").unlink()
    with pytest.raises(TgqError, match=r"ids\.arrow is missing"):
        Neighbours.open(tmp_path / "n")
    unfinished = Embeddings.create(tmp_path / "u", dim=2, model_version="v", ids_fingerprint="f", count=9)
    with pytest.raises(TgqError, match="lacks 1 of 1"):
        build_neighbours(unfinished, tmp_path / "o")


def test_what_vectors_were_made_from_goes_along(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    vectors, told = clusters(6, 4), [f"{n:032x}" for n in range(6)]
    plain = write(vectors, size=3)
    assert list(build_neighbours(plain, tmp_path / "plain", k=2).contents()) == [None] * 6
    embeddings = write(vectors, size=3, name="told")
    for number, (start, stop) in enumerate(((0, 3), (3, 6))):
        embeddings.write(number, [f"i{i}" for i in range(start, stop)], vectors[start:stop], told[start:stop])
    assert [part.contents for part in Embeddings.open(embeddings.path)] == [told[:3], told[3:]]
    assert list(build_neighbours(embeddings, tmp_path / "n", k=2).contents()) == told
    assert list(build_neighbours(embeddings, tmp_path / "n", k=2).contents()) == told  # made already
    embeddings.write(1, ["i3", "i4", "i5"], vectors[3:])  # embedded again by a writer that does not tell
    assert list(build_neighbours(embeddings, tmp_path / "half", k=2).contents()) == [*told[:3], None, None, None]
    with pytest.raises(TgqError, match="neighbours of other content"):
        build_neighbours(embeddings, tmp_path / "n", k=2)
    with pytest.raises(TgqError, match="takes 3 contents; got 1"):
        embeddings.write(0, ["i0", "i1", "i2"], vectors[:3], ["x"])


BUILD = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import build_neighbours
embeddings = Embeddings.open(Path(sys.argv[1]))
print("ready", flush=True)
build_neighbours(embeddings, Path(sys.argv[2]), k=20, show_progress_bar=False)
"""


def test_a_killed_job_goes_on_and_ends_the_same(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    embeddings, luck = write(clusters(6000, 32), size=100), random.Random(2)
    target, parts, killed = tmp_path / "n", 0, 0
    while killed < 2:
        job = subprocess.Popen([sys.executable, "-c", BUILD, str(embeddings.path), str(target)], stdout=subprocess.PIPE)
        assert job.stdout is not None and job.stdout.readline() == b"ready\n"
        while len(list(target.glob("part-*.arrow"))) <= parts and job.poll() is None:
            time.sleep(0.005)
        time.sleep(luck.uniform(0, 0.03))
        job.kill()
        job.wait()
        job.stdout.close()
        parts, killed = len(list(target.glob("part-*.arrow"))), killed + 1
        if parts == 60:  # the kill came too late: this machine is busy
            shutil.rmtree(target)
            parts = killed = 0
    resumed = build_neighbours(embeddings, target, k=20)
    whole = build_neighbours(embeddings, tmp_path / "whole", k=20)
    for i in range(0, 6000, 7):
        assert resumed.of(f"i{i}") == whole.of(f"i{i}")
    assert not list(target.glob(".*")), "what the killed jobs left is gone"


def test_spans_are_answered_in_order_and_torch_keeps_its_threads() -> None:
    pool = normal(clusters(200, 8))
    spans = [(start, start + 20) for start in range(0, 200, 20)]
    whole, before = TopK(pool, 5).of(0, 200), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        positions = torch.cat([positions for positions, _ in top_k(pool, 5, spans)])
        assert torch.equal(positions, whole[0]) and torch.get_num_threads() == 3
        answers = top_k(pool, 5, spans)
        next(answers)
        answers.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "k"), [(2, 1), (40, 39), (700, 10), (1500, 5)])
def test_without_torch_the_lists_are_the_same_ties_too(count: int, k: int) -> None:
    rng = np.random.default_rng(count)
    pool = unit(rng.normal(size=(count, 6)).astype(np.float32))
    pool[rng.integers(count, size=count // 2)] = pool[0]  # more equal ones than places
    found = [np.concatenate(part) for part in zip(*nearest_others(pool, k), strict=True)]
    positions, scores = TopK(torch.from_numpy(pool), k).of(0, count)
    np.testing.assert_array_equal(found[0], positions.numpy())
    np.testing.assert_array_equal(found[1], scores.numpy())


@pytest.mark.parametrize(("count", "dim", "width"), [(300, 1, 5), (300, 33, 1), (700, 32, 40), (40, 384, 30)])
def test_exact_products_are_the_same_bits_in_any_batch(count: int, dim: int, width: int) -> None:
    luck = np.random.default_rng(0)
    pool = luck.normal(size=(count, dim)).astype(np.float32)
    rows, others = luck.permutation(count), luck.integers(0, count, (count, width))
    found = exact_of(pool, rows, others)
    for at in range(count):
        np.testing.assert_array_equal(found[at], exact(pool[rows[at]], pool[others[at]]))
        alone = np.einsum("d,d->", pool[rows[at]].astype(np.float64), pool[others[at, 0]].astype(np.float64))
        assert abs(found[at, 0] - alone) <= 1e-6 * dim
