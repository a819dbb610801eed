# ruff: noqa: E501 - drawings and tables read best unbroken
"""Every kind of product that the studio can draw: silhouettes, materials, place in the shop, prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tgqformer.synthetic.studio import gear, home, wear
from tgqformer.synthetic.studio.sketch import Sketch


@dataclass(frozen=True)
class Kind:
    """A kind of product.

    variants: name → the function that draws the silhouette. nouns: what titles call it. category: path in the shop.
    materials: what it is made of. price: usual lowest and highest price. stands: it stands on a floor (its shadow is
    below it), else it lies or hangs (its shadow is behind it); odd: the variants for which that is the other way round.
    """

    variants: Mapping[str, Callable[[Sketch], None]]
    nouns: tuple[str, ...]
    category: tuple[str, ...]
    materials: tuple[str, ...]
    price: tuple[float, float]
    stands: bool = True
    odd: tuple[str, ...] = ()

    def on_floor(self, variant: str) -> bool:
        """Whether a variant stands on a floor."""
        return self.stands != (variant in self.odd)


KINDS: dict[str, Kind] = {
    "mug": Kind(
        {"straight": home.mug_straight, "conical": home.mug_conical, "bellied": home.mug_bellied},
        ("Mug", "Coffee Mug", "Cup"), ("Home", "Kitchen", "Mugs"), ("ceramic", "stoneware", "enamel"), (9, 29),
    ),
    "teapot": Kind(
        {"round": home.teapot_round, "tall": home.teapot_tall, "low": home.teapot_low},
        ("Teapot", "Tea Pot"), ("Home", "Kitchen", "Teapots"), ("ceramic", "iron", "porcelain"), (29, 89),
    ),
    "bottle": Kind(
        {"sport": home.bottle_sport, "slim": home.bottle_slim, "tumbler": home.bottle_tumbler},
        ("Bottle", "Water Bottle", "Drinking Bottle"), ("Sports", "Outdoor", "Bottles"), ("steel", "glass", "plastic"), (14, 45),
    ),
    "vase": Kind(
        {"bulb": home.vase_bulb, "hourglass": home.vase_hourglass, "jug": home.vase_jug},
        ("Vase", "Flower Vase"), ("Home", "Decoration", "Vases"), ("ceramic", "glass", "stoneware"), (19, 95),
    ),
    "lamp": Kind(
        {"table": home.lamp_table, "desk": home.lamp_desk, "pendant": home.lamp_pendant},
        ("Lamp", "Light"), ("Home", "Lighting", "Lamps"), ("linen", "steel", "brass"), (39, 189), odd=("pendant",),
    ),
    "chair": Kind(
        {"dining": home.chair_dining, "shell": home.chair_shell, "stool": home.chair_stool, "armchair": home.chair_armchair},
        ("Chair", "Seat"), ("Home", "Furniture", "Chairs"), ("linen", "leather", "plastic", "velvet"), (69, 390),
    ),
    "sofa": Kind(
        {"classic": home.sofa_classic, "modern": home.sofa_modern, "tufted": home.sofa_tufted},
        ("Sofa", "Couch"), ("Home", "Furniture", "Sofas"), ("linen", "leather", "velvet"), (390, 1900),
    ),
    "cushion": Kind(
        {"square": home.cushion_square, "round": home.cushion_round, "bolster": home.cushion_bolster},
        ("Cushion", "Pillow"), ("Home", "Decoration", "Cushions"), ("cotton", "linen", "velvet", "wool"), (15, 69), stands=False,
    ),
    "t-shirt": Kind(
        {"crew": wear.shirt_crew, "vneck": wear.shirt_vneck, "polo": wear.shirt_polo, "long": wear.shirt_long},
        ("T-Shirt", "Tee", "Shirt"), ("Clothing", "Tops", "T-Shirts"), ("cotton", "linen", "silk"), (15, 59), stands=False,
    ),
    "dress": Kind(
        {"aline": wear.dress_aline, "sheath": wear.dress_sheath, "strap": wear.dress_strap},
        ("Dress",), ("Clothing", "Dresses"), ("cotton", "linen", "silk", "denim"), (39, 189), stands=False,
    ),
    "sneaker": Kind(
        {"low": wear.sneaker_low, "high": wear.sneaker_high, "runner": wear.sneaker_runner},
        ("Sneaker", "Trainers", "Sneakers"), ("Shoes", "Sneakers"), ("leather", "canvas", "suede"), (49, 179),
    ),
    "hat": Kind(
        {"cap": wear.hat_cap, "beanie": wear.hat_beanie, "fedora": wear.hat_fedora, "bucket": wear.hat_bucket},
        ("Hat", "Headwear"), ("Accessories", "Hats"), ("cotton", "wool", "felt", "straw"), (15, 79), stands=False,
    ),
    "sunglasses": Kind(
        {"round": wear.glasses_round, "square": wear.glasses_square, "aviator": wear.glasses_aviator, "cateye": wear.glasses_cateye},
        ("Sunglasses", "Shades"), ("Accessories", "Sunglasses"), ("acetate", "steel", "bamboo"), (29, 219), stands=False,
    ),
    "watch": Kind(
        {"round": wear.watch_round, "square": wear.watch_square, "chrono": wear.watch_chrono},
        ("Watch", "Wristwatch"), ("Accessories", "Watches"), ("leather", "canvas", "nylon"), (59, 490), stands=False,
    ),
    "backpack": Kind(
        {"classic": gear.backpack_classic, "rolltop": gear.backpack_rolltop, "satchel": gear.backpack_satchel},
        ("Backpack", "Rucksack", "Daypack"), ("Bags", "Backpacks"), ("nylon", "canvas", "leather", "denim"), (39, 199),
    ),
    "handbag": Kind(
        {"tote": gear.handbag_tote, "bowling": gear.handbag_bowling, "flap": gear.handbag_flap},
        ("Handbag", "Bag"), ("Bags", "Handbags"), ("leather", "canvas", "suede"), (49, 390),
    ),
    "headphones": Kind(
        {"over": gear.headphones_over, "dj": gear.headphones_dj, "light": gear.headphones_light},
        ("Headphones", "Headset"), ("Electronics", "Audio", "Headphones"), ("plastic", "steel", "leather"), (29, 349), stands=False,
    ),
    "umbrella": Kind(
        {"open": gear.umbrella_open, "closed": gear.umbrella_closed, "parasol": gear.umbrella_parasol},
        ("Umbrella",), ("Accessories", "Umbrellas"), ("nylon", "canvas"), (15, 89), stands=False, odd=("parasol",),
    ),
    "guitar": Kind(
        {"acoustic": gear.guitar_acoustic, "electric": gear.guitar_electric, "ukulele": gear.guitar_ukulele},
        ("Guitar",), ("Music", "Strings", "Guitars"), ("wood", "bamboo"), (89, 990), stands=False,
    ),
}  # fmt: skip
"""Name → kind; the studio draws all of them about equally often."""
