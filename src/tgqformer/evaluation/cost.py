"""What an item costs: parameters, floating-point operations by part, items per second.

One multiply-add counts as two operations, as in `torch.utils.flop_counter`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tgqformer.errors import TgqError


@dataclass(frozen=True)
class Cost:
    """The cost of one model.

    flops: per item, by part ("vision", "connector", "language model"); unit: floating-point operations.
    items_per_second: measured, None if it was not.
    """

    model: str
    parameters: int
    trainable: int
    flops: Mapping[str, float] = field(default_factory=dict)
    items_per_second: float | None = None

    @property
    def total_flops(self) -> float:
        """Operations per item over all parts."""
        return sum(self.flops.values())


def parameters(module: nn.Module) -> tuple[int, int]:
    """Count (all, trainable) parameters; one that is shared counts once."""
    found = list(module.parameters())
    return sum(p.numel() for p in found), sum(p.numel() for p in found if p.requires_grad)


def on_meta(module: nn.Module) -> nn.Module:
    """Copy a module to the meta device, where a forward costs nothing and needs no memory."""
    return copy.deepcopy(module).to("meta").eval()


@torch.no_grad()
def count_flops(call: Callable[[], object]) -> int:
    """Count the floating-point operations of one call (matrix products, convolutions, attention).

    Attention is counted as the matrix products that it is, whatever kernel would run. Works on meta tensors.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def flops_per_item(parts: Mapping[str, Callable[[], object]], items: int) -> dict[str, float]:
    """Count each part's operations per item; each call handles a batch of `items`."""
    if items < 1:
        raise TgqError(f"a batch of {items} items has no cost per item; give at least one")
    return {name: count_flops(call) / items for name, call in parts.items()}


def throughput(call: Callable[[], object], items: int, *, warmup: int = 1, repeats: int = 3) -> float:
    """Measure items per second of a call that handles `items` at once: the median of `repeats`, after `warmup`."""
    for _ in range(warmup):
        call()
    return items / median(_seconds(call) for _ in range(repeats))


def _seconds(call: Callable[[], object]) -> float:
    _wait()
    start = perf_counter()
    call()
    _wait()
    return max(perf_counter() - start, 1e-9)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
