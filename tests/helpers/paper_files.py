"""Miniature files in exactly the layouts of Amazon Reviews 2018 and 2023, and of H&M's files on Kaggle."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

from PIL import Image

ITEMS = 24
NEAR = (1, 2, 3, 5, 7)
"""Item i goes together with item i + each of these, around the circle."""
COLOURS, KINDS = ("red", "blue", "green"), ("shirt", "shoe", "bag", "hat")
PHOTO = "https://images-na.ssl-images-amazon.com/images/I/{}"


def photo(path: Path, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 40), (10 * at % 256, 90 * (at % 3), 60 * (at % 4))).save(path)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def asin(at: int) -> str:
    return f"B00{at:07d}"


def title(at: int) -> str:
    return f"{COLOURS[at % 3].title()} {KINDS[at % 4].title()}"


def near(at: int) -> list[int]:
    return [(at + step) % ITEMS for step in NEAR]


def write_amazon_2018(folder: Path) -> None:
    """Metadata with co-purchase lists, reviews, and the photos under the names of their addresses."""
    meta, reviews = [], []
    for at in range(ITEMS):
        also = [asin(other) for other in near(at)]
        file = f"{at}Abc"
        photo(folder / f"images/{file}.jpg", at)
        meta.append(
            {
                "category": ["Clothing, Shoes & Jewelry", "Women", KINDS[at % 4].title()],
                "tech1": "",
                "description": [f"<b>{title(at)}</b> of cotton"],
                "fit": "",
                "title": f"{title(at)} &amp; more",
                "also_buy": [*also[:3], "B00ELSEWHR"],
                "tech2": "",
                "brand": "Acme",
                "feature": ["Cotton", "Imported"],
                "rank": "19,963,069inClothing,ShoesJewelry(",
                "also_view": also[3:],
                "details": {"\n    Item model number:\n    ": f"N-{at}"},
                "main_cat": "Clothing, Shoes &amp; Jewelry",
                "similar_item": "",
                "date": "5 star5 star (0%)",
                "price": "$24.99",
                "asin": asin(at),
                "imageURL": [PHOTO.format(f"{file}._SX38_SY50_CR,0,0,38,50_.jpg")],
                "imageURLHighRes": [PHOTO.format(f"{file}.jpg")],
            }
        )
        for other in near(at):
            for twice in range(2):
                user, time = f"A{at:04d}{other:04d}{twice}", 1_514_764_800 + 86_400 * at
                shared = {"overall": 5.0, "vote": "2", "verified": True, "reviewTime": "01 1, 2018", "reviewerID": user}
                said = {
                    "style": {"Size:": " Large"},
                    "reviewerName": "Ann",
                    "reviewText": "Nice, I see",
                    "summary": "!",
                }
                reviews += [{**shared, "asin": asin(one), **said, "unixReviewTime": time} for one in (at, other)]
    lines(folder / "meta_Clothing_Shoes_and_Jewelry.json.gz", meta)
    lines(folder / "Clothing_Shoes_and_Jewelry_5.json.gz", reviews)


def write_amazon_2023(folder: Path) -> None:
    """Metadata and reviews by parent_asin, and the photos under the names of their addresses."""
    meta, reviews = [], []
    for at in range(ITEMS):
        file = f"{at}Xyz"
        photo(folder / f"images/{file}._AC_UL1500_.jpg", at)
        image = {"thumb": PHOTO.format(f"{file}._AC_SR38,50_.jpg"), "large": PHOTO.format(f"{file}._AC_.jpg")}
        image |= {"variant": "MAIN", "hi_res": PHOTO.format(f"{file}._AC_UL1500_.jpg")}
        meta.append(
            {
                "main_category": "AMAZON FASHION",
                "title": title(at),
                "average_rating": 4.3,
                "rating_number": 5,
                "features": ["Cotton"],
                "description": [],
                "price": 18.99 if at % 2 else None,
                "images": [image],
                "videos": [],
                "store": "Acme",
                "categories": ["Clothing, Shoes & Jewelry", "Women", KINDS[at % 4].title()],
                "details": {"Department": "womens", "Date First Available": "May 1, 2020"},
                "parent_asin": asin(at),
                "bought_together": None,
            }
        )
        for other in near(at):
            for twice in range(2):
                user, time = f"AE{at:04d}{other:04d}{twice}", 1_588_687_728_923 + 86_400_000 * at
                said = {"rating": 5.0, "title": "Nice", "text": "It fits, I see", "images": [], "helpful_vote": 0}
                reviews += [
                    {**said, "asin": f"{asin(one)[:-1]}V", "parent_asin": asin(one), "user_id": user, "timestamp": time}
                    | {"verified_purchase": True}
                    for one in (at, other)
                ]
    lines(folder / "meta_Clothing_Shoes_and_Jewelry.jsonl.gz", meta)
    lines(folder / "Clothing_Shoes_and_Jewelry.jsonl.gz", reviews)


HM = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,graphical_appearance_no,"
    "graphical_appearance_name,colour_group_code,colour_group_name,perceived_colour_value_id,"
    "perceived_colour_value_name,perceived_colour_master_id,perceived_colour_master_name,department_no,department_name,"
    "index_code,index_name,index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)


def article(at: int) -> str:
    return f"01087750{at:02d}"


def write_hm(folder: Path) -> None:
    """articles.csv, transactions_train.csv, and images/010/0108775000.jpg …; the last article has no photo."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "articles.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, HM.split(","))
        table.writeheader()
        for at in range(ITEMS):
            known = {name: "1" if name.endswith(("_no", "_code", "_id")) else "Solid" for name in HM.split(",")}
            known |= {"article_id": article(at), "prod_name": title(at), "product_type_name": KINDS[at % 4].title()}
            table.writerow(known | {"colour_group_name": COLOURS[at % 3], "detail_desc": "Jersey, with straps."})
            if at < ITEMS - 1:
                photo(folder / f"images/{article(at)[:3]}/{article(at)}.jpg", at)
    with (folder / "transactions_train.csv").open("w", newline="") as file:
        plain = csv.writer(file)
        plain.writerow(["t_dat", "customer_id", "article_id", "price", "sales_channel_id"])
        for at in range(ITEMS):
            for other in near(at):
                for twice in range(2):
                    customer = f"{at:020d}{other:020d}{twice:024d}"
                    plain.writerow([f"2018-09-{1 + at:02d}", customer, article(at), 0.0508305, 2])
                    plain.writerow([f"2018-09-{2 + at:02d}", customer, article(other), 0.0305, 2])
