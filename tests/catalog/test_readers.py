"""Every reader on small files as they are found in the wild."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tgqformer.catalog import Catalog, Item, import_catalog
from tgqformer.catalog.readers import READERS, choose_reader
from tgqformer.catalog.readers import lines as lines_module
from tgqformer.catalog.readers.base import Reader, Row
from tgqformer.errors import TgqError

FASHION = Path(__file__).parents[2].parent / "shared/data/fashion"


def jpeg(shade: int = 0) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (12, 16), (200, shade * 40 % 256, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reader(name: str) -> Reader:
    return choose_reader(Path(), name)


def rows(name: str, path: Path) -> list[Row]:
    return list(reader(name).rows(path))


def fields(name: str, path: Path) -> list[dict[str, Any]]:
    found = rows(name, path)
    assert all(row.fields is not None for row in found), [row.reason for row in found]
    return [dict(row.fields or {}) for row in found]


def imported(source: Path, **options: Any) -> tuple[list[Item], Catalog]:
    import_catalog(source, source.parent / "imported", **options)
    catalog = Catalog.open(source.parent / "imported")
    return list(catalog.items()), catalog


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
    assert rows("csv", put(tmp_path / "c.csv.gz", b"no gzip at all"))[0].fields is None


def test_a_reader_that_is_asked_for_reads_a_file_of_any_name(tmp_path: Path) -> None:
    file = put(tmp_path / "export.txt", "id\ttitle\n1\ta\n")
    with pytest.raises(TgqError, match="no reader recognises"):
        choose_reader(file)
    assert fields("csv", file) == [{"id": "1", "title": "a"}]


def test_empty_files_and_endless_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows("csv", put(tmp_path / "a.csv", ""))[0].reason == "the file is empty"
    monkeypatch.setattr(lines_module, "MAX_LINE", 50)
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
    assert "one object a line" in (array[0].reason or "")


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


# ---- the well-known sets


def test_fashion(tmp_path: Path) -> None:
    names = ("gender", "master_category", "sub_category", "article_type", "base_colour", "season", "usage")
    columns: dict[str, Any] = {name: [name, "NA"] for name in names}
    columns |= {"id": [7, 8], "year": ["2011.0", "NA"], "title": ["Red Shirt", "NA"], "image": [jpeg(1), jpeg(2)]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "in/items-00.parquet")
    assert choose_reader(tmp_path / "in").name == "fashion"
    items, catalog = imported(tmp_path / "in")
    assert items[0].title == "Red Shirt"
    assert items[0].category == ("master_category", "sub_category")
    assert items[0].brand is None
    assert items[0].attributes == {
        "gender": "gender",
        "article_type": "article_type",
        "base_colour": "base_colour",
        "season": "season",
        "year": "2011",
        "usage": "usage",
    }
    assert items[0].pictures[0].data == jpeg(1)
    assert (items[1].title, items[1].category, dict(items[1].attributes)) == (None, (), {})
    assert "the title is empty" in (catalog.path / "warnings.jsonl").read_text()


STYLES = """id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England, Men, Party Blue Jeans
59263,Women,Accessories,Watches,Watches,Silver,Winter,2016,Casual
"""


def test_kaggle_layout(tmp_path: Path) -> None:
    put(tmp_path / "in/styles.csv", STYLES)
    put(tmp_path / "in/images/15970.jpg", jpeg(1))
    assert choose_reader(tmp_path / "in").name == choose_reader(tmp_path / "in/styles.csv").name == "kaggle-fashion"
    items, catalog = imported(tmp_path / "in")
    assert [item.title for item in items] == [
        "Turtle Check Men Navy Blue Shirt",
        "Peter England, Men, Party Blue Jeans",
    ]
    assert items[0].pictures[0].path == "images/15970.jpg"
    assert items[0].attributes["base_colour"] == "Navy Blue"
    assert items[1].pictures == ()
    assert "9 cells where the header has 10" in (catalog.path / "rejects.jsonl").read_text()
    assert '"picture-missing"' in (catalog.path / "warnings.jsonl").read_text()


AMAZON_2018 = {
    "category": ["Video Games", "PC", "Accessories"],
    "description": ["<b>Fast</b> mouse"],
    "title": "Mouse &amp; pad",
    "also_buy": ["B2", "B3", "B2"],
    "also_view": ["B4"],
    "brand": "Razer",
    "feature": ["wired", "black"],
    "asin": "B1",
    "imageURL": ["https://images-na.ssl-images-amazon.com/images/I/31a._SX38_SY50_CR,0,0,38,50_.jpg"],
    "imageURLHighRes": ["https://images-na.ssl-images-amazon.com/images/I/31a.jpg"],
    "price": "$19.99",
    "details": {"Item Weight:": "3 ounces"},
}
AMAZON_2014 = {
    "asin": "0000031852",
    "title": "Girls Ballet Tutu",
    "price": 3.17,
    "imUrl": "http://ecx.images-amazon.com/images/I/51f.jpg",
    "related": {"also_bought": ["00JHONN1S8"], "also_viewed": ["B002BZX8Z6"], "bought_together": ["B002BZX8Z6"]},
    "salesRank": {"Toys": 211836},
    "brand": "Coxlures",
    "categories": [["Sports", "Other"], ["Toys"]],
}


def test_amazon_2018_and_2014(tmp_path: Path) -> None:
    script = {"asin": "B9", "title": "var aPageStart = (new Date()).getTime();", "brand": "x", "also_viewed": ["B1"]}
    text = json.dumps(AMAZON_2018) + "\n" + repr(AMAZON_2014) + "\n" + json.dumps(script) + "\n{'asin': oops}\n"
    file = put(tmp_path / "meta_Games.json.gz", gzip.compress(text.encode()))
    put(tmp_path / "images/31a.jpg", jpeg(1))
    put(tmp_path / "images/0000031852.jpg", jpeg(2))
    assert choose_reader(file).name == "amazon-2018"
    items, catalog = imported(file)
    new, old, bad = items
    assert (new.title, new.brand, new.price) == ("Mouse & pad", "Razer", 19.99)
    assert new.category == ("Video Games", "PC", "Accessories")
    assert new.attributes == {"Item Weight": "3 ounces", "features": "wired; black", "description": "Fast mouse"}
    assert [picture.path for picture in new.pictures] == ["31a.jpg"]
    assert (old.id, old.title, old.category, old.price) == (
        "0000031852",
        "Girls Ballet Tutu",
        ("Sports", "Other"),
        3.17,
    )
    assert [picture.path for picture in old.pictures] == ["0000031852.jpg"]
    assert (bad.title, bad.pictures) == (None, ())
    assert pq.read_table(catalog.path / "related.parquet").to_pylist() == [
        {"id": one, "other": other, "kind": kind}
        for one, other, kind in [
            ("B1", "B2", "also_buy"),
            ("B1", "B3", "also_buy"),
            ("B1", "B4", "also_view"),
            ("0000031852", "00JHONN1S8", "also_buy"),
            ("0000031852", "B002BZX8Z6", "also_view"),
            ("0000031852", "B002BZX8Z6", "bought_together"),
            ("B9", "B1", "also_view"),
        ]
    ]
    assert (catalog.path / "rejects.jsonl").read_text().count("\n") == 1


AMAZON_2023: dict[str, Any] = {
    "main_category": "Video Games",
    "title": "Controller",
    "average_rating": 4.5,
    "rating_number": 9,
    "store": "Sony",
    "features": ["wireless"],
    "description": ["Good."],
    "price": 59.0,
    "parent_asin": "B0A",
    "bought_together": ["B0B"],
    "images": [
        {
            "thumb": "https://m.media-amazon.com/images/I/41z._AC_US40_.jpg",
            "hi_res": None,
            "variant": "MAIN",
            "large": "https://m.media-amazon.com/images/I/41z._AC_.jpg",
        },
        {
            "hi_res": "https://m.media-amazon.com/images/I/71y._AC_SL1500_.jpg",
            "thumb": None,
            "large": None,
            "variant": "PT01",
        },
    ],
    "categories": ["Video Games", "PlayStation 4"],
    "details": {"Color": "Black"},
}


def test_amazon_2023_json_and_parquet(tmp_path: Path) -> None:
    lists = {key: [one[key] for one in AMAZON_2023["images"]] for key in ("hi_res", "large", "thumb", "variant")}
    second = {**AMAZON_2023, "parent_asin": "B0B", "images": lists, "details": '{"Color": "White"}', "price": "None"}
    file = put(tmp_path / "meta.jsonl", json.dumps(AMAZON_2023) + "\n" + json.dumps(second) + "\n")
    put(tmp_path / "41z._AC_.jpg", jpeg(1))
    put(tmp_path / "71y.jpg", jpeg(2))
    assert choose_reader(file).name == "amazon-2023"
    items, catalog = imported(file)
    for item, color, price in zip(items, ("Black", "White"), (59.0, None), strict=True):
        assert (item.title, item.brand, item.price) == ("Controller", "Sony", price)
        assert item.category == ("Video Games", "PlayStation 4")
        assert item.attributes["Color"] == color
        assert [picture.path for picture in item.pictures] == ["41z._AC_.jpg", "71y.jpg"]
    assert pq.read_table(catalog.path / "related.parquet").num_rows == 2
    (tmp_path / "p").mkdir()
    pq.write_table(pa.Table.from_pylist([second]), tmp_path / "p/meta.parquet")
    assert choose_reader(tmp_path / "p").name == "amazon-2023"
    assert fields("amazon-2023", tmp_path / "p")[0]["id"] == "B0B"


def test_amazon_with_fields_of_wrong_types(tmp_path: Path) -> None:
    strange = [None, 3, "x", [], {}, [[]], [None], {"a": None}, [{"large": 5}], "http://[", True]
    names = (
        "title",
        "brand",
        "category",
        "details",
        "feature",
        "description",
        "imageURL",
        "images",
        "also_buy",
        "related",
        "price",
    )
    for year, key in (("2018", "asin"), ("2023", "parent_asin")):
        text = "".join(
            json.dumps({key: f"{name}{number}", "title": "t", name: value}) + "\n"
            for name in names
            for number, value in enumerate(strange)
        )
        file = put(tmp_path / year / "meta.jsonl", text)
        report = import_catalog(file, tmp_path / "out", reader=f"amazon-{year}")
        assert report.rows == report.items + report.rejected == len(names) * len(strange)


def test_hm(tmp_path: Path) -> None:
    header = "article_id,prod_name,product_type_name,product_group_name,index_group_name,colour_group_name,"
    header += "perceived_colour_value_name,perceived_colour_master_name,graphical_appearance_name,"
    header += "department_name,section_name,garment_group_name,detail_desc\n"
    line = "Strap top,Vest top,Upper body,Ladieswear,Black,Dark,Black,Solid,Jersey,Womens,Jersey Basic,A top.\n"
    put(tmp_path / "in/articles.csv", header + "0108775015," + line + "108775044," + line)
    put(tmp_path / "in/images/010/0108775015.jpg", jpeg())
    put(tmp_path / "in/transactions_train.csv", "t_dat,customer_id,article_id,price,sales_channel_id\n")
    assert choose_reader(tmp_path / "in").name == "hm"
    items, _ = imported(tmp_path / "in")
    assert [item.id for item in items] == ["0108775015", "0108775044"]
    assert items[0].category == ("Ladieswear", "Upper body", "Vest top")
    assert items[0].pictures[0].path == "images/010/0108775015.jpg"
    assert items[0].attributes["colour_group_name"] == "Black"


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


@pytest.mark.skipif(not FASHION.is_dir(), reason="the real fashion set is not beside the project")
def test_the_real_fashion_set(tmp_path: Path) -> None:
    assert choose_reader(FASHION).name == "fashion"
    report = import_catalog(FASHION, tmp_path / "fashion", limit=600)
    assert (report.rows, report.items, report.pictures, report.rejected) == (600, 600, 600, 0)
