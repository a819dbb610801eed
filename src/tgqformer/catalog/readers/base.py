"""The seam of the readers: how the files of a shop become rows, each with where it stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tgqformer.catalog.mapping import ColumnMapping
from tgqformer.catalog.readers.lines import bare_name


@dataclass(slots=True)
class SourceRow:
    """One row of a source: its fields by column name, or the reason why it cannot be read.

    `file` and `line` say where it stood (its first physical line, or the number of the row in a Parquet file, from 1).
    `notes` are findings of the reader itself as (kind, words); `related` are other items by kind of relation;
    `raw` is the text of a row that cannot be read.
    """

    file: str
    line: int
    fields: Mapping[str, Any] | None = None
    reason: str | None = None
    notes: tuple[tuple[str, str], ...] = ()
    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    raw: str | None = None


@dataclass(slots=True)
class Block:
    """Some rows of one file with the same columns, each a text of its own, that can all be read.

    names: of the columns. lines: where each row stood. cells: texts [rows][columns].
    """

    file: str
    names: list[str]
    lines: list[int]
    cells: list[list[str]]

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, place: int) -> SourceRow:
        """Return one row."""
        return SourceRow(self.file, self.lines[place], dict(zip(self.names, self.cells[place], strict=True)))

    def rows(self) -> Iterator[SourceRow]:
        """Yield every row."""
        return map(self.row, range(len(self)))

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return the cells of each column."""
        return dict(zip(self.names, zip(*self.cells, strict=True), strict=True))

    def cut(self, place: int) -> tuple[Block, Block]:
        """Return the rows before a place, and the others."""
        lines, cells = self.lines, self.cells
        return (
            Block(self.file, self.names, lines[:place], cells[:place]),
            Block(self.file, self.names, lines[place:], cells[place:]),
        )


Rows = Iterator[SourceRow | Block]


class RowStream:
    """A stream of rows and blocks, taken by numbers of rows. at: how many were taken."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.at = rows, 0
        self._rest: Block | None = None

    def take(self, count: int) -> Rows:
        """Yield the next rows, as many as there are at most."""
        last = self.at + count
        while self.at < last and (one := self._rest or next(self._rows, None)) is not None:
            self._rest = None
            if isinstance(one, Block) and self.at + len(one) > last:
                one, self._rest = one.cut(last - self.at)
            self.at += len(one) if isinstance(one, Block) else 1
            yield one


class Reader(Protocol):
    """Reads one layout of files.

    `mapping` says which columns mean what (None: to be guessed from the names). A picture column may hold a path, an
    address, bytes, a list of these, or a tuple of names of which the first that exists is taken.
    """

    name: str
    about: str
    mapping: ColumnMapping | None

    def sniff(self, path: Path) -> bool:
        """Say whether `path` looks like this layout; reads a few lines at most."""
        ...

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the rows of `path` in order; a damaged row is a `SourceRow` with a reason, never an error.

        encoding: of text files, where it is given; other files have none.
        """
        ...

    def root(self, path: Path) -> Path:
        """Return the folder that picture names are relative to when the user names none."""
        ...


def each_row(rows: Rows) -> Iterator[SourceRow]:
    """Yield every row of a stream by itself."""
    for one in rows:
        if isinstance(one, Block):
            yield from one.rows()
        else:
            yield one


def folder_of(path: Path) -> Path:
    """Return the folder of a source: itself, or the folder a file lies in."""
    return path if path.is_dir() else path.parent


def pictures_folder(path: Path) -> Path:
    """Return `images/` beside the source where there is one, else the source's folder."""
    folder = folder_of(path)
    return folder / "images" if (folder / "images").is_dir() else folder


@dataclass
class FileReader:
    """Reads files with certain endings, or folders of them, one after the other.

    suffixes: how their names end. read: streams the rows of one file.
    fits: says whether a file with such an ending is meant; None: always. pictures: the folder of the pictures of a
    source.
    """

    name: str
    about: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str | None], Iterator[SourceRow] | Rows]
    mapping: ColumnMapping | None = None
    fits: Callable[[Path], bool] | None = None
    pictures: Callable[[Path], Path] = folder_of

    def sniff(self, path: Path) -> bool:
        """Say whether there are such files, and the first of them fits."""
        found = parts(path, self.suffixes)
        return bool(found) and (self.fits is None or self.fits(found[0]))

    def rows(self, path: Path, encoding: str | None = None) -> Iterator[SourceRow]:
        """Stream the rows of all files, in order of their names."""
        return each_row(self.blocks(path, encoding))

    def blocks(self, path: Path, encoding: str | None = None) -> Rows:
        """Stream the same rows, in blocks where they are read so."""
        for file in files_of(path, self.suffixes):
            yield from self.read(file, encoding)

    def root(self, path: Path) -> Path:
        """Return what `pictures` says: by default the folder of the file."""
        return self.pictures(path)


def parts(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a source consists of: `path` itself, or the files in it that end in `suffixes`, sorted."""
    if path.is_file():
        return [path] if bare_name(path).endswith(suffixes) else []
    if not path.is_dir():
        return []
    return sorted(
        file
        for file in path.iterdir()
        if bare_name(file).endswith(suffixes) and not file.name.startswith(".") and file.is_file()
    )


def files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read once a reader is chosen: a single file is read whatever its name ends in."""
    return [path] if path.is_file() else parts(path, suffixes)
