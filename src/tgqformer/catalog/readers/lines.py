"""Lines of text files of unknown origin: gzip or not, UTF-8, UTF-16 or cp1252, whole or cut off."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

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


def read_lines(path: Path) -> Iterator[Line]:
    """Stream the lines of a text file, `.gz` or not; a damaged file ends with a line that has a fault."""
    number = 0
    try:
        with _open(path) as file:
            for number, data in enumerate(_pieces(file), 1):
                yield _line(number, data)
    except (OSError, EOFError, zlib.error) as error:
        yield Line(number + 1, "", fault=f"the file cannot be read from here on: {error}")


def _open(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _pieces(file: IO[bytes]) -> Iterator[bytes | str]:
    """Return each line as bytes; as text where a byte order mark says UTF-16; a too long line as an empty string."""
    first = file.readline(MAX_LINE)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-16", errors="replace", newline="")
        yield from iter(lambda: text.readline(MAX_LINE), "")
        return
    line = first.removeprefix(codecs.BOM_UTF8)
    while line:
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield ""
        else:
            yield line
        line = file.readline(MAX_LINE)


def _line(number: int, data: bytes | str) -> Line:
    if isinstance(data, str):
        return Line(number, data) if data else Line(number, "", fault=f"the line is longer than {MAX_LINE >> 20} MB")
    try:
        return Line(number, data.decode("utf-8"))
    except UnicodeDecodeError:
        return Line(number, data.decode("cp1252", "replace"), utf8=False)
