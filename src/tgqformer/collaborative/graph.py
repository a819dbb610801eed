"""Sparse matrices of users and items, multiplied in both directions without a dense user x item matrix."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from tgqformer.evaluation.metrics import Csr
from tgqformer.types import Array, Ints


class SparseMatrix:
    """A constant sparse matrix [n, m] in CSR, with its transpose, for `matrix @ x` with gradients for x.

    PyTorch's own gradient of a sparse product builds the transpose anew at each step; here it is made once, and shared
    where the matrix is symmetric.
    """

    def __init__(self, forward: Tensor, backward: Tensor, order: Tensor | None) -> None:
        self.forward, self.backward, self._order = forward, backward, order

    @classmethod
    def of(cls, matrix: Any, device: str | torch.device = "cpu", *, symmetric: bool = False) -> SparseMatrix:
        """Make one of a scipy sparse matrix; `symmetric` promises that it equals its transpose."""
        rows = csr_array(matrix)
        rows.sort_indices()
        forward = _csr(rows).to(device)
        if symmetric:
            return cls(forward, forward, None)
        numbered = csr_array((np.arange(rows.nnz) + 1, rows.indices, rows.indptr), shape=rows.shape)
        columns = csr_array(numbered.T.tocsr())
        columns.sort_indices()
        order = np.asarray(columns.data - 1, dtype=np.int64)
        turned = csr_array((rows.data[order], columns.indices, columns.indptr), shape=columns.shape)
        return cls(forward, _csr(turned).to(device), torch.from_numpy(order).to(device))

    def __matmul__(self, x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(self.forward, self.backward, x)  # type: ignore[no-untyped-call]
        return product

    def plus(self, addend: Tensor, x: Tensor) -> Tensor:
        """Return `addend + matrix @ x` in one pass, without gradients: [n, d] of addend [n, d] and x [m, d]."""
        return torch.addmm(addend, self.forward, x)

    def transpose(self) -> SparseMatrix:
        """Return the transpose, for products; it cannot drop entries."""
        return SparseMatrix(self.backward, self.forward, None)

    def at(self, rows: Tensor) -> SparseMatrix:
        """Return some rows, int64 [r], as a matrix [r, m]; it cannot drop entries."""
        starts = self.forward.crow_indices()
        begin = starts[rows].long()
        lengths = starts[rows + 1].long() - begin
        ends = lengths.cumsum(0)
        place = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        entries = torch.arange(len(place), device=rows.device) + (begin - ends + lengths)[place]
        columns, values = self.forward.col_indices()[entries], self.forward.values()[entries]
        order = columns.argsort(stable=True)
        counts = torch.bincount(columns, minlength=self.forward.shape[1])
        zero = ends.new_zeros(1)
        turned = (self.forward.shape[1], len(rows))
        forward = _tensor(torch.cat([zero, ends]).int(), columns, values, turned[::-1])
        starts = torch.cat([zero, counts.cumsum(0)]).int()
        return SparseMatrix(forward, _tensor(starts, place[order].int(), values[order], turned), None)

    def dropped(self, share: float) -> SparseMatrix:
        """Set a share of the entries to 0 and scale the others up, as dropout does (torch's own random numbers)."""
        if self._order is None:
            raise ValueError("dropping entries of a symmetric matrix would leave it asymmetric; make it with its order")
        values = self.forward.values()
        kept = values * (torch.rand_like(values) >= share) / (1 - share)
        return SparseMatrix(
            _with_values(self.forward, kept), _with_values(self.backward, kept[self._order]), self._order
        )


class _Product(torch.autograd.Function):
    """Sparse times dense; the gradient is the transpose times the gradient."""

    @staticmethod
    def forward(context: Any, forward: Tensor, backward: Tensor, x: Tensor) -> Tensor:
        context.transpose = backward
        return torch.mm(forward, x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.mm(context.transpose, gradients[0].contiguous())


def bipartite(train: Csr, items: int) -> csr_array:
    """Return the adjacency [U + N, U + N] of users and items, float32 ones; users come first (LightGCN, equation 5)."""
    users, entries = len(train), np.ones(len(train.indices), np.float32)
    there = coo_array((entries, (train.rows(), train.indices + users)), shape=(users + items, users + items))
    adjacency = csr_array(there + there.T)
    adjacency.data[:] = 1.0
    return adjacency


def symmetric_norm(adjacency: csr_array) -> csr_array:
    """Return D^-1/2 A D^-1/2, rows of zeros where a node has no neighbour (LightGCN, equation 7)."""
    scale = _power(adjacency, -0.5)
    return csr_array(adjacency.multiply(scale[:, None]).multiply(scale[None, :]).astype(np.float32))


def row_norm(adjacency: csr_array) -> csr_array:
    """Return D^-1 A: each row sums to 1, or is zero."""
    return csr_array(adjacency.multiply(_power(adjacency, -1.0)[:, None]).astype(np.float32))


def interactions_matrix(rows: Csr, items: int) -> csr_array:
    """Return the user x item matrix [U, N] of ones, sparse, float32; a repeated interaction counts once."""
    entries = np.ones(len(rows.indices), np.float32), rows.indices, rows.indptr
    matrix = csr_array(entries, shape=(len(rows), items), copy=True)  # what follows changes it in place
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def to_tensors(arrays: tuple[Ints, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Put the arrays of a batch on a device."""
    return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)


def _power(adjacency: csr_array, power: float) -> Array:
    degree = np.asarray(adjacency.sum(axis=1), dtype=np.float64).ravel()
    return np.where(degree > 0, np.where(degree > 0, degree, 1.0) ** power, 0.0)


def _csr(matrix: csr_array) -> Tensor:
    # Indices of 32 bits: with 64 a product on a CPU converts them first, each time.
    rows, columns = (torch.from_numpy(one.astype(np.int32)) for one in (matrix.indptr, matrix.indices))
    return _tensor(rows, columns, torch.from_numpy(np.ascontiguousarray(matrix.data, dtype=np.float32)), matrix.shape)


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    return _tensor(matrix.crow_indices(), matrix.col_indices(), values, tuple(matrix.shape))


def _tensor(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # of products: tested here
        return torch.sparse_csr_tensor(rows, columns, values, size=size, check_invariants=False)
