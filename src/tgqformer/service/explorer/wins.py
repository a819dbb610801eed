"""Wins and losses of one version against another, chosen by a rule that the page states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tgqformer.pairs.pairs import Pairs
from tgqformer.store.base import Hit, StoreTable

PAIRS = Path("pairs/pairs-test.parquet")
ASKED, NEAREST, SHOWN = 200, 10, 6
RULE = (
    "Asked are products that the models never learned from: those with a partner in the test pairs of the run, "
    f"{ASKED} of them at most, in an order drawn once by a fixed seed. Each version is asked for the {NEAREST} "
    "nearest, without rules. A win: the first version finds more of the product's partners among them than the "
    f"second. Shown are the {SHOWN} wins and the {SHOWN} losses with the largest difference; of equal ones, the first "
    "in that order."
)


@dataclass(frozen=True)
class WinOrLoss:
    """One product: its partners, and what the two versions found. lead: partners that the first found more."""

    id: str
    partners: frozenset[str]
    found: tuple[list[Hit], list[Hit]]
    lead: int


@dataclass(frozen=True)
class Judgement:
    """How many products were asked, and the wins and losses that are shown."""

    asked: int
    of: int
    won: int
    lost: int
    wins: list[WinOrLoss]
    losses: list[WinOrLoss]


def pairs_of(store: str) -> Path | None:
    """Return the file of test pairs of the run that a store belongs to; None where there is none."""
    path = Path(store).parent / PAIRS
    return path if "://" not in store and path.is_file() else None


def judge(pairs: Path, tables: tuple[StoreTable, StoreTable]) -> Judgement:
    """Ask both versions; blocking for some seconds."""
    ids, partners = asked(pairs, tables)
    judged = [_judged(name, frozenset(partners[name]), tables) for name in ids[:ASKED]]
    ranked: Callable[[int], list[WinOrLoss]] = lambda sign: [  # noqa: E731
        one for one in sorted(judged, key=lambda one: -sign * one.lead) if sign * one.lead > 0
    ]
    wins, losses = ranked(1), ranked(-1)
    return Judgement(len(judged), len(ids), len(wins), len(losses), wins[:SHOWN], losses[:SHOWN])


def asked(pairs: Path, tables: Sequence[StoreTable]) -> tuple[list[str], dict[str, set[str]]]:
    """Return the products that test pairs ask and all tables have, in the order of `RULE`, and the partners of each."""
    partners = defaultdict[str, set[str]](set)
    table = Pairs.read(pairs).table
    for a, b in zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True):
        partners[a].add(b)
        partners[b].add(a)
    known = [{item_id for item_id, _ in one.contents(sorted(partners))} for one in tables]
    ids = sorted(set.intersection(*known))
    return [ids[at] for at in np.random.default_rng(0).permutation(len(ids)).tolist()], partners


def _judged(item_id: str, partners: frozenset[str], tables: Sequence[StoreTable]) -> WinOrLoss:
    one, other = (_nearest(table, item_id) for table in tables)
    lead = sum(hit.id in partners for hit in one) - sum(hit.id in partners for hit in other)
    return WinOrLoss(item_id, partners, (one, other), lead)


def _nearest(table: StoreTable, item_id: str) -> list[Hit]:
    [row] = table.get([item_id])
    return [hit for hit in table.search(row.vector, NEAREST + 1) if hit.id != item_id][:NEAREST]
