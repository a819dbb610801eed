"""Versions beside the served one that give a part of the answers: an A/B test. Who asks always gets the same one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from tgqformer.errors import TgqError
from tgqformer.pairs.splits import stable_uniform
from tgqformer.service.served import Served, key_of
from tgqformer.store.base import Store
from tgqformer.store.ledger import Version

log = logging.getLogger("tgqformer.service")
LONGEST = 300.0  # seconds between two tries of a version that cannot be opened
Plan = tuple[tuple[str, ...], list[tuple[float, float, Served]]]
"""The names of all versions that share, and from where to where each of them that is open answers."""


class Sharing:
    """Opens the versions that a store lets share, and chooses among them.

    opened: opens a version. fresh: brings one up to date. Where a version cannot be opened, the served one gives its
    part; it is tried again after pauses that grow.
    """

    def __init__(self, opened: Callable[[Version], Served], fresh: Callable[[Served], None]) -> None:
        self._opened, self._fresh = opened, fresh
        self._plan: Plan = ((), [])
        self._wanted: list[tuple[str, str, float]] = []
        self._left: list[Served] = []
        self._tries, self._due = 0, inf

    @property
    def versions(self) -> list[Served]:
        """Those that give a part of the answers."""
        return [served for _, _, served in self._plan[1]]

    def left(self) -> list[Served]:
        """Return those that gave a part before, once: nobody asks them any more."""
        left, self._left = self._left, []
        return left

    def chosen(self, served: Served, who: str) -> Served:
        """Return the version that answers who asks: always the same, while the shares stay."""
        names, parts = self._plan
        if not parts:
            return served
        at = stable_uniform("share", served.version.name, *names, who)
        return next((other for lower, upper, other in parts if lower <= at < upper), served)

    def look(self, store: Store) -> None:
        """Take in what the store says now, and bring what was written into each version. Blocking."""
        shares = store.shares()
        asked = [(version, shares[version.name]) for version in store.versions() if version.name in shares]
        wanted = [(key_of(version), version.latest, share) for version, share in asked]
        if wanted != self._wanted or monotonic() >= self._due:
            self._take(asked, anew=wanted != self._wanted)
            self._wanted = wanted
        for served in self.versions:
            self._fresh(served)

    def _take(self, asked: Sequence[tuple[Version, float]], *, anew: bool) -> None:
        """Open the versions that are not open yet, and let go of those that do not share any more."""
        known = {(served.key, served.version.latest): served for served in self.versions}
        parts, upper, missing = list[tuple[float, float, Served]](), 0.0, False
        self._tries = 0 if anew else self._tries
        for version, share in asked:
            lower, upper = upper, upper + share
            served = known.pop((key_of(version), version.latest), None) or self._tried(version)
            if served is None:
                missing = True
            else:
                parts.append((lower, upper, served))
        self._tries += 1
        self._due = monotonic() + min(2.0**self._tries, LONGEST) if missing else inf
        self._left += known.values()
        self._plan = tuple(version.name for version, _ in asked), parts

    def _tried(self, version: Version) -> Served | None:
        try:
            return self._opened(version)
        except (TgqError, OSError, RuntimeError, ValueError) as error:
            known = None if isinstance(error, TgqError) else error
            log.error("version %s gives no answers: %s", version.name, error, exc_info=known)
            return None
