"""Lines of text files of unknown origin: packed or not, of any usual encoding, whole or cut off, with any line ends."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from tgqformer.errors import TgqError

MAX_LINE = 16 << 20
"""A line longer than this many bytes is not read (packed pictures in base64 fit)."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings of packed files; what they are is told by their first bytes, whatever their name."""
_BATCH = 1 << 16
"""Bytes of lines that are read at once."""
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
_NO_TEXT = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"%PDF": "a PDF; export its table as CSV",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"SQLite format 3": "a SQLite database; export its table as CSV",
}
NOT_UTF8 = ("encoding", "not UTF-8: read as cp1252 (Windows)")


@dataclass(slots=True)
class Line:
    """One physical line, with its ending; `fault` says why it (or the rest of the file) cannot be read."""

    number: int
    text: str
    utf8: bool = True
    fault: str | None = None


@dataclass(slots=True)
class LineBatch:
    """Lines that follow each other. number: of the first. data: those that end in a line feed together, else each."""

    number: int
    data: bytes | list[bytes | str]
    fault: str | None = None

    def __len__(self) -> int:
        if isinstance(self.data, list):
            return len(self.data)
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    def lines(self) -> Iterator[Line]:
        """Yield every line."""
        if self.fault is not None:
            yield Line(self.number, "", fault=self.fault)
        pieces = self.data if isinstance(self.data, list) else io.BytesIO(self.data)
        yield from (_line(number, piece) for number, piece in enumerate(pieces, self.number))

    def texts(self) -> list[str] | None:
        """Return the lines without their line feeds where they stand together and all are of UTF-8; else None."""
        if isinstance(self.data, list):
            return None
        try:
            return self.data.removesuffix(b"\n").decode("utf-8").split("\n")
        except UnicodeDecodeError:
            return None


def read_lines(path: Path, encoding: str | None = None) -> Iterator[Line]:
    """Stream the lines of a text file, packed or not; a damaged file ends with a line that has a fault.

    Without `encoding` it is UTF-8, line by line else cp1252; or UTF-16 by its byte order mark or its zeros.
    Raise TgqError for an encoding that is not known.
    """
    return chain.from_iterable(batch.lines() for batch in read_batches(path, encoding))


def read_batches(path: Path, encoding: str | None = None) -> Iterator[LineBatch]:
    """Stream the same lines, many at a time."""
    number, encoding = 1, encoding_of(path, encoding) if encoding is not None else None
    try:
        with open_binary(path) as file:
            for data in _pieces(file, encoding):
                batch = LineBatch(number, data)
                number += len(batch)
                yield batch
    except DAMAGED as error:
        yield LineBatch(number, [], f"the file cannot be read from here on: {error}")
    except UnicodeError as error:  # what cannot be read is replaced, but for a mark at the beginning
        yield LineBatch(number, [], f"the file is not {encoding}: {error}")


def encoding_of(path: Path, encoding: str | None = None) -> str | None:
    """Return the encoding of a text file where it is given, or told by its first bytes; None: UTF-8 or cp1252.

    Raise TgqError for an encoding that is not known.
    """
    if encoding is not None:
        try:
            found = codecs.lookup(encoding)
            if not found._is_text_encoding:  # rot13, hex and the like
                raise LookupError(encoding)
            return found.name
        except LookupError as error:
            raise TgqError(f"there is no encoding {encoding!r}; usual are utf-8, cp1252, shift_jis, gb18030") from error
    try:
        with open_binary(path) as file:
            return _told_by(file.read(64))
    except DAMAGED:
        return None


def _told_by(start: bytes) -> str | None:
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [start[place::2].count(0) for place in (0, 1)]
    if max(zeros) * 4 > len(start) > 3 and min(zeros) == 0:
        return "utf-16-le" if zeros[1] else "utf-16-be"
    return None


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked where it is packed with gzip, bzip2 or xz.

    Raise TgqError for a file of which it is plain that it holds no text.
    """
    packer = packer_of(path)
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    return cast("IO[bytes]", openers[packer](path, "rb")) if packer is not None else path.open("rb", _BATCH)


def packer_of(path: Path) -> str | None:
    """Return gzip, bz2 or xz, by the first bytes of a file; None where it is not packed. Errors as in `open_binary`."""
    with path.open("rb") as file:
        start = file.read(16)
    for sign, what in _NO_TEXT.items():
        if start.startswith(sign):
            raise TgqError(f"{path} cannot be read as text: it is {what}")
    return next((packer for sign, packer in _PACKERS.items() if start.startswith(sign)), None)


def bare_name(path: Path) -> str:
    """Return the name of a file in small letters, without the ending that says that it is packed."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


def _pieces(file: IO[bytes], encoding: str | None) -> Iterator[bytes | list[bytes | str]]:
    """Return lines as bytes; as text where the encoding is known; a too long line as an empty string."""
    start = file.read(64)
    file.seek(0)
    encoding = encoding or _told_by(start)
    if encoding is not None:
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        for written in iter(lambda: text.readline(MAX_LINE), ""):
            yield [written]
        return
    line = file.readline(MAX_LINE).removeprefix(codecs.BOM_UTF8)
    if b"\r" in line[:-1] and not line.endswith(b"\n"):  # all of it is one line: the lines end in CR, as on old Macs
        for one in _split_at_cr(file, line):
            yield [one]
        return
    read = cast("io.BufferedReader", file).read1  # a damaged packed file gives what stands before the damage
    while line:
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield [""]
        else:
            yield line
        data = read(_BATCH)
        if whole := data.rfind(b"\n") + 1:
            yield data[:whole]
        line = data[whole:] + file.readline(MAX_LINE - len(data) + whole)


def _split_at_cr(file: IO[bytes], rest: bytes) -> Iterator[bytes]:
    while rest:
        *lines, rest = rest.split(b"\r")
        yield from (line + b"\n" for line in lines)
        more = file.read(1 << 20)
        if not more and rest:
            yield rest
        rest = rest + more if more else b""


def _line(number: int, data: bytes | str) -> Line:
    if isinstance(data, str):
        return Line(number, data) if data else Line(number, "", fault=f"the line is longer than {MAX_LINE >> 20} MB")
    try:
        return Line(number, data.decode("utf-8"))
    except UnicodeDecodeError:
        return Line(number, data.decode("cp1252", "replace"), utf8=False)
