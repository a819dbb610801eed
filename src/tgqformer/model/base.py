"""The seam of everything that embeds items."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tgqformer.catalog.item import Item


class Embedder(Protocol):
    """Items -> embeddings of unit length: `ItemEmbedder`, or a whole multimodal model (`MultimodalEmbedder`).

    `dim` is the width of the embeddings; `version` names the model, and whatever else changes them.
    """

    dim: int
    version: str

    def encode(
        self,
        items: Iterable[Item],
        batch_size: int = 32,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        root: Path | None = None,
    ) -> NDArray[np.float32]:
        """Embed items: float32 [n, d], rows of unit length, in the order of the items."""
        ...
