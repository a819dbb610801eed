"""Learning rates: what an optimiser's groups are set to before each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

Schedule: TypeAlias = Callable[[int], dict[str, Any]]
"""Step, counted from 0 → values of the optimiser's groups: `lr`, which each multiplies by its own factor, or more."""


def warm_cosine(lr: float, steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rise linearly to `lr`, then fall as a cosine that reaches `lr · floor` when the last step is done."""

    def at(step: int) -> dict[str, Any]:
        if step < warmup:
            return {"lr": lr * (step + 1) / warmup}
        done = (step - warmup) / max(1, steps - warmup)
        return {"lr": lr * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)}

    return at


def one_cycle(lr: float, steps: int) -> Schedule:
    """Return what torch's `OneCycleLR` does: the rate rises to `lr` and falls to nothing, and β1 the other way."""
    total = max(3, steps)
    peak, last = max(0.1, 2 / total) * total - 1, total - 1

    def at(step: int) -> dict[str, Any]:
        if step <= peak:
            part = step / peak
            return {"lr": _cosine(lr / 25, lr, part), "betas": (_cosine(0.95, 0.85, part), 0.999)}
        part = (step - peak) / (last - peak)
        return {"lr": _cosine(lr, lr / 25 / 1e4, part), "betas": (_cosine(0.85, 0.95, part), 0.999)}

    return at


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)
