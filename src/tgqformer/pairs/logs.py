"""Reading logs: interactions as tables, from the files that shops and public data sets have.

A row that cannot be read is reported with its file, place and reason, and does not stop the reading.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tgqformer.errors import TgqError

GUESSES: dict[str, tuple[str, ...]] = {
    "session": (
        "session", "session_id", "sessionid", "user", "user_id", "userid", "customer_id", "reviewerid", "visitorid",
        "visitor_id", "order_id", "basket_id", "transaction_id", "query_id",
    ),
    # Amazon 2023 catalogues are keyed by parent_asin, so it goes before asin.
    "item": ("item", "item_id", "itemid", "article_id", "parent_asin", "asin", "product_id", "productid", "sku", "aid"),
    "time": ("time", "timestamp", "ts", "t_dat", "unixreviewtime", "event_time", "datetime", "date"),
    "weight": ("weight",),
}  # fmt: skip
"""Column names that are taken for a field when none is given, first match first, capitals ignored."""
MAX_LISTED = 1000
_BATCH = 1 << 16
_NUMBER, _ISO = r"^-?\d+(\.\d+)?$", r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"


@dataclass(frozen=True)
class Columns:
    """Which column of a log holds what; None: guessed from `GUESSES` (time and weight may be absent)."""

    session: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that was left out: the file, its number (the first data row is 1) and why."""

    file: str
    row: int
    reason: str


@dataclass
class ReadReport:
    """What the reading of a log found: rows kept, columns used, rows left out (the first `MAX_LISTED` are listed)."""

    rows: int = 0
    bad_rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    _skipped: list[int] = field(default_factory=list, repr=False)

    def skip(self, file: Path, row: int, reason: str) -> None:
        """Note a bad row that the parser dropped, so that rows behind it keep their numbers."""
        self._skipped.append(row)
        self.add(file, row, reason)

    def number(self, row: int) -> int:
        """Return the number in the file of the `row`-th row that the parser gave."""
        for skipped in self._skipped:
            row += skipped <= row
        return row

    def add(self, file: Path, row: int, reason: str) -> None:
        """Note one bad row."""
        self.bad_rows += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append(BadRow(str(file), row, reason))


def read_log(path: Path, columns: Columns, report: ReadReport) -> pa.Table:
    """Read a log as a table (session, item: dictionaries of strings; time int64 seconds, weight float32 where given).

    Fills `report`. Raise TgqError when the file or a column is absent, or the file cannot be read at all.
    """
    if not path.is_file():
        raise TgqError(f"there is no file {path}; name a log of interactions (CSV, TSV, Parquet, JSON lines, text)")
    parts: list[pa.Table] = []
    first = 1
    for batch in _reader(path)(path, report):
        if not parts:
            report.columns = _mapping(path, batch.column_names, columns)
        parts.append(_checked(batch, report, path, first))
        first += len(batch)
    if not parts:
        raise TgqError(f"{path} has no rows")
    table = pa.concat_tables(parts)
    report.rows = len(table)
    return table


def _reader(path: Path) -> Callable[[Path, ReadReport], Iterator[pa.Table]]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    readers = {
        ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet, ".pq": _read_parquet,
        ".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".json": _read_json_lines, ".txt": _read_lines,
    }  # fmt: skip
    if kind not in readers:
        raise TgqError(f"{path}: a log ends in {', '.join(readers)} (also with .gz), not in {path.suffix!r}; rename it")
    return readers[kind]


def _read_csv(path: Path, report: ReadReport) -> Iterator[pa.Table]:
    """Read with every column as text, so that no id loses its zeros; rows of a wrong width go to the report."""

    def skip(row: pc_csv.InvalidRow) -> str:
        report.skip(
            path, (row.number or 2) - 1, f"{row.actual_columns} fields where {row.expected_columns} are expected"
        )
        return "skip"

    delimiter = "\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else ","
    header = next(_lines(path), b"").decode("utf-8-sig", "replace").rstrip("\r\n")
    names = [name.strip().strip('"') for name in header.split(delimiter)]
    try:
        with _open(path) as stream:
            reader = pc_csv.open_csv(
                stream,
                read_options=pc_csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False, block_size=4 << 20),
                parse_options=pc_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
                convert_options=pc_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False, check_utf8=False
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise TgqError(f"{path} cannot be read as {delimiter!r}-separated text: {error}") from error


def _read_parquet(path: Path, report: ReadReport) -> Iterator[pa.Table]:
    try:
        for batch in pq.ParquetFile(path).iter_batches(_BATCH):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise TgqError(f"{path} cannot be read as Parquet: {error}") from error


def _read_json_lines(path: Path, report: ReadReport) -> Iterator[pa.Table]:
    rows: list[dict[str, str | None]] = []
    for number, line in enumerate(_lines(path), start=1):
        row: Any = None
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                report.add(path, number, f"not JSON: {error}")
            if row is not None and not isinstance(row, dict):
                report.add(path, number, "not a JSON object")
        values = row if isinstance(row, dict) else {_SKIP: "1"}
        rows.append({key: _scalar(value) for key, value in values.items() if not isinstance(value, dict | list)})
        if len(rows) == _BATCH:
            yield _of_rows(rows)
            rows = []
    if rows:
        yield _of_rows(rows)


def _read_lines(path: Path, report: ReadReport) -> Iterator[pa.Table]:
    """Lines of white-space separated words: a user, then its items."""
    users: list[str] = []
    items: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        words = line.decode("utf-8", "replace").split()
        if len(words) == 1:
            report.add(path, number, f"the user {words[0]!r} has no item")
        users += words[:1] * (len(words) - 1)
        items += words[1:]
        if len(items) >= _BATCH:
            yield pa.table({"session": users, "item": items})
            users, items = [], []
    yield pa.table({"session": pa.array(users, pa.string()), "item": pa.array(items, pa.string())})


# A row that is in the report already (or blank): it keeps its place so that row numbers are right.
_SKIP = "\x00skip"


def _of_rows(rows: list[dict[str, str | None]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def _scalar(value: object) -> str | None:
    return None if value is None else str(value)


def _open(path: Path) -> pa.NativeFile:
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as stream:
            rest = b""
            while block := stream.read(1 << 20):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
            if rest:
                yield rest
    except OSError as error:
        raise TgqError(f"{path} cannot be read: {error}") from error


def _mapping(path: Path, names: Sequence[str], asked: Columns) -> Columns:
    found: dict[str, str | None] = {}
    lower = {name.lower(): name for name in reversed(names)}
    for wanted in fields(Columns):
        given = getattr(asked, wanted.name)
        if given is not None and given not in names:
            near = get_close_matches(given, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TgqError(f"{path} has no column {given!r}{hint} It has: {', '.join(names)}")
        guess = next((lower[name] for name in GUESSES[wanted.name] if name in lower), None)
        found[wanted.name] = given or guess
        if list(names).count(str(found[wanted.name])) > 1:
            raise TgqError(f"{path} has more than one column {found[wanted.name]!r}; give them different names")
    for need in ("session", "item"):
        if found[need] is None:
            raise TgqError(
                f"{path}: no column looks like the {need}; name it with --{need}. It has: {', '.join(names)}"
            )
    return Columns(**found)


def _checked(batch: pa.Table, report: ReadReport, path: Path, first: int) -> pa.Table:
    """Return (session, item, time, weight) of a batch without its bad rows, which go to the report."""
    columns = report.columns
    skip = pc.is_valid(batch[_SKIP]).to_numpy() if _SKIP in batch.column_names else np.zeros(len(batch), dtype=bool)
    reasons: list[tuple[NDArray[np.bool_], str]] = []
    out: dict[str, pa.ChunkedArray] = {}
    for name, source in (("session", columns.session), ("item", columns.item)):
        text, wrong = _text(batch, source)
        reasons += [(wrong, f"{source} is not UTF-8"), (_mask(pc.equal(text, "")), f"{source} is empty")]
        out[name] = text.dictionary_encode()
    if columns.time is not None:
        out["time"], bad = _times(batch, columns.time)
        reasons.append((bad, f"{columns.time} is not a time"))
    if columns.weight is not None:
        out["weight"], bad = _weights(batch, columns.weight)
        reasons.append((bad, f"{columns.weight} is not a number of 0 or more"))
    wrong_rows = np.zeros(len(batch), dtype=bool)
    for wrong, reason in reasons:
        for row in np.flatnonzero(wrong & ~wrong_rows & ~skip):
            listed = len(report.bad) < MAX_LISTED
            report.add(path, report.number(first + int(row)) if listed else 0, reason)
        wrong_rows |= wrong
    return pa.table(out).filter(pa.array(~(wrong_rows | skip)))


def _text(batch: pa.Table, name: str | None) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Return a column as text without white space around it ("" for a missing value), and where it is not UTF-8."""
    wrong = np.zeros(len(batch), dtype=bool)
    if name is None or name not in batch.column_names:
        return pa.chunked_array([pa.array([""] * len(batch), pa.string())]), wrong
    values = batch[name]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("us"), safe=False).cast(pa.string())
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:
        decoded = [None if value is None else value.decode("utf-8", "replace") for value in values.to_pylist()]
        wrong = np.array(["\ufffd" in (value or "") for value in decoded], dtype=bool)
        text = pa.chunked_array([pa.array(decoded, pa.string())])
    return pc.fill_null(pc.utf8_trim_whitespace(text), ""), wrong


def _times(batch: pa.Table, name: str) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Return seconds since 1970 and where there are none."""
    text, _ = _text(batch, name)
    number, iso = _mask(pc.match_substring_regex(text, _NUMBER)), _mask(pc.match_substring_regex(text, _ISO))
    seconds = np.zeros(len(batch), dtype=np.float64)
    seconds[number] = _to_seconds(text.filter(pa.array(number)).cast(pa.float64()).to_numpy())
    bad = ~(number | iso)
    dates = text.filter(pa.array(iso)).dictionary_encode().combine_chunks()
    if len(dates):
        dates = dates.chunk(0) if isinstance(dates, pa.ChunkedArray) else dates
        known = np.array([iso_seconds(value) for value in dates.dictionary.to_pylist()], dtype=np.float64)
        seconds[iso] = known[dates.indices.to_numpy()]
        bad |= np.isnan(seconds)
    return pa.chunked_array([pa.array(np.nan_to_num(seconds).astype(np.int64))]), bad


def iso_seconds(value: str) -> float:
    """Return the seconds since 1970 of an ISO date or time (UTC where it names no zone), or NaN."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _to_seconds(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    # Seconds stay below 1e11 until the year 5138; milli-, micro- and nanoseconds of our time are each 1000 times more.
    scale = np.select([np.abs(numbers) >= 1e17, np.abs(numbers) >= 1e14, np.abs(numbers) >= 1e11], [1e9, 1e6, 1e3], 1.0)
    return np.asarray(np.floor(numbers / scale), dtype=np.float64)


def _weights(batch: pa.Table, name: str) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    text, _ = _text(batch, name)
    number = _mask(pc.match_substring_regex(text, r"^\d+(\.\d+)?([eE][+-]?\d+)?$"))
    weights = np.zeros(len(batch), dtype=np.float32)
    weights[number] = text.filter(pa.array(number)).cast(pa.float32()).to_numpy()
    return pa.chunked_array([pa.array(weights)]), ~number


def _mask(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.to_numpy().astype(bool)
    return mask
