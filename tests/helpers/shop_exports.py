"""Exports of 2,000 products in the formats of shops, drawn with their awkward cases, and the items they must become."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

COUNT = 2000
TITLES = ("Tee", 'Frame 8" x 10"', "Mug, red", "Café tray", "Bag & strap", "Hat — wool", "Ünder;cover", "Tasse 茶")
BRANDS = ("Acme", "Nör'd", "O, P & Q", "")
TREES = (("Clothes", "Shirts"), ("Home", "Mugs, cups"), ("Clothes", "Men/Boys", "Hats"), ())
STOCKS = ("in_stock", "out_of_stock", "backorder")
TODAY = datetime.now(UTC).date()
PAST, SOON = TODAY - timedelta(20), TODAY + timedelta(20)


@dataclass(frozen=True)
class Wanted:
    """What an item must be; pictures: addresses, or names of files."""

    id: str
    title: str
    brand: str = ""
    category: tuple[str, ...] = ()
    price: float | None = None
    sale: float | None = None
    stock: str | None = None
    group: str = ""
    options: dict[str, str] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    variants: tuple[Wanted, ...] = ()
    active: bool = True
    ended: bool = False  # a lower price stands in the export, but not on this day

    @property
    def now(self) -> str:
        return "" if self.price is None else f"{self.sale or self.price * (0.5 if self.ended else 1):.2f}"


def draw(seed: int, picture: Callable[[int], str]) -> list[Wanted]:
    """Draw products; every third has one to four variants, which differ in size, price and stock."""
    luck = random.Random(seed)
    found = []
    for n in range(COUNT):
        title = f"{TITLES[n % len(TITLES)]} {n}"
        price = luck.randrange(500, 90_000) / 100
        sale = luck.random() < 0.25
        one = Wanted(
            id=f"p-{n}",
            title=title,
            brand=luck.choice(BRANDS),
            category=luck.choice(TREES),
            price=price,
            sale=round(price * 0.8, 2) if sale else None,
            stock=luck.choice(STOCKS),
            group=f"p-{n}",
            options={"Color": luck.choice(("red", "deep blue"))} if luck.random() < 0.7 else {},
            pictures=tuple(picture(10 * n + k) for k in range(luck.randrange(4))),
            active=luck.random() < 0.9,
            ended=not sale and luck.random() < 0.1,
        )
        sizes = ("S", "M", "L", "XL")[: luck.randrange(1, 5)] if n % 3 == 0 else ()
        variants = tuple(
            replace(
                one,
                id=f"p-{n}-{size}",
                title=f"{title} {size}",
                stock=luck.choice(STOCKS),
                options={**one.options, "Size": size},
                pictures=one.pictures[:1] or (picture(10 * n + 5),),
            )
            for size in sizes
        )
        found.append(replace(one, variants=variants))
    return found


def best(stocks: Iterable[str | None]) -> str | None:
    there = set(stocks)
    return next((name for name in ("in_stock", "backorder", "out_of_stock") if name in there), None)


def joined(one: Wanted) -> Wanted:
    """A product whose variants are no items: their pictures, sizes and stock are its own."""
    if not one.variants:
        return one
    pictures = dict.fromkeys([*one.pictures, *(name for other in one.variants for name in other.pictures)])
    sizes = "; ".join(other.options["Size"] for other in one.variants)
    options = {**one.options, "Size": sizes}
    return replace(one, pictures=tuple(pictures), options=options, stock=best(other.stock for other in one.variants))


def grouped(drawn: Iterable[Wanted]) -> list[Wanted]:
    """Products and variants as items; a parent has its variants' stock and sizes, and at need their pictures."""
    found = []
    for one in drawn:
        own = joined(one)
        pictures = one.pictures or tuple(dict.fromkeys(other.pictures[0] for other in one.variants))
        found += [replace(own, pictures=pictures), *one.variants]
    return found


def table(names: str, rows: Iterable[dict[str, object]], delimiter: str = ",", head: str = "") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names.split("|"), restval="", delimiter=delimiter, lineterminator="\r\n")
    text.write(head)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def shopify(drawn: list[Wanted]) -> str:
    names = (
        "Handle|Title|Body (HTML)|Vendor|Product Category|Type|Tags|Published|Option1 Name|Option1 Value|Variant SKU|"
        "Variant Inventory Tracker|Variant Inventory Qty|Variant Inventory Policy|Variant Price|"
        "Variant Compare At Price|Image Src|Image Position|Variant Image|Color (product.metafields.custom.color)|Status"
    )
    return table(names, (row for one in drawn for row in _shopify(one)))


def _shopify(one: Wanted) -> Iterable[dict[str, object]]:
    rows: list[dict[str, object]] = [{} for _ in range(max(1, len(one.variants), len(one.pictures)))]
    tree = " > ".join(one.category)
    rows[0] |= {
        "Title": one.title,
        "Body (HTML)": '<p class="a">Soft,\n<b>warm</b></p>',
        "Vendor": one.brand,
        "Tags": "a, b",
        "Product Category" if len(one.category) == 2 else "Type": tree,
        "Published": "true",
        "Option1 Name": "Size" if one.variants else "Title",
        "Status": "active" if one.active else "draft",
        "Color (product.metafields.custom.color)": one.options.get("Color", ""),
    }
    for row, sold in zip(rows, one.variants or (one,), strict=False):
        low = sold.sale is not None
        row |= {
            "Option1 Value": sold.options["Size"] if one.variants else "Default Title",
            "Variant SKU": f"'{sold.id}",
            "Variant Inventory Tracker": "shopify",
            "Variant Inventory Qty": 3 if sold.stock == "in_stock" else -1,
            "Variant Inventory Policy": "continue" if sold.stock == "backorder" else "deny",
            "Variant Price": f"{sold.sale or sold.price:.2f}",
            "Variant Compare At Price": f"{sold.price:.2f}" if low else "",
            "Variant Image": (sold.pictures or ("",))[0],
        }
    for place, (row, picture) in enumerate(zip(rows, one.pictures, strict=False), 1):
        row |= {"Image Src": picture, "Image Position": place}
    return ({"Handle": one.id, **row} for row in rows)


def woocommerce(drawn: list[Wanted]) -> str:
    names = (
        "ID|Type|SKU|Name|Published|Is featured?|Visibility in catalog|Short description|Description|"
        "Date sale price starts|Date sale price ends|In stock?|Stock|Backorders allowed?|Sale price|Regular price|"
        "Categories|Tags|Images|Parent|Position|Brands|Attribute 1 name|Attribute 1 value(s)|Attribute 2 name|"
        "Attribute 2 value(s)|Meta: _color"
    )
    rows, late = list[dict[str, object]](), list[dict[str, object]]()
    for n, one in enumerate(drawn):
        kind = "variable" if one.variants else "simple, virtual" if n % 7 == 0 else "simple"
        rows.append(_woo(one, 10 * n, kind))
        late += [
            {**_woo(other, 10 * n + k, "variation"), "Parent": one.id if n % 2 else f"id:{10 * n}"}
            for k, other in enumerate(one.variants, 1)
        ]
        if n % 5 == 4:  # in the order of their ids, variations stand behind other products
            rows, late = rows + late, []
    return "\ufeff" + table(names, rows + late)


def _woo(one: Wanted, number: int, kind: str) -> dict[str, object]:
    tree = " > ".join(level.replace(",", "\\,") for level in one.category)
    priced = kind != "variable"
    attributes = dict(one.options)
    if one.variants:
        attributes["Size"] = ", ".join(other.options["Size"] for other in one.variants)
    return {
        "ID": number,
        "Type": kind,
        "SKU": one.id,
        "Name": one.title,
        "Published": 1 if one.active else -1,
        "Description": '<p>Soft,\nwarm; "new"</p>',
        "Meta: _color": "x",
        "Visibility in catalog": "visible",
        "Date sale price starts": PAST if one.sale and number % 20 else "",
        "Date sale price ends": f"{PAST if one.ended else SOON} 00:00:00" if one.ended or number % 30 else "",
        "In stock?": "" if one.variants else int(one.stock == "in_stock" or number % 40 == 0),
        "Stock": "" if one.variants else {"in_stock": 4, "out_of_stock": 0, "backorder": -2}[one.stock or ""],
        "Backorders allowed?": "notify" if one.stock == "backorder" else 0,
        "Sale price": one.now if priced and (one.sale or one.ended) else "",
        "Regular price": f"{one.price:.2f}" if priced else "",
        "Brands": one.brand.replace(",", "\\,"),
        "Categories": f"{tree}, Sale" if tree else "",
        "Images": ", ".join(one.pictures),
        **{f"Attribute {k} name": name for k, name in enumerate(attributes, 1)},
        **{f"Attribute {k} value(s)": value for k, value in enumerate(attributes.values(), 1)},
    }


def magento(drawn: list[Wanted], day: str = "%m/%d/%y") -> str:
    names = (
        "sku|store_view_code|attribute_set_code|product_type|categories|product_websites|name|description|"
        "product_online|visibility|price|special_price|special_price_from_date|special_price_to_date|"
        "base_image|small_image|thumbnail_image|created_at|additional_attributes|qty|allow_backorders|"
        "is_in_stock|manage_stock|use_config_manage_stock|additional_images|configurable_variations|"
        "configurable_variation_labels"
    )
    rows = list[dict[str, object]]()
    for n, one in enumerate(drawn):
        own = _magento(one, day, "configurable" if one.variants else ("simple", "virtual")[n % 2])
        own["configurable_variations"] = "|".join(
            f"sku={other.id},size={other.options['Size']}" for other in one.variants
        )
        variants = [_magento(other, day, "simple") for other in one.variants]
        rows += [own, *variants] if n % 2 else [*variants, own]
        view = {
            "sku": one.id,
            "store_view_code": "german",
            "product_type": own["product_type"],
            "name": f"DE {one.title}",
        }
        rows += [view] if n % 2 == 0 and n % 4 == 0 else []
    return table(names, rows)


def _magento(one: Wanted, day: str, kind: str) -> dict[str, object]:
    levels = ["Default Category", *(level.replace("/", "\\/").replace(",", "\\,") for level in one.category)]
    paths = ["/".join(levels[: k + 1]) for k in range(1, len(levels))]
    more = {"color": one.options.get("Color"), "size": one.options.get("Size"), "manufacturer": one.brand}
    more |= {"activity": "Gym|Hiking, far", "empty": "__EMPTY__VALUE__"}
    sold = kind != "configurable"
    return {
        "sku": one.id,
        "attribute_set_code": "Top",
        "product_type": kind,
        "categories": ",".join(paths),
        "product_websites": "base",
        "name": one.title,
        "description": "<p>Soft,\nwarm</p>",
        "product_online": 1 if one.active else 2,
        "visibility": "Catalog, Search",
        "price": f"{one.price:.4f}" if sold else "",
        "special_price": one.now if sold and (one.sale or one.ended) else "",
        "special_price_from_date": PAST.strftime(day),
        "created_at": f"{datetime(2024, 2, 29).strftime(day)}, 8:43 PM",
        "special_price_to_date": (PAST if one.ended else SOON).strftime(day),
        "base_image": (one.pictures or ("no_selection",))[0],
        "small_image": (one.pictures or ("no_selection",))[0],
        "additional_images": ",".join(one.pictures),
        "use_config_manage_stock": 1,
        "manage_stock": 1,
        "additional_attributes": ",".join(f"{name}={value}" for name, value in more.items() if value),
        "qty": {"in_stock": "7.0000", "out_of_stock": "0.0000", "backorder": "-1.0000"}[one.stock or ""]
        if sold
        else "0",
        "allow_backorders": int(one.stock == "backorder"),
        "is_in_stock": int(one.stock != "out_of_stock" or not sold),
    }


def google_items(drawn: list[Wanted]) -> list[Wanted]:
    """Each variant is an item; a product with variants is none."""
    return [other for one in drawn for other in (one.variants or (one,))]


def google(drawn: list[Wanted], spaces: bool = False) -> str:
    names = (
        "id|title|description|link|image_link|additional_image_link|availability|price|sale_price|"
        "sale_price_effective_date|brand|google_product_category|product_type|item_group_id|color|size|"
        "condition|shipping|product_detail"
    )
    rows = ({**_google(one), "additional_image_link": ",".join(one.pictures[1:])} for one in google_items(drawn))
    written = table(names, rows, "\t")
    head, _, rest = written.partition("\r\n")
    return (head.replace("_", " ") if spaces else head) + "\r\n" + rest


def _google(one: Wanted) -> dict[str, str]:
    stock = {"in_stock": "in stock", "out_of_stock": "out_of_stock", "backorder": "backorder"}[one.stock or ""]
    days = f"{PAST}T13:00-0800/{PAST if one.ended else SOON}T15:30-0800"
    return {
        "id": one.id,
        "title": one.title,
        "description": "Soft, warm",
        "link": f"https://s.test/{one.id}",
        "image_link": (one.pictures or ("",))[0],
        "availability": stock,
        "price": f"{one.price:.2f} EUR",
        "sale_price": f"{one.now} EUR" if one.sale or one.ended else "",
        "sale_price_effective_date": days,
        "brand": one.brand,
        "google_product_category": "2271",
        "product_type": " > ".join(one.category),
        "item_group_id": one.group,
        "color": one.options.get("Color", ""),
        "size": one.options.get("Size", ""),
        "condition": "new",
        "shipping": "US::Standard:6.49 USD",
        "product_detail": "General:Fit:Slim",
    }


def google_xml(drawn: list[Wanted], atom: bool) -> str:
    item, around = ("entry", "feed") if atom else ("item", "channel")
    parts = ["<title>All</title>"]
    for one in google_items(drawn):
        told = {
            name: value for name, value in _google(one).items() if value and name not in ("shipping", "product_detail")
        }
        body = "".join(f"<g:{name}>{escape(value)}</g:{name}>" for name, value in told.items())
        body += f"<id>tag:s.test,{one.id}</id><title><![CDATA[Page of {one.title}]]></title>"
        body += "".join(
            f"<g:additional_image_link>{escape(name)}</g:additional_image_link>" for name in one.pictures[1:]
        )
        body += "<g:shipping><g:country>US</g:country><g:price>6.49 USD</g:price></g:shipping><g:product_detail>"
        body += "<g:attribute_name>Fit</g:attribute_name><g:attribute_value>Slim</g:attribute_value></g:product_detail>"
        parts.append(f"<{item}>{body}</{item}>")
    body = f"<{around}>{' '.join(parts)}</{around}>"
    space = 'xmlns:g="http://base.google.com/ns/1.0"'
    whole = body.replace("<feed>", f'<feed xmlns="http://www.w3.org/2005/Atom" {space}>')
    return f'<?xml version="1.0"?>\n{whole if atom else f"<rss version={chr(34)}2.0{chr(34)} {space}>{whole}</rss>"}'


_LABELS = (
    "Product Type|Seller SKU|Brand Name|Product Name|Product ID|Standard Price|Quantity|Main Image URL|"
    "Other Image URL1|Other Image URL2|Parentage|Parent SKU|Relationship Type|Variation Theme|Item Type Keyword|"
    "Sale Price|Sale Start Date|Sale End Date|Currency|Color|Size|Update Delete|Key Product Features"
)
_URLS = ("main_image_url", "other_image_url1", "other_image_url2")


def amazon(drawn: list[Wanted], headers: int = 3) -> str:
    names = (
        "feed_product_type|item_sku|brand_name|item_name|external_product_id|standard_price|quantity|"
        "main_image_url|other_image_url1|other_image_url2|parent_child|parent_sku|relationship_type|"
        "variation_theme|item_type|sale_price|sale_from_date|sale_end_date|currency|color_name|size_name|"
        "update_delete|bullet_point1"
    )
    rows = [row for one in drawn for row in _amazon(one)]
    settings = "TemplateType=fptcustom\tVersion=2021.1014\tThis row is for Amazon.com use only." + "\t" * 20 + "\r\n"
    labels = _LABELS.replace("|", "\t") + "\r\n"
    return table(names, rows, "\t", settings + (labels if headers == 3 else ""))


def _amazon(one: Wanted) -> Iterable[dict[str, object]]:
    for sold in (one, *one.variants):
        parent = bool(one.variants) and sold is one
        more = dict(zip(_URLS, sold.pictures, strict=False))
        number = {"in_stock": 5, "out_of_stock": 0}.get(sold.stock or "", "")
        yield {
            "feed_product_type": (sold.category or ("",))[0],
            "item_type": (*sold.category, "", "")[1],
            **more,
            "item_sku": sold.id,
            "brand_name": sold.brand,
            "item_name": sold.title,
            "bullet_point1": "Soft, warm",
            "standard_price": "" if parent else f"{sold.price:.2f}",
            "quantity": "" if parent else number,
            "parent_child": ("parent" if parent else "child") if one.variants else "",
            "parent_sku": one.id if one.variants and not parent else "",
            "variation_theme": "SizeColor",
            "relationship_type": "variation" if one.variants else "",
            "currency": "" if parent else "USD",
            "sale_price": "" if parent or not (sold.sale or sold.ended) else sold.now,
            "sale_from_date": PAST,
            "sale_end_date": PAST if sold.ended else SOON,
            "color_name": sold.options.get("Color", ""),
            "size_name": "" if parent else sold.options.get("Size", ""),
            "update_delete": "Update" if sold.active else "Delete",
        }
