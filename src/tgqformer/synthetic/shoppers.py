"""The shopper simulator: sessions for a catalogue that has no clicks, from attributes that no model is given.

A shopper sees one item, and wants more of its group (`wants`: for instance gender, article type and usage). What else
of the group is clicked follows from the shopper's taste, which is that first item's:

    affinity(i, j) = Σ weight · [same attribute] + appearance · z(similarity of the pictures),
    P(j is clicked) ∝ exp(sharpness · affinity(i, j)), without replacement.

The similarity is measured on the clean pictures by `tgqformer.synthetic.appearance`, in a space that no model under
test uses; z is over the other items of the group. A session stays inside one part of the item split (docs/pairs.md says
why).

Some clicks may be of another kind: accidental ones, on any item; and complements, on items that go with the first one:
those of one other group, which differs from its own in the attribute that has the most values, chosen by the tastes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from tgqformer.catalog.catalog import Catalog
from tgqformer.config import Natural, Positive, PositiveFloat, Share, settings
from tgqformer.errors import TgqError, beside
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.mining import EVERY_CO_CLICK
from tgqformer.pairs.pairs import PairSets, mine_pairs, split_pairs
from tgqformer.pairs.splits import FRACTIONS, PARTS, ItemSplit, stable_uniform
from tgqformer.progress import progress
from tgqformer.synthetic.appearance import appearances
from tgqformer.topk import best_of
from tgqformer.types import Floats, Ints

ROWS = 512
"""Items whose affinities to their group are held at one time."""
_START, _SPAN = 1_704_067_200, 90 * 86_400
"""Sessions begin in the 90 days from 2024-01-01 (UTC)."""


@settings
class Shoppers:
    """What shoppers want, what they like, and how they click.

    wants: attributes that make a group; a shopper stays in one.
    tastes: attribute → weight in the affinity when two items have the same value.
    appearance: weight of the standardised similarity of the pictures (0: pictures are not read).
    sessions_per_item: how often every item is the first of a session, on average.
    clicks: least and most further items of a session.
    sharpness: how strictly the shopper follows the affinity.
    complements: share of the further clicks that go to complements of the first item.
    accidental: share of the further clicks that go to any item.
    """

    wants: Annotated[tuple[str, ...], Field(min_length=1)]
    tastes: dict[str, float]
    appearance: float = 0.0
    sessions_per_item: PositiveFloat = 1.0
    clicks: tuple[Positive, Positive] = (2, 4)
    sharpness: PositiveFloat = 1.0
    seed: Natural = 0
    complements: Share = 0.0
    accidental: Share = 0.0

    def __post_init__(self) -> None:
        if self.complements + self.accidental > 1:
            raise ValueError("complements and accidental are shares of the same clicks: at most 1 together")
        if self.clicks[0] > self.clicks[1]:
            raise ValueError(f"clicks are the least and the most of a session; found {list(self.clicks)}")


FASHION = Shoppers(
    wants=("gender", "article_type", "usage"), tastes={"base_colour": 2.0}, appearance=1.5, sharpness=2.0, clicks=(2, 4)
)
"""For the fashion catalogue; calibrated on all 44,441 items, see docs/pairs.md."""

STUDIO = Shoppers(wants=("kind",), tastes={"colour": 2.0, "pattern": 1.5, "variant": 1.5}, sharpness=1.5, clicks=(2, 4))
"""For the studio catalogue, with its truth table; pictures play no part, their attributes are exact."""

SHOPPERS = {"fashion": FASHION, "studio": STUDIO}


@dataclass(frozen=True)
class Affinity:
    """The true affinity of items, by blocks: never items x items in memory.

    ids: N items. groups: places [n] of every group, in the order of the ids. tastes: (weight, codes [N]) for every
    taste (-1: missing, like nothing). appearance: float32 [N, F] unit vectors, zeros where there is no picture.
    appearance_weight: its weight in the affinity.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[Ints, ...]
    tastes: tuple[tuple[float, Ints], ...] = field(repr=False)
    appearance: Floats | None = field(repr=False)
    appearance_weight: float

    @classmethod
    def of(
        cls, catalog: Catalog, shoppers: Shoppers, *, truth: pa.Table | None = None, ids: Sequence[str] | None = None
    ) -> Affinity:
        """Measure what the affinity needs: attributes (from `truth` where it has them, else the catalogue), appearance.

        truth: columns id and attributes, for every item. ids: only these items (None: all).
        Raises TgqError for an attribute that no item has.
        """
        chosen = sorted(catalog.ids() if ids is None else ids)
        attributes = {name: attribute(catalog, name, chosen, truth) for name in (*shoppers.wants, *shoppers.tastes)}
        keys = ["\x1f".join(key) for key in zip(*(attributes[name] for name in shoppers.wants), strict=True)]
        names, codes = np.unique(np.array(keys, dtype=str), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if chosen else []
        tastes = tuple((weight, _codes(attributes[name])) for name, weight in shoppers.tastes.items())
        appearance = appearances(catalog, chosen) if shoppers.appearance else None
        return cls(tuple(chosen), tuple(names.tolist()), tuple(groups), tastes, appearance, shoppers.appearance)

    def rows(self, group: Ints, rows: Ints) -> Floats:
        """Return the affinity of `rows` (places within the group, [r]) to the whole group; float32 [r, n]."""
        same = self.tastes_only(group[rows], group)
        if self.appearance is None or len(group) < 3:
            return same
        appearance = self.appearance[group]
        has = np.asarray(appearance.any(axis=1), dtype=bool)
        similar = appearance[rows] @ appearance.T
        counted = np.broadcast_to(has, similar.shape).copy()
        counted[np.arange(len(rows)), rows] = False
        others = np.maximum(counted.sum(axis=1, keepdims=True), 1)
        mean = np.where(counted, similar, 0).sum(axis=1, keepdims=True) / others
        spread = np.sqrt((np.where(counted, similar - mean, 0) ** 2).sum(axis=1, keepdims=True) / others)
        # An item without a picture is neither like nor unlike the others.
        z = np.where(has[rows][:, None] & has & (spread > 1e-6), (similar - mean) / np.maximum(spread, 1e-6), 0)
        return np.asarray(same + self.appearance_weight * z, dtype=np.float32)

    def tastes_only(self, items: Ints, others: Ints) -> Floats:
        """Return the affinity without appearance of items [r] to others [n], places in `ids`; float32 [r, n]."""
        same = np.zeros((len(items), len(others)), dtype=np.float32)
        for weight, codes in self.tastes:
            values = codes[others]
            same += weight * ((codes[items][:, None] == values) & (values >= 0))
        return same

    def complements(self) -> list[int]:
        """Return for each group the group that goes with it, by a stable hash; -1 where there is none.

        The two differ in the attribute that has the most values, and in no other.
        """
        keys = [name.split("\x1f") for name in self.names]
        if not keys:
            return []
        apart = max(range(len(keys[0])), key=lambda at: len({key[at] for key in keys}))
        alike: dict[tuple[str, ...], list[int]] = {}
        for number, key in enumerate(keys):
            alike.setdefault((*key[:apart], *key[apart + 1 :]), []).append(number)
        found = [-1] * len(keys)
        for numbers in alike.values():
            for one in numbers:
                others = [other for other in numbers if other != one]
                draws = [stable_uniform("complement", self.names[one], self.names[other]) for other in others]
                found[one] = others[int(np.argmin(draws))] if others else -1
        return found


def read_truth(file: Path, ids: Sequence[str]) -> pa.Table:
    """Read a table of true attributes (Parquet): the column `id`, as text, and one for each attribute.

    Raise TgqError where it cannot be read, has no such column or an id twice, or lacks one of `ids`.
    """
    try:
        table = pq.read_table(file)
    except FileNotFoundError:
        raise TgqError(f"there is no truth table {file}{'; ' + hint if (hint := beside(file)) else ''}") from None
    except (OSError, pa.ArrowException) as error:
        raise TgqError(f"{file} cannot be read as a truth table in Parquet: {error}") from error
    if "id" not in table.column_names:
        raise TgqError(f"{file} has no column 'id'; it has {', '.join(table.column_names)}")
    names = table["id"].cast(pa.string())
    lacking = pa.array(ids, pa.string()).filter(pc.invert(pc.is_in(pa.array(ids, pa.string()), names)))
    if len(pc.unique(names)) < len(names):
        raise TgqError(f"{file} has an id twice: whose attributes count?")
    if len(lacking):
        raise TgqError(f"{file} lacks {len(lacking):,} of the {len(ids):,} items, such as {lacking[0].as_py()!r}")
    return table.set_column(table.column_names.index("id"), "id", names)


def attribute(catalog: Catalog, name: str, ids: Sequence[str], truth: pa.Table | None = None) -> list[str]:
    """Return the values of an attribute of these items: from `truth`, else the attributes or columns of the catalogue.

    A missing value is "". Raises TgqError when no item has the attribute.
    """
    if truth is not None and name in truth.column_names:
        known = dict(zip(truth["id"].to_pylist(), truth[name].to_pylist(), strict=True))
    elif name in ("title", "brand"):
        table = catalog.table(["id", name])
        known = dict(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))
    else:
        table = catalog.table(["id", "attributes"])
        maps = (dict(pairs or ()) for pairs in table["attributes"].to_pylist())
        known = {key: found.get(name) for key, found in zip(table["id"].to_pylist(), maps, strict=True)}
    values = ["" if known.get(key) is None else str(known[key]) for key in ids]
    if ids and not any(values):
        raise TgqError(
            f"no item of {catalog.path} has the attribute {name!r} that these shoppers go by; give a truth table "
            "with the columns id and this attribute, or choose other shoppers"
        )
    return values


def simulate_sessions(
    catalog: Catalog, shoppers: Shoppers, split: ItemSplit, *, truth: pa.Table | None = None, shown: bool = False
) -> Interactions:
    """Simulate sessions among the items of the split; each stays inside one part.

    Sessions are named after their first item. A group's sessions depend on (seed, group, part) and its items alone.
    """
    return simulate(Affinity.of(catalog, shoppers, truth=truth, ids=split.ids), shoppers, split, shown=shown)


def simulate(affinity: Affinity, shoppers: Shoppers, split: ItemSplit, *, shown: bool = False) -> Interactions:
    """Simulate sessions as `simulate_sessions` does, from measured affinities."""
    codes = split.codes(affinity.ids)
    parts: list[Ints] = [np.flatnonzero(codes == part) for part in range(len(PARTS))]
    goes_with = affinity.complements() if shoppers.complements else [-1] * len(affinity.names)
    out: list[tuple[list[str], list[str], Ints]] = []
    with progress("simulating shoppers", len(affinity.groups), shown=shown) as bar:
        for name, group, other in zip(affinity.names, affinity.groups, goes_with, strict=True):
            for part, part_name in enumerate(PARTS):
                inside = np.flatnonzero(codes[group] == part)
                if len(inside) > 1:
                    rng = _generator(shoppers.seed, name, part_name)
                    partners = affinity.groups[other] if other >= 0 else group[:0]
                    strays = _Strays(parts[part], partners[codes[partners] == part])
                    out += _sessions(affinity, shoppers, group, inside, strays, rng)
            bar.advance()
    sessions = [name for names, _, _ in out for name in names]
    items = [name for _, names, _ in out for name in names]
    times = np.concatenate([times for _, _, times in out]) if out else np.zeros(0, dtype=np.int64)
    return Interactions.of(sessions, items, times)


def prepare_pairs(
    catalog: Catalog,
    shoppers: Shoppers,
    to: Path,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    *,
    truth: pa.Table | None = None,
    ids: Sequence[str] | None = None,
) -> PairSets:
    """Split the items, simulate sessions and mine their pairs; write all of it to the folder `to`.

    Writes interactions.parquet, split.parquet and pairs-train.parquet, pairs-val.parquet, pairs-test.parquet.
    ids: only these items (None: the whole catalogue).
    """
    split = ItemSplit.by_hash(catalog.ids() if ids is None else ids, fractions, seed)
    interactions = simulate_sessions(catalog, shoppers, split, truth=truth, shown=True)
    return write_pairs(interactions, split, to)


def write_pairs(interactions: Interactions, split: ItemSplit, to: Path) -> PairSets:
    """Mine the pairs of simulated sessions (every co-click counts: there are no chance clicks) and write all files."""
    sets = split_pairs(mine_pairs(interactions, EVERY_CO_CLICK), split)
    to.mkdir(parents=True, exist_ok=True)
    interactions.write(to / "interactions.parquet")
    split.save(to / "split.parquet")
    for name, pairs in zip(PARTS, (sets.train, sets.val, sets.test), strict=True):
        pairs.write(to / f"pairs-{name}.parquet")
    return sets


def subset(ids: Sequence[str], limit: int, seed: int = 0) -> list[str]:
    """Choose `limit` items by a stable hash of their ids, in the order given."""
    chosen = set(sorted(ids, key=lambda name: stable_uniform("subset", seed, name))[:limit])
    return [name for name in ids if name in chosen]


def _codes(values: Sequence[str]) -> Ints:
    """Number the values; -1 where there is none: two missing values are not the same taste."""
    distinct, codes = np.unique(np.array(values, dtype=str), return_inverse=True)
    return np.where(distinct[codes] == "", -1, codes).astype(np.int64) if len(values) else np.zeros(0, dtype=np.int64)


def _generator(seed: int, group: str, part: str) -> np.random.Generator:
    digest = blake2b(f"{seed}\x1f{group}\x1f{part}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


class _Strays(NamedTuple):
    """What is clicked outside a group, places: `everything` of the part, and the `complements` of the group in it."""

    everything: Ints
    complements: Ints


def _stray(affinity: Affinity, shoppers: Shoppers, strays: _Strays, seen: Ints, rng: np.random.Generator) -> None:
    """Let some further clicks of sessions go elsewhere, in place. seen: the items clicked, first ones first; [m, c]."""
    drawn = rng.random(seen.shape)
    drawn[:, 0] = 1.0
    goes = drawn < shoppers.complements if len(strays.complements) else np.zeros_like(drawn, dtype=bool)
    rows = np.nonzero(goes)[0]
    scores = shoppers.sharpness * affinity.tastes_only(seen[rows, 0], strays.complements)
    scores += rng.gumbel(size=scores.shape).astype(np.float32)
    if len(rows):
        seen[goes] = strays.complements[scores.argmax(axis=1)]
    chance = (drawn >= shoppers.complements) & (drawn < shoppers.complements + shoppers.accidental)
    seen[chance] = rng.choice(strays.everything, int(chance.sum()))


def _sessions(
    affinity: Affinity, shoppers: Shoppers, group: Ints, inside: Ints, strays: _Strays, rng: np.random.Generator
) -> Iterator[tuple[list[str], list[str], Ints]]:
    """Draw the sessions of one group and part: names of sessions, names of items, times, a block at a time."""
    whole = int(shoppers.sessions_per_item)
    visits = whole + (rng.random(len(inside)) < shoppers.sessions_per_item - whole)
    anchors = np.repeat(np.arange(len(inside)), visits)
    number = np.arange(len(anchors)) - np.repeat(np.cumsum(visits) - visits, visits)
    items = group[inside]
    for first in range(0, len(anchors), ROWS):
        mine = anchors[first : first + ROWS]
        scores = shoppers.sharpness * affinity.rows(group, inside[mine])[:, inside]
        scores += rng.gumbel(size=scores.shape).astype(np.float32)
        scores[np.arange(len(mine)), mine] = -np.inf
        clicked, _ = best_of(scores, min(shoppers.clicks[1], len(inside) - 1))
        length = 1 + np.minimum(rng.integers(shoppers.clicks[0], shoppers.clicks[1] + 1, len(mine)), clicked.shape[1])
        seen = items[np.concatenate([mine[:, None], clicked], axis=1)]
        if shoppers.complements or shoppers.accidental:
            _stray(affinity, shoppers, strays, seen, rng)
        gaps = 1 + rng.exponential(40, size=seen.shape).astype(np.int64)
        gaps[:, 0] = _START + rng.integers(0, _SPAN, len(mine))
        keep = np.arange(seen.shape[1]) < length[:, None]
        visits_of = number[first : first + ROWS]
        labels = [f"{affinity.ids[item]}/{visit}" for item, visit in zip(items[mine], visits_of, strict=True)]
        sessions = np.repeat(np.array(labels, dtype=object), length)
        yield sessions.tolist(), [affinity.ids[place] for place in seen[keep]], np.cumsum(gaps, axis=1)[keep]
