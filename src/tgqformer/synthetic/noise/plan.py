"""Which item has which noise: a pure function of a seed and the item's id."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tgqformer.config import Natural, Share, settings
from tgqformer.errors import TgqError

NoiseKind = Literal["poster", "clutter", "distractor"]
Severity = Annotated[int, Field(ge=1, le=5)]


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """The noise of one picture.

    severity: 1 (a corner) to 5 (hard to see past). seed: of the drawing. donor: id of a distractor's second product.
    """

    kind: NoiseKind
    severity: int
    seed: int
    donor: str | None = None

    def __post_init__(self) -> None:
        if self.severity not in range(1, 6):
            raise TgqError(f"a severity of {self.severity} is not known; give 1 to 5")


@settings
class NoisePlan:
    """How a catalogue is noised.

    Args:
        share: share of the items that are noised in the mixed view; 0 takes the pictures as they are.
        kinds, severities: drawn with equal chance.
        donors: where the second product of a distractor comes from.
        seed: of all draws.
    """

    share: Share = 0.5
    kinds: Annotated[tuple[NoiseKind, ...], Field(min_length=1)] = ("poster", "clutter", "distractor")
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    donors: Literal["other_category", "same_category", "any"] = "other_category"
    seed: Natural = 0

    def is_noised(self, item_id: str) -> bool:
        """Return whether an item is noised in the mixed view."""
        return bool(self._rng(item_id, "share").random() < self.share)

    def spec(self, item_id: str, kind: NoiseKind | None = None) -> NoiseSpec:
        """Draw the noise of an item, without donor; `kind` fixes its kind."""
        rng = self._rng(item_id, "spec")
        drawn = self.kinds[int(rng.integers(len(self.kinds)))]
        severity = self.severities[int(rng.integers(len(self.severities)))]
        return NoiseSpec(kind or drawn, severity, int(rng.integers(2**31)))

    def _rng(self, item_id: str, what: str) -> np.random.Generator:
        digest = blake2b(f"{self.seed}\x1f{what}\x1f{item_id}".encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(digest, "big"))
