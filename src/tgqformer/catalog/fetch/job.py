"""Fetch all pictures that a source names by address into a folder: resumable, each once, every failure explained.

A picture that is in the folder is done. Failures of a job that is not finished stand in a journal, so that a killed
job goes on; the next job asks for them again. A host that answers nothing for many pictures is not asked for the rest.
"""

from __future__ import annotations

import asyncio
import csv
import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from tgqformer.catalog.addresses import FETCHED, address_of, fetched_file, fetched_name
from tgqformer.catalog.fetch.client import Client, FetchError, FetchSettings
from tgqformer.errors import TgqError, counted
from tgqformer.files import atomic_path, clear_abandoned
from tgqformer.progress import Bar, progress
from tgqformer.stages import claim, only_one

FAILURES = "failures.csv"
_JOURNAL = ".failures.jsonl"
SILENT = 20
"""Pictures one after another that a host does not answer; then it is not asked for its others."""
_NO_ANSWER = ("host", "connection", "timeout")


@dataclass(frozen=True)
class Failure:
    """A picture that could not be had: its address as the source has it, a stable word, why, and whose it is."""

    address: str
    kind: str
    reason: str
    items: tuple[str, ...]


@dataclass
class FetchReport:
    """What a job did: addresses of the source, pictures that were there before, those that came, those that did not.

    Of several addresses that mean one picture the first fetches it, and for the others it is there.
    """

    addresses: int
    there: int = 0
    fetched: int = 0
    failures: list[Failure] = field(default_factory=list)

    def summary(self) -> str:
        """Return what was done in one sentence."""
        return (
            f"{counted(self.addresses, 'address')}: {counted(self.fetched, 'picture')} fetched, "
            f"{self.there:,} were there, {len(self.failures):,} failed"
        )


def fetch_pictures(
    named: Iterable[tuple[str, list[str]]],
    to: Path,
    how: FetchSettings = FetchSettings(),  # noqa: B008
    *,
    show_progress_bar: bool = False,
) -> FetchReport:
    """Fetch the pictures of items into the folder `to`; write `failures.csv` there when all were asked for.

    named: (id, addresses) of each item. An address has a file of its own, see `addresses.fetched_name`; the importer
    finds it by the same name.

    Raise TgqError where nothing is named by address, or `to` holds what is not ours, or another job is at work there.
    """
    items: dict[str, list[str]] = defaultdict(list)
    for name, addresses in named:
        for address in dict.fromkeys(addresses):
            items[address].append(name)
    if not items:
        raise TgqError("no picture is named by an address; there is nothing to fetch")
    claim(to, FETCHED, "pictures")
    with only_one(to):
        for left in to.glob("??/.*.tmp"):  # of a job that was killed
            clear_abandoned(left)
        job = _Job(to, how, items)
        with progress("fetching pictures", len(items), shown=show_progress_bar) as bar:
            try:
                asyncio.run(job.run(bar))
            except BaseExceptionGroup as several:  # one of the workers: no room on the disk, say
                raise several.exceptions[0] from several
        job.finish()
    return job.report


class _Job:
    def __init__(self, to: Path, how: FetchSettings, items: dict[str, list[str]]) -> None:
        self._to, self._how, self._items = to, how, items
        self.report = FetchReport(len(items))
        self._texts: dict[str, list[str]] = {}  # address in its one form: all ways in which the source has it
        self._silent: Counter[str] = Counter()  # pictures that a host did not answer, since it last did

    async def run(self, bar: Bar) -> None:
        """Ask for all that is neither there nor in the journal, each host on its own."""
        hosts: dict[str, deque[str]] = defaultdict(deque)
        known = self._journal()
        with (self._to / _JOURNAL).open("a", encoding="utf-8") as journal:
            for text in self._items:
                address = address_of(text)
                if text in known:
                    self._failed(text, *known[text])
                elif address is None:
                    self._failed(text, "address", "only http and https are fetched, from a host, without a user")
                elif address in self._texts:
                    self._texts[address].append(text)
                    continue
                elif fetched_file(address, self._to) is not None:
                    self.report.there += 1
                else:
                    self._texts[address] = [text]
                    hosts[urlsplit(address).netloc].append(address)
                    continue
                bar.advance()
            async with Client(self._how) as client, asyncio.TaskGroup() as tasks:
                for host, waiting in hosts.items():
                    for _ in range(min(self._how.at_once, len(waiting))):
                        tasks.create_task(self._worker(client, host, waiting, journal, bar))

    async def _worker(self, client: Client, host: str, waiting: deque[str], journal: TextIO, bar: Bar) -> None:
        while waiting:
            address = waiting.popleft()
            texts = self._texts[address]
            if self._silent[host] >= SILENT:
                why = f"not asked: {host} did not answer for {SILENT} pictures one after another"
                for text in texts:
                    self._failed(text, "silent", why)
            else:
                await self._fetch(client, host, address, journal)
            bar.advance(len(texts))

    async def _fetch(self, client: Client, host: str, address: str, journal: TextIO) -> None:
        texts = self._texts[address]
        try:
            ending, data = await client.picture(address)
            await asyncio.to_thread(self._write, f"{fetched_name(address)}.{ending}", data)
            self.report.fetched += 1
            self.report.there += len(texts) - 1
            self._silent[host] = 0
        except FetchError as error:
            self._silent[host] = self._silent[host] + 1 if error.kind in _NO_ANSWER else 0
            for text in texts:
                self._failed(text, error.kind, error.reason)
                print(json.dumps([text, error.kind, error.reason]), file=journal, flush=True)

    def _write(self, name: str, data: bytes) -> None:
        with atomic_path(self._to / name) as unfinished:
            unfinished.write_bytes(data)

    def _failed(self, text: str, kind: str, reason: str) -> None:
        self.report.failures.append(Failure(text, kind, reason, tuple(self._items[text])))

    def _journal(self) -> dict[str, tuple[str, str]]:
        """Return what failed in a job that was killed; its last line may be cut off."""
        file, found = self._to / _JOURNAL, dict[str, tuple[str, str]]()
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            file.write_text("".join(whole), encoding="utf-8")
        for line in whole:
            text, kind, reason = json.loads(line)
            found[text] = (kind, reason)
        return found

    def finish(self) -> None:
        """Write the list of failures; the journal ends."""
        with atomic_path(self._to / FAILURES) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["address", "kind", "reason", "items"])
            for one in sorted(self.report.failures, key=lambda one: (one.kind, one.address)):
                items = json.dumps(one.items, ensure_ascii=False)  # an id may hold spaces and commas
                table.writerow([one.address, one.kind, one.reason, items])
        (self._to / _JOURNAL).unlink(missing_ok=True)
