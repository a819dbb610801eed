"""Checksums of the files of a table: LanceDB checks none of what it reads, and fails hard on some of what is damaged.

Its files are written once and never changed, so each has one line in a journal, `CRC-32 path`; `- path` takes a line
back. The last line of a path counts. Lines that a power cut tore are passed over: their files are read without a check
until they get a new line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.files import checksum, write_text

_SPARE = 1000  # lines of files that are gone, until the journal is written anew


class Sums:
    """The journal of one table. Only who holds the table alone may `add` and `drop`; all may `check`.

    Args:
        journal: a file beside the table. folder: of the table. remedy: what helps where a file is damaged.
    """

    def __init__(self, journal: Path, folder: Path, remedy: str) -> None:
        self.journal, self._folder, self._remedy = journal, folder, remedy
        self._lines: int | None = None
        self._known: dict[str, str] = {}

    def add(self, files: Iterable[Path], anew: Iterable[Path] = ()) -> None:
        """Note the files that have no line yet, and those of `anew`, which may have one of an earlier file."""
        if self._lines is None:
            self._lines, self._known = self._read()
        again, lines = set(anew), dict[str, str]()
        for file in files:
            name = file.relative_to(self._folder).as_posix()
            if file in again or name not in self._known:
                try:
                    lines[name] = f"{checksum(file):08x}"
                except FileNotFoundError:  # compacting removed it this moment
                    continue
        self._append(lines)
        if self._lines > 2 * len(self._known) + _SPARE:
            self._known = {name: said for name, said in self._known.items() if (self._folder / name).exists()}
            write_text(self.journal, _text(self._known))
            self._lines = len(self._known)

    def drop(self, files: Iterable[Path]) -> None:
        """Take lines back, before their files are removed: another may be written under that name."""
        self._append(dict.fromkeys((file.relative_to(self._folder).as_posix() for file in files), "-"))

    def check(self) -> None:
        """Read all files that have a line.

        Raises: TgqError for one that is not as it was when it was written.
        """
        for name, said in self._read()[1].items():
            try:
                found = f"{checksum(self._folder / name):08x}"
            except FileNotFoundError:
                continue
            if found != said and self._read()[1].get(name) == said:  # nobody wrote another one meanwhile
                raise TgqError(f"{self._folder / name} is damaged: it is not as it was written; {self._remedy}")

    def _append(self, lines: dict[str, str]) -> None:
        if lines:
            with self.journal.open("a", encoding="utf-8") as sink:
                sink.write("\n" + _text(lines))  # the last line may have been torn
            self._lines = (self._lines or 0) + len(lines)
            self._known |= lines

    def _read(self) -> tuple[int, dict[str, str]]:
        """Return the number of lines, and what the last one says of each path."""
        try:
            text = self.journal.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return 0, {}
        found = dict[str, str]()
        for line in (lines := text.split("\n")):
            said, _, name = line.partition(" ")
            if said == "-":
                found.pop(name, None)
            elif name and len(said) == 8:
                found[name] = said
        return len(lines), found


def _text(lines: dict[str, str]) -> str:
    return "".join(f"{said} {name}\n" for name, said in lines.items())
