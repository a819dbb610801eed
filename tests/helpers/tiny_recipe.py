"""A small shop without pictures: its table, its log, and a recipe with tiny models."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from small_shop import ITEMS, draw

MODEL = {"name": "TGQ-Former", "connector": "tgq", "options": {"dim": 16, "heads": 2}}


def write_table(shop: Path, items: int, likes: int = 6) -> None:
    """Write `items.csv`; the title of an item says which of so many kinds of shoppers like it."""
    with (shop / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "category"])
        rows.writerows([f"i{n}", f"{n % likes} thing", f"kind {n % 3}"] for n in range(items))


def write_clicks(shop: Path, items: int, sessions: int) -> None:
    """Write `clicks.csv`: each session clicks four items that one of six kinds of shoppers likes."""
    draw = random.Random(0)
    with (shop / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["session", "item"])
        for session in range(sessions):
            kind = session % 6
            rows.writerows([f"s{session}", f"i{6 * n + kind}"] for n in draw.sample(range(items // 6), 4))


def write_recipe(
    shop: Path,
    tiny_model: Callable[[str], Path],
    *,
    pairs: dict[str, Any],
    training: dict[str, Any],
    model: dict[str, Any],
) -> Path:
    """Write `shop.yaml`, with these settings over those that all small shops share; return it."""
    recipe: dict[str, Any] = {
        "name": "shop",
        "catalog": {"source": "items.csv"},
        "pairs": {"interactions": "clicks.csv"} | pairs,
        "noise": {"share": 0},
        "encoders": {"vision": f"hf:{tiny_model('vit')}", "text": f"hf:{tiny_model('bert')}"},
        "language": {"name": f"hf:{tiny_model('bert')}", "max_tokens": 16},
        "alignment": {"steps": 3, "batch": 8},
        "training": {"steps": 4, "batch": 4, "group": 2, "warmup": 1} | training,
        "evaluation": {"views": ["mixed"], "examples": 1, "validation_pool": 10},
        "neighbours": 4,
        "models": [MODEL | model],
    }
    (shop / "shop.yaml").write_text(yaml.safe_dump(recipe))
    return shop / "shop.yaml"


def write_pictured(shop: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Write `shop.yaml`, `clicks.csv` and `catalog` of a shop with pictures, half of them noised."""
    draw(shop / "catalog")
    clicks = [f"s{n},sku-{(n + more) % ITEMS}" for n in range(48) for more in range(8)]
    (shop / "clicks.csv").write_text("\n".join(["session,item", *clicks]))
    training = {"steps": 2, "visual_steps": 0, "precision": "float32"}
    split = {"train": 0.6, "val": 0.1, "test": 0.3}
    recipe = write_recipe(shop, tiny_model, pairs=split, training=training, model={"preset": "given", "share": 1})
    more = {"catalog": {"source": "catalog"}, "noise": {"share": 0.5, "kinds": ["poster"]}}
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | more))
    return recipe
