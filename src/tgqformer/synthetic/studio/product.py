"""Products of the studio: what each one is, and what the shop says about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tgqformer.synthetic.studio.brands import LEVEL, LOGOS
from tgqformer.synthetic.studio.kinds import KINDS
from tgqformer.synthetic.studio.palette import COLOURS
from tgqformer.synthetic.studio.textures import PATTERNS

COLLECTIONS = [
    "Harbour",
    "Atelier",
    "Norr",
    "Weekend",
    "Studio",
    "Classic",
    "Everyday",
    "Lagom",
    "Kobo",
    "Riviera",
    "Campus",
    "Metro",
    "Alba",
    "Meridian",
    "Tarn",
    "Solis",
    "Haven",
    "Nomad",
    "Essential",
    "Heritage",
    "Palio",
    "Otto",
    "Vela",
    "Orchard",
]
_SPARSE = ("New Arrival", "Item {number}", "{brand} {number}", "{brand} {collection}", "{collection} No. {small}")


@dataclass(frozen=True)
class Product:
    """One product as it truly is; `colour`, `pattern` and `variant` appear in no text that a model is given.

    seed: of the small differences between two products of the same description (shade, pose, pattern scale).
    """

    id: str
    kind: str
    variant: str
    colour: str
    pattern: str
    material: str
    brand: str
    title: str | None
    price: float
    views: int
    seed: int


def products(count: int, seed: int) -> Iterator[Product]:
    """Invent `count` products; product n depends on the seed and n alone: a larger shop holds the smaller one."""
    for number in range(count):
        yield _product(number, np.random.default_rng([seed, number]), seed)


def _product(number: int, rng: np.random.Generator, seed: int) -> Product:
    kind = _pick(tuple(KINDS), rng)
    about = KINDS[kind]
    material, brand = _pick(about.materials, rng), _pick(tuple(LOGOS), rng)
    pattern = "plain" if rng.random() < 0.25 else _pick(PATTERNS[1:], rng)
    low, high = about.price
    price = low * (high / low) ** float(rng.beta(2, 3)) * LEVEL[brand]
    return Product(
        id=f"studio-{number:05d}",
        kind=kind,
        variant=_pick(tuple(about.variants), rng),
        colour=_pick(tuple(COLOURS), rng),
        pattern=pattern,
        material=material,
        brand=brand,
        title=_title(kind, material, brand, rng),
        price=round(price) - 0.1 if price > 12 else round(price, 1),
        views=int(rng.choice([1, 2, 3], p=[0.66, 0.24, 0.1])),
        seed=int(np.random.default_rng([seed, number, 1]).integers(2**31)),
    )


def _title(kind: str, material: str, brand: str, rng: np.random.Generator) -> str | None:
    """Write a title without colour, pattern or variant. About 12 % do not name the kind, and 3 % are missing."""
    noun, collection = _pick(KINDS[kind].nouns, rng), _pick(COLLECTIONS, rng)
    form, chance = int(rng.integers(4)), float(rng.random())
    if chance < 0.03:
        return None
    if chance < 0.15:
        words = {
            "brand": brand,
            "collection": collection,
            "number": rng.integers(1000, 9999),
            "small": rng.integers(2, 40),
        }
        return _pick(_SPARSE, rng).format(**words)
    return (
        f"{brand} {material.title()} {noun}",
        f"{brand} {collection} {noun}",
        f"{brand} {collection} {material.title()} {noun}",
        f"{collection} {noun} by {brand}",
    )[form]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
