"""The import as a whole: accounting, checks, report, and properties that hold for any catalogue."""

from __future__ import annotations

import base64
import csv
import json
import tracemalloc
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browsing import assert_accessible, needs_browser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tgqformer.catalog import Catalog, Item, import_catalog, plan_import
from tgqformer.catalog.checks import KINDS, clean
from tgqformer.catalog.values import UNKNOWN
from tgqformer.errors import TgqError
from tgqformer.files import read_json


def picture(
    shade: int = 0, kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (12, 16), **options: Any
) -> bytes:
    buffer = BytesIO()
    image = Image.new(mode, size, (200, shade * 40 % 256, 30, 40)[: len(mode)])
    image.putpixel((size[0] - 1, 0), (0, 90, 250, 0)[: len(mode)])  # of one colour throughout it would be blank
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    return put(path, "".join(json.dumps(row) + "\n" for row in rows))


def problems(folder: Path, name: str = "warnings") -> list[tuple[str | None, str]]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return [(line["id"], line["kind"]) for line in map(json.loads, lines)]


MESSY = (
    "sku;name;maker;group;kind;cost;photo\n"
    '1;Red shirt;Acme;Clothes;Shirts;"12,50 €";a.jpg\n'
    "2;;Acme;Clothes;Shirts;free;a.jpg|b.png\n"
    "1;Blue shirt;Acme;Clothes;Shirts;3;a.jpg\n"
    ";No id;Acme;Clothes;Shirts;3;a.jpg\n"
    "3;Only text\x07;;;;;\n"
    "4;;;;;;a.jpg\n"
    "5;;;;;;gone.jpg\n"
    "6;Thief;;;;;../../etc/passwd\n"
    "7;Remote;;;;;https://shop.example/p/b.png?x=1\n"
    "8;Remote;;;;;https://shop.example/p/zzz.png\n"
    "9;Short row\n"
)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    put(tmp_path / "shop/photos/a.jpg", picture(1))
    put(tmp_path / "shop/photos/b.png", picture(2, "PNG"))
    return put(tmp_path / "shop/items.csv", MESSY.encode() + "10;Caf\xe9;;;;;\n".encode("cp1252"))


COLUMNS = {
    "id": "sku",
    "title": "name",
    "brand": "maker",
    "category": ["group", "kind"],
    "price": "cost",
    "pictures": ["photo"],
}


def test_a_messy_shop(messy: Path, tmp_path: Path) -> None:
    report = import_catalog(messy, tmp_path / "out", mapping=COLUMNS, root=messy.parent / "photos")
    items = {item.id: item for item in Catalog.open(tmp_path / "out").items()}
    assert (report.rows, report.items, report.rejected) == (12, 8, 4)
    assert list(items) == ["1", "2", "3", "4", "6", "7", "8", "10"]
    assert (items["1"].title, items["1"].brand, items["1"].category, items["1"].price) == (
        "Red shirt",
        "Acme",
        ("Clothes", "Shirts"),
        12.5,
    )
    assert [one.path for one in items["2"].pictures] == ["a.jpg", "b.png"]
    assert (items["3"].title, items["3"].pictures) == ("Only text", ())
    assert (items["4"].title, len(items["4"].pictures)) == (None, 1)
    assert [one.path for one in items["7"].pictures] == ["b.png"]
    assert items["10"].title == "Café"
    assert problems(tmp_path / "out", "rejects") == [
        ("1", "duplicate-id"),
        (None, "no-id"),
        ("5", "empty"),
        (None, "bad-row"),
    ]
    assert sorted(problems(tmp_path / "out")) == sorted(
        [
            ("2", "no-title"),
            ("2", "price"),
            ("3", "control"),
            ("4", "no-title"),
            ("5", "no-title"),
            ("5", "picture-missing"),
            ("6", "picture-escapes"),
            ("8", "picture-remote"),
            ("10", "encoding"),
        ]
    )
    (bad,) = [
        json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines() if "bad-row" in line
    ]
    assert (bad["file"], bad["line"], bad["row"]) == ("items.csv", 12, "9 | Short row")
    assert "2 cells where the header has 7" in bad["reason"]


def test_the_report_is_whole_and_self_contained(messy: Path, tmp_path: Path) -> None:
    report = import_catalog(messy, tmp_path / "out", mapping=COLUMNS, root=messy.parent / "photos")
    stored = read_json(tmp_path / "out/report.json")
    assert stored == report.to_json()
    assert stored["problems"]["duplicate-id"]["count"] == 1
    assert stored["filled"]["title"] == 6
    page = (tmp_path / "out/report.html").read_text()
    assert "Duplicate ids" in page
    assert "data:image/jpeg;base64," in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert "<link" not in page


def test_html_in_the_data_stays_text_in_the_report(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"id": "<script>alert(1)</script>", "title": "x", "price": "<b>"}])
    import_catalog(source, tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("line", ["1;again", ";no id", "7;x;y", "6;../x.jpg", "8;gone.jpg"])
def test_strict_stops_and_writes_nothing(tmp_path: Path, line: str) -> None:
    put(tmp_path / "a.jpg", picture())
    source = put(tmp_path / "in.csv", f"id;image\n1;a.jpg\n{line}\n")
    with pytest.raises(TgqError, match=r"in\.csv, line 3.*nothing was written"):
        import_catalog(source, tmp_path / "out", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "in.csv"]
    put(source, "id;image;title\n1;a.jpg;\n")
    assert import_catalog(source, tmp_path / "out", strict=True).problems == {"no-title": 1}


def test_odd_pictures_are_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].paste("green", (0, 0, 4, 4))
    animation, blank = BytesIO(), BytesIO()
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    deep = BytesIO()
    Image.fromarray(np.linspace(0, 9000, 16).astype(np.uint16).reshape(4, 4)).save(deep, "PNG")
    Image.new("RGB", (8, 8), "teal").save(blank, "PNG")
    pictures = {
        "cmyk": picture(1, "JPEG", "CMYK"),
        "rotated": picture(2, exif=exif),
        "animation": animation.getvalue(),
        "16-bit": deep.getvalue(),
        "blank": blank.getvalue(),
        "picture-tiny": picture(3, "PNG", size=(1, 1)),
        "picture-truncated": picture(4, "PNG", size=(64, 64))[:-60],
        "picture-unreadable": b"no",
    }
    for name, data in pictures.items():
        put(tmp_path / f"{name}.img", data)
    source = jsonl(tmp_path / "in.jsonl", [{"id": name, "title": "t", "image": f"{name}.img"} for name in pictures])
    report = import_catalog(source, tmp_path / "out")
    assert dict(problems(tmp_path / "out")) == {name: name for name in pictures}
    assert report.pictures == 5
    assert (report.of("note"), report.of("warning")) == (4, 4)


def test_pictures_of_every_form(tmp_path: Path) -> None:
    for shade in range(1, 5):
        put(tmp_path / f"p/{shade}.jpg", picture(shade))
    encoded = base64.b64encode(picture(5, size=(40, 40))).decode()
    cells: list[tuple[Any, int]] = [
        ("1.jpg", 1),
        ("1.jpg|2.jpg", 2),
        ("1.jpg;2.jpg; 3.jpg", 3),
        ("1.jpg, 2.jpg", 2),
        (["1.jpg", "2.jpg"], 2),
        ('["1.jpg", "3.jpg"]', 2),
        ("['1.jpg', '3.jpg']", 2),
        ({"path": "4.jpg"}, 1),
        ([{"url": "https://x/1.jpg"}, "2.jpg"], 2),
        (f"data:image/jpeg;base64,{encoded}", 1),
        (encoded, 1),
        ("sub\\..\\1.jpg", 1),
        ("1.jpg|1.jpg", 1),
        (None, 0),
        ("", 0),
        (7, 0),
        ({"x": 1}, 0),
        ("data:image/png;base64,AAA", 0),
        ("https://a/1.jpg,https://a/2.jpg", 2),
        ([["1.jpg"], None], 1),
        ("https://[bad", 0),
        (["1.jpg"] * 70, 1),
        (str(tmp_path / "p/1.jpg"), 1),
        ("a\0b.jpg", 0),
        ("\ud800.jpg", 0),
    ]
    source = jsonl(tmp_path / "in.jsonl", [{"id": n, "title": "t", "image": cell} for n, (cell, _) in enumerate(cells)])
    report = import_catalog(source, tmp_path / "out", root=tmp_path / "p")
    catalog = Catalog.open(tmp_path / "out")
    assert [len(item.pictures) for item in catalog.items()] == [count for _, count in cells]
    assert report.problems["picture-many"] == 1
    assert report.problems["picture-repeated"] == 64
    packed = import_catalog(source, tmp_path / "packed", root=tmp_path / "p", pack=True)
    assert packed.pictures == report.pictures
    assert Catalog.open(tmp_path / "packed").fingerprint == catalog.fingerprint
    assert all(one.data for item in Catalog.open(tmp_path / "packed").items() for one in item.pictures)


def test_a_picture_of_too_many_pixels_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgqformer.catalog.pictures.MAX_PIXELS", 100)
    put(tmp_path / "a.jpg", picture())
    import_catalog(jsonl(tmp_path / "in.jsonl", [{"id": 1, "title": "t", "image": "a.jpg"}]), tmp_path / "out")
    assert problems(tmp_path / "out") == [("1", "picture-bomb")]


def test_categories_and_attributes_of_every_form(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "category": "Clothes > Shirts > Polo", "attributes": {"color": "red", "size": None, "": "x"}},
        {"id": 2, "category": ["Clothes", "Clothes", "Shirts"], "attributes": '{"color": "red"}'},
        {"id": 3, "category": "['a', ['b']]", "attributes": [["not", "pairs"]]},
        {"id": 4, "category": "Coats/Jackets|Rain", "attributes": {str(n): n for n in range(300)}},
        {"id": 5, "category": ["x"] * 3 + [str(n) for n in range(50)], "attributes": "plain"},
        {"id": 6, "title": "[not a list", "attributes": "{not a dict", "category": "[broken"},
    ]
    report = import_catalog(jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out")
    items = list(Catalog.open(tmp_path / "out").items())
    assert [item.category for item in items[:4]] == [
        ("Clothes", "Shirts", "Polo"),
        ("Clothes", "Shirts"),
        ("a", "b"),
        ("Coats/Jackets", "Rain"),
    ]
    assert [dict(item.attributes) for item in items[:3]] == [
        {"color": "red"},
        {"color": "red"},
        {"attributes": "not; pairs"},
    ]
    assert (len(items[3].attributes), report.problems["attributes"]) == (200, 1)
    assert len(items[4].category) == 20
    assert dict(items[5].attributes) == {"attributes": "{not a dict"}


def test_values_that_mean_missing(tmp_path: Path) -> None:
    source = put(tmp_path / "in.csv", "id,title,brand,price,image\n1,NA,n/a,NA,NA\n2,Good,NA,5,n/a\n")
    report = import_catalog(source, tmp_path / "out", mapping={"missing": ["NA", "n/a"]})
    (item,) = Catalog.open(tmp_path / "out").items()
    assert (item.id, item.brand, item.pictures, item.price) == ("2", None, (), 5.0)
    assert (report.problems["empty"], report.problems["price"], report.problems["picture-missing"]) == (1, 0, 0)


def test_limit_name_and_plan(messy: Path, tmp_path: Path) -> None:
    told: list[Any] = []
    mapping = {**COLUMNS, "pictures": []}
    report = import_catalog(messy, tmp_path / "out", mapping=mapping, limit=2, name="mine", on_plan=told.append)
    assert (report.rows, Catalog.open(tmp_path / "out").name) == (2, "mine")
    options = {"mapping": mapping, "limit": 2, "name": "mine"}
    plan = plan_import(messy, tmp_path / "other", **options)
    assert told == [replace(plan, to=tmp_path / "out")]
    assert told[0].mapping.brand == "maker"


def test_targets_and_roots_that_make_no_sense(messy: Path, tmp_path: Path) -> None:
    for target in (messy.parent, tmp_path):
        with pytest.raises(TgqError, match="is what is read, or holds it"):
            import_catalog(messy, target, mapping=COLUMNS)
    with pytest.raises(TgqError, match="no picture folder"):
        plan_import(messy, tmp_path / "out", mapping=COLUMNS, root=tmp_path / "nowhere")
    with pytest.raises(TgqError, match=r"nothing can be read.*empty"):
        plan_import(put(tmp_path / "e.csv", ""), tmp_path / "out")
    with pytest.raises(TgqError, match="nothing can be read"):
        plan_import(put(tmp_path / "p.parquet", "junk"), tmp_path / "out")


def test_every_row_bad_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        TgqError, match=r"no item can be made of the 2 rows .* rows without an id \(2\), such as in.csv:2"
    ):
        import_catalog(put(tmp_path / "in.csv", "id,title\n,a\n,b\n"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_over_long_ids_are_rejected(tmp_path: Path) -> None:
    import_catalog(
        jsonl(tmp_path / "in.jsonl", [{"id": "x" * 300, "title": "a"}, {"id": 1, "title": "b" * 2000}]),
        tmp_path / "out",
    )
    assert problems(tmp_path / "out", "rejects") == [(None, "bad-id")]
    assert problems(tmp_path / "out") == [("1", "long-text")]


def test_memory_is_bounded_by_a_window_not_by_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgqformer.catalog.writer.GROUP_BYTES", 2 << 20)
    (tmp_path / "in").mkdir()
    encoded = [picture(shade, "BMP", size=(200, 200)) for shade in range(4)]
    table = pa.table({"id": [str(n) for n in range(400)], "image": [encoded[n % 4] for n in range(400)]})
    pq.write_table(table, tmp_path / "in/a.parquet", row_group_size=50, use_dictionary=False)
    size = table.nbytes
    del table
    tracemalloc.start()
    import_catalog(tmp_path / "in", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 45e6
    assert peak < size / 2


# ---- properties

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
plain = st.text("abcdefghijklmnop 0123456789é漢'\",;|\n\t", max_size=12)
entries = st.fixed_dictionaries({"id": plain, "title": texts, "brand": texts, "color": texts})


def expected(rows: list[dict[str, str]]) -> list[Item]:
    """Say by the rules, not by the code, which items must come out."""
    found: dict[str, Item] = {}
    taken: set[str] = set()
    for row in rows:
        name = "".join(sign for sign in row["id"].strip() if sign not in "\n\t")
        name = name[1:] if name[:1] == "'" and name[1:].isdecimal() else name  # as spreadsheets keep a text of digits
        if not name or name in taken or name in UNKNOWN:
            continue
        taken.add(name)
        title, brand, color = (
            clean(row["title"], "title")[0],
            clean(row["brand"], "brand")[0],
            clean(row["color"], "attribute")[0],
        )
        if title or brand or color:
            found[name] = Item(name, title, brand, (), {"color": color} if color else {})
    return list(found.values())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(entries, min_size=1, max_size=12), form=st.sampled_from(["csv", "jsonl", "tsv"]))
def test_no_item_is_lost_or_doubled_and_order_is_kept(
    rows: list[dict[str, str]], form: str, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("property")
    if form == "jsonl":
        source = jsonl(folder / "in.jsonl", rows)
    else:
        text = StringIO()
        writer = csv.DictWriter(
            text, ["id", "title", "brand", "color"], delimiter="," if form == "csv" else "\t", quoting=csv.QUOTE_ALL
        )
        writer.writeheader()
        writer.writerows(rows)
        source = put(folder / f"in.{form}", text.getvalue())
    if not expected(rows):
        with pytest.raises(TgqError, match="no item can be made"):
            import_catalog(source, folder / "out")
        return
    report = import_catalog(source, folder / "out")
    assert list(Catalog.open(folder / "out").items()) == expected(rows)
    assert report.rows == len(rows) == report.items + report.rejected
    assert len(problems(folder / "out", "rejects")) == report.rejected


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 40), seed=st.integers(0, 9), pack=st.booleans())
def test_pictures_stay_with_their_items(count: int, seed: int, pack: bool, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(seed)
    wanted = [rng.choice(6, size=int(rng.integers(4)), replace=False).tolist() for _ in range(count)]
    for shade in range(6):
        put(folder / f"{shade}.png", picture(shade, "PNG"))
    source = jsonl(
        folder / "in.jsonl",
        [{"id": n, "title": "t", "images": [f"{s}.png" for s in some]} for n, some in enumerate(wanted)],
    )
    import_catalog(source, folder / "out", pack=pack)
    found = [[one.path for one in item.pictures] for item in Catalog.open(folder / "out").items()]
    assert found == [[f"{shade}.png" for shade in some] for some in wanted]


@needs_browser
def test_axe_finds_nothing(messy: Path, tmp_path: Path) -> None:
    import_catalog(messy, tmp_path / "out", mapping=COLUMNS, root=messy.parent / "photos")
    assert_accessible(tmp_path / "out" / "report.html")


def test_a_header_without_rows_is_not_told_as_an_empty_file(tmp_path: Path) -> None:
    for text, words in (("id,title,price\n", "it has no rows"), ("", "is empty")):
        (tmp_path / "shop.csv").write_text(text)
        with pytest.raises(TgqError, match=words):
            import_catalog(tmp_path / "shop.csv", tmp_path / "out")


def test_a_line_of_pixels_is_told_as_what_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1)).save(tmp_path / "line.png")
    (tmp_path / "shop.csv").write_text("id,title,picture\na,Red shoe,line.png\n")
    report = import_catalog(tmp_path / "shop.csv", tmp_path / "out")
    [kind] = report.kinds("warning")
    assert KINDS[kind].title == "Pictures one pixel wide or high"
    assert (
        "3000 x 1 pixels" in report.examples[kind][0].reason and "1 item with 0 pictures from 1 row" in report.summary()
    )
