from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgqformer.catalog.values import UNKNOWN
from tgqformer.errors import TgqError
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.interactions import Interactions, read_interactions
from tgqformer.pairs.logs import ReadReport

DAY = 1_600_214_400  # 2020-09-16 UTC
ROWS = [("u1", "007", DAY), ("u1", "8", DAY + 1), ("u2", "007", DAY + 86_400)]


def rows_of(log: Interactions) -> list[tuple[str, str, int]]:
    return [(row["session"], row["item"], row.get("time", -1)) for row in log.table().to_pylist()]


def write_rows(path: Path) -> None:
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".parquet"):
        columns = dict(zip(("user", "item_id", "timestamp"), map(list, zip(*ROWS, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
        return
    if plain.endswith(".jsonl"):
        text = "\n".join(json.dumps({"user": u, "item_id": i, "timestamp": t, "more": {"x": 1}}) for u, i, t in ROWS)
    else:
        mark = "\t" if plain.endswith(".tsv") else ","
        text = "\n".join(mark.join(map(str, row)) for row in [("user", "item_id", "timestamp"), *ROWS]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize(
    "name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.gz", "log.parquet", "log.jsonl", "log.jsonl.gz"]
)
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name)
    report = ReadReport()
    assert rows_of(read_interactions(tmp_path / name, report=report)) == ROWS
    assert (report.rows, report.bad_rows) == (3, 0)
    assert report.log == LogSettings(session=("user",), item="item_id", time="timestamp")


def test_hm_transactions_keep_their_zeros_and_dates(tmp_path: Path) -> None:
    file = tmp_path / "transactions_train.csv"
    file.write_text(
        "t_dat,customer_id,article_id,price,sales_channel_id\n"
        "2018-09-20,000058a1,0663713001,0.0508,2\n2018-09-21,000058a1,0541518023,0.0304,2\n"
    )
    log = read_interactions(file)
    assert rows_of(log) == [("000058a1", "0663713001", 1_537_401_600), ("000058a1", "0541518023", 1_537_488_000)]


def test_amazon_reviews_of_both_years(tmp_path: Path) -> None:
    old, new = tmp_path / "reviews2018.json.gz", tmp_path / "reviews2023.jsonl"
    row = {"overall": 5.0, "reviewerID": "A1", "asin": "B00", "unixReviewTime": DAY, "style": {"Size:": "L"}}
    old.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    row = {"rating": 4.0, "user_id": "A1", "asin": "B00", "parent_asin": "B99", "timestamp": DAY * 1000 + 5}
    new.write_text(json.dumps(row) + "\n")
    assert rows_of(read_interactions(old)) == [("A1", "B00", DAY)]
    assert rows_of(read_interactions(new)) == [("A1", "B99", DAY)]


def test_lines_of_a_user_and_items(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("0 5 6 7\n1 5\n2\n\n1 6")
    report = ReadReport()
    log = read_interactions(file, report=report)
    assert rows_of(log) == [("0", "5", -1), ("0", "6", -1), ("0", "7", -1), ("1", "5", -1), ("1", "6", -1)]
    assert [(row.row, row.reason) for row in report.bad] == [(3, "the user '2' has no item")]


def test_bad_rows_are_listed_with_their_place_and_do_not_stop(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(
        b"user,item,time,weight\n"
        b"u,a,2020-09-16,1\n"  # row 1
        b"u,b\n"  # 2: width
        b",c,2020-09-16,1\n"  # 3: no user
        b"u,d,yesterday,1\n"  # 4: no time
        b"u,e,2020-13-99,1\n"  # 5: no such day
        b"u,\xff\xfe,2020-09-16,1\n"  # 6: not UTF-8
        b"u,f,2020-09-16,-2\n"  # 7: weight
        b'u,"g,h",2020-09-16T12:00:00+02:00,0.5\n'  # 8
    )
    report = ReadReport()
    log = read_interactions(file, report=report)
    assert rows_of(log) == [("u", "a", DAY), ("u", "g,h", DAY + 36_000)]
    assert log.weights is not None
    assert log.weights.tolist() == [1.0, 0.5]
    assert sorted(row.row for row in report.bad) == [2, 3, 4, 5, 6, 7]
    reasons = {row.row: row.reason for row in report.bad}
    assert "2 fields where 4 are expected" in reasons[2]
    assert reasons[3] == "user is empty"
    assert reasons[4] == "time is not a time: 'yesterday'"
    assert reasons[5] == "time is not a time: '2020-13-99'"
    assert reasons[6] == "item is not UTF-8"
    assert "weight" in reasons[7]
    assert report.bad_rows == 6
    assert {row.file for row in report.bad} == {str(file)}


def test_bad_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"user": 1, "item": 2}\n{"user": 1, \n\n[3]\n{"user": null, "item": 2}\n{"user": 2, "item": 2}\n')
    report = ReadReport()
    log = read_interactions(file, report=report)
    assert rows_of(log) == [("1", "2", -1), ("2", "2", -1)]
    assert [row.row for row in report.bad] == [2, 4, 5]


def test_without_a_report_bad_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,item\nu,a\nu,\n")
    assert len(read_interactions(file)) == 1
    assert "1 row left out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("scale", [1, 1000, 10**6, 10**9])
def test_times_in_any_unit(tmp_path: Path, scale: int) -> None:
    file = tmp_path / "log.csv"
    file.write_text(f"user,item,ts\nu,a,{DAY * scale}\n")
    assert rows_of(read_interactions(file)) == [("u", "a", DAY)]


def test_parquet_types_other_than_text(tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    table = pa.table(
        {
            "visitorid": pa.array([1, 2, None]),
            "itemid": pa.array(["a", "b", "c"]).dictionary_encode(),
            "date": pa.array([DAY, DAY, DAY], pa.timestamp("s")),
        }
    )
    pq.write_table(table, file)
    report = ReadReport()
    assert rows_of(read_interactions(file, report=report)) == [("1", "a", DAY), ("2", "b", DAY)]
    assert report.bad[0].row == 3


def test_named_columns_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("who,what\nu,a\n")
    assert rows_of(read_interactions(file, LogSettings(session=("who",), item="what"))) == [("u", "a", -1)]
    with pytest.raises(TgqError, match=r"no column looks like the session; name it with --session\. It has: who, what"):
        read_interactions(file)
    with pytest.raises(TgqError, match="did you mean 'what'"):
        read_interactions(file, LogSettings(session=("who",), item="wha"))
    file.write_text("user,item,item\nu,a,b\n")
    with pytest.raises(TgqError, match="more than one column 'item'"):
        read_interactions(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="there is no file"):
        read_interactions(tmp_path / "none.csv")
    for name, words in {
        "log.xlsx": "an Excel workbook", "log.parquet": "as Parquet", "log.csv": "no rows",
        "log.csv.gz": "no rows", "log.jsonl.gz": "no rows",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(b"user,item\n")
        with pytest.raises(TgqError, match=words):
            read_interactions(tmp_path / name)


def test_write_where_and_within(tmp_path: Path) -> None:
    log = Interactions.of(["s", "s", "t"], ["a", "b", "c"], [3, 2, 1], [1.0, 0.5, 2.0])
    log.write(tmp_path / "log.parquet")
    again = read_interactions(tmp_path / "log.parquet")
    assert again.table().to_pydict() == log.table().to_pydict()
    assert rows_of(log.within(["c", "a", "unknown"])) == [("s", "a", 3), ("t", "c", 1)]
    assert len(log.where(np.zeros(3, dtype=bool))) == 0
    assert len(Interactions.of([], []).within(["a"])) == 0


letters = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"])
words = st.text(letters, min_size=1, max_size=6).filter(lambda word: word.lower() not in UNKNOWN and "=" not in word)
words = words.filter(lambda word: not re.fullmatch(r"\d+\.0|\d([.,]\d+)?[eE]\+\d{2,3}", word))
words = words.filter(lambda word: not word.startswith(("[{", '{"')))  # refused as objects in text


@given(rows=st.lists(st.tuples(words, words, st.integers(700_000_000, 4_000_000_000)), min_size=1, max_size=20))
def test_any_ids_survive_csv_and_json(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    quoted = ['"' + '","'.join(str(value).replace('"', '""') for value in row) + '"' for row in rows]
    (folder / "log.csv").write_text("user,item,time\n" + "\n".join(quoted) + "\n", encoding="utf-8")
    lines = [json.dumps({"user": u, "item": i, "time": t}) for u, i, t in rows]
    (folder / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("log.csv", "log.jsonl"):
        assert rows_of(read_interactions(folder / name)) == rows
