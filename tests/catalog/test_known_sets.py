"""Readers of well-known sets, on small files in their layouts and on the real fashion set."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import fields, imported, jpeg, put, rows

from tgqformer.catalog import import_catalog
from tgqformer.catalog.readers import choose_reader

FASHION = Path(__file__).parents[2].parent / "shared/data/fashion"


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
        report = import_catalog(file, tmp_path / f"out-{year}", reader=f"amazon-{year}")
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


@pytest.mark.skipif(not FASHION.is_dir(), reason="the real fashion set is not beside the project")
def test_the_real_fashion_set(tmp_path: Path) -> None:
    assert choose_reader(FASHION).name == "fashion"
    report = import_catalog(FASHION, tmp_path / "fashion", limit=600)
    assert (report.rows, report.items, report.pictures, report.rejected) == (600, 600, 600, 0)


FEED = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>S</title>
<item><g:id>M-1</g:id><g:title>Clay mug, red</g:title><g:description>&lt;p&gt;300 ml&lt;/p&gt;</g:description>
<g:image_link>https://cdn.test/1/a.jpg?v=1</g:image_link>
<g:additional_image_link>https://cdn.test/1/b.jpg</g:additional_image_link>
<g:additional_image_link>https://cdn.test/1/c.jpg</g:additional_image_link>
<g:price>14.50 EUR</g:price><g:brand>Tonwerk</g:brand>
<g:google_product_category>Home &gt; Mugs</g:google_product_category><g:color>red</g:color></item>
<item><g:id>M-2</g:id><g:title>Clay mug, blue</g:title><g:price>1,014.50 EUR</g:price></item>
</channel></rss>
"""


def test_a_feed_in_xml(tmp_path: Path) -> None:
    for shade, name in enumerate("abc"):
        put(tmp_path / f"photos/{name}.jpg", jpeg(shade))
    file = put(tmp_path / "feed.xml", FEED)
    assert choose_reader(file).name == "google-merchant"
    (red, blue), _ = imported(file, root=tmp_path / "photos")
    assert (red.id, red.title, red.brand, red.price) == ("M-1", "Clay mug, red", "Tonwerk", 14.5)
    assert (red.category, dict(red.attributes)) == (("Home", "Mugs"), {"color": "red"})
    assert [picture.path for picture in red.pictures] == ["a.jpg", "b.jpg", "c.jpg"]
    assert (blue.title, blue.price) == ("Clay mug, blue", 1014.5)
    found = rows("feed", put(tmp_path / "cut.xml", FEED[: FEED.index("</channel>")]))
    assert [row.fields is not None for row in found] == [True, True, False]
    assert "cannot be read from here on" in (found[-1].reason or "")


def test_shopify_makes_one_item_of_the_rows_of_a_product(tmp_path: Path) -> None:
    names = "Handle,Title,Vendor,Product Category,Type,Option1 Name,Option1 Value,Option2 Name,Option2 Value,"
    text = names + "Variant SKU,Variant Price,Image Src,Variant Image,Status\n"
    text += (
        "tee,Plain Tee,Nordfaden,Apparel > Shirts,T,Colour,Black,Size,S,B-S,25.00,https://s.test/a.jpg?v=1,,active\n"
    )
    text += "tee,,,,,,Black,,M,B-M,25.00,https://s.test/b.jpg?v=2,https://s.test/a.jpg?v=1,\n"
    text += "tee,,,,,,White,,M,W-M,27.00,https://s.test/c.jpg?v=3,,\n"
    text += "mug,Old mug,Tonwerk,,Mugs,Title,Default Title,,,OM,9.00,https://s.test/d.jpg,,archived\n"
    for shade, name in enumerate("abcd"):
        put(tmp_path / f"photos/{name}.jpg", jpeg(shade))
    file = put(tmp_path / "products.csv", text)
    assert choose_reader(file).name == "shopify"
    (tee, mug), catalog = imported(file, root=tmp_path / "photos")
    assert (tee.id, tee.title, tee.brand, tee.category) == ("tee", "Plain Tee", "Nordfaden", ("Apparel", "Shirts"))
    assert (tee.price, dict(tee.attributes)) == (25.0, {"Colour": "Black; White", "Size": "S; M"})
    assert [picture.path for picture in tee.pictures] == ["a.jpg", "b.jpg", "c.jpg"]
    assert (mug.price, mug.category, dict(mug.attributes)) == (9.0, ("Mugs",), {})
    assert "its status is archived" in (catalog.path / "warnings.jsonl").read_text()


def test_woocommerce_joins_variations_to_their_parent(tmp_path: Path) -> None:
    text = "ID,Type,SKU,Name,Published,Sale price,Regular price,Categories,Images,Parent,Attribute 1 name,"
    text += "Attribute 1 value(s)\n"
    text += '501,variable,TEE,Plain Tee,1,,,"Clothing > Shirts, Sale","https://x.test/a.jpg, https://x.test/b.jpg",,'
    text += 'Colour,"Black, White"\n502,variation,TEE-B,Plain Tee - Black,1,,"25,00",,https://x.test/a.jpg,TEE,Colour,Black\n'
    text += '503,variation,TEE-W,Plain Tee - White,1,,"27,00",,https://x.test/b.jpg,id:501,Colour,White\n'
    text += '504,simple,LAMP,Desk Lamp,1,"49,90","59,00",Home > Lamps,https://x.test/a.jpg,,,\n'
    text += '505,simple,,Old mug,-1,,"9,00","Kitchen\\, Bath > Mugs",,,,\n'
    for shade, name in enumerate("ab"):
        put(tmp_path / f"photos/{name}.jpg", jpeg(shade))
    file = put(tmp_path / "woo.csv", text)
    assert choose_reader(file).name == "woocommerce"
    items, catalog = imported(file, root=tmp_path / "photos")
    assert [(item.id, item.price, item.category) for item in items] == [
        ("TEE", 25.0, ("Clothing", "Shirts")),
        ("LAMP", 59.0, ("Home", "Lamps")),
        ("505", 9.0, ("Kitchen, Bath", "Mugs")),
    ]
    assert [(item.sale_price, item.item_group) for item in items] == [(None, "TEE"), (49.9, "LAMP"), (None, "505")]
    assert dict(items[0].attributes) == {"Colour": "Black; White"}
    assert [picture.path for picture in items[0].pictures] == ["a.jpg", "b.jpg"]
    warnings = (catalog.path / "warnings.jsonl").read_text()
    assert "it is not published" in warnings
    assert "2 categories: Clothing > Shirts, Sale" in warnings
