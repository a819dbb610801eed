"""What a catalogue takes that is past one machine: machines, hours, gigabytes and cost of each stage.

Every figure is a rate times a number. A rate that was measured on a processor is used for processors alone; what a GPU
does is worked out from operations and the peak of its data sheet, and said to be so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from tgqformer.experiments.plan import READERS, SHARE, Machine, Transformer, features_of, text_of, tower_of, training_of
from tgqformer.experiments.recipe import Recipe, load_recipe

G, T, HOUR, MONTH = 1e9, 1e12, 3600.0, 730.0
PER_CORE = 8 * G
"""Bytes of memory that come with a rented core."""


@dataclass(frozen=True)
class Rate:
    """What a row takes on one thread, as measured: seconds, and the command that says so."""

    seconds: float
    by: str


TEXT = Rate(79e-6, "benchmarks/growth.py import")
SHARED = Rate(60e-6, "benchmarks/growth.py import-shared")
PHOTO = Rate(2.7e-3, "benchmarks/growth.py photos: JPEG of 1000 x 1000")
MINED = Rate(0.35e-6, "benchmarks/growth.py mine")
EMBEDDED = Rate(21.1e-3, "benchmarks/embed.py, --precision auto")
NEAR = Rate(0.28e-3, "benchmarks/neighbours.py --approximate at 100,000 x 384")
INDEXED = Rate(1.0e-3, "benchmarks/growth.py index --dim 1280 at 40,000")
ROW, CLICK, LIVE, MAKING, DIGEST = 200, 40, 240, 2000, 200
"""Bytes: of a row of text in a catalogue (assumed); and measured: of memory a click that is mined; of an item in a
service, beside its vector, and while its index is made; of an item's id and digest."""
DOLLARS = {"h200": 4.0, "h100": 3.0, "a100": 2.0, "l40s": 1.5, "l4": 0.8, "4090": 0.5, "cpu": 0.0}
"""An hour of a GPU: assumed."""
CORE_DOLLARS = 0.05
"""An hour of a core with 8 GB of memory: assumed."""


@dataclass(frozen=True)
class Rent:
    """What machines there are, what they cost, and how long a stage may take.

    gpu: dollars an hour of one; core: of a core with 8 GB. cores: of a machine. within: hours.
    """

    cores: int = 8
    gpu: float = 0.0
    core: float = CORE_DOLLARS
    within: float = 24.0


@dataclass(frozen=True)
class Rented:
    """What a stage takes: machines, each for so many hours; bytes of disk and of memory a machine; dollars; and how."""

    stage: str
    machines: int
    hours: float
    disk: float
    memory: float
    dollars: float
    how: str


@dataclass(frozen=True)
class Extent:
    """How much there is: items, clicks; and the models that its size and its machine ask for."""

    items: int
    clicks: int
    recipe: Recipe
    machine: Machine

    @classmethod
    def of(cls, items: int, clicks: int, machine: Machine) -> Extent:
        """Take the models of the paper's size on a GPU, and the packaged ones on a processor."""
        return cls(items, clicks, load_recipe("small" if machine.memory is None else "paper-hm", deep=False), machine)

    @property
    def models(self) -> str:
        """Name the models."""
        return f"{self.recipe.encoders.vision.rpartition(':')[2]} and {self.recipe.language.name.rpartition(':')[2]}"

    @property
    def language(self) -> Transformer:
        """The language model's sizes."""
        return text_of(self.recipe.language.name)

    @property
    def dim(self) -> int:
        """Width d of an embedding."""
        return self.language.width + 256

    @property
    def trained(self) -> int:
        """Items whose features a training reads: as many as its steps draw."""
        training = self.recipe.training.resolved(10**6)
        return min(self.items, 2 * training.batch * (training.steps or 0))


def scale(shop: Extent, rent: Rent) -> list[Rented]:
    """Work out what each stage takes, from the files of a shop to a service."""
    stages = [_imported(shop, rent), _mined(shop, rent), *_trained(shop, rent), _embedded(shop, rent)]
    return [*stages, _near(shop, rent), _indexed(shop, rent), _served(shop, rent)]


def _stage(
    name: str,
    seconds: float,
    rent: Rent,
    how: str,
    *,
    disk: float = 0.0,
    memory: float = G,
    cut: bool,
    gpu: bool,
    shared: float = 0.0,
) -> Rented:
    """Rent machines for so many seconds of one; one that is not cut into partitions has one machine.

    shared: seconds more, of what each of several machines does for itself, or one for all.
    """
    hours, shared = seconds / HOUR, shared / HOUR
    machines, each = 1, hours
    if cut and hours > rent.within:
        machines = ceil(hours / max(rent.within - shared, rent.within / 10))
        each = hours / machines + shared
    price = (rent.gpu if gpu else 0.0) + rent.core * max(rent.cores, memory / PER_CORE)
    if each > rent.within:
        why = f"{shared:.1f} hours of it no machine saves" if cut else "not cut into partitions"
        how += f"; longer than {rent.within:g} hours: {why}"
    return Rented(name, machines, each, disk, memory, machines * each * price, how)


def _imported(shop: Extent, rent: Rent) -> Rented:
    threads = min(rent.cores, READERS)
    each = TEXT.seconds + PHOTO.seconds / threads
    how = (
        f"{shop.items:,} x ({TEXT.seconds * 1e6:.0f} µs of text, {TEXT.by}, + {PHOTO.seconds * 1e3:.1f} ms of a photo,"
        f" {PHOTO.by}, / {threads} threads); {ROW} bytes a row (assumed), photos stay where they are; where several"
        f" machines import, also {SHARED.seconds * 1e6:.0f} µs a row that none of them saves, {SHARED.by}"
    )
    shared = SHARED.seconds * shop.items
    return _stage("import", shop.items * each, rent, how, disk=ROW * shop.items, cut=True, gpu=False, shared=shared)


def _mined(shop: Extent, rent: Rent) -> Rented:
    how = f"{shop.clicks:,} clicks x {MINED.seconds * 1e6:.2f} µs on one thread, {CLICK} bytes each, {MINED.by}"
    memory = G / 2 + CLICK * shop.clicks
    return _stage("mine", shop.clicks * MINED.seconds, rent, how, memory=memory, cut=False, gpu=False)


def _trained(shop: Extent, rent: Rent) -> list[Rented]:
    """Return caching and training: on as many items as the steps draw, chosen by pairs."""
    model, gpu = next(one for one in shop.recipe.models if one.trains), shop.machine.memory is not None
    kept, learned = (
        features_of(shop.recipe, shop.machine, shop.trained),
        training_of(shop.recipe, model, shop.machine),
    )
    drawn = f"the {shop.trained:,} items that training draws (catalog.items, chosen_by: pairs): {kept.how}{_share(gpu)}"
    said = f"the recipe's steps, however large the catalogue: {learned.how}{_share(gpu)}"
    return [
        _stage("cache", kept.seconds, rent, drawn, disk=kept.disk, memory=kept.memory, cut=True, gpu=gpu),
        _stage("train", learned.seconds, rent, said, disk=learned.disk, memory=learned.memory, cut=False, gpu=gpu),
    ]


def _share(gpu: bool) -> str:
    return f"; {SHARE:.0%} of the GPU's peak is assumed, not measured" if gpu else ""


def _embedded(shop: Extent, rent: Rent) -> Rented:
    disk, weights = 4.0 * shop.dim * shop.items, 4.0 * shop.language.parameters + 2 * G
    if shop.machine.memory is None:
        how = f"{shop.items:,} x {EMBEDDED.seconds * 1e3:.1f} ms / {rent.cores} cores, {EMBEDDED.by}"
        taken, gpu = shop.items * EMBEDDED.seconds / rent.cores, False
    else:
        flops, tokens = flops_of(shop), shop.recipe.language.max_tokens
        bounds = {
            f"{flops / G:.0f} GFLOPs / {shop.machine.half / T:.0f} TFLOP/s ({SHARE:.0%} of the peak: assumed)": (
                flops / shop.machine.half
            ),
            f"one of {shop.machine.pictures:.0f} pictures a second, measured on an H200 (docs/results.md)": (
                1 / shop.machine.pictures
            ),
            f"{PHOTO.seconds * 1e3:.1f} ms to read a photo / {rent.cores} cores": PHOTO.seconds / rent.cores,
        }
        longest = max(bounds, key=bounds.__getitem__)
        how = (
            f"{shop.items:,} x {bounds[longest] * 1e3:.2f} ms, by what takes longest: {longest}; of at most {tokens}"
            " tokens"
        )
        taken, gpu = shop.items * bounds[longest], True
    return _stage("embed", taken, rent, f"{how}; {shop.dim} x 4 bytes", disk=disk, memory=weights, cut=True, gpu=gpu)


def flops_of(shop: Extent) -> float:
    """Return the operations of embedding one item: picture, text, and the language model over both."""
    tower, joint = tower_of(shop.recipe.encoders.vision)
    text, tokens = joint or text_of(shop.recipe.encoders.text), shop.recipe.language.max_tokens
    return tower.flops + text.flops(tokens) + shop.language.flops(tokens + 4)


def _near(shop: Extent, rent: Rent) -> Rented:
    cells = max(1.0, shop.items / 200)  # as store/cells.py cuts
    met = cells if cells <= 2000 else 20 * sqrt(cells) + 64 + cells / 200  # centres that an item is held against
    made, each = 0.1 * met / 500, NEAR.seconds * shop.dim / 384 / rent.cores
    how = (
        f"{shop.items:,} x {NEAR.seconds * 1e3:.2f} ms x {shop.dim} / 384 / {rent.cores} cores x ({made:.2g} to make"
        f" {cells:,.0f} cells, + 0.5 to compare an item with those of its cells, + 0.4), approximate,"
        f" {NEAR.by}: there 0.1 + 0.5 + 0.4, by a profile; the cells are made by one machine"
    )
    disk = shop.items * (8.0 * (shop.recipe.neighbours + 32) + 2.0 * shop.dim)
    memory = 4.0 * shop.dim * shop.items + 2 * G  # all vectors: so it was measured
    seconds, shared = shop.items * each * (made + 0.9), shop.items * each * made
    return _stage("neighbours", seconds, rent, how, disk=disk, memory=memory, cut=True, gpu=False, shared=shared)


def _indexed(shop: Extent, rent: Rent) -> Rented:
    how = f"{shop.items:,} x {INDEXED.seconds * 1e3:.1f} ms x {shop.dim} / 1280 / {rent.cores} cores, {INDEXED.by}"
    seconds = shop.items * INDEXED.seconds * shop.dim / 1280 / rent.cores
    disk = shop.items * (4.0 * shop.dim + ROW)
    return _stage("index", seconds, rent, how, disk=disk, cut=False, gpu=False)


def _served(shop: Extent, rent: Rent) -> Rented:
    memory = shop.items * (4.125 * shop.dim + LIVE + DIGEST) + 2 * G
    how = (
        f"a month of one machine: {shop.items:,} x (4.125 x {shop.dim} + {LIVE} + {DIGEST}) bytes of memory,"
        f" benchmarks/live.py and docs/deploy.md; {MAKING:,} bytes an item more while its index is made"
    )
    price = rent.core * max(rent.cores, memory / PER_CORE)
    return Rented("serve", 1, MONTH, 0.0, memory, MONTH * price, how)
