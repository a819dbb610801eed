from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import random_array

from tgqformer.collaborative.data import Split, histories
from tgqformer.collaborative.graph import SparseMatrix, bipartite, interactions_matrix, row_norm, symmetric_norm


def test_product_and_gradient_are_those_of_the_dense_matrix() -> None:
    dense = random_array((6, 8), density=0.4, rng=np.random.default_rng(0), dtype=np.float32)
    matrix = SparseMatrix.of(dense)
    x = torch.randn(8, 3, requires_grad=True)
    (matrix @ x).pow(2).sum().backward()
    found, x.grad = x.grad, None
    (torch.from_numpy(dense.toarray()) @ x).pow(2).sum().backward()
    torch.testing.assert_close(found, x.grad)
    torch.testing.assert_close(matrix.transpose() @ torch.eye(6), torch.from_numpy(dense.toarray().T))
    torch.testing.assert_close(matrix.plus(torch.ones(6, 3), x.detach()), 1 + (matrix @ x).detach())


def test_some_rows_and_their_transpose() -> None:
    dense = random_array((6, 8), density=0.4, rng=np.random.default_rng(1), dtype=np.float32)
    rows = torch.tensor([0, 3, 5])
    some = SparseMatrix.of(dense).at(rows)
    wanted = torch.from_numpy(dense.toarray())[rows]
    torch.testing.assert_close(some @ torch.eye(8), wanted)
    torch.testing.assert_close(some.transpose() @ torch.eye(3), wanted.T)


def test_dropped_entries_are_the_same_in_both_directions_and_keep_the_mean() -> None:
    dense = random_array((40, 40), density=0.5, rng=np.random.default_rng(2), dtype=np.float32)
    matrix = SparseMatrix.of(dense)
    torch.manual_seed(0)
    kept = matrix.dropped(0.25)
    forward, backward = kept @ torch.eye(40), kept.transpose() @ torch.eye(40)
    torch.testing.assert_close(forward, backward.T)
    whole = torch.from_numpy(dense.toarray())
    alive = forward != 0
    torch.testing.assert_close(forward[alive], whole[alive] / 0.75)
    assert 0.65 < alive.sum() / (whole != 0).sum() < 0.85
    with pytest.raises(ValueError, match="symmetric"):
        SparseMatrix.of(dense, symmetric=True).dropped(0.1)


def test_norms_by_hand() -> None:
    adjacency = bipartite(histories(np.array([0, 0, 1]), np.array([0, 1, 1]), 2), 3)
    assert adjacency.toarray().tolist() == [
        [0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip
    normed = symmetric_norm(adjacency).toarray()
    assert normed[0, 2] == pytest.approx(2**-0.5) and normed[0, 3] == pytest.approx(0.5) and not normed[4].any()
    np.testing.assert_allclose(row_norm(adjacency).toarray().sum(1), [1, 1, 1, 1, 0])
    np.testing.assert_allclose(normed, normed.T)


def test_a_repeated_interaction_counts_once() -> None:
    rows = histories(np.array([0, 0, 0]), np.array([1, 1, 2]), 1)
    assert interactions_matrix(rows, 4).toarray().tolist() == [[0, 1, 1, 0]]
    assert bipartite(rows, 4).max() == 1


def test_a_graph_of_a_split_has_each_interaction_twice(split: Split) -> None:
    assert bipartite(split.train, split.items).nnz == 2 * len(split.train.indices)
