"""Reading logs: interactions as tables, from the files that shops and public data sets have.

A row that cannot be read is reported with its file, place and reason, and does not stop the reading; a log of which no
row can be read is an error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.catalog.values import UNKNOWN
from tgqformer.errors import TgqError, nearest, option
from tgqformer.pairs.columns import LogSettings, choose_columns, is_list
from tgqformer.pairs.gathered import Gathered
from tgqformer.pairs.log_files import Batch, files_of, open_log_file
from tgqformer.pairs.times import TimeReader
from tgqformer.progress import progress
from tgqformer.types import Bools

MAX_LISTED = 1000
"""So many bad rows are listed; all are counted."""
_NOBODY = ("anonymous", "guest", "unknown")
"""Further words of sessions for a visitor who is not known."""
JOINT = "\u241f"
"""Stands between the values of several session columns that make one key."""
_BY_SPREADSHEET = "was spoilt by a spreadsheet"
_SPOILT = r"^\d([.,]\d+)?[eE]\+\d{2,3}$"
_NUMBER = r"^\d+(\.\d+)?([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class BadRow:
    """A row that was left out: the file, its number (the first data row is 1) and why."""

    file: str
    row: int
    reason: str


@dataclass
class ReadReport:
    """What the reading of a log found.

    rows: interactions that were kept. bad_rows: rows that were left out, of which the first `MAX_LISTED` are in `bad`.
    reasons: how many for each reason. other_rows: rows that `where` leaves out. log: the columns that were used.
    warnings: what a person should look at.
    """

    rows: int = 0
    bad_rows: int = 0
    other_rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    log: LogSettings = field(default_factory=LogSettings)

    def add(self, file: Path, row: int, reason: str, kind: str = "") -> None:
        """Note one bad row; rows of one `kind` are counted together."""
        self.bad_rows += 1
        self.reasons[kind or reason] += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append(BadRow(str(file), row, reason))

    def first_reasons(self) -> str:
        """Return the most frequent reasons, with their counts, and the first bad rows."""
        counted = ", ".join(f"{reason} ({count:,})" for reason, count in self.reasons.most_common(3))
        return f"{counted}; the first: " + "; ".join(f"row {row.row}, {row.reason}" for row in self.bad[:3])


def read_log(path: Path, log: LogSettings, report: ReadReport, *, shown: bool = False) -> pa.Table:
    """Read a log as a table (session, item: dictionaries of strings; time int64 seconds, weight float32 where given).

    Fills `report`; a bar counts the rows where it is `shown`. Raise TgqError where a file or a column is absent, or no
    row can be read or passes `where`.
    """
    gathered = Gathered()
    reader: _Rows | None = None
    words: bool | None = None
    with progress("reading interactions", None, shown=shown) as bar:
        for file in files_of(path):
            opened = open_log_file(file, log, report.add)
            if words not in (None, opened.words):
                raise TgqError(f"{path} holds tables and other text, such as {file.name}; take out what is no log")
            words = opened.words
            report.log = choose_columns(file, opened.names, report.log if reader else log)
            reader = reader or _Rows(report.log, report)
            reader.next_file()
            for batch in opened.batches(report.log):
                gathered.add(reader.take(batch, file))
                bar.advance(len(batch))
    report.rows = gathered.rows
    if reader is None or not (report.rows or report.bad_rows or report.other_rows):
        raise TgqError(f"{path} has no rows")
    reader.finish(path)
    return gathered.table()


class _Rows:
    """Turns batches of a log into checked interactions; how a column is read is decided by its first batch."""

    def __init__(self, log: LogSettings, report: ReadReport) -> None:
        self.log, self.report = log, report
        self.times = TimeReader(log.time, log.time_format) if log.time is not None else None
        self.unknown = pa.array([word.lower() for word in (*sorted(UNKNOWN), *log.missing)])
        self.nobody = pa.array([*self.unknown.to_pylist(), *_NOBODY])
        self._seen: dict[str, set[str]] = {column: set() for column in log.where}
        self._whole: dict[tuple[Path, str], bool] = {}
        self._lists: bool | None = None
        self._marked = False

    def next_file(self) -> None:
        """Say that the batches that follow are of another file."""
        if self.times is not None:
            self.times.next_file()

    def take(self, batch: Batch, file: Path) -> pa.Table:
        """Return (session, item, time, weight) of a batch without its bad rows, which go to the report."""
        wanted = self._wanted(batch)
        sessions = [self._key(batch, name, file) for name in self.log.session]
        session = _joined([coded for coded, _ in sessions])
        item, wrong = self._key(batch, str(self.log.item), file)
        reasons = [*(one for _, found in sessions for one in found), *wrong]
        out: dict[str, Any] = {"session": session, "item": item}
        if self.times is not None:
            out["time"], bad, spoilt = self._read_times(batch, self.times)
            reasons.append((spoilt, f"{self.log.time} {_BY_SPREADSHEET}", self.times.column))
            reasons.append((bad, f"{self.log.time} is not a time", self.times.column))
        if self.log.weight is not None:
            out["weight"], bad = _weights(batch, self.log.weight)
            reasons.append((bad, f"{self.log.weight} is not a number of 0 or more", self.log.weight))
        good = wanted & ~self._tell(batch, file, reasons, wanted)
        return self._unlisted(pa.table(out).filter(pa.array(good)))

    def finish(self, path: Path) -> None:
        """Say what is plainly not meant. Raise TgqError where nothing is left."""
        report, total = self.report, self.report.rows + self.report.bad_rows
        for column, values in self.log.where.items():
            absent = [value for value in values if value not in self._seen[column]]
            if absent and self._seen[column]:
                known = sorted(self._seen[column])[:20]
                words = f"no row has {column} = {absent[0]!r}; {nearest(absent[0], known, 'it holds')}"
                if len(absent) == len(values):
                    raise TgqError(f"{path}: {words}")
                report.warnings.append(words)
        if report.rows == 0:
            if not report.bad_rows:
                raise TgqError(f"{path} has no rows that pass {dict(self.log.where)}")
            raise TgqError(f"{path}: none of the {total:,} rows can be used: {report.first_reasons()}")
        if report.bad_rows > max(total // 2, 1):
            report.warnings.append(f"only {report.rows:,} of {total:,} rows can be used: {report.first_reasons()}")

    def _wanted(self, batch: Batch) -> Bools:
        keep = np.ones(len(batch), dtype=bool)
        for column, values in self.log.where.items():
            text, _ = batch.text(column)
            self._seen[column].update(pc.unique(text).to_pylist()[:1000])
            keep &= _mask(pc.is_in(text, value_set=pa.array(values, pa.string())))
        self.report.other_rows += int((~keep).sum())
        return keep

    def _key(self, batch: Batch, name: str, file: Path) -> tuple[pa.DictionaryArray, list[tuple[Bools, str, str]]]:
        """Return the ids of a column as text, and where they are none: (rows, reason, column)."""
        text, wrong = batch.text(name)
        coded = _coded(text)
        distinct = pc.replace_substring_regex(coded.dictionary, r"""^(?:="(.*)"|'(\d+))$""", r"\1\2")
        if (file, name) not in self._whole:
            ends = pc.match_substring_regex(distinct, r"^(\d+\.0)?$")
            decimals = bool(pc.all(ends).as_py()) and bool(pc.any(pc.ends_with(distinct, ".0")).as_py())
            self._whole[file, name] = decimals
        if self._whole[file, name]:  # whole numbers went through a column with gaps: 1000.0
            distinct = pc.replace_substring_regex(distinct, r"\.0$", "")
        words = self.nobody if name in self.log.session else self.unknown
        unknown = pc.is_in(pc.utf8_lower(distinct), value_set=words)
        spoilt = pc.match_substring_regex(distinct, _SPOILT)
        faults = {"is empty": pc.equal(distinct, ""), "is not known": unknown, _BY_SPREADSHEET: spoilt}
        places = coded.indices.to_numpy()
        found = [(_mask(mask)[places], f"{name} {why}", name) for why, mask in faults.items()]
        if not distinct.equals(coded.dictionary):
            coded = _coded(distinct.take(coded.indices))
        return coded, [(wrong, f"{name} is not UTF-8", name), *found]

    def _tell(self, batch: Batch, file: Path, reasons: list[tuple[Bools, str, str]], wanted: Bools) -> Bools:
        """Report the bad rows, each for its first reason; return where they are."""
        bad = np.zeros(len(batch), dtype=bool)
        for wrong, reason, column in reasons:
            new = np.flatnonzero(wrong & ~bad & wanted)
            if not len(new):
                continue
            room = MAX_LISTED - len(self.report.bad)
            values = batch.text(column)[0].take(pa.array(new[: max(room, 0)])).to_pylist()
            for row, value in zip(new[: max(room, 0)], values, strict=True):
                shown = f": {value[:60]!r}" if value and "UTF-8" not in reason else ""
                self.report.add(file, int(batch.rows[row]), reason + shown, reason)
            rest = len(new) - len(values)
            self.report.bad_rows += rest
            self.report.reasons[reason] += rest
            bad |= wrong
        return bad

    def _read_times(self, batch: Batch, times: TimeReader) -> tuple[pa.ChunkedArray, Bools, Bools]:
        """Return seconds since 1970, where there are none, and where a spreadsheet left too few digits."""
        seconds = batch.seconds(times.column) if times.form is None else None
        text, spoilt = batch.text(times.column)[0], np.zeros(len(batch), dtype=bool)
        if seconds is None and pc.any(pc.match_substring(text, "e", ignore_case=True)).as_py():
            spoilt = times.spoilt(_whole(text))
            text = pc.if_else(spoilt, "", text)
        if seconds is None:
            seconds = times.read_numbers(_whole(text))
        if seconds is None:
            coded = _coded(text)
            seconds = times.read(coded.dictionary)[coded.indices.to_numpy()]
        bad = np.isnan(seconds)
        return pa.chunked_array([pa.array(np.nan_to_num(seconds).astype(np.int64))]), bad, spoilt

    def _unlisted(self, table: pa.Table) -> pa.Table:
        """Make a row of each item where a cell is a list of items."""
        if self._lists is None and len(table):
            sample = _coded(table["item"]).dictionary.slice(0, 1000).to_pylist()
            self._lists = is_list(str(self.log.item), sample)
            if any(value.startswith(("[{", '{"')) for value in sample):
                raise TgqError(
                    f"{self.log.item} holds objects in text, such as {sample[0][:60]!r}; export the log as JSON, where "
                    f"{option('item')} {self.log.item}.NAME reaches inside"
                )
            marked = sum(any(mark in value for mark in ",;|") for value in sample)
            if not self._lists and marked * 2 > len(sample):
                name = self.log.item
                self.report.warnings.append(
                    f"{name} holds , ; or |: where a cell is a list of items, say {option('item')} '{name}[]'"
                )
        if not self._lists or not len(table):
            return table
        bare = pc.replace_substring_regex(table["item"].cast(pa.string()), r"[\[\]{}\"']", "")
        self._marked = self._marked or bool(pc.any(pc.match_substring_regex(bare, "[,;|]")).as_py())
        between = r"\s*[,;|]\s*" if self._marked else r"\s+"
        parts = pc.split_pattern_regex(_whole(pc.utf8_trim(bare, " ,;|")), between)
        whole = table.take(pc.list_parent_indices(parts))
        item = pa.chunked_array([pc.list_flatten(parts)]).dictionary_encode()
        whole = whole.set_column(whole.column_names.index("item"), "item", item)
        return whole.filter(pc.not_equal(item.cast(pa.string()), ""))


def _whole(values: Any) -> pa.Array:
    """Return values as one array."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return values.chunk(0) if isinstance(values, pa.ChunkedArray) else values


def _coded(values: Any) -> pa.DictionaryArray:
    """Return texts as places in a list of distinct ones."""
    whole = _whole(values)
    return whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()


def _joined(keys: list[pa.DictionaryArray]) -> pa.DictionaryArray:
    if len(keys) == 1:
        return keys[0]
    return _coded(pc.binary_join_element_wise(*(key.dictionary.take(key.indices) for key in keys), JOINT))


def _weights(batch: Batch, name: str) -> tuple[pa.ChunkedArray, Bools]:
    text, _ = batch.text(name)
    number = _mask(pc.match_substring_regex(text, _NUMBER))
    weights = np.zeros(len(batch), dtype=np.float32)
    weights[number] = text.filter(pa.array(number)).cast(pa.float32()).to_numpy()
    return pa.chunked_array([pa.array(weights)]), ~number


def _mask(values: Any) -> Bools:
    mask: Bools = _whole(values).to_numpy(zero_copy_only=False).astype(bool)
    return mask
