"""Every kind of product that the studio can draw: silhouettes, materials, place in the shop, prices."""

from __future__ import annotations

from dataclasses import dataclass

_TABLE = """
mug|straight conical bellied|Mug, Coffee Mug, Cup|Home > Kitchen > Mugs|ceramic stoneware enamel|9 29
teapot|round tall low|Teapot, Tea Pot|Home > Kitchen > Teapots|ceramic iron porcelain|29 89
bottle|sport slim tumbler|Bottle, Water Bottle, Drinking Bottle|Sports > Outdoor > Bottles|steel glass plastic|14 45
vase|bulb hourglass jug|Vase, Flower Vase|Home > Decoration > Vases|ceramic glass stoneware|19 95
lamp|table desk pendant*|Lamp, Light|Home > Lighting > Lamps|linen steel brass|39 189
chair|dining shell stool armchair|Chair, Seat|Home > Furniture > Chairs|linen leather plastic velvet|69 390
sofa|classic modern tufted|Sofa, Couch|Home > Furniture > Sofas|linen leather velvet|390 1900
cushion|square* round* bolster*|Cushion, Pillow|Home > Decoration > Cushions|cotton linen velvet wool|15 69
t-shirt|crew* vneck* polo* long*|T-Shirt, Tee, Shirt|Clothing > Tops > T-Shirts|cotton linen silk|15 59
dress|aline* sheath* strap*|Dress|Clothing > Dresses|cotton linen silk denim|39 189
sneaker|low high runner|Sneaker, Trainers, Sneakers|Shoes > Sneakers|leather canvas suede|49 179
hat|cap* beanie* fedora* bucket*|Hat, Headwear|Accessories > Hats|cotton wool felt straw|15 79
sunglasses|round* square* aviator* cateye*|Sunglasses, Shades|Accessories > Sunglasses|acetate steel bamboo|29 219
watch|round* square* chrono*|Watch, Wristwatch|Accessories > Watches|leather canvas nylon|59 490
backpack|classic rolltop satchel|Backpack, Rucksack, Daypack|Bags > Backpacks|nylon canvas leather denim|39 199
handbag|tote bowling flap|Handbag, Bag|Bags > Handbags|leather canvas suede|49 390
headphones|over* dj* light*|Headphones, Headset|Electronics > Audio > Headphones|plastic steel leather|29 349
umbrella|open* closed* parasol|Umbrella|Accessories > Umbrellas|nylon canvas|15 89
guitar|acoustic* electric* ukulele*|Guitar|Music > Strings > Guitars|wood bamboo|89 990
"""
"""Kind|variants, with a `*` where they lie or hang|what titles call it|category|materials|lowest and highest price."""


@dataclass(frozen=True)
class ProductKind:
    """A kind of product.

    variants: names of its silhouettes, see `drawings.txt`. nouns: what titles call it. category: path in the shop.
    materials: what it is made of. price: usual lowest and highest price. lying: the variants that lie or hang, with
    their shadow behind them; the others stand on a floor, with their shadow below them.
    """

    variants: tuple[str, ...]
    nouns: tuple[str, ...]
    category: tuple[str, ...]
    materials: tuple[str, ...]
    price: tuple[float, float]
    lying: tuple[str, ...]

    def on_floor(self, variant: str) -> bool:
        """Return whether a variant stands on a floor."""
        return variant not in self.lying


def _read(line: str) -> tuple[str, ProductKind]:
    """Return the name and the kind that a line of the table describes."""
    name, variants, nouns, category, materials, price = line.split("|")
    names = tuple(variants.replace("*", "").split())
    lying = tuple(one for one, marked in zip(names, variants.split(), strict=True) if marked.endswith("*"))
    low, high = map(float, price.split())
    path, made_of = tuple(category.split(" > ")), tuple(materials.split())
    return name, ProductKind(names, tuple(nouns.split(", ")), path, made_of, (low, high), lying)


KINDS = dict(map(_read, _TABLE.strip().splitlines()))
"""Name → kind; the studio draws all of them about equally often."""
