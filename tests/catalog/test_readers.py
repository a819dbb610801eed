"""Every reader on small files as they are found in the wild."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import fields, imported, jpeg, put, rows

from tgqformer.catalog import Item, import_catalog
from tgqformer.catalog.readers import READERS, choose_reader, table
from tgqformer.catalog.readers import lines as lines_module
from tgqformer.errors import TgqError

# ---- CSV and TSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    file = put(tmp_path / "a.csv", f"id{delimiter}title\r\n1{delimiter}red shirt\r\n")
    assert fields("csv", file) == [{"id": "1", "title": "red shirt"}]
    assert choose_reader(file).name == "csv"


def test_quotes_newlines_and_doubled_quotes(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", 'id,title\n1,"a ""big"", red\nshirt"\n2,1.5" nail\n3,plain\n')
    found = rows("csv", file)
    assert [row.fields and row.fields["title"] for row in found] == ['a "big", red\nshirt', '1.5" nail', "plain"]
    assert [row.line for row in found] == [2, 4, 5]


@given(
    st.text("ab ,;\t|\0'é\\\u2028\v\n", max_size=20),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r\r\n", ""]),
)
def test_a_line_without_quotes_is_cut_as_the_parser_does(text: str, delimiter: str, end: str) -> None:
    line = lines_module.Line(1, f"{text}x{end}")
    found = table._record(table._Lines(iter(())), line, delimiter, 0, False)
    try:
        cells = next(csv.reader([line.text], delimiter=delimiter))
    except csv.Error:  # a line end within
        assert found.cells is None and "not a row" in (found.reason or "")
    else:
        assert found.cells == cells


def test_a_quote_never_closed_costs_one_line(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", 'id,title\n1,"open\n2,b\n3,c\n4,"fine, really"\n5,e\n')
    found = rows("csv", file)
    assert [(row.line, row.fields is not None) for row in found] == [
        (2, False),
        (3, True),
        (4, True),
        (5, True),
        (6, True),
    ]
    assert "quote" in (found[0].reason or "")
    assert found[0].raw == '1,"open\n'


@pytest.mark.parametrize("closing", ['"27 inch', 'inch 27"'])
def test_two_slips_of_a_quote_cost_a_row_each(tmp_path: Path, closing: str) -> None:
    lines = [f"{n},screen,4" for n in range(9)]
    lines[2], lines[6] = '2,"24 inch,4', f"6,{closing},4"
    found = rows("csv", put(tmp_path / "a.csv", "id,title,price\n" + "\n".join(lines) + "\n"))
    good = [row.fields["id"] for row in found if row.fields is not None]
    assert good == [str(n) for n in range(9) if n != 2 and (n != 6 or closing.startswith("inch"))]
    assert all("quote" in (row.reason or "") for row in found if row.fields is None)


def test_an_encoding_that_is_not_that_of_the_file_is_told(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", "id,title\n1,mug\n")
    with pytest.raises(TgqError, match=r"a.csv, line 1: the file is not utf-16"):
        import_catalog(file, tmp_path / "c", encoding="utf-16")


def test_a_long_description_of_several_lines_stays_whole(tmp_path: Path) -> None:
    about = "Warm, soft\nred, blue, green\nBig\n"
    found = rows("csv", put(tmp_path / "a.csv", f'id,title,about\n1,mug,"{about}"\n2,cup,\n'))
    assert [row.fields and row.fields["about"] for row in found] == [about, ""]


def test_a_quote_open_to_the_end_of_a_long_file(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", 'id,title\n1,"open\n' + "".join(f"{n},t\n" for n in range(2, 1500)))
    found = rows("csv", file)
    assert [row.line for row in found if row.fields is None] == [2]
    assert len(found) == 1499


def test_ragged_rows_blank_lines_and_trailing_commas(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", "id,title\n\n1,a,,\n2,b,surplus\n3\n ,\n")
    assert [(row.line, row.fields is not None) for row in rows("csv", file)] == [
        (3, True),
        (4, False),
        (5, False),
        (6, True),
    ]


def test_repeated_and_unnamed_columns(tmp_path: Path) -> None:
    file = put(tmp_path / "a.csv", "id,image,image,\n1,a.jpg,b.jpg,x\n")
    assert fields("csv", file) == [{"id": "1", "image": "a.jpg", "image 2": "b.jpg", "column 4": "x"}]


def test_encodings(tmp_path: Path) -> None:
    mixed = "id,title\n1,café\n".encode() + "2,café\n".encode("cp1252")
    found = rows("csv", put(tmp_path / "mixed.csv", mixed))
    assert [row.fields and row.fields["title"] for row in found] == ["café", "café"]
    assert [[kind for kind, _ in row.notes] for row in found] == [[], ["encoding"]]
    for encoding in ("utf-8-sig", "utf-16"):
        file = put(tmp_path / f"{encoding}.csv", "id,title\n1,café 漢字\n".encode(encoding))
        assert fields("csv", file) == [{"id": "1", "title": "café 漢字"}]


def test_gzip_and_gzip_cut_off(tmp_path: Path) -> None:
    text = "id,title\n" + "".join(f"{n},title number {n * n}\n" for n in range(5000))
    whole = gzip.compress(text.encode())
    assert len(fields("csv", put(tmp_path / "a.csv.gz", whole))) == 5000
    found = rows("csv", put(tmp_path / "b.csv.gz", whole[: len(whole) // 2]))
    assert found[-1].fields is None
    assert "cannot be read from here on" in (found[-1].reason or "")
    assert 100 < len(found) < 5000


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2", "a.csv.xz", "A.CSV.XZ"])
def test_packed_files_are_told_by_their_first_bytes(tmp_path: Path, packer: str, name: str) -> None:
    (tmp_path / name).write_bytes(PACKERS[packer](b"id,title\n1,red\n"))
    assert choose_reader(tmp_path / name).name == "csv"
    assert fields("csv", tmp_path / name) == [{"id": "1", "title": "red"}]
    (tmp_path / name).write_bytes(b"id,title\n1,plain\n")
    assert fields("csv", tmp_path / name) == [{"id": "1", "title": "plain"}]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or save it as CSV"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
        (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it"),
        (b"\x89PNG", "a picture"),
        (b"%PDF-1.4", "a PDF"),
    ],
)
@pytest.mark.parametrize("name", ["shop.csv", "shop.xlsx", "shop.zip", "shop"])
def test_what_holds_no_text_is_told(tmp_path: Path, start: bytes, what: str, name: str) -> None:
    (tmp_path / name).write_bytes(start + bytes(50))
    with pytest.raises(TgqError, match=f"it is {what}"):
        imported(tmp_path / name)


def test_more_encodings_and_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,title\n1,größe\n".encode("utf-32"))
    assert fields("csv", tmp_path / "a.csv") == [{"id": "1", "title": "größe"}]
    with pytest.raises(TgqError, match="there is no encoding 'rot13'"):
        lines_module.encoding_of(tmp_path / "a.csv", "rot13")


def test_a_reader_that_is_asked_for_reads_a_file_of_any_name(tmp_path: Path) -> None:
    file = put(tmp_path / "export.dat", "id\ttitle\n1\ta\n")
    with pytest.raises(TgqError, match="no reader recognises"):
        choose_reader(file)
    assert fields("csv", file) == [{"id": "1", "title": "a"}]


def test_empty_files_and_endless_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows("csv", put(tmp_path / "a.csv", ""))[0].reason == "the file is empty"
    monkeypatch.setattr(lines_module, "MAX_LINE", 50)
    monkeypatch.setattr(lines_module, "_BATCH", 20)
    found = rows("csv", put(tmp_path / "b.csv", "id,title\n1," + "x" * 500 + "\n2,b\n"))
    assert [row.fields is not None for row in found] == [False, True]
    assert "longer than" in (found[0].reason or "")


def test_a_folder_of_files_is_read_in_order(tmp_path: Path) -> None:
    put(tmp_path / "in/b.csv", "id\n2\n")
    put(tmp_path / "in/a.csv", "id\n1\n")
    put(tmp_path / "in/.hidden.csv", "id\n9\n")
    assert [row.fields and row.fields["id"] for row in rows("csv", tmp_path / "in")] == ["1", "2"]


# ---- JSON lines


def test_json_lines(tmp_path: Path) -> None:
    good = {"id": 1, "title": "café", "images": ["a.jpg"], "attributes": {"color": "red"}}
    text = json.dumps(good) + "\n\n{'id': 2, 'title': None}\n[1, 2]\n{\"id\": 3\n" + '{"id": ' * 20_000 + "\n"
    found = rows("jsonl", put(tmp_path / "a.jsonl", text))
    assert [row.fields for row in found] == [good, {"id": 2, "title": None}, None, None, None]
    assert [row.line for row in found] == [1, 3, 4, 5, 6]
    assert "a JSON list" in (found[2].reason or "")
    array = rows("jsonl", put(tmp_path / "b.json", "[\n{}\n]\n"))
    assert [row.fields for row in array] == [{}]


DEEP = "[" * 400 + '"a"' + "]" * 400


@pytest.mark.parametrize("written", ["{}\n{}\n", "[\n{},\n{}]", '{{"products": [\n{},\n{}]}}', "{{\n{}}}"])
def test_values_deep_in_each_other_cost_their_row(tmp_path: Path, written: str) -> None:
    """Python gives up at some hundred lists in each other, here and there: no row is read that could do so."""
    bad, good = f'{{"id": 1, "color": {DEEP}}}', '{"id": 2, "color": [[["red"]]]}'
    text = written.format(bad, good) if written.count("{}") == 2 else written.format(bad[1:-1])
    found = rows("jsonl", put(tmp_path / "a.json", text))
    assert [row.fields and row.fields["id"] for row in found] == ([None, 2] if good in text else [None])
    assert "more than 100 deep" in (found[0].reason or "")


def test_what_stands_deep_in_a_cell_stays_a_text(tmp_path: Path) -> None:
    items, _ = imported(put(tmp_path / "a.csv", f"id\ttitle\tcategory\n1\ta\t{DEEP}\n2\tb\t[['c']]\n"))
    assert [item.title for item in items] == ["a", "b"]
    assert items[0].category[0].startswith("[[") and items[1].category == ("c",)


def test_python_code_is_never_run(tmp_path: Path) -> None:
    found = rows("jsonl", put(tmp_path / "a.jsonl", "{'id': __import__('os').getcwd()}\n"))
    assert found[0].fields is None


# ---- Parquet


def test_parquet_with_bytes_structs_and_maps(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "title": ["a", "b"],
            "price": [1.5, None],
            "image": pa.array(
                [{"bytes": jpeg(), "path": None}, None], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            "attributes": pa.array([[("color", "red")], []], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    items, _ = imported(tmp_path / "a.parquet")
    assert [item.id for item in items] == ["1", "2"]
    assert (items[0].price, dict(items[0].attributes), items[0].pictures[0].data) == (1.5, {"color": "red"}, jpeg())
    assert items[1] == Item("2", "b")


def test_a_damaged_parquet_file_is_one_bad_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1", "2"], "title": ["a", "b"]}), tmp_path / "a.parquet")
    put(tmp_path / "b.parquet", b"PAR1 this is not Parquet PAR1")
    found = rows("parquet", tmp_path)
    assert [row.fields is not None for row in found] == [True, True, False]
    assert "cannot be read" in (found[2].reason or "")


# ---- folders of pictures


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for name in ("in/shoes/b.jpg", "in/shoes/a.PNG", "in/c.jpg", "in/.DS_Store", "in/Thumbs.db", "in/.cache/x.jpg"):
        put(tmp_path / name, jpeg(len(name)))
    put(tmp_path / "in/notes.txt", "buy milk")
    assert choose_reader(tmp_path / "in").name == "pictures"
    items, catalog = imported(tmp_path / "in")
    assert [(item.id, item.category) for item in items] == [("c", ()), ("shoes/a", ("shoes",)), ("shoes/b", ("shoes",))]
    assert [item.pictures[0].path for item in items] == ["c.jpg", "shoes/a.PNG", "shoes/b.jpg"]
    assert catalog.root is not None
    rejected = (catalog.path / "rejects.jsonl").read_text()
    assert "notes.txt" in rejected
    assert rejected.count("\n") == 1


def test_folders_of_items(tmp_path: Path) -> None:
    for name in ("in/shoes/x1/1.jpg", "in/shoes/x1/2.jpg", "in/bags/y/1.jpg", "in/loose.jpg"):
        put(tmp_path / name, jpeg(len(name)))
    put(tmp_path / "in/shoes/x1/2.jpg", jpeg(99))
    items, _ = imported(tmp_path / "in", reader="item-folders")
    assert [(item.id, item.category, len(item.pictures)) for item in items] == [
        ("bags/y", ("bags",), 1),
        ("shoes/x1", ("shoes",), 2),
    ]


# ---- choosing


def test_choosing(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="there is nothing at"):
        choose_reader(tmp_path / "nothing")
    with pytest.raises(TgqError, match="did you mean 'amazon-2018'"):
        choose_reader(tmp_path, "amazon2018")
    with pytest.raises(TgqError, match="no reader recognises"):
        choose_reader(tmp_path)
    with pytest.raises(TgqError, match="no reader recognises"):
        choose_reader(put(tmp_path / "a.docx", "x"))
    assert len({one.name for one in READERS}) == len(READERS)
