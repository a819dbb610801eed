"""Approximate neighbours, held against exact ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from calls import ran, refused
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.cluster.work import Work
from tgqformer.errors import TgqError
from tgqformer.files import with_check, write_json
from tgqformer.objects import Disk
from tgqformer.store import approximate, cells
from tgqformer.store.approximate import ApproximateWork, build_approximate, make_approximate
from tgqformer.store.cells import Cells
from tgqformer.store.embeddings import Embeddings, fingerprint_of, normalised_pool
from tgqformer.store.neighbours import Neighbours, build_neighbours
from tgqformer.types import Vectors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clustered() -> Vectors:
    luck = np.random.default_rng(0)
    middle = luck.normal(size=(60, 16))[luck.integers(0, 60, 3000)]
    vectors = (middle + 0.3 * luck.normal(size=(3000, 16))).astype(np.float32)
    vectors[::100] = vectors[1]  # copies, which tie
    return vectors


def rows_of(found: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    parts = [(positions, scores) for _, positions, scores in found.partitions()]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def test_nearly_all_are_found_and_scores_are_exact(clustered, tmp_path: Path, write) -> None:
    embeddings = write(clustered, size=700)
    exact = build_neighbours(embeddings, tmp_path / "exact", k=20, show_progress_bar=False)
    found, told = build_approximate(embeddings, tmp_path / "near", k=20, show_progress_bar=False)
    (positions, scores), (truth, best) = rows_of(found), rows_of(exact)
    assert positions.shape == truth.shape == (3000, 20)
    share = (scores >= best[:, -1:] - 1e-6).mean()
    assert share >= 0.98 and abs(share - told.recall) < 0.02
    same = positions == truth
    assert same.mean() > 0.9 and np.array_equal(scores[same], best[same])
    assert (np.diff(scores, axis=1) <= 0).all() and (positions != np.arange(3000)[:, None]).all()
    assert told.cells == 15 and told.looked < 0.5 and told.sample == 1000
    assert json.loads((tmp_path / "near/approximate.json").read_text())["recall"] == told.recall
    assert found.ids() == exact.ids() and not list(tmp_path.glob(".near*"))


def test_of_many_centres_nearly_the_nearest_are_found(clustered, tmp_path: Path, write, monkeypatch) -> None:
    """Of 300 centres the nearest or a near one is found; the cells of a pool are as good."""
    vectors = torch.nn.functional.normalize(torch.from_numpy(clustered))
    centres = vectors[torch.randperm(3000, generator=torch.Generator().manual_seed(0))[:300]]
    truth = cells._near(vectors, centres, 1)
    assert torch.equal(truth.flatten(), (vectors @ centres.T).argmax(1))
    monkeypatch.setattr(cells, "MANY", 20)
    monkeypatch.setattr(cells, "MIDDLES", 2)
    monkeypatch.setattr(cells, "WIDE", 1)
    found = cells._near(vectors, centres, 1)
    assert 0.8 < (found == truth).float().mean() < 1
    built, told = build_approximate(write(clustered, size=700), tmp_path / "near", k=20, show_progress_bar=False)
    assert told.cells == 15 and told.recall > 0.98 and len(built) == 3000


def test_cutting_a_pool_costs_an_item_little_more_where_the_cells_are_four_times_as_many(monkeypatch) -> None:
    """The products of an item with centres grow with the root of their number; one with all of them would be four."""
    monkeypatch.setattr(cells, "MANY", 100)
    monkeypatch.setattr(cells, "MIDDLES", 2)
    monkeypatch.setattr(cells, "WIDE", 4)
    monkeypatch.setattr(cells, "PER_CELL", 20)
    nearest, products, spent = cells._nearest, [0], []

    def counted(vectors: torch.Tensor, centres: torch.Tensor, count: int) -> torch.Tensor:
        products[0] += len(vectors) * len(centres)
        return nearest(vectors, centres, count)

    monkeypatch.setattr(cells, "_nearest", counted)
    monkeypatch.setattr(cells, "_probes", lambda *_: 3)  # it ranks all centres, for 1,000 items however many there are
    monkeypatch.setattr(cells, "ENOUGH", 0)
    for count in (8000, 32000):
        luck = torch.Generator().manual_seed(0)
        pool = torch.nn.functional.normalize(torch.randn(count, 8, generator=luck), dim=1)
        products[0] = 0
        Cells.made(pool, 10)
        spent.append(products[0] / count)
    assert spent[1] < 2.2 * spent[0]


def test_more_cells_are_searched_where_a_sample_finds_too_few(clustered, tmp_path: Path, write, monkeypatch) -> None:
    monkeypatch.setattr(cells, "_probes", lambda *_: 1)
    _, told = build_approximate(write(clustered, size=700), tmp_path / "near", k=20, show_progress_bar=False)
    assert told.probes > 1 and told.recall > 0.98


def test_vectors_in_no_cells_are_refused_before_the_work(tmp_path: Path, write, monkeypatch) -> None:
    """However many cells are searched, too few are found: it is said before the items are searched."""
    luck = np.random.default_rng(0)
    monkeypatch.setattr(cells.Known, "recall", lambda *_: 0.5)
    monkeypatch.setattr(ApproximateWork, "fill", lambda *_: pytest.fail("the items were searched"))
    with pytest.raises(TgqError, match="lie in no cells"):
        build_approximate(write(luck.normal(size=(3000, 8)).astype(np.float32)), tmp_path / "near", k=20)
    assert not list(tmp_path.glob(".near*"))


def test_copies_among_many_centres_stay_with_copies(monkeypatch) -> None:
    """Seventy of a hundred centres are the same: each finds one of them, and the others one of their own."""
    luck = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(400, 8, generator=luck))
    centres[:280] = centres[0]
    monkeypatch.setattr(cells, "MANY", 100)
    found = cells._near(centres, centres, 1).flatten()
    assert (found[:280] < 280).all() and (found[280:] == torch.arange(280, 400)).float().mean() > 0.9


@pytest.mark.parametrize("probes", [1, 3])
def test_a_search_finds_the_nearest_of_the_cells_that_it_probes(probes: int) -> None:
    """Held against a count by hand; cells of 1 to 140 items, and two that tie."""
    luck = torch.Generator().manual_seed(0)
    pool = torch.nn.functional.normalize(torch.randn(600, 8, generator=luck))
    pool[1] = pool[0]
    centres = torch.nn.functional.normalize(torch.randn(9, 8, generator=luck))
    cell = torch.multinomial(torch.tensor([0.0, 1, 1, 2, 3, 5, 5, 6, 6]), 600, replacement=True, generator=luck)
    cell[cell == 1], cell[7] = 2, 1
    beside = (centres @ centres.T).argsort(dim=1, descending=True)
    searched = Cells(pool, centres, cell, beside, probes)
    rows = torch.arange(0, 600, 3)
    positions, scores, _ = searched._search(rows, 20, probes)
    for row, found, said in zip(rows, positions, scores, strict=True):
        probed = (pool[row] @ centres.T).argsort(descending=True)[:probes]
        there = [one for one in range(600) if cell[one] in probed and one != row]
        products = pool[there].double() @ pool[row].double()
        order = sorted(range(len(there)), key=lambda at: (-float(products[at].float()), there[at]))[:20]
        full = len(order)
        assert found[:full].tolist() == [there[at] for at in order]
        torch.testing.assert_close(said[:full], products[order].float(), rtol=0, atol=2e-7)
        assert (said[full:] == -torch.inf).all()


def test_items_of_small_cells_look_further_until_their_lists_are_full(
    tmp_path: Path, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen items have a cell of their own, and look into that alone at first."""
    luck = np.random.default_rng(0)
    far = np.zeros((15, 16), np.float32)
    far[:, 0] = 9
    crowd = np.repeat(luck.normal(size=(10, 16)), 200, axis=0) * np.array([0.1, *[1] * 15])
    pool = (np.concatenate([crowd, far]) + 0.05 * luck.normal(size=(2015, 16))).astype(np.float32)
    embeddings = write(pool, size=700)
    search, asked = Cells.search, set[int]()
    monkeypatch.setattr(cells, "_probes", lambda *_: 1)
    monkeypatch.setattr(cells, "ENOUGH", 0)
    monkeypatch.setattr(approximate, "LEAST", 0)
    monkeypatch.setattr(Cells, "search", lambda *given, times=1, k: asked.add(times) or search(*given, k, times=times))
    found, _ = build_approximate(embeddings, tmp_path / "near", k=20, show_progress_bar=False)
    assert max(asked) > 1
    exact = build_neighbours(embeddings, tmp_path / "exact", k=20, show_progress_bar=False)
    (positions, scores), (truth, best) = rows_of(found), rows_of(exact)
    assert np.isfinite(scores).all() and (positions >= 0).all()
    np.testing.assert_array_equal(positions[2000:, :14], truth[2000:, :14])
    np.testing.assert_array_equal(scores[2000:, :14], best[2000:, :14])


def test_copies_do_not_make_a_cell_too_large(tmp_path: Path, write) -> None:
    """Two thirds of the items have no picture and the same words."""
    luck = np.random.default_rng(0)
    middle = luck.normal(size=(20, 16))[luck.integers(0, 20, 6000)]
    pool = (middle + 0.3 * luck.normal(size=(6000, 16))).astype(np.float32)
    pool[luck.permutation(6000)[:4000]] = pool[0]
    embeddings = write(pool, size=700)
    sizes = cells.Cells.made(normalised_pool(embeddings, tmp_path / "pool"), 20).items.sizes
    assert sizes.min() > 0 and sizes.max() == 8 * 6000 / 30
    found, told = build_approximate(embeddings, tmp_path / "near", k=20, show_progress_bar=False)
    assert told.recall >= 0.98 and told.cells == len(sizes)
    assert (rows_of(found)[1][(pool == pool[0]).all(1)] > 0.999).all()


def test_a_second_call_does_nothing_and_another_needs_leave(clustered, tmp_path: Path, write) -> None:
    embeddings = write(clustered[:900])
    first, how = build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False)
    before, stood = rows_of(first), (tmp_path / "n/part-00000.arrow").stat()
    assert build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False)[1] == how
    assert (tmp_path / "n/part-00000.arrow").stat() == stood
    with pytest.raises(TgqError, match="overwrite"):
        build_approximate(embeddings, tmp_path / "n", k=6, show_progress_bar=False)
    again, _ = build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False, overwrite=True)
    assert all(np.array_equal(one, other) for one, other in zip(before, rows_of(again), strict=True))


@pytest.mark.parametrize("earlier", [False, True])
def test_exact_ones_are_not_taken_for_done_where_approximate_ones_stand(
    clustered, tmp_path: Path, write, earlier: bool
) -> None:
    embeddings, to = write(clustered[:900]), tmp_path / "n"
    build_approximate(embeddings, to, k=5, show_progress_bar=False)
    if earlier:  # a manifest that does not say how they were found
        said = json.loads((to / "manifest.json").read_text())
        write_json(to / "manifest.json", with_check({n: said[n] for n in said if n not in ("found", "check")}))
    with pytest.raises(TgqError, match="neighbours with found 'approximate', not 'exact'; they must not be mixed"):
        build_neighbours(embeddings, to, k=5, show_progress_bar=False)
    build_neighbours(embeddings, to, k=5, show_progress_bar=False, overwrite=True)
    assert Neighbours.open(to).manifest.found == "exact" and not (to / "approximate.json").exists()


def test_a_low_recall_is_refused(clustered, tmp_path: Path, write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "LEAST", 1.01)
    with pytest.raises(TgqError, match=r"below 1\.01, so nothing was written"):
        build_approximate(write(clustered), tmp_path / "n", k=20, show_progress_bar=False)
    assert not (tmp_path / "n").exists() and not list(tmp_path.glob(".n*"))


def test_vectors_without_cells_are_refused(tmp_path: Path, write) -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 128)).astype(np.float32)
    with pytest.raises(TgqError, match="these vectors lie in no cells"):
        build_approximate(write(vectors), tmp_path / "n", k=50, show_progress_bar=False)
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("count", [2, 3, 40])
def test_small_pools_are_searched_whole(tmp_path: Path, write, count: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    found, told = build_approximate(write(vectors), tmp_path / "n", k=100, show_progress_bar=False)
    exact = build_neighbours(write(vectors, name="again"), tmp_path / "e", k=100, show_progress_bar=False)
    assert np.array_equal(rows_of(found)[0], rows_of(exact)[0]) and told.recall == 1


def test_there_must_be_two_vectors(tmp_path: Path, write) -> None:
    with pytest.raises(TgqError, match="at least two"):
        build_approximate(write(np.ones((1, 4), np.float32)), tmp_path / "n", show_progress_bar=False)
    with pytest.raises(TgqError, match="at least 1; got 0"):
        build_approximate(write(np.ones((5, 4), np.float32), name="five"), tmp_path / "n", 0)


@pytest.fixture(scope="module")
def whole(clustered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of 3,000 items, and the neighbours that one process finds, 512 items a partition."""
    folder = tmp_path_factory.mktemp("cut")
    ids = [f"i{n}" for n in range(3000)]
    shape = {"dim": 16, "count": 3000, "partition_size": 700}
    made = Embeddings.create(folder / "e", model_version="m", ids_fingerprint=fingerprint_of(ids), **shape)
    for number in made.missing():
        start, stop = made.bounds(number)
        made.write(number, ids[start:stop], clustered[start:stop])
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        ran(f"neighbours {folder}/e --to {folder}/n -k 20 --approximate")
    return folder


def small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(approximate, "ROWS", 256)
    patch.setattr(approximate, "BLOCK", 512)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_make_the_bytes_of_one_process(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    words = f"neighbours {whole}/e --to {tmp_path}/n -k 20 --approximate"
    assert "not finished yet: 4 partitions are missing (0, 2, 3, 5; counted from 0)" in ran(f"{words} --shard 2/3")
    assert not (tmp_path / "n").exists()
    assert "is not finished: 4 partitions are missing" in refused(f"{words} --finish")
    assert "must not be mixed" in refused(f"{words.replace('-k 20', '-k 10')} --shard 1/3")
    ran(f"{words} --shard 1/3")
    assert "recall" in ran(f"{words} --shard 3/3")
    assert content(tmp_path / "n") == content(whole / "n")
    assert [path.name for path in tmp_path.iterdir()] == ["n"]
    assert "nothing to do" in ran(f"{words} --finish") and "nothing to do" in ran(f"{words} --shard 2/3")
    assert "none of them may replace it" in refused(f"{words} --shard 1/2 --overwrite")


def test_a_task_of_a_cluster_takes_up_what_was_begun(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)

    def make(work: Work) -> int:
        return sum(sum(ApproximateWork.open(work.path, whole / "e").fill([one])) for one in work.missing())

    made = make_approximate(Embeddings.open(whole / "e"), tmp_path / "n", 20, make)
    assert isinstance(made, tuple) and content(tmp_path / "n") == content(whole / "n")


def test_a_low_recall_of_shards_is_refused_and_nothing_stays(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    monkeypatch.setattr(approximate, "LEAST", 1.01)
    words = f"neighbours {whole}/e --to {tmp_path}/n -k 20 --approximate"
    ran(f"{words} --shard 1/2")
    assert "below 1.01, so nothing was written" in refused(f"{words} --shard 2/2")
    assert not list(tmp_path.iterdir())


JOB = """
import os, signal, sys
from tgqformer.cli import main
from tgqformer.store import approximate
approximate.ROWS, approximate.BLOCK = 256, 512
write, dies = approximate.PartitionFolder.write, int(sys.argv.pop(1))
def dying(self, partition, *rest, **more):
    if partition == dies:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, partition, *rest, **more)
approximate.PartitionFolder.write = dying
main()
"""


def test_a_killed_job_goes_on_to_the_same_bytes(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    words = f"neighbours {whole}/e --to {tmp_path}/n -k 20 --approximate"
    done = subprocess.run([sys.executable, "-c", JOB, "3", *words.split()], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    plan = tmp_path / ".n.approximate" / approximate.PLAN
    begun = plan.stat()
    assert "2 partitions are missing (4, 5" in ran(f"{words} --shard 4/6") and plan.stat() == begun
    ran(words)
    assert content(tmp_path / "n") == content(whole / "n")
    assert [path.name for path in tmp_path.iterdir()] == ["n"]


def test_the_plan_that_is_written_first_counts(whole: Path, tmp_path: Path) -> None:
    pool, place = normalised_pool(Embeddings.open(whole / "e"), tmp_path / "pool.npy"), Disk(tmp_path)
    cells = approximate._planned(pool, 20, place)
    written = (tmp_path / approximate.PLAN).read_bytes()
    slower, looks = Disk(tmp_path), iter([False])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slower, "has", lambda name: next(looks, True))  # it looked before the other had written
        approximate._planned(pool, 20, slower)
    assert (tmp_path / approximate.PLAN).read_bytes() == written and len(list(tmp_path.glob("cells-*.arrow"))) == 2
    read = approximate._planned(pool, 20, place)
    assert read.probes == cells.probes and torch.equal(cells.items.order, read.items.order)
    assert torch.equal(cells.centres, read.centres) and torch.equal(cells.beside, read.beside)


def test_the_command_says_the_recall(clustered, tmp_path: Path, write) -> None:
    folder, to = write(clustered[:800]).path, tmp_path / "n"
    done = CliRunner().invoke(app, ["neighbours", str(folder), "--to", str(to), "-k", "5", "--approximate"])
    assert done.exit_code == 0, done.output
    assert "recall" in done.output and "5 neighbours of each of 800 items" in done.output
    refused = CliRunner().invoke(app, ["neighbours", str(folder), "--to", str(to), "--approximate", "--device", "cuda"])
    assert refused.exit_code != 0
