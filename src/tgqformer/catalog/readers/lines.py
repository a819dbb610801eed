"""Lines of text files of unknown origin: gzip or not, UTF-8, UTF-16 or cp1252, whole or cut off, with any line ends."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tgqformer.errors import TgqError

MAX_LINE = 16 << 20
"""A line longer than this many bytes is not read (packed pictures in base64 fit)."""
NOT_UTF8 = ("encoding", "not UTF-8: read as cp1252 (Windows)")


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line, with its ending; `fault` says why it (or the rest of the file) cannot be read."""

    number: int
    text: str
    utf8: bool = True
    fault: str | None = None


def read_lines(path: Path, encoding: str | None = None) -> Iterator[Line]:
    """Stream the lines of a text file, `.gz` or not; a damaged file ends with a line that has a fault.

    Without `encoding` it is UTF-8, line by line else cp1252; or UTF-16 by its byte order mark or its zeros.
    Raise TgqError for an encoding that is not known.
    """
    number, encoding = 0, encoding_of(path, encoding) if encoding is not None else None
    try:
        with open_binary(path) as file:
            for number, data in enumerate(_pieces(file, encoding), 1):
                yield _line(number, data)
    except (OSError, EOFError, zlib.error) as error:
        yield Line(number + 1, "", fault=f"the file cannot be read from here on: {error}")


def encoding_of(path: Path, encoding: str | None = None) -> str | None:
    """Return the encoding of a text file where it is given, or told by its first bytes; None: UTF-8 or cp1252.

    Raise TgqError for an encoding that is not known.
    """
    if encoding is not None:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise TgqError(f"there is no encoding {encoding!r}; usual are utf-8, cp1252, shift_jis, gb18030") from error
    try:
        with open_binary(path) as file:
            return _told_by(file.read(64))
    except (OSError, EOFError, zlib.error):
        return None


def _told_by(start: bytes) -> str | None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [start[place::2].count(0) for place in (0, 1)]
    if max(zeros) * 4 > len(start) > 3 and min(zeros) == 0:
        return "utf-16-le" if zeros[1] else "utf-16-be"
    return None


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where its name ends in `.gz`."""
    if path.name.lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _pieces(file: IO[bytes], encoding: str | None) -> Iterator[bytes | str]:
    """Return each line as bytes; as text where the encoding is known; a too long line as an empty string."""
    start = file.read(64)
    file.seek(0)
    encoding = encoding or _told_by(start)
    if encoding is not None:
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        yield from iter(lambda: text.readline(MAX_LINE), "")
        return
    line = file.readline(MAX_LINE).removeprefix(codecs.BOM_UTF8)
    if b"\r" in line[:-1] and not line.endswith(b"\n"):  # all of it is one line: the lines end in CR, as on old Macs
        yield from _split_at_cr(file, line)
        return
    while line:
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield ""
        else:
            yield line
        line = file.readline(MAX_LINE)


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
