"""How an item is sold: variants, stock, prices, days; read by every reader, and never by a model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from reading import imported, put

from tgqformer.catalog import Catalog, CatalogWriter, Item, import_catalog
from tgqformer.catalog.importer import plan_import
from tgqformer.catalog.offers import availability_of, currency_code, day_of
from tgqformer.model.prompt import Prompt

Offer = tuple[float | None, float | None, str | None, str | None, str | None, str | None]


def offers(items: list[Item]) -> dict[str, Offer]:
    return {
        item.id: (item.price, item.sale_price, item.currency, item.availability, item.item_group, item.created)
        for item in items
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("in stock", "in_stock"),
        ("https://schema.org/InStock", "in_stock"),
        ("http://schema.org/OutOfStock/", "out_of_stock"),
        ("Sold Out", "out_of_stock"),
        ("preorder", "preorder"),
        ("on backorder", "backorder"),
        ("12", "in_stock"),
        ("0.0000", "out_of_stock"),
        ("-3", "out_of_stock"),
        (True, "in_stock"),
        (0, "out_of_stock"),
        ("", None),
        (float("nan"), None),
        ("n/a", None),
    ],
)
def test_a_stock_is_read(value: object, found: str | None) -> None:
    assert availability_of(value) == (found, None)


def test_days_and_currencies_are_read() -> None:
    days = ("2024-02-29", "2024/2/9", "2024-02-29T13:00-0800", "1709164800", "1709164800000")
    assert [day_of(day)[0] for day in days] == ["2024-02-29", "2024-02-09", "2024-02-29", "2024-02-29", "2024-02-29"]
    assert day_of("Thu, 29 Feb 2024 08:00:00 GMT") == ("2024-02-29", None)
    assert day_of(datetime(2024, 2, 29, tzinfo=UTC)) == ("2024-02-29", None)
    for wrong in ("02/29/2024", "2024-02-30", "soon", "12"):
        assert day_of(wrong)[0] is None and "not a day" in str(day_of(wrong)[1])
    assert [currency_code(word)[0] for word in ("eur", "€", "SEK", "", "many")] == ["EUR", "EUR", "SEK", None, None]
    assert [currency_code(word)[0] for word in ("top", "HRK", "xyz", "EU", "EURO")] == ["TOP", "HRK", None, None, None]


def test_columns_are_found_and_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = "id,title,item_group_id,availability,price,sale_price,currency,created_at\n"
    text += "a,Tee,TEE,in_stock,25.00,19.00,EUR,2024-02-29\nb,Tee,TEE,perhaps,25.00,30.00,EUR,soon\n"
    text += "c,Mug,,,,9.00,,\nd,Cap,CAP,out of stock,5.00,5.00,,\n"
    items, catalog = imported(put(tmp_path / "shop.csv", text))
    assert offers(items) == {
        "a": (25.0, 19.0, "EUR", "in_stock", "TEE", "2024-02-29"),
        "b": (25.0, None, "EUR", None, "TEE", None),
        "c": (9.0, None, None, None, None, None),
        "d": (5.0, None, None, "out_of_stock", "CAP", None),
    }
    told = (catalog.path / "warnings.jsonl").read_text()
    assert "not a stock: 'perhaps'" in told and "not a day: 'soon'" in told and "above the price" in told
    import_catalog(catalog.path, tmp_path / "again")  # a catalogue as a source keeps all of it
    assert offers(list(Catalog.open(tmp_path / "again").items())) == offers(items)


def test_what_is_sold_by_is_no_attribute_for_the_model(tmp_path: Path) -> None:
    text = "id,title,color,availability,price\na,Tee,red,in_stock,5\n"
    file, asked = put(tmp_path / "shop.csv", text), {"attributes": ["color", "availability"]}
    assert plan_import(file, tmp_path / "out", mapping=asked).sold == ("availability",)
    import_catalog(file, tmp_path / "out", mapping=asked)
    [item] = Catalog.open(tmp_path / "out").items()
    assert (dict(item.attributes), item.availability) == ({"color": "red"}, "in_stock")
    assert Prompt().text(item) == "Tee. color: red"
    named = plan_import(file, tmp_path / "b", mapping={"availability": "color", "attributes": ["color"]})
    assert (named.mapping.availability, named.mapping.attributes) == ("color", ())


def test_a_google_feed_as_a_table(tmp_path: Path) -> None:
    text = "id\ttitle\tlink\timage_link\tavailability\tprice\tsale_price\titem_group_id\n"
    text += "1\tTee S\thttps://s.test/1\t\tin stock\t25.00 EUR\t20.00 EUR\tTEE\n"
    text += "2\tTee M\thttps://s.test/2\t\tpreorder\t25.00 EUR\t\tTEE\n"
    items, _ = imported(put(tmp_path / "feed.txt", text))
    assert offers(items) == {
        "1": (25.0, 20.0, "EUR", "in_stock", "TEE", None),
        "2": (25.0, None, "EUR", "preorder", "TEE", None),
    }


SHOPIFY = (
    "Handle,Title,Vendor,Type,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Tracker,Variant Inventory Qty,"
    "Variant Inventory Policy,Variant Price,Variant Compare At Price,Image Src,Status\n"
    "tee,Tee,N,Shirts,Size,S,T-S,shopify,0,deny,20.00,25.00,https://s.test/a.jpg,active\n"
    "tee,,,,,M,T-M,shopify,3,deny,20.00,25.00,,\ntee,,,,,,,,,,,,https://s.test/b.jpg,\n"
    "mug,Mug,N,Mugs,Title,Default Title,M,shopify,0,deny,9.00,,,active\n"
    "cap,Cap,N,Caps,Title,Default Title,C,shopify,-2,continue,9.00,9.00,,active\n"
    "pen,Pen,N,Pens,Title,Default Title,P,,0,deny,9.00,,,active\n"
)


@pytest.mark.parametrize("newer", [False, True])
def test_shopify_knows_stock_and_what_a_price_was(tmp_path: Path, newer: bool) -> None:
    text = SHOPIFY
    if newer:
        for old, new in (
            ("Handle,", "URL handle,"),
            ("Variant SKU", "SKU"),
            ("Variant Price", "Price"),
            ("Variant Compare At Price", "Compare-at price"),
            ("Variant Inventory Tracker", "Inventory tracker"),
            ("Variant Inventory Qty", "Inventory quantity"),
            ("Variant Inventory Policy", "Continue selling when out of stock"),
            ("Image Src", "Product image URL"),
            ("Option1 Name,Option1 Value", "Option1 name,Option1 value"),
        ):
            text = text.replace(old, new)
    items, _ = imported(put(tmp_path / "products.csv", text))
    assert offers(items) == {
        "tee": (25.0, 20.0, None, "in_stock", "tee", None),
        "mug": (9.0, None, None, "out_of_stock", "mug", None),
        "cap": (9.0, None, None, "backorder", "cap", None),
        "pen": (9.0, None, None, "in_stock", "pen", None),
    }
    assert dict(items[0].attributes) == {"Size": "S; M"}


def test_woocommerce_knows_stock_and_until_when_a_price_holds(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    before, after = today - timedelta(9), today + timedelta(9)
    text = "ID,Type,SKU,Name,Published,In stock?,Stock,Backorders allowed?,Date sale price starts,Date sale price ends,"
    text += "Sale price,Regular price,Categories,Images,Parent\n"
    text += "1,variable,TEE,Tee,1,1,,0,,,,,Shirts,,\n2,variation,TEE-S,Tee S,1,0,0,0,,,,25,,,TEE\n"
    text += f"3,variation,TEE-M,Tee M,1,1,4,0,,,,25,,,TEE\n4,simple,A,A,1,1,,0,{before},{after},5,9,X,,\n"
    text += f"5,simple,B,B,1,1,,0,,{before},5,9,X,,\n6,simple,C,C,1,1,0,notify,{after},,5,9,X,,\n"
    text += "7,variation,LONE,Lone,1,backorder,,0,,,,9,,,id:77\n"
    items, _ = imported(put(tmp_path / "woo.csv", text))
    assert offers(items) == {
        "TEE": (25.0, None, None, "in_stock", "TEE", None),
        "A": (9.0, 5.0, None, "in_stock", "A", None),
        "B": (9.0, None, None, "in_stock", "B", None),
        "C": (9.0, None, None, "backorder", "C", None),
        "LONE": (9.0, None, None, "backorder", "77", None),
    }


def test_the_fingerprint_hangs_on_the_offer(tmp_path: Path) -> None:
    offers: list[dict[str, Any]] = [
        {}, {"availability": "in_stock"}, {"availability": "out_of_stock"}, {"item_group": "in_stock"},
        {"currency": "in_stock"}, {"sale_price": 1.0},
    ]  # fmt: skip
    found = set()
    for place, offer in enumerate(offers):
        with CatalogWriter(tmp_path / str(place), name="x", pack=True) as writer:
            writer.add(Item("1", "Mug", price=2.0, **offer))
        found.add(Catalog.open(tmp_path / str(place)).fingerprint)
    assert len(found) == len(offers)
