"""The base class of everything that embeds items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.errors import TgqError
from tgqformer.model.version import UNSAVED, check_cut
from tgqformer.progress import progress
from tgqformer.types import Vectors


class Embedder(ABC):
    """Items -> embeddings of unit length: `ItemEmbedder`, or a whole model of others (`WholeEmbedder`)."""

    dim: int
    """d, the width of the embeddings."""
    version: str = UNSAVED
    """Names the model, and whatever else changes its embeddings."""
    batch_size: int = 32
    """Items at once, where nothing else is said."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    @abstractmethod
    def sees(self) -> bool:
        """Whether a picture makes a difference."""

    @abstractmethod
    def embed_items(self, items: Sequence[Item], root: Path | None = None) -> Tensor:
        """Embed B items at once, as in evaluation: [B, d] of unit length. Arguments and errors as in `encode`."""

    @torch.inference_mode()
    def encode(
        self,
        items: Iterable[Item] | Catalog,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        root: Path | None = None,
    ) -> Vectors:
        """Embed items from their pictures and metadata.

        Args:
            items: any iterable, read batch by batch; or a whole catalogue, which knows where its pictures are.
            batch_size: items at once. show_progress_bar: on standard error.
            truncate_dim: keep the first so many dimensions and normalise again (for models trained for it).
            root: folder against which relative picture paths are read.

        Returns:
            float32 [n, d], rows of unit length, in the order of the items.

        Raises:
            TgqError: if a picture cannot be read (naming the item), the model was loaded without encoders, or its
                vectors cannot be cut.
        """
        check_cut(getattr(self, "frozen", None), truncate_dim, self.dim)
        found, total = [], len(items) if isinstance(items, Catalog | Sequence) else None
        root = items.root if root is None and isinstance(items, Catalog) else root
        stream = iter(items.items() if isinstance(items, Catalog) else items)
        with progress("embedding", total, shown=show_progress_bar) as bar:
            while chunk := list(islice(stream, batch_size or self.batch_size)):
                found.append(self.embed_items(chunk, root).cpu())
                bar.advance(len(chunk))
        vectors = torch.cat(found) if found else torch.zeros(0, self.dim)
        return truncate(vectors, truncate_dim).numpy()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let nothing drop out inside the block; afterwards the model trains if it did before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def truncate(vectors: Tensor, dim: int | None) -> Tensor:
    """Keep the first `dim` dimensions of [n, d] and give them unit length again."""
    if dim is None or dim == vectors.shape[1]:
        return vectors
    if not 0 < dim < vectors.shape[1]:
        raise TgqError(f"truncate_dim is {dim}, the embeddings have {vectors.shape[1]} dimensions")
    return F.normalize(vectors[:, :dim], dim=-1)
