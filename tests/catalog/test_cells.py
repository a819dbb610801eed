"""Cells as shops write them: each column is judged as a whole, and what cannot be meant is told or refused."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import imported, jpeg, put

from tgqformer.catalog import Catalog, Item, PictureError, import_catalog
from tgqformer.catalog.importer import plan_import
from tgqformer.catalog.pictures import check, decode
from tgqformer.catalog.prices import PriceStyle, currency_of, price_of
from tgqformer.errors import TgqError


def items_of(tmp_path: Path, text: str, name: str = "shop.csv", **options: Any) -> dict[str, Item]:
    items, _ = imported(put(tmp_path / name, text), **options)
    return {item.id: item for item in items}


def told(tmp_path: Path, name: str = "warnings") -> list[tuple[str, str]]:
    lines = (tmp_path / f"imported/{name}.jsonl").read_text().splitlines()
    return [(line["kind"], line["reason"]) for line in map(json.loads, lines)]


# ---- prices

PRICES = [
    (".89", 0.89), (",89 €", 0.89), ("0,999 €", 0.999), ("1.299 €", 1299), ("Rp 150.000", 150_000), ("1.5e3", 1500),
    ("£1.2k", 1200), ("١٢٫٥٠", 12.5), ("1٬299٫00", 1299), ("12₽50", 12.5), ("12·50", 12.5), ("9,95", 9.95),
    ("1.299,00 €", 1299), ("1.999", 1999), ("2.499,50", 2499.5),
]  # fmt: skip


def test_prices_are_read_by_their_column(tmp_path: Path) -> None:
    lines = [f'{n},t,"{text}"' for n, (text, _) in enumerate(PRICES)]
    items = items_of(tmp_path, "id,title,price\n" + "\n".join(lines))
    assert [items[str(n)].price for n in range(len(PRICES))] == [price for _, price in PRICES]


@pytest.mark.parametrize(
    ("column", "prices"),
    [
        (["1.299", "12.50"], [1.299, 12.5]), (["1.299", "12,50"], [1299, 12.5]), (["1,299", "2,450"], [1299, 2450]),
        (["1.299", "2.450"], [1299, 2450]), (["1.299", "0.450"], [1.299, 0.45]), (["1,299", "1,5"], [1.299, 1.5]),
        (["Rs. 1,29,900", "Rs.500"], [129_900, 500]), (["KWD 1.250", "KWD 10.500"], [1.25, 10.5]),
        (["¥1,500", "¥900"], [1500, 900]), (["1'299.00", "1 299,5"], [1299, 1299.5]),
        (["1 299,00 zł", "CHF 1'299.-", "12\u00a0345,50 zł"], [1299, 1299, 12_345.5]), (["１２．５０"], [12.5]),
        (["3 Mio. €", "1.5M", "2 tys. zł", "2 lakh", "12万"], [3e6, 1.5e6, 2000, 2e5, 12e4]), (["99:50 kr"], [99.5]),
        (["12,- bis 15,- €", "€12.50 inkl. 19% MwSt", "1,29 €/100g", "12.50€ (10.50€ netto)"], [12, 12.5, 1.29, 12.5]),
        (["1.299,- €", "89,-"], [1299, 89]), (["CHF 1'299.–", "1.250"], [1299, 1.25]),
    ],
)  # fmt: skip
def test_what_a_mark_means_follows_from_the_column(column: list[str], prices: list[float]) -> None:
    style = PriceStyle.of(column)
    assert [price_of(text, style)[0] for text in column] == prices


@pytest.mark.parametrize(
    "text",
    [
        "20% off 12.50", "2 for $5", "2x 12,50", "1 kg = 12.50", "19.99 25.00", "$ 12 50", "Size 42, €59", "(5.00)",
        "5.00-", "−5", "100 g: 1,29 €",
    ],
)  # fmt: skip
def test_a_number_that_is_plainly_no_price_is_not_taken_for_one(text: str) -> None:
    assert price_of(text) == (None, None, f"not a price: {text!r}")


def test_where_two_writings_of_thousands_meet_neither_is_guessed() -> None:
    style = PriceStyle.of(["USD 1,299", "EUR 1.299", "900"])
    assert [price_of(text, style)[0] for text in ("USD 1,299", "EUR 1.299", "900")] == [None, None, 900]


def test_a_column_that_disagrees_gives_no_doubtful_price(tmp_path: Path) -> None:
    items = items_of(tmp_path, 'id,title,price\n1,a,1.50\n2,b,"1,50"\n3,c,1.299\n')
    assert [item.price for item in items.values()] == [1.5, 1.5, None]
    assert told(tmp_path) == [("price", "may be thousands or decimals: '1.299'")]


def test_several_currencies_are_told(tmp_path: Path) -> None:
    put(tmp_path / "shop.csv", "id,title,price\n1,Mug,10.00 USD\n2,Mug,900.00 INR\n3,Mug,9.50 EUR\n4,Mug,1500 JPY\n")
    report = import_catalog(tmp_path / "shop.csv", tmp_path / "out")
    assert report.warnings == ["prices are in several currencies, side by side as numbers: USD 1, INR 1, EUR 1, JPY 1"]
    assert [currency_of(text) for text in ("A$5", "$5", "5 Rp", "CHF5", "5")] == ["AUD", "USD", "IDR", "CHF", None]
    text = "id,title,price,currency\n1,a,10.00 USD,EUR\n2,b,$10,CAD\n3,c,10.00 EUR,EUR\n"
    assert [item.currency for item in items_of(tmp_path, text).values()] == ["USD", "CAD", "EUR"]
    assert told(tmp_path) == [("offer", "the price says USD, the column currency EUR: taken as USD")]
    assert [currency_of(text) for text in ("US$5", "5,00 zł", "1500 COP", "XXS$5")] == ["USD", "PLN", "COP", None]


def test_a_column_that_is_mostly_empty_is_not_preferred(tmp_path: Path) -> None:
    text = 'id,name,title,Sale price,Regular price\n1,Tee,,,"25,00"\n2,Mug,,"19,90","27,00"\n3,Lamp,x,,"59,00"\n'
    mapping = plan_import(put(tmp_path / "shop.csv", text), tmp_path / "out").mapping
    assert (mapping.title, mapping.price, mapping.sale_price) == ("name", ("Regular price",), "Sale price")
    items = items_of(tmp_path, text)
    assert [(item.title, item.price) for item in items.values()] == [("Tee", 25.0), ("Mug", 27.0), ("Lamp", 59.0)]
    assert items["2"].sale_price == 19.9
    full = plan_import(put(tmp_path / "full.csv", "id,price,sale_price\n1,2,\n2,3,1\n"), tmp_path / "out").mapping
    assert (full.price, full.sale_price) == (("price",), "sale_price")
    alone = plan_import(put(tmp_path / "alone.csv", "id,sale_price\n1,2\n"), tmp_path / "out").mapping
    assert (alone.price, alone.sale_price) == (("sale_price",), None)


# ---- texts


def test_html_is_taken_out_in_every_reader(tmp_path: Path) -> None:
    text = "id,title,brand,category\n1,Men&#39;s &quot;Trail&quot; Shoe &amp;amp; Sock,L&#039;Or,Shoes &amp; Socks\n"
    text += "2,<b>Lamp</b><br/>with <i>arm</i>,x,Lamps\n3,&nbsp;,x,Lamps\n4,AT&T 5 < 6 > 4 &not one,R&D,a &gt; b\n"
    items = items_of(tmp_path, text)
    assert (items["1"].title, items["1"].brand, items["1"].category) == (
        'Men\'s "Trail" Shoe & Sock',
        "L'Or",
        ("Shoes & Socks",),
    )
    assert (items["2"].title, items["3"].title) == ("Lamp with arm", None)
    assert (items["4"].title, items["4"].brand) == ("AT&T 5 < 6 > 4 &not one", "R&D")
    assert items["4"].category == ("a", "b")
    assert "html" in {kind for kind, _ in told(tmp_path)}


def test_words_for_not_known_are_empty(tmp_path: Path) -> None:
    items = items_of(
        tmp_path, "id,title,brand,color\n1,Mug,null,N/A\n2,None,(not set),-\n3,Null pointer mug,x,y\nnull,a,b,c\n"
    )
    assert (items["1"].brand, dict(items["1"].attributes)) == (None, {})
    assert set(items) == {"1", "3"}
    assert ("unknown-word", "brand: 'null' is taken for not known") in told(tmp_path)


def test_objects_give_the_text_that_is_meant(tmp_path: Path) -> None:
    names = [{"language_tag": "de_DE", "value": "Tasse"}, {"language_tag": "en_US", "value": "Mug"}]
    rows = [
        {"item_id": "B00", "item_name": names, "brand": [{"value": "Tonwerk"}], "product_type": [{"value": "MUG"}]},
        {"item_id": {"$oid": "5f"}, "item_name": {"de": "Lampe", "en": "Lamp"}, "brand": {"a": 1, "b": 2}},
        {"item_id": True, "item_name": "bool"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    items = items_of(tmp_path, text, "shop.jsonl")
    assert [(item.id, item.title) for item in items.values()] == [("B00", "Mug"), ("5f", "Lamp")]
    assert (items["B00"].brand, items["B00"].category, items["5f"].brand) == ("Tonwerk", ("MUG",), None)
    assert [kind for kind, _ in told(tmp_path)] == ["object"]
    assert told(tmp_path, "rejects") == [("spoilt-id", "True is no id")]
    german = items_of(tmp_path, text, "shop.jsonl", language="de", overwrite=True)
    assert [item.title for item in german.values()] == ["Tasse", "Lampe"]


def test_a_path_reaches_inside(tmp_path: Path) -> None:
    shop = {"products": [{"id": 1, "title": "Tee", "info": {"maker": "Acme"}, "variants": [{"price": "25.00"}]}]}
    mapping = {"brand": "info.maker", "price": "variants.price"}
    items = items_of(tmp_path, json.dumps(shop, indent=1), "shop.json", mapping=mapping)
    assert (items["1"].title, items["1"].brand, items["1"].price) == ("Tee", "Acme", 25.0)
    with pytest.raises(TgqError, match=r"no column 'info\.makr'"):
        plan_import(tmp_path / "shop.json", tmp_path / "out", mapping={"brand": "info.makr"})


def test_ids_that_a_spreadsheet_spoilt(tmp_path: Path) -> None:
    items = items_of(tmp_path, 'id,title\n1.23E+12,a\n"=""00123""",b\n1E5,c\n')
    assert set(items) == {"00123", "1E5"}
    assert told(tmp_path, "rejects")[0][1].startswith("a spreadsheet turned the id into 1.23E+12")
    assert set(items_of(tmp_path, "id,title\n1.0,a\n2.0,b\n", overwrite=True)) == {"1", "2"}
    assert set(items_of(tmp_path, "id,title\n1.0,a\n2.5,b\n", overwrite=True)) == {"1.0", "2.5"}


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["Clothes/Shirts", "Clothes/Hats"], ("Clothes", "Shirts")), (["Men/Women", "Kids"], ("Men/Women",)),
        (["Clothes -> Shirts", "x"], ("Clothes", "Shirts")), (["A > B/C", "D > E/F"], ("A", "B/C")),
        (["Clothes::Shirts", "x"], ("Clothes", "Shirts")),
    ],
)  # fmt: skip
def test_levels_of_categories(tmp_path: Path, cells: list[str], first: tuple[str, ...]) -> None:
    items = items_of(tmp_path, "id,category\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    assert items["0"].category == first


# ---- tables


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nid;title;price\n1;Mug;12,50\n", "Export of 2024-01-05\n\nid,title,price\n1,Mug,12.50\n",
        "id;title, short, long, other, more;price\n1;Mug;12,50\n", "id,title,price\r1,Mug,12.50\r",
        "g:id\tg:title\tg:price\n1\tMug\t12.50 EUR\n", "id|Title [en]|Price (EUR)\n1|Mug|12.50\n",
    ],
)  # fmt: skip
def test_what_stands_before_and_in_the_header(tmp_path: Path, text: str) -> None:
    items = items_of(tmp_path, text)
    assert (items["1"].title, items["1"].price) == ("Mug", 12.5)


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    put(tmp_path / "shop.csv", "id,title\n1,Чашка\n".encode("cp1251"))
    items, _ = imported(tmp_path / "shop.csv", encoding="cp1251")
    assert items[0].title == "Чашка"
    put(tmp_path / "photos/a.jpg", jpeg())
    with pytest.raises(TgqError, match="the reader pictures reads no text"):
        plan_import(tmp_path / "photos", tmp_path / "out", encoding="cp1251")


# ---- pictures


def shop_with(tmp_path: Path, cells: list[str], *files: str) -> list[list[str]]:
    for shade, name in enumerate(files):
        put(tmp_path / "photos" / name, jpeg(shade))
    rows = [json.dumps({"id": n, "title": "t", "image": cell}) for n, cell in enumerate(cells)]
    put(tmp_path / "shop.jsonl", "\n".join(rows))
    items, _ = imported(tmp_path / "shop.jsonl", root=tmp_path / "photos")
    return [[str(picture.path) for picture in item.pictures] for item in items]


def test_names_with_marks_are_tried_whole(tmp_path: Path) -> None:
    names = ["mug,red.jpg", "lamp;left.jpg", "tee|back.jpg"]
    assert shop_with(tmp_path, [*names, "mug,red.jpg;lamp;left.jpg"], *names)[:3] == [[name] for name in names]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("/t/e/mug.jpg", ["t/e/mug.jpg"]), ("/x/y/mug.jpg", ["mug.jpg"]), ("//cdn.test/a/mug.jpg", ["mug.jpg"]),
        ("mug.jpg?v=123", ["mug.jpg"]), ("mug.jpg~cup.jpg", ["mug.jpg", "cup.jpg"]),
        ("mug.jpg cup.jpg", ["mug.jpg", "cup.jpg"]), ("['mug.jpg' 'cup.jpg']", ["mug.jpg", "cup.jpg"]),
        ("https://x.test/mug_1024x1024.jpg?v=1", ["mug.jpg"]), ("a\\mug.jpg", []), ("../photos2/mug.jpg", []),
        ("https://x.test/t/e/mug.jpg", ["t/e/mug.jpg"]),
    ],
)  # fmt: skip
def test_shapes_of_paths(tmp_path: Path, cell: str, found: list[str]) -> None:
    assert shop_with(tmp_path, [cell, "cup.jpg"], "mug.jpg", "cup.jpg", "t/e/mug.jpg")[0] == found


def test_addresses_that_end_alike_are_not_one_picture(tmp_path: Path) -> None:
    cells = ["https://x.test/1/main.jpg", "https://x.test/2/main.jpg", "https://x.test/3/main.jpg"]
    assert shop_with(tmp_path, cells, "main.jpg", "2/main.jpg") == [[], ["2/main.jpg"], []]
    assert [kind for kind, _ in told(tmp_path)] == ["picture-ambiguous"] * 2
    same = ["https://x.test/1/a.jpg?v=1", "https://y.test/1/a.jpg?v=2"]
    assert shop_with(tmp_path / "same", same, "a.jpg") == [["a.jpg"], ["a.jpg"]]


def test_no_picture_found_is_an_error_that_says_where_was_looked(tmp_path: Path) -> None:
    put(tmp_path / "photos/a.jpg", jpeg())
    put(tmp_path / "shop.csv", "id,title,image\n1,x,a.jpg\n2,y,b.jpg\n")
    with pytest.raises(TgqError, match=r"none of 2 pictures was found: .* lie photos, shop\.csv\. Name the folder"):
        import_catalog(tmp_path / "shop.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert import_catalog(tmp_path / "shop.csv", tmp_path / "out", mapping={"pictures": []}).items == 2
    report = import_catalog(tmp_path / "shop.csv", tmp_path / "found", root=tmp_path / "photos")
    assert (report.pictures, report.named, report.warnings) == (1, 2, [])


def test_addresses_alone_are_a_warning(tmp_path: Path) -> None:
    put(tmp_path / "shop.csv", "id,title,image\n1,x,https://s.test/a.jpg\n")
    report = import_catalog(tmp_path / "shop.csv", tmp_path / "out")
    assert "only 0 of 1 pictures can be used: pictures that are addresses (1)" in report.warnings[0]


def test_one_picture_of_many_items_is_told(tmp_path: Path) -> None:
    cells = ["soon.jpg"] * 8 + ["a.jpg"]
    shop_with(tmp_path, cells, "soon.jpg", "a.jpg")
    report = json.loads((tmp_path / "imported/report.json").read_text())
    assert report["warnings"] == ["8 items have one and the same first picture: a placeholder?"]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\0\0\0\x18ftypheic", "a HEIC picture, as phones make; convert it to JPEG"), (b"%PDF-1.4", "a PDF"),
        (b"8BPS\0\1", "a Photoshop file"), (b"\xff\x0a\0", "a JPEG XL picture"), (b"\0\0\0\x18ftypisom", "a video"),
    ],
)  # fmt: skip
def test_files_that_are_no_pictures_are_named(start: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        check(start + bytes(200))


def test_a_picture_behind_a_blank_line_is_read() -> None:
    assert check(b"\r\n" + jpeg()).width == 12
    assert decode(b"\xef\xbb\xbf" + jpeg()).size == (12, 16)


def test_what_shows_nothing_is_told_and_white_on_nothing_is_seen() -> None:
    def png(image: Image.Image) -> bytes:
        buffer = BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    assert check(png(Image.new("RGB", (9, 9), "white"))).notes == (("blank", "all of it is white"),)
    assert check(png(Image.new("L", (9, 9), "black"))).notes == (("blank", "all of it is black"),)
    assert check(png(Image.new("RGB", (9, 9), "red"))).notes == (("blank", "all of it is one colour, #ff0000"),)
    nearly, seen = Image.new("RGB", (40, 40), (100, 120, 140)), Image.new("RGB", (40, 40), "white")
    nearly.putpixel((3, 3), (107, 120, 133))
    seen.putpixel((3, 3), (200, 200, 200))
    assert check(png(nearly)).notes == (("blank", "all of it is one colour, #677888"),)
    assert check(png(seen)).notes == ()
    plate = Image.new("RGBA", (9, 9), (255, 255, 255, 0))
    plate.paste((255, 255, 255, 255), (3, 3, 6, 6))
    assert decode(png(plate)).getpixel((4, 4)) == (255, 255, 255)
    assert decode(png(plate)).getpixel((0, 0)) == (128, 128, 128)
    assert check(png(plate)).notes == ()
    plate.paste((255, 0, 0, 255), (3, 3, 6, 6))
    assert decode(png(plate)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("pack", [False, True])
def test_a_catalogue_is_a_source_that_keeps_everything(tmp_path: Path, pack: bool) -> None:
    put(tmp_path / "photos/a.jpg", jpeg())
    text = "id,title,brand,category,price,image,color\n1,Mug,Tonwerk,Kitchen > Mugs,1.50,a.jpg,red\n2,Lamp,,,,,\n"
    items, first = imported(put(tmp_path / "shop.csv", text), root=tmp_path / "photos", pack=pack)
    assert len(items[0].pictures) == 1
    import_catalog(first.path, tmp_path / "again", pack=pack)
    assert Catalog.open(tmp_path / "again").fingerprint == first.fingerprint


def test_what_may_be_meant_otherwise_is_told(tmp_path: Path) -> None:
    source = tmp_path / "shop.csv"
    rows = ["id|title|brand|category|price", "0|Green tee|Acme|Men; Tees|12"]
    rows += ["1|Red tee|Unknown|Men; Tees|1.299", "2|Blue tee|Acme|Men;Tees|2.499"]
    source.write_text("\n".join(rows))
    report = import_catalog(source, tmp_path / "shop")
    _, first, second = Catalog.open(tmp_path / "shop").items()
    assert (first.brand, second.brand, first.category, first.price) == (None, "Acme", ("Men; Tees",), 1299.0)
    assert any("'Men; Tees' are taken for one name each" in line for line in report.warnings)
    assert any("all prices with a mark are like '1.299'" in line for line in report.warnings)
    source.write_text("id|title|category|price\n1|Red tee|Men, Women > Tees|1.299\n2|Blue tee|Men|2.50\n")
    assert import_catalog(source, tmp_path / "other").warnings == []
