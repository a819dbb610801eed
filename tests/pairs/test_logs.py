"""Logs in the shapes that shops and trackers write: each is read right, or refused with a word that helps."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.interactions import Interactions, read_interactions
from tgqformer.pairs.logs import ReadReport

START = 1704449472
ROWS = [(user, item, START + 8 * place) for user in "123" for place, item in enumerate(("1000", "1001"))]
CLICKS = [(user, item) for user, item, _ in ROWS]


def clicks(log: Interactions) -> list[tuple[str, str]]:
    return [(row["session"], row["item"]) for row in log.table().to_pylist()]


def table(*names: str, mark: str = ",") -> str:
    return "".join(mark.join(map(str, row)) + "\n" for row in ([names] if names else []) + ROWS)


def read(path: Path, report: ReadReport | None = None, **log: Any) -> Interactions:
    return read_interactions(path, parse(LogSettings, log, "log"), report=report)


NAMES = ("session_id", "item_id", "timestamp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolon.csv", table(*NAMES, mark=";")), ("pipe.csv", table(*NAMES, mark="|")),
        ("tab.csv", table(*NAMES, mark="\t")), ("spaces.csv", table("Session ID", "Item ID", "Timestamp")),
        ("kebab.csv", table("session-id", "product-id", "event-time")), ("log.txt", table(*NAMES, mark="\t")),
        ("recbole.tsv", table("session_id:token", "item_id:token", "timestamp:float", mark="\t")),
        ("declared.csv", "sep=;\n" + table(*NAMES, mark=";")), ("titled.csv", "Export of May\n\n" + table(*NAMES)),
        ("old.csv", table(*NAMES).replace("\n", "\r")), ("log.dat", table(*NAMES)), ("log", table(*NAMES, mark=" ")),
    ],
)  # fmt: skip
def test_tables_of_any_shape(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    log = read(tmp_path / name)
    assert clicks(log) == CLICKS
    assert log.times is not None
    assert log.times.tolist() == [time for _, _, time in ROWS]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "log.csv").write_bytes(table(*NAMES).encode(encoding))
    assert clicks(read(tmp_path / "log.csv")) == CLICKS


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.csv.bz2", "log.csv.xz", "log.txt"])
def test_packed_logs_are_told_by_their_first_bytes(tmp_path: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    (tmp_path / name).write_bytes(pack(table(*NAMES).encode()))
    assert clicks(read(tmp_path / name)) == CLICKS


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\xd0\xcf\x11\xe0", b"\x89PNG"])
def test_what_is_no_log_is_told(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "log.csv").write_bytes(start + bytes(60))
    with pytest.raises(TgqError, match="cannot be read as text: it is "):
        read(tmp_path / "log.csv")


def test_half_a_character_is_no_reason_to_stop(tmp_path: Path) -> None:
    rows = [{"session": "\ud83d", "item": item} for item in ("a", "\udc4d", "b")]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert clicks(read(tmp_path / "log.jsonl")) == [("?", "a"), ("?", "?"), ("?", "b")]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("user,item\nü,я\n".encode("cp1251", "replace"))
    assert clicks(read(tmp_path / "log.csv", encoding="cp1251"))[0][1] == "я"
    with pytest.raises(TgqError, match="no encoding 'cp9999'"):
        read(tmp_path / "log.csv", encoding="cp9999")


def test_without_a_header_the_columns_are_named(tmp_path: Path) -> None:
    for name, mark in (("log.csv", ","), ("log.dat", ","), ("log.txt", "\t")):
        (tmp_path / name).write_text(table(mark=mark))
        with pytest.raises(TgqError, match="--columns session,item,time"):
            read(tmp_path / name)
        assert clicks(read(tmp_path / name, columns=["session", "item", "time"])) == CLICKS
    with pytest.raises(TgqError, match="has 3 columns, and --columns names 2"):
        read(tmp_path / "log.csv", columns=["session", "item"])


def test_folders_of_parts(tmp_path: Path) -> None:
    for day, name in enumerate(("2024-01-05/part-0.csv", "2024-01-06/part-0.csv.gz")):
        (tmp_path / name).parent.mkdir()
        data = f"session_id,item_id\n{day},a\n{day},b\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".part-0.csv.crc").write_text("x")
    assert clicks(read(tmp_path)) == [("0", "a"), ("0", "b"), ("1", "a"), ("1", "b")]
    (tmp_path / "other.csv").write_text("who,what\n0,a\n")
    with pytest.raises(TgqError, match=r"other.csv has no column 'session_id'"):
        read(tmp_path)
    with pytest.raises(TgqError, match="there is no file"):
        read(tmp_path / "none")


def times_of(folder: Path, **log: Any) -> list[int]:
    return [row["time"] for row in read(folder, **log).table().to_pylist()]


def test_each_file_of_a_folder_says_by_itself_what_its_numbers_are(tmp_path: Path) -> None:
    written = {"a": START, "b": START * 1000, "c": START * 10**6, "d": START / 86400 + 25569, "e": 20240105101112}
    for name, time in written.items():
        (tmp_path / f"{name}.csv").write_text(f"session_id,item_id,timestamp\n{name},1000,{time}\n{name},1001,{time}\n")
    report = ReadReport()
    assert times_of(tmp_path) == [START] * 10
    (tmp_path / "f.csv").write_text("session_id,item_id,timestamp\nf,1000,0\nf,1001,0\n")  # none of the times is known
    read(tmp_path, report)
    assert (report.rows, report.bad_rows) == (10, 2)
    assert times_of(tmp_path, time="timestamp", time_format="seconds")[:4] == [START, START, START * 1000, START * 1000]


def test_files_that_contradict_each_other_in_days_and_months_are_refused(tmp_path: Path) -> None:
    for name, day in {"a": "25/01/2024", "b": "02/03/2024"}.items():
        (tmp_path / f"{name}.csv").write_text(f"session_id,item_id,timestamp\n{name},1000,{day}\n")
    assert times_of(tmp_path) == [1706140800, 1709337600]
    (tmp_path / "c.csv").write_text("session_id,item_id,timestamp\nc,1000,01/25/2024\n")
    with pytest.raises(TgqError, match="files of the log contradict each other; write the dates of all in one order"):
        read(tmp_path)


# ---- objects


def ga4() -> list[dict[str, Any]]:
    return [
        {
            "event_timestamp": str(time * 1_000_000),
            "event_name": "view_item",
            "user_pseudo_id": f"{user}.17",
            "event_params": [
                {"key": "page", "value": {"string_value": "/", "int_value": None}},
                {"key": "ga_session_id", "value": {"string_value": None, "int_value": user}},
            ],
            "items": [{"item_id": item}],
        }
        for user, item, time in ROWS
    ]


SEGMENT = [
    {"anonymousId": user, "event": "Product Viewed", "properties": {"product_id": item}, "timestamp": time * 1000}
    for user, item, time in ROWS
]
OTTO = [
    {"session": int(user), "events": [{"aid": int(i), "ts": t * 1000} for u, i, t in ROWS if u == user]}
    for user in "123"
]


@pytest.mark.parametrize("form", ["lines", "array", "pretty", "parquet"])
@pytest.mark.parametrize("rows", [ga4(), SEGMENT, OTTO], ids=["ga4", "segment", "otto"])
def test_events_of_trackers(tmp_path: Path, rows: list[dict[str, Any]], form: str) -> None:
    file = tmp_path / ("log.parquet" if form == "parquet" else "log.json")
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif form == "lines":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(rows, indent=None if form == "array" else 2))
    log = read(file)
    assert [item for _, item in clicks(log)] == ["1000", "1001"] * 3
    assert len({session for session, _ in clicks(log)}) == 3
    assert log.times is not None
    assert log.times.tolist() == [time for _, _, time in ROWS]


def test_ga4_sessions_are_those_of_a_user(tmp_path: Path) -> None:
    rows = ga4()
    for row in rows:
        row["event_params"][1]["value"]["int_value"] = 7
    (tmp_path / "log.json").write_text("\n".join(map(json.dumps, rows)))
    report = ReadReport()
    assert clicks(read(tmp_path / "log.json", report))[0] == ("1.17␟7", "1000")
    assert report.log.session == ("user_pseudo_id", "event_params.ga_session_id")


def test_paths_name_what_is_inside(tmp_path: Path) -> None:
    row = {"who": {"id": 5}, "basket": {"lines": [{"thing": "a", "n": 1}, {"thing": "b", "n": 2}]}, "tags": ["x", "y"]}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\nnot json\n")
    report = ReadReport()
    named = {"session": "who.id", "item": "basket.lines[].thing", "weight": "basket.lines[].n"}
    log = read(tmp_path / "log.jsonl", report, **named)
    assert clicks(log) == [("5", "a"), ("5", "b")] * 2
    assert log.weights is not None
    assert log.weights.tolist() == [1, 2, 1, 2]
    assert [row.row for row in report.bad] == [3]
    assert clicks(read(tmp_path / "log.jsonl", session="who.id", item="tags"))[:2] == [("5", "x"), ("5", "y")]
    with pytest.raises(TgqError, match=r"no column 'basket\.lines\.thin'; did you mean 'basket\.lines\.thing'"):
        read(tmp_path / "log.jsonl", session="who.id", item="basket.lines.thin")


def test_events_of_ga4_some_of_which_have_no_items(tmp_path: Path) -> None:
    rows = [dict(row, items=None if place == 1 else []) for place, row in enumerate(ga4())] + ga4()
    (tmp_path / "log.json").write_text("\n".join(map(json.dumps, rows)))
    report = ReadReport()
    assert [item for _, item in clicks(read(tmp_path / "log.json", report))] == ["1000", "1001"] * 3
    assert report.log.item == "items.item_id"


def test_objects_in_the_text_of_a_cell_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('order_id,items\n1,"[{""id"": ""1000""}, {""id"": ""1001""}]"\n')
    with pytest.raises(TgqError, match=r"items holds objects in text, such as '.*export the log as JSON"):
        read(tmp_path / "log.csv")


@pytest.mark.parametrize(
    "cell", ["1000,1001", "{1000,1001}", "1000; 1001", '["1000", "1001"]', "['1000' '1001']", "1000|1001|"]
)
def test_an_order_with_a_list_of_items_is_split(tmp_path: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    (tmp_path / "log.csv").write_text(f'order_id,items\n1,"{quoted}"\n2,"{quoted}"\n')
    assert clicks(read(tmp_path / "log.csv")) == [("1", "1000"), ("1", "1001"), ("2", "1000"), ("2", "1001")]


def test_a_list_with_commas_is_not_split_at_spaces(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('order_id,items\n1,"TEE RED, MUG BLUE"\n2,TEE RED\n')
    found = [("1", "TEE RED"), ("1", "MUG BLUE"), ("2", "TEE RED")]
    assert clicks(read(tmp_path / "log.csv", item="items[]")) == found


def test_cells_that_look_like_lists_are_told(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user,sku\n1,"a,b"\n2,"c,d"\n')
    report = ReadReport()
    assert clicks(read(tmp_path / "log.csv", report)) == [("1", "a,b"), ("2", "c,d")]
    assert "say --item 'sku[]'" in report.warnings[0]
    assert len(read(tmp_path / "log.csv", item="sku[]")) == 4


# ---- quotes


@pytest.mark.parametrize("packed", [False, True])
def test_two_slips_of_a_quote_cost_two_rows_and_not_all_between(tmp_path: Path, packed: bool) -> None:
    rows = [f"s{n // 4},shirt,{1000 + n},{START + n}" for n in range(3000)]
    for slip in (100, 2900):
        rows[slip] = rows[slip].replace("shirt", '"24 monitor')
    rows[400] = rows[400].replace("shirt", '"two\nlines, ""quoted"""')
    rows[500] = rows[500].replace("shirt", '24" monitor')
    rows[600] += ",more"
    data = ("session,query,item,time\n" + "\n".join(rows) + "\n").encode()
    name = "log.csv.gz" if packed else "log.csv"
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    report = ReadReport()
    log = read(tmp_path / name, report)
    assert len(log) == 2997 and {row["item"] for row in log.table().to_pylist()} == {
        str(1000 + n) for n in range(3000) if n not in (100, 600, 2900)
    }
    reasons = [(bad.row, bad.reason) for bad in report.bad]
    assert reasons == [
        (101, "a quote that is not closed in its row"),
        (601, "5 fields where 4 are expected"),
        (2901, "a quote that is never closed"),
    ]


def test_lines_behind_a_slip_keep_their_encoding_and_their_names(tmp_path: Path) -> None:
    lines = ["1,fine,a", '1,"slip,b', "1,fine,c", "2,caf\u00e9,d", "2,fine,caf\u00e9"]
    (tmp_path / "log.csv").write_bytes("\n".join(lines).encode("cp1252"))
    report = ReadReport()
    assert clicks(read(tmp_path / "log.csv", report, columns=["session", "query", "item"])) == [
        ("1", "a"),
        ("1", "c"),
        ("2", "d"),
    ]
    assert [(bad.row, bad.reason) for bad in report.bad] == [
        (2, "a quote that is never closed"),
        (5, "item is not UTF-8"),
    ]
    (tmp_path / "log.csv").write_bytes("\n".join(["session,query,item", *lines]).encode("utf-16"))
    assert [item for _, item in clicks(read(tmp_path / "log.csv"))] == ["a", "c", "d", "caf\u00e9"]


# ---- sessions, ids, events


def test_several_columns_make_one_session(tmp_path: Path) -> None:
    lines = [f"{user},{visit},{item}" for visit in "12" for user in "ab" for item in ("x", "y")]
    (tmp_path / "log.csv").write_text("user_pseudo_id,ga_session_id,item_id\n" + "\n".join(lines))
    log = read(tmp_path / "log.csv", session=["user_pseudo_id", "ga_session_id"])
    assert len(log.session_names) == 4
    assert clicks(read(tmp_path / "log.csv")) == clicks(log)


def test_words_for_not_known_are_no_session(tmp_path: Path) -> None:
    words = ["null", "(not set)", "None", "", "undefined", "-"]
    lines = [f"{word},{item}" for word in words for item in ("a", "b")]
    (tmp_path / "log.csv").write_text("session_id,item_id\n" + "\n".join([*lines, "1,a", "1,NULL", "1,b", "gone,b"]))
    report = ReadReport()
    assert clicks(read(tmp_path / "log.csv", report, missing="gone")) == [("1", "a"), ("1", "b")]
    assert report.reasons["session_id is not known"] == 11
    assert report.reasons["item_id is not known"] == 1
    assert "only 2 of 16 rows can be used: session_id is not known (11)" in report.warnings[0]
    (tmp_path / "log.csv").write_text("session_id,item_id\n" + "\n".join(lines))
    with pytest.raises(TgqError, match=r"none of the 12 rows can be used: .*row 1, session_id is not known: 'null'"):
        read(tmp_path / "log.csv")


@pytest.mark.parametrize(
    "word", ["\\N", "(direct)", "[object Object]", "Anonymous", "guest", "00000000-0000-0000-0000-000000000000"]
)
def test_sessions_of_nobody(tmp_path: Path, word: str) -> None:
    lines = [f"{session},{item}" for session in (word, "7") for item in ("a", "b")]
    (tmp_path / "log.csv").write_text("session_id,item_id\n" + "\n".join(lines))
    assert clicks(read(tmp_path / "log.csv")) == [("7", "a"), ("7", "b")]


def test_whole_numbers_in_a_column_of_floats_are_ids(tmp_path: Path) -> None:
    ids = [1000.0, 7654321098760.0, None, 2.5]
    table = pa.table({"session": ["a", "b", "c", "d"], "item": ids, "time": [1704449472123.5 + n for n in range(4)]})
    pq.write_table(table, tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet")
    assert clicks(log) == [("a", "1000"), ("b", "7654321098760"), ("d", "2.5")]
    assert log.table()["time"].to_pylist() == [START, START, START]


def test_each_file_says_whether_its_ids_went_through_a_column_with_gaps(tmp_path: Path) -> None:
    for day, ending in enumerate(("", ".0", "")):
        (tmp_path / f"{day}.csv").write_text(f"session,item\n{day},1000{ending}\n{day},1001{ending}\n")
    assert clicks(read(tmp_path)) == [(day, item) for day in "012" for item in ("1000", "1001")]


def test_times_that_a_spreadsheet_spoilt(tmp_path: Path) -> None:
    whole = ["1.704449472123e+12", "1.70444947e12", "1704449472123"]
    times = [*whole, "1.70445E+12", "1,70445E+12", "1.7e12"]
    (tmp_path / "log.csv").write_text("session;item;time\n" + "".join(f"s;{n};{at}\n" for n, at in enumerate(times)))
    report = ReadReport()
    log = read(tmp_path / "log.csv", report)
    assert log.table()["time"].to_pylist() == [START, START]
    assert report.reasons == {"time was spoilt by a spreadsheet": 4}
    (tmp_path / "log.csv").write_text("session,item,time\n1,a,1.704450E+09\n1,b,1.704455E+09\n")
    assert read(tmp_path / "log.csv").table()["time"].to_pylist() == [1704450000, 1704455000]


def test_ids_that_a_spreadsheet_spoilt(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user,item\n1.0,1.23E+12\n2.0,"=""00123"""\n3.0,7\n')
    report = ReadReport()
    assert clicks(read(tmp_path / "log.csv", report)) == [("2", "00123"), ("3", "7")]
    assert report.bad[0].reason == "item was spoilt by a spreadsheet: '1.23E+12'"
    (tmp_path / "log.csv").write_text("user,item\n1.0,a\n1.5,b\n")
    assert clicks(read(tmp_path / "log.csv")) == [("1.0", "a"), ("1.5", "b")]


def test_only_some_events_count(tmp_path: Path) -> None:
    lines = ["u,a,view", "u,b,cart", "u,c,remove", "v,,remove"]
    (tmp_path / "log.csv").write_text("user,item,event\n" + "\n".join(lines))
    report = ReadReport()
    assert clicks(read(tmp_path / "log.csv", report, where="event=view,cart")) == [("u", "a"), ("u", "b")]
    assert (report.other_rows, report.bad_rows) == (2, 0)
    with pytest.raises(TgqError, match="no row has event = 'veiw'; did you mean 'view'"):
        read(tmp_path / "log.csv", where={"event": "veiw"})
    with pytest.raises(TgqError, match="did you mean 'event'"):
        read(tmp_path / "log.csv", where="evnt=view")
    with pytest.raises(TgqError, match="write column=value"):
        read(tmp_path / "log.csv", where="view")
    report = ReadReport()
    read(tmp_path / "log.csv", report, where="event=view,buy")
    assert "no row has event = 'buy'" in report.warnings[0]


def test_yes_and_no_can_be_asked_for(tmp_path: Path) -> None:
    rows = [{"user": 1, "item": item, "bot": item == "b"} for item in "abc"]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert clicks(read(tmp_path / "log.jsonl", where="bot=false")) == [("1", "a"), ("1", "c")]


def test_what_a_file_cannot_heed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,a\n")
    with pytest.raises(TgqError, match="no column of times that --time-format could be of"):
        read(tmp_path / "log.csv", time_format="ms")
    (tmp_path / "log.jsonl").write_text('{"user": 1, "item": 2}')
    with pytest.raises(TgqError, match="is JSON, of which --columns says nothing"):
        read(tmp_path / "log.jsonl", columns="user,item")
    pq.write_table(pa.table({"user": ["1"], "item": ["2"]}), tmp_path / "log.parquet")
    with pytest.raises(TgqError, match="is Parquet, of which --encoding says nothing"):
        read(tmp_path / "log.parquet", encoding="cp1252")


def test_a_note_in_a_folder_of_tables_is_no_part_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("session,item\n1,a\n1,b\n")
    (tmp_path / "readme.md").write_text("about these files\nwritten by hand\n")
    with pytest.raises(TgqError, match=r"such as readme\.md; take out what is no log"):
        read(tmp_path)


def test_interactions_of_ours_are_read_as_they_were_written(tmp_path: Path) -> None:
    Interactions.of(["s", "s"], ["a", "b"], [3, 20240105]).write(tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet")
    assert log.times is not None
    assert log.times.tolist() == [3, 20240105]
