"""What a run will take: time, memory and disk of each stage, from sizes, stated peaks and measured rates.

Operations count a multiply-add as two. Sizes of models come from their configurations; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tgqformer.errors import TgqError, nearest
from tgqformer.experiments.recipe import ModelSection, Recipe
from tgqformer.files import read_json

G, T = 1e9, 1e12


@dataclass(frozen=True)
class Machine:
    """Where a run computes.

    half, single: operations a second in bfloat16 and float32 that are counted on. memory: bytes of the card.
    step: least seconds of a training step. pictures: most pictures encoded a second. about: where these come from.
    """

    half: float
    single: float
    memory: float | None
    step: float
    pictures: float
    about: str


SHARE = 0.3
"""Of a card's peak, what is counted on: an assumption, not a measurement."""


def _gpu(half: float, single: float, memory: float) -> Machine:
    about = (
        f"peak of {half:g} TFLOP/s in bfloat16 and {single:g} in float32 by its data sheet, of which {SHARE:.0%} is "
        "assumed; a step takes at least 0.067 s and at most 980 pictures are read and encoded a second, both measured "
        "on an H200 with 16 cores (docs/results.md)"
    )
    return Machine(half * SHARE * T, single * SHARE * T, memory * G, 56.6 / 850, 44_441 * 3 / 136, about)


_CPU = (
    "0.08 TFLOP/s, measured on one thread: 0.8 GFLOPs of EfficientNet-Lite0 in 9.8 ms; other models and processors "
    "differ by a factor of two and more"
)
MACHINES = {
    "cpu": Machine(0.08 * T, 0.08 * T, None, 0.0, float("inf"), _CPU),
    "h200": _gpu(989, 67, 141),
    "h100": _gpu(989, 67, 80),
    "a100": _gpu(312, 19.5, 80),
    "l40s": _gpu(362, 91.6, 48),
    "l4": _gpu(121, 30.3, 24),
    "4090": _gpu(165, 82.6, 24),
}
READ, MINED, SEARCHED = 1 / 366, 86 / 30e6, 2.3e-3 / (134_000 * 512)
"""Seconds on one or two threads, measured: to read a JPEG of 500 x 500; to mine a click of 30 million; to compare a
query with one number of a pool's vectors, in blocks, best 100 kept."""
READERS = 2
"""Threads of an import that read pictures."""
PROCESS = 1.7 * G
"""Bytes of Python, PyTorch and a batch at work on a processor, beside the weights: a quick demo took 2.24 GB."""
ALONE = 0.43 / 256
"""Seconds a pair of a step of the connector alone, at 49 places, on one thread (docs/bench.md)."""


@dataclass(frozen=True)
class Transformer:
    """A transformer by its sizes. gated: whether the feed-forward part has three matrices (decoders), not two."""

    layers: int
    width: int
    inner: int
    query: int
    key: int
    gated: bool
    vocabulary: int = 0
    heads: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Transformer:
        """Read the sizes from a Hugging Face configuration."""
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head, grouped = int(config.get("head_dim") or width // heads), config.get("num_key_value_heads")
        layers, inner = int(config["num_hidden_layers"]), int(config["intermediate_size"])
        key = head * int(grouped or heads)
        words = int(config.get("vocab_size") or 0)
        return cls(layers, width, inner, head * heads, key, grouped is not None, words, heads)

    @property
    def weights(self) -> int:
        """Weights in the matrices of one layer."""
        return 2 * self.width * (self.query + self.key) + (3 if self.gated else 2) * self.width * self.inner

    def flops(self, tokens: int, layers: int | None = None) -> float:
        """Operations of one text or picture of so many tokens in so many layers: products, and attention in full."""
        return (self.layers if layers is None else layers) * (
            2.0 * self.weights * tokens + 4.0 * tokens**2 * self.query
        )

    @property
    def parameters(self) -> int:
        """All weights, those of the words too."""
        return self.layers * self.weights + self.vocabulary * self.width


def _sizes(width: int, layers: int, heads: int, inner: int, words: int, **more: int) -> dict[str, int]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {**sizes, "intermediate_size": inner, "vocab_size": words, **more}


TEXT: dict[str, dict[str, int]] = {
    "minilm": _sizes(384, 6, 12, 1536, 30522),
    "smollm2": _sizes(576, 30, 9, 1536, 49152, num_key_value_heads=3),
    "hf:intfloat/multilingual-e5-small": _sizes(384, 12, 12, 1536, 250037),
    "hf:Qwen/Qwen3-Embedding-0.6B": _sizes(1024, 28, 16, 3072, 151669, num_key_value_heads=8, head_dim=128),
}
JOINT: dict[str, dict[str, Any]] = {
    "joint:hf:OFA-Sys/chinese-clip-vit-base-patch16": {
        "vision_config": {**_sizes(768, 12, 12, 3072, 0), "image_size": 224, "patch_size": 16},
        "text_config": _sizes(768, 12, 12, 3072, 21128),
    }
}
FROZEN_LAYERS = {"minilm": 4}
"""Where a recipe names none: what `model.language.PACKAGED` says."""


@dataclass(frozen=True)
class Tower:
    """A vision encoder: operations of a picture, its visual tokens P and their width, and the vector's width."""

    flops: float
    places: int
    width: int
    vector: int


@dataclass(frozen=True)
class Need:
    """What a stage takes: seconds, bytes of memory (of the card, if there is one) and of disk; how that was found."""

    stage: str
    seconds: float
    memory: float
    disk: float
    how: str


def tower_of(name: str) -> tuple[Tower, Transformer | None]:
    """Return the sizes of a vision encoder; of a joint one also those of its text encoder.

    Raises:
        TgqError: for one whose sizes are not known.
    """
    if name == "efficientnet-lite0":
        return Tower(0.8 * G, 49, 496, 1280), None
    config: dict[str, Any] = JOINT.get(name) or _config(name, JOINT)
    seen: dict[str, Any] = config.get("vision_config", config)
    body, places = Transformer.of(seen), (int(seen["image_size"]) // int(seen["patch_size"])) ** 2
    entry = 2.0 * places * 3 * int(seen["patch_size"]) ** 2 * body.width
    text = Transformer.of(config["text_config"]) if name.startswith("joint:") else None
    return Tower(body.flops(places + 1) + entry, places, body.width, body.width), text


def text_of(name: str) -> Transformer:
    """Return the sizes of a text encoder or language model. Raise TgqError for one whose sizes are not known."""
    return Transformer.of(TEXT.get(name) or _config(name, TEXT))


def _config(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    file = Path(name.rpartition("hf:")[2]) / "config.json"
    if not file.is_file():
        hint = nearest(name, [*known, "efficientnet-lite0"], "known are")
        raise TgqError(f"the sizes of {name!r} are not known; fetch it and name its folder, hf:FOLDER; {hint}")
    found: dict[str, Any] = read_json(file)
    return found


def plan(recipe: Recipe, machine: Machine, *, items: int, clicks: int = 0, cores: int = 1) -> list[Need]:
    """Work out what each stage of a recipe takes.

    Args:
        recipe: the run. machine: where it computes. items: of the catalogue. clicks: of the log. cores: that read
            pictures.
    """
    language = text_of(recipe.language.name)
    learned = [model for model in recipe.models if model.trains]
    how = f"{items:,} pictures, 366 a second and thread (measured), {READERS} threads at most"
    read = Need("import", items * READ / min(cores, READERS), 0.5 * G, 0, how)
    mined = Need(
        "pairs", clicks * MINED, 0.5 * G + 100.0 * clicks, 0, f"{clicks:,} clicks, 30 million in 86 s (measured)"
    )
    computed = [
        features_of(recipe, machine, items),
        *(training_of(recipe, model, machine) for model in learned),
        _embedded(recipe, language, machine, items, sum(model.connector != "frozen" for model in recipe.models)),
    ]
    if machine.memory is None:
        computed = [replace(need, memory=need.memory + PROCESS) for need in computed]
    return [read, mined, *computed, _searched(recipe, language, items)]


def pictures_of(recipe: Recipe) -> float:
    """Return how many different pictures an item has over all views; one that stays as it is counts once."""
    share, joint = recipe.noise.share, recipe.encoders.vision.startswith("joint:")
    views = {"mixed", *recipe.evaluation.views} | (set() if joint else {"noised"})
    clean = 1.0 if "clean" in views else 1 - share
    noised = 1.0 if "noised" in views else share
    return clean + noised + len(views - {"mixed", "clean", "noised"})


def _frozen_layers(recipe: Recipe) -> int:
    given = recipe.language.frozen_layers
    if given is not None:
        return given
    default = FROZEN_LAYERS.get(recipe.language.name, 0)
    return default if recipe.language.layers is None else min(default, recipe.language.layers - 1)


def _layers(recipe: Recipe, language: Transformer) -> int:
    return (recipe.language.layers or language.layers) - _frozen_layers(recipe)


def features_of(recipe: Recipe, machine: Machine, items: int) -> Need:
    """Return what it takes to encode pictures and texts of so many items, and to keep that."""
    tower, joint = tower_of(recipe.encoders.vision)
    text, language = joint or text_of(recipe.encoders.text), text_of(recipe.language.name)
    tokens, shown = recipe.language.max_tokens, pictures_of(recipe)
    pictures = items * shown
    seeing = max(pictures * tower.flops / machine.half, pictures / machine.pictures)
    reading = items * (text.flops(tokens) + language.flops(tokens, _frozen_layers(recipe))) / machine.single
    kept = 2 * (tower.places * tower.width + tower.vector) * shown + 2 * tokens * (text.width + language.width)
    how = (
        f"{pictures:,.0f} pictures of {tower.flops / G:.1f} GFLOPs, {items:,} texts of at most {tokens} tokens, "
        f"{text.flops(tokens) / G:.1f} GFLOPs; {kept / 1e3:,.0f} kB an item in float16"
    )
    weights = 4.0 * (text.parameters + language.parameters) + 4e8
    return Need("features", seeing + reading, weights, kept * items, how)


def training_of(recipe: Recipe, model: ModelSection, machine: Machine) -> Need:
    """Return what it takes to train one model of a recipe for all its seeds."""
    (tower, _), body = tower_of(recipe.encoders.vision), text_of(recipe.language.name)
    training = recipe.training.resolved(10**6)  # the most steps there may be
    steps, alone = training.steps or 0, training.visual_steps or 0
    rounds = len(recipe.seeds) + (recipe.serve == "all")
    tokens, layers, batch = recipe.language.max_tokens + 4, _layers(recipe, body), 2 * training.batch
    flops = batch * 2 * body.flops(tokens, layers) if model.language else 0.0
    step = max(flops / machine.half, machine.step)
    first = ALONE * training.visual_batch * tower.places / 49 if machine.memory is None else machine.step
    weights = 4.0 * body.parameters + 2.0 * layers * body.weights
    held = batch * tokens * layers * (34.0 * body.width + 5.0 * body.heads * tokens)
    one = body.flops(tokens, layers)
    how = (
        f"{alone} steps of the connector alone at {first:.2f} s; {steps} steps of {batch} items x 2 (forward, and the "
        f"gradient of what enters, since adapters alone learn) x {one / G:.1f} GFLOPs = {flops / T:.1f} TFLOPs; memory "
        f"{batch} items x {tokens} tokens x {layers} layers x (34 H + 5 heads x tokens) bytes, and the weights"
    )
    if recipe.serve == "all":
        how += "; once more on all pairs, to be served"
    if model.preset == "auto":
        how += "; where pairs are few, gentle settings are tried too, which takes as long again"
    return Need(f"training {model.name}", rounds * (alone * first + steps * step), weights + held, weights, how)


def _embedded(recipe: Recipe, body: Transformer, machine: Machine, items: int, models: int) -> Need:
    tokens, views = recipe.language.max_tokens + 4, len(recipe.evaluation.views)
    flops, times = body.flops(tokens, _layers(recipe, body)), models * (len(recipe.seeds) * views + 1)
    how = f"{items:,} items x {times} (models, seeds, views; and once to serve) x {flops / G:.1f} GFLOPs, from features"
    disk = 3.0 * len(recipe.models) * items * 4 * _dim(body)
    return Need("evaluation, embeddings, store", times * items * flops / machine.half, 4.0 * body.parameters, disk, how)


def _searched(recipe: Recipe, body: Transformer, items: int) -> Need:
    how = f"{items:,}² x {_dim(body)} numbers on the processor; 134,000 x 512 take 2.3 ms a query (measured)"
    disk = 8.0 * items * (recipe.neighbours + 32) + 4.0 * items * _dim(body)  # lists with spare ones, vectors
    return Need("neighbours", SEARCHED * items * items * _dim(body), 4.0 * items * _dim(body), disk, how)


def _dim(body: Transformer) -> int:
    return body.width + 256
