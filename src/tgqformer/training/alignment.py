"""The alignment stage: two small projections learn, on the catalogue's own pairs, which picture shows which title."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tgqformer.encoders.alignment import Alignment, TokenNorm
from tgqformer.model.batch import ItemBatch
from tgqformer.progress import progress
from tgqformer.training.settings import AlignmentSettings


def fit_token_norm(norm: TokenNorm, pictures: Callable[[np.ndarray], ItemBatch], items: np.ndarray, seed: int) -> None:
    """Take mean and spread of visual tokens from up to 2,000 training pictures."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(items, min(2000, len(items)), replace=False))
    batch = pictures(sample)
    norm.fit(batch.visual[batch.has_picture].float())


def train_alignment(
    pictures: Callable[[np.ndarray], ItemBatch],
    noised: Callable[[np.ndarray], ItemBatch],
    norm: TokenNorm,
    items: np.ndarray,
    settings: AlignmentSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
    shown: bool = True,
) -> Alignment:
    """Train the alignment on training items that have both picture and text.

    Args:
        pictures, noised: give features of items (positions) as they stand in the catalogue, and all noised.
        norm: standardisation of the visual tokens, already fitted.
        items: int64, positions of training items.
        device: where to compute; the alignment comes back on the CPU.

    A batch in which fewer than two items have both picture and text teaches nothing and is passed over.
    """
    torch.manual_seed(seed)
    first = pictures(items[:1])
    alignment, norm = Alignment(first.visual.shape[-1], first.metadata_vector.shape[-1]).to(device), norm.to(device)
    optimizer = torch.optim.AdamW(alignment.parameters(), lr=settings.lr, weight_decay=0.01)
    steps = max(3, settings.steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, pct_start=max(0.1, 2 / steps)
    )
    rng = np.random.default_rng(seed)
    with progress("alignment", settings.steps, shown=shown) as bar:
        for _ in range(settings.steps):
            source = noised if rng.random() < settings.noised else pictures
            batch = source(rng.choice(items, min(settings.batch, len(items)), replace=False)).to(device)
            usable = batch.has_picture & batch.metadata_mask.any(1)
            bar.advance()
            if usable.sum() < 2:
                continue
            text = batch.metadata_vector[usable].float()
            same = (text[:, None] == text[None]).all(-1)
            loss = alignment.loss(norm(batch.visual[usable]), text, same)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.note(f"loss {loss.item():.3f}")
    norm.to("cpu")
    return alignment.to("cpu").requires_grad_(False).eval()
