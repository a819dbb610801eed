"""Approximate neighbours, held against exact ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.store import approximate
from tgqformer.store.approximate import build_approximate
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
    assert told.cells == 110 and told.looked < 0.5 and told.sample == 1000
    assert json.loads((tmp_path / "near/approximate.json").read_text())["recall"] == told.recall
    assert found.ids() == exact.ids() and not list(tmp_path.glob(".near*"))


def test_a_second_call_gives_the_same_and_needs_leave(clustered, tmp_path: Path, write) -> None:
    embeddings = write(clustered[:900])
    first, _ = build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False)
    before = rows_of(first)
    with pytest.raises(TgqError, match="overwrite"):
        build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False)
    again, _ = build_approximate(embeddings, tmp_path / "n", k=5, show_progress_bar=False, overwrite=True)
    assert all(np.array_equal(one, other) for one, other in zip(before, rows_of(again), strict=True))


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


def test_the_command_says_the_recall(clustered, tmp_path: Path, write) -> None:
    folder, to = write(clustered[:800]).path, tmp_path / "n"
    done = CliRunner().invoke(app, ["neighbours", str(folder), "--to", str(to), "-k", "5", "--approximate"])
    assert done.exit_code == 0, done.output
    assert "recall" in done.output and "5 neighbours of each of 800 items" in done.output
    refused = CliRunner().invoke(app, ["neighbours", str(folder), "--to", str(to), "--approximate", "--device", "cuda"])
    assert refused.exit_code != 0
