"""A drawn export of 2,000 products in the format of each shop: every item, field by field, is what was drawn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shop_exports as shops
from reading import imported, jpeg, put
from shop_exports import COUNT, Wanted, draw, google_items, grouped, joined

from tgqformer.catalog import Catalog, ImportReport, Item, import_catalog
from tgqformer.catalog.readers import BY_DAY, choose_reader
from tgqformer.catalog.readers.base import FileReader
from tgqformer.errors import TgqError


def address(number: int) -> str:
    return f"https://cdn.s.test/files/{number}.jpg?v={number % 3}"


def local(number: int) -> str:
    return f"/m/{number % 10}/mb{number % 40}.jpg"


Told = tuple[object, ...]


def told(item: Item) -> Told:
    own = (item.id, item.title, item.brand, item.category, item.price, item.sale_price, item.availability)
    return (*own, item.item_group, dict(item.attributes))


def meant(one: Wanted) -> Told:
    own = (one.id, one.title, one.brand or None, one.category, one.price, one.sale, one.stock)
    return (*own, one.group or None, one.options)


def check(tmp_path: Path, text: str, name: str, reader: str, wanted: list[Wanted], bad: int = 0) -> ImportReport:
    file = put(tmp_path / name, text)
    assert choose_reader(file).name == reader
    report = import_catalog(file, tmp_path / "out", root=tmp_path)
    catalog = Catalog.open(tmp_path / "out")
    found = {item.id: told(item) for item in catalog.items()}
    assert found == {one.id: meant(one) for one in wanted}
    assert (report.items, report.rejected, report.rows) == (len(wanted), bad, len(wanted) + bad)
    counts = {"title": len(wanted), "brand": sum(bool(one.brand) for one in wanted)}
    counts |= {"category": sum(bool(one.category) for one in wanted), "price": len(wanted)}
    counts |= {"sale_price": sum(one.sale is not None for one in wanted)}
    counts |= {"availability": sum(one.stock is not None for one in wanted)}
    counts |= {"item_group": sum(bool(one.group) for one in wanted)}
    assert {field: report.filled[field] for field in counts} == counts
    return report


def addresses(tmp_path: Path) -> dict[str, list[str]]:
    lines = map(json.loads, (tmp_path / "out/addresses.jsonl").read_text().splitlines())
    return {line["id"]: line["addresses"] for line in lines}


def pictured(wanted: list[Wanted]) -> dict[str, list[str]]:
    return {one.id: list(one.pictures) for one in wanted if one.pictures}


def spoilt(text: str, delimiter: str = ",") -> str:
    """Two rows more that are none: too short, and without an id."""
    width = text.partition("\r\n")[0].count(delimiter) if delimiter == "," else 0
    return text + "lonely\r\n" + (f"{delimiter * width}x\r\n" if width else "")


def test_shopify(tmp_path: Path) -> None:
    drawn = draw(1, address)
    wanted = [joined(one) for one in drawn]
    report = check(tmp_path, spoilt(shops.shopify(drawn)), "products.csv", "shopify", wanted, 2)
    assert {name: set(found) for name, found in addresses(tmp_path).items()} == {
        name: set(found) for name, found in pictured(wanted).items()
    }
    assert report.problems["inactive"] == sum(not one.active for one in drawn) + 1  # the row without an id


def test_woocommerce(tmp_path: Path) -> None:
    drawn = draw(2, address)
    wanted = [joined(one) for one in drawn]
    report = check(tmp_path, spoilt(shops.woocommerce(drawn)), "wc.csv", "woocommerce", wanted, 2)
    assert addresses(tmp_path) == pictured(wanted)
    assert report.problems["inactive"] == sum(not one.active for one in drawn)


FEW = 200  # products of further forms of an export


@pytest.mark.parametrize(("day", "count"), [("%m/%d/%y", COUNT), ("%d.%m.%y", FEW), ("%Y-%m-%d", FEW)])
def test_magento(tmp_path: Path, day: str, count: int) -> None:
    drawn = draw(3, local)[:count]
    for number in range(40):
        for folder in range(10):
            put(tmp_path / f"m/{folder}/mb{number}.jpg", jpeg(number) + bytes([number]))

    def as_there(one: Wanted) -> Wanted:
        options = {name.lower(): value for name, value in one.options.items()} | {"activity": "Gym; Hiking, far"}
        group = one.group if "Size" in one.options else ""
        return replace(one, options=options, category=one.category or ("Top",), group=group)

    wanted = [as_there(one) for one in grouped(drawn)]
    report = check(tmp_path, spoilt(shops.magento(drawn, day)), "catalog_product.csv", "magento", wanted, 2)
    catalog = Catalog.open(tmp_path / "out")
    named = {item.id: [picture.path for picture in item.pictures] for item in catalog.items()}
    assert {name: len(paths) for name, paths in named.items()} == {
        one.id: len({picture.rpartition("/mb")[2] for picture in one.pictures}) for one in wanted
    }
    assert {item.created for item in catalog.items()} == {"2024-02-29"}
    assert report.problems["inactive"] == sum(not one.active for one in wanted)
    assert report.problems["picture-missing"] == 0


@pytest.mark.parametrize(("form", "count"), [("table", COUNT), ("spaces", FEW), ("rss", COUNT), ("atom", FEW)])
def test_google_merchant(tmp_path: Path, form: str, count: int) -> None:
    drawn = draw(4, address)[:count]

    def as_there(one: Wanted) -> Wanted:
        return replace(one, options={name.lower(): value for name, value in one.options.items()} | {"Fit": "Slim"})

    wanted = [as_there(one) for one in google_items(drawn)]
    xml = form in ("rss", "atom")
    text = shops.google_xml(drawn, form == "atom") if xml else shops.google(drawn, form == "spaces") + "lonely\r\n"
    check(tmp_path, text, "feed.xml" if xml else "feed.txt", "google-merchant", wanted, 0 if xml else 1)
    assert addresses(tmp_path) == pictured(wanted)
    assert {item.currency for item in Catalog.open(tmp_path / "out").items()} == {"EUR"}


@pytest.mark.parametrize(("headers", "count"), [(3, COUNT), (2, FEW)])
def test_amazon_flat_file(tmp_path: Path, headers: int, count: int) -> None:
    drawn = draw(5, address)[:count]

    def number(one: Wanted) -> Wanted:  # what is on backorder has none in such a file
        return replace(one, stock=None if one.stock == "backorder" else one.stock)

    def as_there(one: Wanted) -> Wanted:
        options = {name.lower(): value for name, value in one.options.items()}
        return replace(one, options=options, group=one.group if "size" in options else "", category=one.category[:2])

    several = [replace(number(one), variants=tuple(map(number, one.variants))) for one in drawn]
    wanted = list(map(as_there, grouped(several)))
    text = shops.amazon(drawn, headers) + "lonely\r\n"
    report = check(tmp_path, text, "Flat.File.Clothing.txt", "amazon-flat-file", wanted, 1)
    assert addresses(tmp_path) == pictured(wanted)
    assert report.problems["inactive"] == sum(not one.active for one in wanted)


NEWEST = "\t".join(
    (
        "contribution_sku#1.value",
        "product_type#1.value",
        "item_name[marketplace_id=A1F83G8C2ARO7P][language_tag=en_GB]#1.value",
        "brand[marketplace_id=A1F83G8C2ARO7P][language_tag=en_GB]#1.value",
        "parentage_level[marketplace_id=A1F83G8C2ARO7P]#1.value",
        "child_parent_sku_relationship[marketplace_id=A1F83G8C2ARO7P]#1.parent_sku",
        "fulfillment_availability#1.quantity",
        "purchasable_offer[marketplace_id=A1F83G8C2ARO7P][audience=ALL]#1.our_price#1.schedule#1.value_with_tax",
        "list_price[marketplace_id=A1F83G8C2ARO7P]#1.currency",
        "main_product_image_locator[marketplace_id=A1F83G8C2ARO7P]#1.media_location",
        "other_product_image_locator_1[marketplace_id=A1F83G8C2ARO7P]#1.media_location",
        "color[marketplace_id=A1F83G8C2ARO7P][language_tag=en_GB]#1.value",
    )
)


def test_the_newest_template_of_amazon_has_five_header_rows(tmp_path: Path) -> None:
    heads = [
        "settings=attributeRow=5&dataRow=6",
        "Please fill in",
        "Listing identity\tOffer",
        "SKU\tProduct Type\tItem Name",
    ]
    data = "TEE\tSHIRT\tTee\tAcme\tParent\t\t\t\t\t\t\t\nTEE-S\tSHIRT\tTee S\t\tChild\tTEE\t3\t12.50\tGBP"
    data += "\thttps://c.test/a.jpg\thttps://c.test/b.jpg\tred\nMUG\tMUG\tMug\tAcme\t\t\t0\t5.00\tGBP\t\t\t\n"
    items, _ = imported(put(tmp_path / "listing.txt", "\n".join([*heads, NEWEST, data])))
    assert [(*told(item)[:4], item.price, item.availability, item.item_group, item.currency) for item in items] == [
        ("TEE-S", "Tee S", "Acme", ("SHIRT",), 12.5, "in_stock", "TEE", "GBP"),
        ("TEE", "Tee", "Acme", ("SHIRT",), 12.5, "in_stock", "TEE", None),
        ("MUG", "Mug", "Acme", ("MUG",), 5.0, "out_of_stock", None, "GBP"),
    ]
    lines = (tmp_path / "imported/addresses.jsonl").read_text().splitlines()
    assert [json.loads(line)["addresses"] for line in lines] == [
        ["https://c.test/a.jpg", "https://c.test/b.jpg"],
        ["https://c.test/a.jpg"],
    ]


def test_a_listing_report_of_amazon(tmp_path: Path) -> None:
    text = "item-name\titem-description\tlisting-id\tseller-sku\tprice\tquantity\topen-date\timage-url\tasin1\tstatus\n"
    text += "Mug, red\tSoft\tL1\tM-1\t9.50\t4\t2019-03-14 08:43:12 PDT\t\tB01\tActive\n"
    text += "Cap\t\tL2\tC-1\t5\t0\t\t\tB02\tInactive\n"
    items, catalog = imported(put(tmp_path / "All Listings.txt", text))
    assert [(item.id, item.title, item.price, item.availability, item.created) for item in items] == [
        ("M-1", "Mug, red", 9.5, "in_stock", "2019-03-14"),
        ("C-1", "Cap", 5.0, "out_of_stock", None),
    ]
    assert catalog.about["reader"] == "amazon-flat-file"
    assert "its status is inactive" in (catalog.path / "warnings.jsonl").read_text()


def test_magento_in_awkward_cases(tmp_path: Path) -> None:
    names = (
        "sku,store_view_code,attribute_set_code,product_type,categories,name,price,special_price,special_price_to_date,"
    )
    names += "product_online,base_image,additional_attributes,qty,is_in_stock,manage_stock,"
    names += "use_config_manage_stock,configurable_variations,brand"
    rows = [
        'A,,Default,simple,"Root/A\\/B,Root/A\\/B/C,Root/Z",A,10,8,,1,no_selection,'
        '"size=5, or 6,color=Red|Blue,""note=a ""quoted"" word"""'
        ",0,1,0,0,,",
        "A,de,,simple,,Ah,,,,,,,,,,,,",
        "B,fr,,simple,,Bé,3,,,,,,,,,,,",
        "B,,Bag,simple,,,3,2,1/31/20,2,,manufacturer=Nord,-1,0,1,1,,",
        "C,,Bag,grouped,,Set,,,,1,,,0,1,1,1,,",
        'D,,Bag,configurable,,Dee,,,,1,,,0,1,1,1,"sku=D-1,size=S|sku=D-9,size=M",Acme',
        "D-1,,Bag,simple,,,7,,,1,,,2,1,1,1,,",
        "D,,Bag,configurable,,Again,,,,1,,,0,1,1,1,,",
    ]
    options = {"size": "5, or 6", "color": "Red; Blue", "note": 'a "quoted" word'}
    items, catalog = imported(put(tmp_path / "export.csv", "\n".join([names, *rows, ""])))
    assert [told(item) for item in items] == [
        (
            "A",
            "A",
            None,
            ("A/B", "C"),
            10.0,
            8.0,
            "in_stock",
            None,
            options,
        ),
        ("B", "Bé", "Nord", ("Bag",), 3.0, None, "out_of_stock", None, {}),
        ("C", "Set", None, ("Bag",), None, None, "in_stock", None, {}),
        ("D-1", "Dee", "Acme", ("Bag",), 7.0, None, "in_stock", "D", {"size": "S"}),
        ("D", "Dee", "Acme", ("Bag",), 7.0, None, "in_stock", "D", {"size": "S; M"}),
    ]
    told_of = (catalog.path / "warnings.jsonl").read_text() + (catalog.path / "rejects.jsonl").read_text()
    assert "it is disabled" in told_of and "2 categories" in told_of and "'D' stands in an earlier row" in told_of


EXPORTS = {
    "shopify": ("a.csv", shops.shopify),
    "woocommerce": ("a.csv", shops.woocommerce),
    "magento": ("a.csv", shops.magento),
    "google-merchant": ("a.txt", shops.google),
    "amazon-flat-file": ("a.txt", shops.amazon),
}
DRAWN = draw(6, address)[:30]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, a piece taken out, or the end cut off."""
    start, stop = sorted(rng.integers(0, len(data), 2).tolist())
    changed = bytearray(data)
    for place in rng.integers(0, len(data), 30):
        changed[place] ^= 1 << int(rng.integers(8))
    return (bytes(changed), data[:start] + data[stop:], data[:start])[int(rng.integers(3))]


@pytest.mark.parametrize("platform", EXPORTS)
def test_damaged_exports_and_those_of_others_lose_no_row(platform: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    name, write = EXPORTS[platform]
    whole = write(DRAWN).encode()
    sources = [(damaged(whole, rng), None if turn % 2 else platform) for turn in range(16)]
    sources += [(whole, other) for other in EXPORTS]
    for turn, (data, reader) in enumerate(sources):
        file = put(tmp_path / str(turn) / name, data)
        try:
            report = import_catalog(file, tmp_path / str(turn) / "out", reader=reader)
        except TgqError:
            continue  # told, and nothing is written
        assert report.rows == report.items + report.rejected and report.items


def test_readers_that_ask_for_the_day_are_known() -> None:
    readers = [name for name in sys.modules if name.startswith("tgqformer.catalog.readers.")]
    asking = {name for name in readers if hasattr(sys.modules[name], "holds_today")}
    known = {reader.read.__module__ for reader in BY_DAY if isinstance(reader, FileReader)}
    assert known == asking - {"tgqformer.catalog.readers.products"}
