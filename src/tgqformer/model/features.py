"""What the frozen encoders saw in a whole catalogue, kept on disk: the source of every batch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tgqformer.encoders.base import VisualFeatures
from tgqformer.encoders.cache import TextCache, VisualCache
from tgqformer.encoders.frozen import Precision, resolve_precision
from tgqformer.model.base import evaluating
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import joined, no_states
from tgqformer.model.frozen import FrozenVectors
from tgqformer.model.prompt import Pictures
from tgqformer.progress import progress
from tgqformer.types import Bools, Positions, Vectors

Spliced = tuple[str, Bools]
"""Another view, and which visual tokens are taken from it, bool [n, P]."""


@dataclass(frozen=True)
class CatalogFeatures:
    """Cached features of every item of a catalogue, in every view, for one language model.

    `rows` holds, for each view, the rows in the cache of each item's pictures, int64 [N, M], -1 for none; `how` says
    what becomes of several, see `encoding.joined`; `lengths`
    int64 [N] how long each item's text is, so that alike lengths can share a batch.
    """

    visual: VisualCache
    metadata: TextCache
    states: TextCache | None
    rows: dict[str, Positions]
    metadata_rows: Positions
    states_rows: Positions
    lengths: Positions
    empty_row: int
    empty_states_row: int
    how: Pictures = "first"

    def __len__(self) -> int:
        return len(self.metadata_rows)

    def batch(
        self,
        positions: Positions,
        view: str = "mixed",
        *,
        texts: Positions | None = None,
        spliced: Spliced | None = None,
    ) -> ItemBatch:
        """Read the items at these positions as a view shows them.

        texts: int64 [n], whose text each item has; -1 for none; by default its own.
        spliced: another view, and bool [n, P], which visual tokens are that one's; the picture's vector is not.
        """
        rows = self.rows[view][positions]
        owners = positions if texts is None else texts
        metadata = np.where(owners < 0, self.empty_row, self.metadata_rows[owners])
        states = np.where(owners < 0, self.empty_states_row, self.states_rows[owners])
        batch = self._batch(rows, metadata, states)
        if spliced is None:
            return batch
        name, places = spliced
        other = self._look(self.rows[name][positions], self.how)[0]
        taken = torch.from_numpy(np.tile(places, other.shape[1] // places.shape[1]))
        return replace(batch, visual=torch.where(taken[..., None], other, batch.visual))

    def pictures(self, positions: Positions, view: str = "mixed") -> ItemBatch:
        """Read the items without what the language model needs (for the alignment stage).

        Where several pictures are attended to, it learns by the first, which titles are of.
        """
        rows = self.rows[view][positions]
        return self._batch(rows[:, :1] if self.how == "attend" else rows, self.metadata_rows[positions], None)

    def vectors(self, positions: Positions, view: str = "mixed") -> FrozenVectors:
        """Read what the frozen encoders say of the items as wholes, without a token."""
        rows = self.rows[view][positions]
        text, has_text = self.metadata.vectors(self.metadata_rows[positions])
        each = self.visual.vectors(rows.reshape(-1)).view(*rows.shape, -1)
        nothing = each.new_zeros(*rows.shape, 1, 1)
        _, vector, has_picture, _ = joined(VisualFeatures(nothing, each), torch.from_numpy(rows >= 0), self.how)
        return FrozenVectors(vector, has_picture, text, has_text)

    def empty(self) -> ItemBatch:
        """Return one item without picture and text."""
        return self._batch(np.array([[-1]]), np.array([self.empty_row]), np.array([self.empty_states_row]))

    def _batch(self, visual_rows: Positions, metadata_rows: Positions, states_rows: Positions | None) -> ItemBatch:
        visual, vector, has_picture, pictures = self._look(visual_rows, self.how)
        read = self.metadata.gather(metadata_rows)
        states = no_states(len(visual_rows))
        if self.states is not None and states_rows is not None:
            states = self.states.gather(states_rows)
        return ItemBatch(
            visual,
            vector,
            has_picture,
            read.tokens,
            read.mask,
            read.vector,
            states.tokens,
            states.mask,
            pictures,
        )

    def _look(self, rows: Positions, how: Pictures) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Read and join the pictures of rows [n, M]; columns that nobody has are left out."""
        rows = rows[:, : max(1, int((rows >= 0).sum(1).max(initial=0)))]
        seen = self.visual.gather(rows.reshape(-1))
        tokens, vectors = seen.tokens.view(*rows.shape, *seen.tokens.shape[1:]), seen.vector.view(*rows.shape, -1)
        return joined(VisualFeatures(tokens, vectors), torch.from_numpy(rows >= 0), how)


def embed_features(
    model: ItemEmbedder,
    features: CatalogFeatures,
    positions: Positions,
    view: str,
    *,
    batch_size: int = 128,
    texts: Positions | None = None,
    spliced: Spliced | None = None,
    precision: Precision = "float32",
    shown: bool = True,
) -> Vectors:
    """Embed items from cached features, as a view shows them: float32 [n, d] in the order of `positions`.

    texts, spliced: whose text each item has, which tokens are another view's, see `CatalogFeatures.batch`.
    precision: of the matrix products; `auto` is bfloat16 where the processor has it, and moves a vector by some
    thousandths, so that equal items need not have equal vectors.
    """
    half_precision = resolve_precision(precision, model.device) is torch.bfloat16
    found = np.empty((len(positions), model.dim), np.float32)
    merged = nullcontext() if model.language is None else model.language.merged()
    with (
        evaluating(model),
        merged,
        torch.inference_mode(),
        progress(f"embedding ({view})", len(positions), shown=shown) as bar,
    ):
        order = np.argsort(features.lengths[positions], kind="stable")
        for start in range(0, len(positions), batch_size):
            chunk = order[start : start + batch_size]
            owners = None if texts is None else texts[chunk]
            mixed = None if spliced is None else (spliced[0], spliced[1][chunk])
            batch = features.batch(positions[chunk], view, texts=owners, spliced=mixed)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=half_precision):
                found[chunk] = model(batch.to(model.device)).embedding.float().cpu()
            bar.advance(len(chunk))
    return found
