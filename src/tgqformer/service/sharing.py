"""Versions beside the served one that give a part of the answers: an A/B test. Who asks always gets the same one."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tgqformer.errors import TgqError
from tgqformer.pairs.splits import stable_uniform
from tgqformer.service.served import Served
from tgqformer.store.base import Store
from tgqformer.store.ledger import Version

log = logging.getLogger("tgqformer.service")


class Sharing:
    """Opens the versions that a store lets share, and chooses among them.

    opened: opens a version. fresh: brings one up to date.
    """

    def __init__(self, opened: Callable[[Version], Served], fresh: Callable[[Served], None]) -> None:
        self._opened, self._fresh = opened, fresh
        self._parts: list[tuple[float, Served]] = []  # up to where each answers
        self._shares: dict[str, float] = {}
        self._left: list[Served] = []

    @property
    def versions(self) -> list[Served]:
        """Those that give a part of the answers."""
        return [served for _, served in self._parts]

    def left(self) -> list[Served]:
        """Return those that gave a part before, once: nobody asks them any more."""
        left, self._left = self._left, []
        return left

    def chosen(self, served: Served, who: str) -> Served:
        """Return the version that answers who asks: always the same, while the shares stay."""
        if not self._parts:
            return served
        names = [served.version.name, *(other.version.name for _, other in self._parts)]
        at = stable_uniform("share", *names, who)
        return next((other for upper, other in self._parts if at < upper), served)

    def look(self, store: Store) -> None:
        """Take in what the store says now, and bring what was written into each version. Blocking."""
        if (wanted := store.shares()) != self._shares:
            parts, upper = list[tuple[float, Served]](), 0.0
            for version in store.versions():
                if version.name in wanted:
                    upper += wanted[version.name]
                    try:
                        parts.append((upper, self._opened(version)))
                    except (TgqError, OSError, RuntimeError, ValueError) as error:
                        known = None if isinstance(error, TgqError) else error
                        log.error("version %s gives no answers: %s", version.name, error, exc_info=known)
            self._left += self.versions
            self._parts, self._shares = parts, wanted
        for served in self.versions:
            self._fresh(served)
