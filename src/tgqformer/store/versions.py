"""Versions beside each other, one served: the same for every back end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

from tgqformer.errors import TgqError
from tgqformer.store.base import Backend, BulkTable, StoreRow, TableStats, Unreachable
from tgqformer.store.ledger import Ledger, Version, VersionSpec, alike


class VersionedStore:
    """A store over a back end; see `base.Store` for what the methods do."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._tables = backend, dict[str, BulkTable]()
        self.where, self.backend = backend.where, backend.name
        self._ledger = backend.read()

    @property
    def served(self) -> Version | None:
        """The version that is served, as of the last refresh."""
        return self._ledger.served

    def begun(self) -> tuple[str, int]:
        """Count the versions that were begun."""
        ledger = self._backend.read()
        return ledger.identity, ledger.begun

    def trouble(self) -> str | None:
        """Say why the store cannot be written."""
        return self._backend.trouble()

    def versions(self) -> list[Version]:
        """List the versions that are whole."""
        return list(self._ledger.whole)

    def unfinished(self) -> list[Version]:
        """List the versions that a job is building, or that a killed one left."""
        return list(self._ledger.unfinished)

    def table(self, version: str | None = None) -> BulkTable:
        """Open a table, once."""
        wanted = self._ledger.served if version is None else self._ledger.find(version)
        if wanted is None:
            raise TgqError(f"{self.where} serves no version yet; fill it by `tgq index` or `tgq sync`")
        return self._open(wanted)

    def _open(self, version: Version) -> BulkTable:
        if version.name not in self._tables:
            self._tables[version.name] = self._backend.open(version)
        return self._tables[version.name]

    def create(self, spec: VersionSpec, rows: Iterable[StoreRow]) -> Version:
        """Build a version beside the others."""
        for left in [one for one in self._backend.read().unfinished if alike(one, spec)]:
            self._remove(left.name)
        self._change(lambda ledger: ledger.start(spec, _now()))
        version = self._newest(spec)
        with ExitStack() as undo:
            undo.callback(self._remove, version.name)
            try:
                table = self._backend.make(version)
                table.add(rows)
                table.optimize()
                self._change(lambda ledger: ledger.finish(version.name))
            except TgqError as error:
                if version.name in self._backend.read().names:
                    raise
                words = f"another job built the same version of {self.where}, and removed {version.name} of this one"
                raise TgqError(f"{words}; let jobs that build the same version run one at a time") from error
            undo.pop_all()
        self._tables[version.name] = table
        return version

    def begin(self, spec: VersionSpec) -> BulkTable:
        """Start a version, or take up one that was begun."""

        def step(ledger: Ledger) -> Ledger:
            begun = any(alike(one, spec) for one in ledger.unfinished)
            return ledger if begun else ledger.start(spec, _now())

        self._change(step)
        return self._backend.make(self._newest(spec))

    def finish(self, name: str) -> Version:
        """Index a version that was begun, and list it."""
        version = self._ledger.find(name, unfinished=True)
        self._backend.open(version).optimize()
        self._change(lambda ledger: ledger.finish(name))
        return version

    def admit(self, name: str, model_version: str, model: str | None = None) -> Version:
        """Let a version hold vectors of one more model."""
        self._change(lambda ledger: ledger.admit(name, model_version, model))
        self._tables.pop(name, None)
        return self._ledger.find(name)

    def serve(self, name: str) -> Version:
        """Serve a version; one that cannot be opened, or has lost files, is refused."""
        self._open(self._backend.read().find(name)).stats()
        self._change(lambda ledger: ledger.serve(name))
        return self._ledger.find(name)

    def shares(self) -> dict[str, float]:
        """Return the parts of the answers that other versions give, as of the last refresh."""
        return dict(self._ledger.shares)

    def share(self, shares: Mapping[str, float]) -> None:
        """Let other versions give parts of the answers."""
        self._change(lambda ledger: ledger.share(shares))

    def rollback(self) -> Version:
        """Serve the version before; one that cannot be opened, or has lost files, is refused."""
        before = self._backend.read().rollback().served
        assert before is not None
        self._open(before).stats()
        self._change(Ledger.rollback)
        served = self._ledger.served
        assert served is not None
        return served

    def drop(self, name: str) -> None:
        """Remove a version."""
        self._change(lambda ledger: ledger.drop(name))
        self._tables.pop(name, None)
        self._backend.drop(name)

    def prune(self, keep: int) -> list[str]:
        """Drop old versions, and what killed jobs left of dropped ones."""
        gone = self._backend.read().droppable(keep)
        for name in gone:
            self.drop(name)
        for name in self._backend.tables() - self._backend.read().names:
            self._backend.drop(name)  # a ledger names a version before its table is made
        return gone

    def refresh(self) -> bool:
        """Read the ledger again."""
        before, self._ledger = self._ledger.served, self._backend.read()
        known = {version.name: version for version in (*self._ledger.whole, *self._ledger.unfinished)}
        for name, table in list(self._tables.items()):
            if name not in known or known[name].models != table.version.models:
                self._tables.pop(name)
        after = self._ledger.served
        return (before and (before.name, before.created)) != (after and (after.name, after.created))

    def stats(self) -> list[TableStats]:
        """Say what each version holds."""
        served = self.served
        return [replace(self._stats_of(one), served=one == served) for one in self.versions()]

    def _stats_of(self, version: Version) -> TableStats:
        try:
            return self._open(version).stats()
        except Unreachable:
            raise
        except TgqError as error:
            return TableStats(version, 0, 0, trouble=str(error))

    def _change(self, step: Callable[[Ledger], Ledger]) -> None:
        self._ledger = self._backend.change(step)

    def _remove(self, name: str) -> None:
        if name in self._backend.read().names:
            self.drop(name)

    def _newest(self, spec: VersionSpec) -> Version:
        return [one for one in self._ledger.unfinished if alike(one, spec)][-1]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
