"""Times of a log: the form of a column is found from all of its cells, not from one, and years must be plausible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tgqformer.errors import TgqError, option
from tgqformer.types import Bools, Doubles

FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1990, 2100))
"""Clicks of a shop lie between these, in seconds since 1970."""
UNITS = {"seconds": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
WORDS = (*UNITS, "excel", "day-first", "month-first")
"""What a time format may be, beside one with % signs."""
_NAN = float("nan")
_NUMBER = r"^[-+]?\d+(\.\d*)?([eE][-+]?\d+)?$"
_POWER = r"^\d[.,]?\d*[eE]\+?\d{1,3}$"
_COMMA = r"^(\d{5,}),(\d+)$"  # 45296,42: days of a spreadsheet where a comma stands before the decimals
_ZONE = re.compile(r"\s*(?:(Z|UTC|GMT|Etc/UTC)|(?:GMT|UTC)?([-+])(\d{2}):?(\d{2})?(?: \(.*\))?)$", re.IGNORECASE)
_CLOCK = r"(?:[ T,]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*([AaPp]\.?[Mm]\.?)?)?"
_YEAR_FIRST = re.compile(r"(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})" + _CLOCK)
_YEAR_LAST = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})" + _CLOCK)
_NAMED = re.compile(r"(\d{1,2})[/ -]([A-Za-z]{3})[a-z]*[/ ,-]+(\d{4})" + _CLOCK.replace("[ T,]", "[ T,:]"))
_NAME_FIRST = re.compile(r"([A-Za-z]{3})[a-z]* (\d{1,2}),? (\d{4})" + _CLOCK)
_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {name: place for place, name in enumerate(_MONTH_NAMES.split(), 1)}


class TimeReader:
    """Reads the times of one column, batch by batch; the first values of a file decide what its numbers mean.

    Args:
        column: its name, for errors.
        form: `seconds`, `ms`, `us`, `ns`, `excel` (days), `day-first`, `month-first`, or a format of `strptime`;
            None: to be found out.

    Raises:
        TgqError: for a form that is not known.
    """

    def __init__(self, column: str, form: str | None = None) -> None:
        if form is not None and form not in WORDS and "%" not in form:
            raise TgqError(
                f"{option('time_format')} {form!r} is neither one of {', '.join(WORDS)} nor a format with % signs"
            )
        self.column, self.form = column, form
        self._unit = form if form in (*UNITS, "excel") else None
        self._last_unit: str | None = None
        self._day_first = {"day-first": True, "month-first": False}.get(form or "")
        self._ordered = self._day_first is not None

    def next_file(self) -> None:
        """Find the unit of numbers anew: one file may count seconds, and the next milliseconds."""
        if self.form is None:
            self._unit, self._last_unit, self._ordered = None, self._unit or self._last_unit, False

    def read(self, values: pa.StringArray) -> Doubles:
        """Return the seconds since 1970 of distinct texts, NaN where one is no time; float64 [n].

        Raise TgqError where numbers are no times of a shop, or days and months cannot be told apart.
        """
        if self.form is not None and "%" in self.form:
            return np.array([_by_format(value, self.form) for value in values.to_pylist()], dtype=np.float64)
        values = pc.replace_substring_regex(values, _COMMA, r"\1.\2")
        numeric = pc.match_substring_regex(values, _NUMBER)
        mask = numeric.to_numpy(zero_copy_only=False)
        seconds = np.full(len(values), _NAN)
        seconds[mask] = self._numbers(values.filter(numeric))
        seconds[~mask] = self._texts(values.filter(pc.invert(numeric)).to_pylist())
        return self._plausible(seconds)

    def read_numbers(self, values: pa.Array) -> Doubles | None:
        """Return what `read` does, in a hurry, where all texts are numbers and their unit is known; else None."""
        if self._unit not in UNITS:
            return None
        try:
            return self._plausible(_as_seconds(values.cast(pa.float64()).to_numpy(), values, self._unit))
        except pa.ArrowInvalid:
            return None

    def spoilt(self, values: pa.StringArray) -> Bools:
        """Say which texts are numbers that a spreadsheet cut to a few digits, such as 1.70407E+12.

        It does so from twelve digits on: milliseconds, but not seconds.
        """
        found = pc.match_substring_regex(values, _POWER).to_numpy(zero_copy_only=False).copy()
        for place in np.flatnonzero(found):
            digits, _, power = values[place].as_py().lower().partition("e")
            found[place] = int(power) > 10 and len(digits) - 1 < 10  # too few to tell seconds
        return np.asarray(found, dtype=bool)

    def _plausible(self, seconds: Doubles) -> Doubles:
        if self.form is None:
            with np.errstate(invalid="ignore"):
                seconds = np.where((seconds >= FIRST) & (seconds < LAST), seconds, _NAN)
        return np.asarray(np.floor(seconds), dtype=np.float64)

    def _numbers(self, values: pa.StringArray) -> Doubles:
        numbers = values.cast(pa.float64()).to_numpy()
        if self._unit is None and len(numbers):
            self._unit = self._unit_of(numbers, values)
        return _as_seconds(numbers, values, self._unit or "seconds")

    def _unit_of(self, numbers: Doubles, values: pa.StringArray) -> str:
        found = {}
        some = values.slice(0, 10_000)
        for unit in (*UNITS, "excel", "digits"):
            seconds = _as_seconds(numbers[:10_000], some, unit)
            with np.errstate(invalid="ignore"):
                found[unit] = float(((seconds >= FIRST) & (seconds < LAST)).mean())
        best = max(found, key=lambda unit: found[unit])
        if found[best] < 0.5:
            if self._last_unit is not None:  # the files before have times: these rows are left out
                return self._last_unit
            raise TgqError(
                f"the column {self.column!r} holds numbers that are no times of a shop, such as "
                f"{', '.join(some.slice(0, 3).to_pylist())}: neither seconds, milli-, micro- or nanoseconds "
                "since 1970, nor days of a "
                "spreadsheet, nor dates like 20240105. Seconds from another start: "
                f"{option('time_format')} seconds"
            )
        return best

    def _texts(self, texts: list[str]) -> Doubles:
        if not self._ordered and (dates := [match for match in map(_YEAR_LAST.match, texts) if match]):
            self._day_first, self._ordered = self._order_of(dates), True
        return np.array([_moment(value, self._day_first) for value in texts], dtype=np.float64)

    def _order_of(self, dates: Sequence[re.Match[str]]) -> bool:
        """Say whether days stand before months in dates like 01/05/2024; where they do not tell, as in files before."""
        slashes = [match for match in dates if match[2] != "."]
        told = slashes or dates
        day_first, month_first = (any(int(match[place]) > 12 for match in told) for place in (1, 3))
        if self._day_first is not None and not (day_first or month_first):
            return self._day_first
        if not slashes and not month_first:  # with points, days stand first nearly everywhere
            day_first = True
        words = f"in the column {self.column!r}, {told[0][0]!r} may be day/month or month/day"
        if day_first == month_first:
            raise TgqError(f"{words}; say {option('time_format')} day-first or {option('time_format')} month-first")
        if self._day_first not in (None, day_first):
            raise TgqError(f"{words}: files of the log contradict each other; write the dates of all in one order")
        return day_first


def seconds_of(value: str) -> float:
    """Return the seconds since 1970 of one date or time whose meaning is plain, or NaN."""
    return _moment(value, None)


def _as_seconds(numbers: Doubles, values: pa.StringArray, unit: str) -> Doubles:
    if unit == "excel":
        return np.asarray(np.round((numbers - 25_569) * 86_400), dtype=np.float64)
    if unit == "digits":
        return np.array([_digits(value) for value in values.to_pylist()], dtype=np.float64)
    return numbers / UNITS[unit]


def _digits(value: str) -> float:
    """Return the seconds of 20240105, 202401051000 or 20240105100000."""
    value = value.removesuffix(".0")
    if len(value) not in (8, 12, 14) or not value.isdecimal():
        return _NAN
    try:
        return _timestamp(datetime.fromisoformat(value if len(value) == 8 else f"{value[:8]}T{value[8:]}"))
    except ValueError:
        return _NAN


def _by_format(value: str, form: str) -> float:
    try:
        return _timestamp(datetime.strptime(value, form))
    except ValueError:
        return _NAN


def _moment(value: str, day_first: bool | None) -> float:
    value = value.strip("[]")
    try:
        return _timestamp(datetime.fromisoformat(value))
    except ValueError:
        pass
    zone = _ZONE.search(value) if len(value) > 10 else None
    bare = value[: zone.start()] if zone else value
    try:
        found = datetime.fromisoformat(bare)
    except ValueError:
        parts = _parts(bare, day_first)
        try:
            found = datetime(*parts) if parts else parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return _NAN
    return _timestamp(found.replace(tzinfo=_zone(zone)) if zone and found.tzinfo is None else found)


def _parts(value: str, day_first: bool | None) -> tuple[int, int, int, int, int, int] | None:
    """Return year, month, day, hour, minute and second of a date in a usual form."""
    if match := _YEAR_FIRST.fullmatch(value):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    elif match := _YEAR_LAST.fullmatch(value):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        if day_first is None and match[2] != ".":
            return None
        day, month = (second, first) if day_first is False else (first, second)
    elif match := _NAMED.fullmatch(value):
        day, month, year = int(match[1]), _MONTHS.get(match[2].lower(), 0), int(match[3])
    elif match := _NAME_FIRST.fullmatch(value):
        month, day, year = _MONTHS.get(match[1].lower(), 0), int(match[2]), int(match[3])
    else:
        return None
    hour, minute, seconds = (int(part or 0) for part in match.groups()[-4:-1])
    if half := match.groups()[-1]:
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    return year, month, day, hour, minute, seconds


def _zone(match: re.Match[str]) -> timezone:
    if match[1]:
        return UTC
    offset = timedelta(hours=int(match[3]), minutes=int(match[4] or 0))
    return timezone(-offset if match[2] == "-" else offset)


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
