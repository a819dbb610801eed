"""Why two items are near each other: what the model looked at in both, its gates, and which facts agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tgqformer.catalog.item import Item
from tgqformer.errors import TgqError
from tgqformer.service.explorer.colors import Swatch

if TYPE_CHECKING:
    from torch import Tensor

    from tgqformer.model.embedder import Embedded, ItemEmbedder

GATE_BINS = 48
"""The plot of a gate counts channels in so many bins over factors from 0 to 2."""


@dataclass(frozen=True)
class Fact:
    """One fact of two items. `agrees` is None where one of them does not say."""

    name: str
    first: str | None
    second: str | None
    agrees: bool | None


@dataclass(frozen=True)
class GateFactors:
    """What a gate does to the D channels of a stream, as factors 1 + g (1: it changes nothing).

    counts: channels in `GATE_BINS` equal bins over [0, 2]. mean: of all factors. damped: share of factors under 0.95.
    raised: share over 1.05.
    """

    counts: list[int]
    mean: float
    damped: float
    raised: float


@dataclass(frozen=True)
class Attended:
    """What a model saw in one item.

    attention: stream -> one map a query, each the share of its attention on every token [Q][P], mean of the heads.
    agreement_map: how the text agrees with each token, as shares [P]; None where nothing guides. agreement: s, from
    -1 to 1; None likewise. gates: stream -> what the gate does.
    """

    attention: dict[str, list[list[float]]] = field(default_factory=dict)
    agreement_map: list[float] | None = None
    agreement: float | None = None
    gates: dict[str, GateFactors] = field(default_factory=dict)


def attended(model: ItemEmbedder, embedded: Embedded, has_picture: Sequence[bool]) -> list[Attended]:
    """Read off what a model saw in B items. An item without a picture has only gates."""
    guided = model.connector.guided and embedded.agreement is not None
    found = []
    for at, pictured in enumerate(has_picture):
        attention = {
            stream: _rounded(weights[at].mean(0))
            for stream, weights in embedded.connector.attention.items()
            if pictured
        }
        shares = score = None
        if guided and pictured and embedded.agreement_map is not None and embedded.agreement is not None:
            shares = _rounded(embedded.agreement_map[at].softmax(-1))
            score = round(float(embedded.agreement[at]), 4)
        gates = {stream: _gate(values[at]) for stream, values in embedded.connector.gates.items()}
        found.append(Attended(attention, shares, score, gates))
    return found


def _rounded(values: Tensor) -> Any:
    return np.round(values.detach().double().cpu().numpy(), 5).tolist()


def _gate(values: Tensor) -> GateFactors:
    factors = 1 + values.detach().double().cpu().numpy()
    counts, _ = np.histogram(np.clip(factors, 0, 2), bins=GATE_BINS, range=(0, 2))
    damped, raised = float((factors < 0.95).mean()), float((factors > 1.05).mean())
    return GateFactors(counts.tolist(), round(float(factors.mean()), 4), round(damped, 4), round(raised, 4))


def explain(model: ItemEmbedder, items: Sequence[Item], pictures: Sequence[Image.Image | None]) -> list[Attended]:
    """Run a model over B items with these pictures, and read off what it saw.

    Raises: TgqError where the model was loaded without its encoders.
    """
    import torch  # here: what runs an exported model has none

    if model.encoders is None:
        raise TgqError("this model has no encoders, so it cannot look at a picture; serve a saved model")
    pixels = [model.encoders.vision.preprocess(picture) if picture is not None else None for picture in pictures]
    with torch.inference_mode():
        batch = model.encoders.encode(items, pixels, model.language).to(model.device)
        return attended(model, model(batch), batch.has_picture.tolist())


def facts(first: Item, second: Item, colors: tuple[Swatch | None, Swatch | None] = (None, None)) -> list[Fact]:
    """Compare two items: each level of the category, brand, attributes, price, and the colours of their pictures.

    Prices are those now, and agree within 20 % in one currency.
    """
    rows = [
        _fact(
            "category" if not level else f"category, level {level + 1}",
            _at(first.category, level),
            _at(second.category, level),
        )
        for level in range(max(len(first.category), len(second.category)))
    ]
    rows.append(_fact("brand", first.brand, second.brand))
    names = dict.fromkeys([*first.attributes, *second.attributes])
    rows += [_fact(name.replace("_", " "), first.attributes.get(name), second.attributes.get(name)) for name in names]
    rows.append(_price(first, second))
    one, other = colors
    rows.append(_fact("colour in the picture", one.name if one else None, other.name if other else None))
    return [row for row in rows if row.first is not None or row.second is not None]


def agreeing(first: Item, second: Item) -> list[str]:
    """Name what two items have in common, for a line under a card: the deepest shared category, brand, attributes."""
    shared = 0
    for one, other in zip(first.category, second.category, strict=False):
        if one != other:
            break
        shared += 1
    found = [first.category[shared - 1]] if shared else []
    found += [first.brand] if first.brand and first.brand == second.brand else []
    return found + [value for name, value in first.attributes.items() if value and second.attributes.get(name) == value]


def _fact(name: str, first: str | None, second: str | None) -> Fact:
    known = bool(first) and bool(second)
    return Fact(name, first or None, second or None, (first or "").lower() == (second or "").lower() if known else None)


def _price(first: Item, second: Item) -> Fact:
    one, other = (item.price if item.sale_price is None else item.sale_price for item in (first, second))
    near = None
    if one is not None and other is not None and bool(first.currency) == bool(second.currency):
        near = first.currency == second.currency and abs(one - other) <= 0.2 * max(one, other)
    return Fact("price", _told(one, first.currency), _told(other, second.currency), near)


def _told(price: float | None, currency: str | None) -> str | None:
    return None if price is None else f"{price:,.2f} {currency or ''}".rstrip()


def _at(path: tuple[str, ...], level: int) -> str | None:
    return path[level] if level < len(path) else None
