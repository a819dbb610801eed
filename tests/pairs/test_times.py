"""Times as logs have them: each form by its value, each column by all of its cells."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tgqformer.errors import TgqError
from tgqformer.pairs.times import TimeReader, seconds_of


def read(*values: str, form: str | None = None) -> list[str | None]:
    seconds = TimeReader("at", form).read(pa.array(values, pa.string()))
    return [None if one != one else datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d %H:%M:%S") for one in seconds]


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-05 10:00:00 UTC", "2024/01/05 10:00:00", "05.01.2024 10:00:00", "2024-01-05 10:00:00 +0000",
        "20240105T100000Z", "2024-01-05 10:00:00,123", "2024-01-05T11:00:00+01", "05/Jan/2024:10:00:00 +0000",
        "[05/Jan/2024:12:00:00 +0200]", "Fri, 05 Jan 2024 10:00:00 GMT", "2024-01-05T10:00:00.123Z", "1704448800",
        "1704448800000", "1704448800000000", "1704448800000000000", "1.7044488E+09", "20240105100000", "202401051000",
        "45296.4166666667", "45296,4166666667", "Fri Jan 05 2024 11:00:00 GMT+0100 (CET)", "20240105 10:00",
        "Jan 5, 2024 10:00 AM", "5 January 2024 10:00", "2024-1-5 10:00:00",
    ],
)  # fmt: skip
def test_usual_forms(written: str) -> None:
    assert read(written) == ["2024-01-05 10:00:00"]


def test_dates_without_a_time_of_day() -> None:
    assert read("20240105", "20240301") == ["2024-01-05 00:00:00", "2024-03-01 00:00:00"]
    assert read("2024-01-05", "5.1.2024") == ["2024-01-05 00:00:00"] * 2
    assert read("45296", "45352") == ["2024-01-05 00:00:00", "2024-03-01 00:00:00"]


@pytest.mark.parametrize("written", ["yesterday", "2020-13-99", "0001-01-01", "10:00:00", "2611-05-20", "32/Jan/2024"])
def test_what_is_no_time_of_a_shop(written: str) -> None:
    assert read(written, "2024-01-05") == [None, "2024-01-05 00:00:00"]


def test_days_and_months_are_told_apart_by_the_column() -> None:
    assert read("01/05/2024 10:00", "13/05/2024 10:00")[0] == "2024-05-01 10:00:00"
    assert read("01/05/2024 10:00 PM", "01/25/2024 10:00 AM")[0] == "2024-01-05 22:00:00"
    with pytest.raises(TgqError, match="'01/05/2024' may be day/month or month/day; say --time-format day-first"):
        read("01/05/2024", "02/05/2024")
    with pytest.raises(TgqError, match="may be day/month"):
        read("13/05/2024", "05/13/2024")
    with pytest.raises(TgqError, match="may be day/month"):
        read("13.05.2024", "05.13.2024")
    assert read("01.05.2024", "01.25.2024")[0] == "2024-01-05 00:00:00"
    assert read("01.05.2024", form="month-first") == ["2024-01-05 00:00:00"]
    assert read("01/05/2024", form="month-first") == ["2024-01-05 00:00:00"]
    assert read("01/05/2024", form="day-first") == ["2024-05-01 00:00:00"]


def test_numbers_are_times_only_if_their_years_are_plausible() -> None:
    with pytest.raises(TgqError, match="such as 12, 13, 14: neither seconds"):
        read("12", "13", "14")
    assert read("0", "1704448800", "1704448801") == [None, "2024-01-05 10:00:00", "2024-01-05 10:00:01"]
    assert read("86400", form="seconds") == ["1970-01-02 00:00:00"]
    assert read("86400000", form="ms") == ["1970-01-02 00:00:00"]


def test_the_first_batch_decides_for_the_next() -> None:
    times = TimeReader("at")
    times.read(pa.array(["25/01/2024"]))
    assert times.read(pa.array(["01/02/2024"]))[0] == seconds_of("2024-02-01")
    assert times.read_numbers(pa.array(["1704448800"])) is None
    times.read(pa.array(["1704448800000"]))
    found = times.read_numbers(pa.array(["1704448801000", "5"]))
    assert found is not None
    assert found[0] == 1704448801
    assert found[1] != found[1]


def test_a_format_settles_it() -> None:
    assert read("05-2024-01", "x", form="%d-%Y-%m") == ["2024-01-05 00:00:00", None]
    with pytest.raises(TgqError, match="--time-format 'iso' is neither one of seconds"):
        TimeReader("at", "iso")
