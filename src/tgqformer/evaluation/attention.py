"""What the query tokens look at: the share of attention inside the noise, and what the gates do.

Shapes as in the design: B items, Q query tokens (A anchored, then E exploratory), P visual tokens on a grid
[gh, gw], D connector width, h heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tgqformer.errors import TgqError
from tgqformer.types import Bools, Doubles


@dataclass(frozen=True)
class NoiseShare:
    """The share of a stream's attention that lies inside the noise, over items that have some.

    per_item: float64 [B], NaN where an item has no noise or no attention (no picture).
    uniform: float64 [B], the share that even attention would give: the noise's share of the picture.
    """

    per_item: Doubles
    uniform: Doubles

    @property
    def mean(self) -> float:
        """Mean share over the items that have one (NaN when none has)."""
        return float(self.per_item[self._known].mean()) if self._known.any() else float("nan")

    @property
    def uniform_mean(self) -> float:
        """Mean uniform share over the same items."""
        return float(self.uniform[self._known].mean()) if self._known.any() else float("nan")

    @property
    def _known(self) -> Bools:
        return np.isfinite(self.per_item)


def noise_shares(maps: Tensor | Doubles, masks: Doubles, streams: Mapping[str, slice]) -> dict[str, NoiseShare]:
    """Measure, per stream, the share of attention inside the noise.

    maps: [B, h, Q, P], attention weights, zero on tokens that are masked out; heads and queries are averaged after
    each was made to sum to 1. masks: [B, gh, gw] from `pool_mask`, with gh * gw = P. streams: name -> the slice of Q
    that is this stream, e.g. {"anchored": slice(0, A), "exploratory": slice(A, None)}.
    """
    weights = np.asarray(maps.detach().double().cpu() if isinstance(maps, Tensor) else maps, dtype=np.float64)
    inside = masks.reshape(len(masks), -1)
    if weights.ndim != 4 or weights.shape[0] != len(inside) or weights.shape[3] != inside.shape[1]:
        shapes = f"attention {list(weights.shape)} and masks {list(masks.shape)}"
        raise TgqError(f"{shapes} do not fit; give [B, h, Q, P] and [B, gh, gw] with gh * gw = P")
    sums = weights.sum(axis=3)
    share = np.divide(np.einsum("bhqp,bp->bhq", weights, inside), sums, out=np.full(sums.shape, np.nan), where=sums > 0)
    uniform = inside.mean(axis=1)
    share[uniform == 0] = np.nan
    return {name: NoiseShare(share[:, :, part].mean(axis=(1, 2)), uniform) for name, part in streams.items()}


@dataclass(frozen=True)
class GateStatistics:
    """What a stream's gate does over B items and D channels, as factors 1 + g (1: the gate changes nothing).

    mean: of all factors. over_channels: standard deviation over channels of the mean over items (a fixed scale).
    over_items: mean over channels of the standard deviation over items (an answer to the item).
    """

    stream: str
    mean: float
    over_channels: float
    over_items: float


def gate_statistics(gates: Mapping[str, Tensor | Doubles]) -> list[GateStatistics]:
    """Describe the gates of each stream, [B, D] in (-1, 1) as `csig` gives them."""
    rows = []
    for stream, gate in gates.items():
        values = 1 + np.asarray(gate.detach().double().cpu() if isinstance(gate, Tensor) else gate, dtype=np.float64)
        if values.ndim != 2 or 0 in values.shape:
            raise TgqError(f"the gate of {stream} has shape {list(values.shape)}; give [items, channels]")
        over_channels, over_items = values.mean(axis=0).std(), values.std(axis=0).mean()
        rows.append(GateStatistics(stream, float(values.mean()), float(over_channels), float(over_items)))
    return rows
