"""Exports as shops spoil them: sorted, translated, escaped, several values in a cell, days of other places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import shop_exports as shops
from reading import imported, jpeg, put
from shop_exports import Wanted, draw

from tgqformer.catalog import Item, import_catalog
from tgqformer.catalog.importer import addresses_of
from tgqformer.catalog.readers.feed import feed_rows
from tgqformer.errors import TgqError
from tgqformer.model.prompt import Prompt
from tgqformer.store.content import seen_of


def told(item: Item) -> tuple[object, ...]:
    return item.id, item.title, item.brand, " > ".join(item.category), item.price, item.sale_price, item.availability


def csv_of(header: str, *rows: str) -> str:
    return "\n".join([header, *rows, ""])


def warnings_of(folder: Path) -> str:
    return (folder / "imported/warnings.jsonl").read_text()


SHOPIFY = (
    "Handle,Title,Vendor,Standardized Product Type,Custom Product Type,Option1 Name,Option1 Value,Variant SKU,"
    "Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy,Variant Price,Variant Compare At Price,"
    "Image Src,Status"
)


def test_a_shopify_export_that_was_sorted_keeps_its_products(tmp_path: Path) -> None:
    text = csv_of(
        SHOPIFY,
        "tee,,,,,,M,T-M,shopify,0,deny,10,,,",
        "tee,,,,,,,,,,,,,https://s.test/b.jpg,",
        "tee,Tee,N,Clothes > Shirts,Tees,Size,S,T-S,shopify,2,deny,10,12,https://s.test/a.jpg,draft",
        "cap,Cap,N,,Hats,Title,Default Title,C,shopify,,deny,5,0.00,,active",
        "pen,Pen,N,,,Title,Default Title,P,shopify,,continue,5,,,active",
    )
    items, _ = imported(put(tmp_path / "p.csv", text))
    assert [told(item) for item in items] == [
        ("tee", "Tee", "N", "Clothes > Shirts", 10.0, None, "in_stock"),
        ("cap", "Cap", "N", "Hats", 5.0, None, None),  # tracked, and nobody says how many
        ("pen", "Pen", "N", "", 5.0, None, "in_stock"),
    ]
    assert items[0].attributes == {"Size": "M; S"} and "its status is draft" in warnings_of(tmp_path)


WOO = (
    "ID,Type,SKU,Name,Published,Visibility in catalog,In stock?,Stock,Backorders allowed?,Sale price,Regular price,"
    "Date sale price starts,Date sale price ends,Categories,Images,Parent,Brands,Attribute 1 name,Attribute 1 value(s)"
)


def test_a_woocommerce_export_with_escapes_and_whole_paths(tmp_path: Path) -> None:
    text = csv_of(
        WOO,
        "1,simple,'-1,'-50% tee,1,hidden,backorder,,0,5,10,31/01/2020,,"
        '"Clothes, Clothes > Shirts, Sale",,,"Nord > Kids, Other",Colour,"Red\\, dark, Blue"',
        '2,variable,,Tee,1,visible,1,,0,,,,,"Cups\\, mugs",,,"O\\, P",,',
        '3,variation,\'+S,Tee S,1,visible,,parent,0,,"1.299,50",,,,,id:2,,,',
    )
    items, _ = imported(put(tmp_path / "w.csv", text))
    assert [told(item) for item in items] == [
        ("-1", "-50% tee", "Kids", "Clothes > Shirts", 10.0, 5.0, "backorder"),
        ("2", "Tee", "O, P", "Cups, mugs", 1299.5, None, "in_stock"),
    ]
    assert items[0].attributes == {"Colour": "Red, dark; Blue"}
    for words in ("it is hidden", "2 categories: Clothes > Shirts, Sale", "not a day: '31/01/2020'"):
        assert words in warnings_of(tmp_path)


def test_addresses_of_a_woocommerce_export_may_hold_commas(tmp_path: Path) -> None:
    cells = r'"https://c.test/w_300\,h_300/a.jpg, https://c.test/b.jpg"'
    shop = put(tmp_path / "w.csv", csv_of(WOO, f"1,simple,T,Tee,1,visible,1,,0,,10,,,Clothes,{cells},,,,"))
    assert list(addresses_of(shop)) == [("T", ["https://c.test/w_300,h_300/a.jpg", "https://c.test/b.jpg"])]


def test_parts_of_a_product_in_a_feed_are_no_products(tmp_path: Path) -> None:
    offer = "<offers><offer><id>o1</id><name>Sale</name></offer></offers>"
    own = f"<product><id>1</id><name>Hat</name><item>warm</item>{offer}"
    shop = f"<shop><products>{own}</product><product><id>2</id><name>Cap</name></product></products></shop>"
    items, _ = imported(put(tmp_path / "shop.xml", shop))
    assert [(item.id, item.title) for item in items] == [("1", "Hat"), ("2", "Cap")]
    [row, _] = feed_rows(tmp_path / "shop.xml")
    assert row.fields == {"id": "1", "name": "Hat", "item": "warm", "offers": {"offer": "o1Sale"}}


def test_feeds_of_other_names(tmp_path: Path) -> None:
    put(
        tmp_path / "heureka/h.xml",
        "<SHOP><SHOPITEM><ITEM_ID>7</ITEM_ID><PRODUCTNAME>Hat</PRODUCTNAME></SHOPITEM></SHOP>",
    )
    put(tmp_path / "one/1.xml", "<product><id>8</id><name>Cap</name></product>")
    assert [imported(tmp_path / name / file)[0][0].id for name, file in (("heureka", "h.xml"), ("one", "1.xml"))] == [
        "7",
        "8",
    ]
    other = put(tmp_path / "other.xml", "<Liste><Artikel><Nr>1</Nr></Artikel></Liste>")
    with pytest.raises(TgqError, match=r"none of item, entry, .* is in it, but Nr, Artikel, Liste"):
        import_catalog(other, tmp_path / "out")


def test_a_feed_in_yml(tmp_path: Path) -> None:
    """Categories by their ids, which may name themselves as their parents; pairs of a name and a value."""
    tree = '<category id="1">Clothes</category><category id="2" parentId="1">Hats</category>'
    tree += '<category id="3" parentId="4">Cups</category><category id="4" parentId="3">Mugs</category>'
    pairs = '<param name="Colour">red</param><param name="Weight" unit="g">120</param><param name="Colour">blue</param>'
    facts = "<price>12.90</price><currencyId>RUB</currencyId>"
    own = f"{facts}<categoryId>2</categoryId><name>Hat</name>{pairs}<param>odd</param>"
    offers = [
        f'<offer id="a" available="true">{own}</offer>',
        f'<offer id="b" available="false">{facts}<categoryId>4</categoryId><name>Mug</name></offer>',
        f'<offer id="c" group_id="7">{facts}<categoryId>9</categoryId><name>Cup</name><params>{pairs}</params></offer>',
    ]
    shop = f"<yml_catalog><shop><categories>{tree}</categories><offers>{''.join(offers)}</offers></shop></yml_catalog>"
    items, _ = imported(put(tmp_path / "shop.xml", shop))
    assert [told(item) for item in items] == [
        ("a", "Hat", None, "Clothes > Hats", 12.9, None, "in_stock"),
        ("b", "Mug", None, "Cups > Mugs", 12.9, None, "out_of_stock"),
        ("c", "Cup", None, "", 12.9, None, None),
    ]
    assert items[0].currency == "RUB" and [item.item_group for item in items] == [None, None, "7"]
    found = [row.fields for row in feed_rows(tmp_path / "shop.xml") if row.fields]
    assert found[0]["param"] == ["odd", {"Colour": "red; blue", "Weight": "120 g"}]
    assert items[2].attributes == found[2]["params"] == {"Colour": "red; blue", "Weight": "120 g"}


def test_a_feed_as_for_heureka(tmp_path: Path) -> None:
    pair = "<PARAM><PARAM_NAME>{}</PARAM_NAME><VAL>{}</VAL></PARAM>"
    facts = "<PRICE_VAT>339,50</PRICE_VAT><CATEGORYTEXT>Heureka.cz | Clothes | Shirts</CATEGORYTEXT>"
    facts += "<MANUFACTURER>Acme</MANUFACTURER><ITEMGROUP_ID>G1</ITEMGROUP_ID>"
    pictures = "<IMGURL>http://s.test/1.jpg</IMGURL><IMGURL_ALTERNATIVE>http://s.test/2.jpg</IMGURL_ALTERNATIVE>"
    own = f"{facts}{pictures}{pair.format('Colour', 'blue')}{pair.format('Size', 'M')}"
    shop = f"<SHOP><SHOPITEM><ITEM_ID>A1</ITEM_ID><PRODUCTNAME>Shirt</PRODUCTNAME>{own}</SHOPITEM></SHOP>"
    [item], _ = imported(put(tmp_path / "shop.xml", shop))
    assert told(item) == ("A1", "Shirt", "Acme", "Heureka.cz > Clothes > Shirts", 339.5, None, None)
    assert item.attributes == {"Colour": "blue", "Size": "M"} and item.item_group == "G1"
    assert list(addresses_of(tmp_path / "shop.xml")) == [("A1", ["http://s.test/1.jpg", "http://s.test/2.jpg"])]


def test_a_woocommerce_export_in_another_language_is_told(tmp_path: Path) -> None:
    text = csv_of(
        "ID,Typ,Artikelnummer,Name,Regulärer Preis,Kategorien",
        "1,variable,TEE,Hemd,,Kleidung",
        '2,"variation, virtual",TEE-S,Hemd S,12,',
    )
    report = import_catalog(put(tmp_path / "w.csv", text), tmp_path / "out")
    assert any("WooCommerce with column names in another language" in line for line in report.warnings)


MAGENTO = (
    "sku,store_view_code,attribute_set_code,product_type,categories,name,price,special_price,special_price_to_date,"
    "base_image,additional_attributes,qty,is_in_stock,configurable_variations"
)
MORE = '"color=Red,has_options=0,quantity_and_stock_status=In Stock,required_options=0,cost=3.1000,fit=Slim"'


def test_a_magento_export_with_commas_in_names_and_parents_of_no_price(tmp_path: Path) -> None:
    text = csv_of(
        MAGENTO,
        f'A,,Top,simple,"Root/Men\'s, new/Tops,Root/Sale",A,1,2.5,,,{MORE},3,1,',
        'B,,Top,simple,"Root/X, Root/Y",B,9,5,someday,,,0,0,',
        'TEE,,Top,configurable,Root/A,Tee,0.0000,,,,,0,1,"sku=S,size=S"',
        "S,,Top,simple,Root/A,Tee S,12.0000,9.9900,,,,3,1,",
        "GIFT,,Top,virtual,Root/A,Gift,0.0000,,,,,3,1,",
    )
    items, _ = imported(put(tmp_path / "m.csv", text))
    assert [told(item)[3:] for item in items] == [
        ("Men's, new > Tops", 1.0, None, "in_stock"),
        ("X", 9.0, 5.0, "out_of_stock"),
        ("A", 12.0, 9.99, "in_stock"),
        ("A", 12.0, 9.99, "in_stock"),
        ("A", 0.0, None, "in_stock"),
    ]
    assert items[0].attributes == {"color": "Red", "fit": "Slim"}
    assert "not a day: 'someday'" in warnings_of(tmp_path)


GOOGLE = (
    "id\t{}\tlink\timage_link\tavailability\tprice\tsale_price\tsale_price_effective_date\tproduct_type\tproduct_detail"
)
DAYS = "01/02/2020/05/02/2020"


def test_a_google_table_with_several_values_in_a_cell(tmp_path: Path) -> None:
    text = csv_of(
        GOOGLE.format("title"),
        "A\tA\tl\t\tin_stock\t15,00 EUR\t\t\tHome > Dresses, Home > Sale\tGeneral:Screen:6.1 in, OLED,General:Fit:Slim",
        f"B\tB\tl\t\tin stock\tUSD 15\t12 USD\t{DAYS}\tHome > Kitchen, dining > Pots\tGeneral:Ratio:16\\:9\\, wide",
    )
    items, _ = imported(put(tmp_path / "g.txt", text))
    assert [told(item)[3:6] for item in items] == [
        ("Home > Dresses", 15.0, None),
        ("Home > Kitchen, dining > Pots", 15.0, 12.0),
    ]
    assert [dict(item.attributes) for item in items] == [
        {"Screen": "6.1 in, OLED", "Fit": "Slim"},
        {"Ratio": "16:9, wide"},
    ]
    assert "2 categories: Home > Dresses, Home > Sale" in warnings_of(tmp_path)
    assert "not a day" in warnings_of(tmp_path)


XML = """<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>A</g:id><g:structured_title>
<g:digital_source_type>default</g:digital_source_type><g:content>Stride, fast</g:content></g:structured_title>
<g:image_link>
 https://s.test/a.jpg
</g:image_link><g:product_type><![CDATA[Men &amp; Women]]></g:product_type></item></channel></rss>"""


def test_a_google_feed_whose_title_is_structured(tmp_path: Path) -> None:
    row = "A\ttrained_algorithmic_media:Stride: fast\tl\t\tin_stock\t15 EUR\t\t\t\t"
    items, _ = imported(put(tmp_path / "table/g.txt", csv_of(GOOGLE.format("structured_title"), row)))
    assert items[0].title == "Stride: fast"
    report = import_catalog(put(tmp_path / "feed/g.xml", XML), tmp_path / "out")
    [item], _ = imported(tmp_path / "feed/g.xml")
    assert (item.title, item.category) == ("Stride, fast", ("Men & Women",))
    assert not any("one name each" in line for line in report.warnings)  # the semicolon was HTML
    with pytest.raises(TgqError, match=r"needs xmlns:g=\"http://base.google.com/ns/1.0\""):
        import_catalog(put(tmp_path / "bad.xml", "<rss><item><g:id>A</g:id></item></rss>"), tmp_path / "bad")


AMAZON = "item_sku\titem_name\tbrand_name\tparent_child\tfeed_product_type\tparent_sku\tstandard_price\tsale_price"
AMAZON += "\tsale_from_date\tquantity"


def test_an_amazon_file_in_another_language(tmp_path: Path) -> None:
    text = csv_of(
        AMAZON,
        "TEE\tTee\tNord\tÜbergeordnet\tshirt\t\t\t\t\t",
        "TEE-S\tTee S\t\tUntergeordnet\tshirt\tTEE\t12,50\t9\t31.01.2020\t3",
        "0012\tMug\tNord\t\tcup\t\t1.299,00\t\t\t1,000",
    )
    items, _ = imported(put(tmp_path / "a.txt", text))
    assert {item.item_group for item in items if item.id.startswith("TEE")} == {"TEE"}
    assert sorted(told(item) for item in items) == [
        ("0012", "Mug", "Nord", "cup", 1299.0, None, "in_stock"),
        ("TEE", "Tee", "Nord", "shirt", 12.5, 9.0, "in_stock"),
        ("TEE-S", "Tee S", "Nord", "shirt", 12.5, 9.0, "in_stock"),
    ]
    assert "not a day: '31.01.2020'" in warnings_of(tmp_path)


@pytest.mark.parametrize(
    ("names", "doubted"),
    [
        (("Men, Shoes, Sneakers", "Men, Shoes, Boots", "Home"), "Men, Shoes, Sneakers"),
        (("Clothing, Shoes and Jewelry", "Arts, Crafts and Sewing", "Books", "Clothing, Shoes and Jewelry"), None),
        (("Men > Shoes, boots", "Men > Shoes, sneakers"), None),
        (("Men, Shoes", "Men, Boots", *(f"Kind {n}" for n in range(9))), None),
    ],
)
def test_categories_that_may_be_lists_are_told(names: Sequence[str], doubted: str | None, tmp_path: Path) -> None:
    text = csv_of("id,title,category", *(f'{n},Thing,"{name}"' for n, name in enumerate(names)))
    report = import_catalog(put(tmp_path / "c.csv", text), tmp_path / "out")
    found = [line for line in report.warnings if "taken for one name each" in line]
    assert len(found) == (doubted is not None) and all(repr(doubted) in line for line in found)


def test_stock_and_price_inside_details_are_no_attributes(tmp_path: Path) -> None:
    details = '{""Price"": 9, ""in_stock"": true, ""stock-status"": ""few"", ""Fit"": ""Slim"", ""Quantity"": ""6""}'
    [item], _ = imported(put(tmp_path / "shop.csv", csv_of("id,title,details", f'1,Tee,"{details}"')))
    assert item.attributes == {"Fit": "Slim", "Quantity": "6"}
    assert warnings_of(tmp_path).count('"sold"') == 3


def address(number: int) -> str:
    return f"/m/{number % 4}.jpg"


EXPORTS = {
    "shopify.csv": shops.shopify,
    "woocommerce.csv": shops.woocommerce,
    "magento.csv": shops.magento,
    "google.txt": shops.google,
    "amazon.txt": shops.amazon,
}


@pytest.mark.parametrize("name", EXPORTS)
def test_another_stock_and_price_is_nothing_that_a_model_sees(name: str, tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path / f"m/{number}.jpg", jpeg(number) + bytes([number]))
    drawn = draw(8, address)[:60]

    def sold_otherwise(one: Wanted) -> Wanted:
        stock, price = {"in_stock": "out_of_stock"}.get(one.stock or "", "in_stock"), round((one.price or 0) + 7, 2)
        return replace(one, stock=stock, price=price, sale=None, variants=tuple(map(sold_otherwise, one.variants)))

    seen = list[dict[str, str]]()
    sold = list[list[tuple[object, ...]]]()
    for day, products in enumerate((drawn, [sold_otherwise(one) for one in drawn])):
        text = EXPORTS[name](products).replace("https://", "")
        items, _ = imported(put(tmp_path / str(day) / name, text), root=tmp_path)
        assert any(item.pictures for item in items)
        seen.append({item.id: seen_of(item, Prompt()) for item in items})
        sold.append([(item.price, item.availability) for item in items])
    assert seen[0] == seen[1] and all(one != other for one, other in zip(*sold, strict=True))
