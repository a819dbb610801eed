"""Recipes: one YAML says all of a run. The classes below are its schema."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from tgqformer import config
from tgqformer.catalog.importer import plan_import
from tgqformer.config import FilePath, ModelName, Natural, Positive, Seeds, Share, is_deep, settings, unique_slugs
from tgqformer.errors import TgqError, named_by, nearest
from tgqformer.model.prompt import Prompt
from tgqformer.packages import pretrained_folder
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.mining import MiningSettings
from tgqformer.pairs.source import check_source
from tgqformer.store.rules import Rules
from tgqformer.synthetic.noise import VIEWS, WHOLE_VIEWS, NoisePlan
from tgqformer.training.settings import AlignmentSettings, TrainingSettings

TEXT_PROBES = ("no-text", "wrong-text")
"""Probes of the text: the query item loses its metadata, or gets those of an item of another category."""
TOKEN_PROBES = ("cover", "spill")
"""Probes of the visual tokens: a clean query with the noised picture's where noise touches, or where it does not."""


def _recipe_file(value: Any, info: ValidationInfo) -> Any:
    return config.located(value, info) if Path(str(value)).suffix in (".yaml", ".yml") else value


RecipeName = Annotated[str, BeforeValidator(_recipe_file)]
"""The name of a shipped recipe, or a YAML file, relative to the file that names it."""
Source = Annotated[Literal["studio"] | FilePath, Field(union_mode="left_to_right")]


@settings
class CatalogSection:
    """Where the catalogue comes from.

    Args:
        source: files of a shop (see `tgq catalog import`), or `studio` for the catalogue that the project draws itself.
        items: how many items `studio` draws; of other sources so many are chosen (0 for all).
        chosen_by: how they are chosen: by a stable `hash` of their id; or by `pairs`, those that stand most often in
            what the section pairs names, so that a small part of a large shop has pairs enough.
        reader, mapping, pictures, pack: as in `tgq catalog import`.
        seed: of the drawing.
    """

    source: Source = "studio"
    items: Natural = 0
    chosen_by: Literal["hash", "pairs"] = "hash"
    reader: str | None = None
    mapping: dict[str, str | list[str]] = field(default_factory=dict)
    pictures: FilePath | None = None
    pack: bool = False
    seed: int = 0


@settings
class PairsSection:
    """Where the pairs come from: simulated shoppers, a log of interactions, a file of pairs, or the catalogue's lists.

    Args:
        shoppers: `fashion` or `studio`: simulate shopping sessions. interactions: a file of (session, item, time).
        pairs: a file of pairs. related: kinds of the lists that came with the catalogue, such as `also_view`.
            Exactly one of the four.
        by: whether `items` are split, so that test items are new ones; or a log is cut by `time`, as days go by.
        train, val, test: shares of the items, or of the interactions in time. seed: of the split of the items.
        mining: how pairs are mined from interactions. log: how their file is read, see `tgq pairs mine`.
    """

    shoppers: Literal["fashion", "studio"] | None = None
    interactions: FilePath | None = None
    pairs: FilePath | None = None
    related: tuple[str, ...] | None = None
    by: Literal["items", "time"] = "items"
    train: Share = 0.7
    val: Share = 0.05
    test: Share = 0.25
    seed: int = 0
    mining: MiningSettings = MiningSettings()
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.shoppers, self.interactions, self.pairs, self.related)) != 1:
            raise ValueError("give exactly one of shoppers, interactions, pairs, related")
        if self.by == "time" and self.interactions is None:
            raise ValueError("only a log of interactions can be split by time; give interactions, or by: items")
        if self.related == ():
            raise ValueError("related names no kind; for example [also_buy, also_view]")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"train, val and test are shares of the items and add up to 1, found {self.shares}")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the items for training, validation and test."""
        return self.train, self.val, self.test


@settings
class EncoderSection:
    """The frozen encoders.

    Args:
        vision: of pictures: `efficientnet-lite0` (packaged) or `hf:<folder or hub id>`; `joint:hf:<folder or hub id>`
            takes both towers of a CLIP, Chinese-CLIP or SigLIP, and `text` is not read then.
        text: of metadata: `minilm` (packaged) or `hf:<folder or hub id>`.
        vision_options: of the vision encoder's own class.
    """

    vision: ModelName = "efficientnet-lite0"
    text: ModelName = "minilm"
    vision_options: dict[str, Any] = field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if is_deep(info):
            from tgqformer.encoders import check_encoders

            check_encoders(self.vision, self.text, self.vision_options)
        return self


@settings
class LanguageSection:
    """The language model and its adapters.

    Args:
        name: `minilm`, `smollm2` (packaged), or `hf:<folder or hub id>`.
        layers: how many of its layers are kept; all, if not given.
        frozen_layers: how many of them, from the first on, read the text alone and are not trained.
        pooling: whether the embedding is the `mean` of the last states or the `last` one.
        max_tokens: of the text; what is longer is cut.
        lora_rank, lora_alpha, lora_dropout: of the adapters (LoRA).
    """

    name: ModelName = "minilm"
    layers: Positive | None = None
    frozen_layers: Natural | None = None
    pooling: Literal["mean", "last"] | None = None
    max_tokens: Positive = 64
    lora_rank: Positive = 16
    lora_alpha: Positive = 32
    lora_dropout: Share = 0.0

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if is_deep(info):
            from tgqformer.model.language import check_language

            check_language(self.name)
        return self


@settings
class ModelSection:
    """One model of the comparison.

    Args:
        name: in tables and folders.
        connector: one of `connectors.CONNECTORS`; `frozen` is what needs no training: the frozen vectors of picture
            and text.
        options: of the connector.
        language: whether a language model reads the metadata; `false` makes a picture-only model.
        multimodal: a whole image-text-to-text model instead (a folder or a hub id), which is taken as it is, without
            training; `sentence-transformers:` before it takes a model of that library, of texts or of both. Only
            `tgq bench` does that.
        pretrained: a pretrained model that is installed as a package, such as `small`; it is not trained further.
        share: how much of the cosine is learned; the rest is that of the frozen vectors. `auto` takes the middle of
            the shares that validate within a standard error of the best.
        preset: which settings of training are tried: those of the recipe (`given`), `gentle` ones for few pairs, or
            both where pairs are few (`auto`), of which the better validated stays.
    """

    name: str
    connector: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    language: bool = True
    multimodal: str | None = None
    pretrained: str | None = None
    share: Annotated[Literal["auto"] | Share, Field(union_mode="left_to_right")] = "auto"
    preset: Literal["auto", "given", "gentle"] = "auto"

    @property
    def trains(self) -> bool:
        """Whether a run trains it."""
        return self.connector != "frozen" and self.pretrained is None and self.multimodal is None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if is_deep(info):
            from tgqformer.connectors import check_connector

            check_connector(self.connector, self.options)
        return self


@settings
class EvaluationSection:
    """What is measured.

    Args:
        views: views of the whole catalogue, see `noise.NoiseView`: queries and pool are shown alike.
        probes: changes of the query alone, in the mixed pool: the name of a view (`poster-3`), `no-text`, `wrong-text`;
            `cover`, a clean query whose visual tokens are the noised picture's where noise touches, and `spill`, where
            it does not.
        probe_queries: how many of the queries are probed.
        queries: of more test queries than this, so many are drawn at random and asked; the intervals are wider for it.
        examples: example queries that the report shows.
        validation_pool: training items that join those of validation in its pool.
    """

    views: tuple[str, ...] = ("mixed", "clean", "noised")
    probes: tuple[str, ...] = ()
    probe_queries: Positive = 1000
    queries: Positive = 20_000
    examples: Natural = 8
    validation_pool: Natural = 2500

    def __post_init__(self) -> None:
        probes = (*VIEWS, *TEXT_PROBES, *TOKEN_PROBES)
        for key, names, known in (("views", self.views, WHOLE_VIEWS), ("probes", self.probes, probes)):
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: {name!r} is not known; {nearest(name, known)}")
        if "mixed" not in self.views:
            raise ValueError("views must hold mixed: it is the catalogue that the model is trained on")

    @property
    def picture_probes(self) -> tuple[str, ...]:
        """The views that probes show; those of the tokens are put together from two of them."""
        named = tuple(name for name in self.probes if name not in (*TEXT_PROBES, *TOKEN_PROBES))
        return (*named, "clean", "noised") if set(self.probes) & set(TOKEN_PROBES) else named


@settings
class Recipe:
    """All of a run, from raw files to a served table.

    Args:
        name: of the run and its folder.
        models: those that are compared; the neighbours of the first one are worked out.
        seeds: each model is trained once with each.
        serve: what is embedded and served: each model as it is measured (`train`), or fitted once more, on all pairs
            (`all`), as validation chose it.
        neighbours: how many are kept of each item.
        rules: which of them a list shows, see `store.rules`.
    """

    name: str
    catalog: CatalogSection
    pairs: PairsSection
    models: tuple[ModelSection, ...]
    noise: NoisePlan = NoisePlan()
    encoders: EncoderSection = EncoderSection()
    prompt: Prompt = Prompt()
    language: LanguageSection = LanguageSection()
    alignment: AlignmentSettings = AlignmentSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSection = EvaluationSection()
    seeds: Seeds = (0,)
    serve: Literal["all", "train"] = "all"
    neighbours: Positive = 100
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        unique_slugs("models", [model.name for model in self.models])
        self._check_source()
        if self.prompt.pictures == "first":
            return
        from tgqformer.connectors import check_pictures

        for model in self.models:
            check_pictures(model.connector, self.prompt.pictures)
            if model.multimodal is not None:
                raise ValueError(f"{model.name}: a multimodal model is shown one picture; set prompt.pictures: first")

    def _check_source(self) -> None:
        drawn = self.catalog.source == "studio"
        if drawn and self.pairs.related is not None:
            raise ValueError("pairs.related: the studio has no lists of related items; give shoppers: studio")
        if self.catalog.chosen_by == "pairs" and (drawn or self.pairs.shoppers is not None or not self.catalog.items):
            what = "takes catalog.items of a shop's files, by pairs.interactions, pairs.pairs or pairs.related"
            raise ValueError(f"catalog.chosen_by: pairs {what}")


IMPORT_KEYS = {
    "id": "catalog.mapping.id",
    "pictures": "catalog.pictures",
    "no_pictures": "catalog.mapping.pictures: []",
    "reader": "catalog.reader",
}
PAIRS_KEYS = {
    name: f"pairs.{section}.{name}"
    for section, schema in (("log", LogSettings), ("mining", MiningSettings))
    for name in schema.__dataclass_fields__
}
"""Options of the commands that import and that mine -> the keys of a recipe that say the same, for errors."""


def load_recipe(source: str | Path, changes: tuple[str, ...] = (), *, deep: bool = True) -> Recipe:
    """Load a recipe: a file, or the name of one that is shipped.

    Relative paths in a file are relative to it; those of a shipped recipe and of `changes` to the working folder.

    Args:
        source: path of a YAML file, or one of `shipped_recipes()`.
        changes: `section.key=value`, read as YAML, set on top.
        deep: whether the options of encoders and connectors are checked too, which takes the import of torch; if not,
            `check_models` is to do it.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    return config.load(Recipe, source, shipped_recipes(), "recipe", changes, deep=deep)


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    return config.shipped_in("tgqformer.experiments", "recipes")


def is_written(recipe: Recipe, path: Path) -> bool:
    """Say whether a file is just this recipe, as `config.write` writes it."""
    try:
        return bool(yaml.safe_load(path.read_text(encoding="utf-8")) == config.plain(recipe))
    except (OSError, ValueError, yaml.YAMLError):
        return False


def check_models(recipe: Recipe) -> None:
    """Check, before any work, the models that a recipe names: that they are there, and their options.

    Raises:
        TgqError: for a model that is not installed, or neither a folder nor on the hub; for one that a run cannot
            serve; and for an option that is not known, with the nearest one.
    """
    from tgqformer.encoders import efficientnet, minilm
    from tgqformer.encoders.huggingface import check_pretrained
    from tgqformer.model.packaged import smollm2_package
    from tgqformer.training.log import check_trackers

    packages = {
        "efficientnet-lite0": efficientnet.find_package,
        "minilm": minilm.packaged_folder,
        "smollm2": smollm2_package,
    }
    config.parse(Recipe, config.plain(recipe), recipe.name)
    check_trackers(recipe.training.trackers)
    for model in recipe.models:
        if model.multimodal is not None:
            what = f"{model.name} is a whole multimodal model, which a run cannot serve"
            raise TgqError(f"models: {what}; compare it with `tgq bench`")
        if model.pretrained is not None:
            pretrained_folder(model.pretrained)
    encoders = recipe.encoders
    named = {"encoders.vision": encoders.vision, "encoders.text": encoders.text, "language.name": recipe.language.name}
    if encoders.vision.startswith("joint:"):
        del named["encoders.text"]  # which is not read then
    for key, name in named.items():
        source = name.rpartition("hf:")[2]
        try:
            if name in packages:
                packages[name]()
            else:
                check_pretrained(source, pictures=key == "encoders.vision")
        except TgqError as error:
            raise TgqError(f"{key}: {error}") from error


def check_files(recipe: Recipe) -> None:
    """Check, before any work, that the files and columns that a recipe names are there.

    Raises:
        TgqError: for what is not, with its place in the recipe.
    """
    catalog, pairs = recipe.catalog, recipe.pairs
    named = {"catalog.pictures": catalog.pictures, "pairs.interactions": pairs.interactions, "pairs.pairs": pairs.pairs}
    if catalog.source != "studio":
        named["catalog.source"] = catalog.source
    for key, path in named.items():
        if path is not None and not Path(path).exists():
            raise TgqError(f"{key}: there is no file or folder {path}")
    if catalog.source != "studio":
        nowhere = Path(catalog.source).with_name(".checked")  # nothing is written
        mapping = catalog.mapping or None
        with named_by(IMPORT_KEYS):
            plan_import(catalog.source, nowhere, reader=catalog.reader, mapping=mapping, root=catalog.pictures)
    log = pairs.interactions or pairs.pairs
    if log is not None:
        with named_by(PAIRS_KEYS):
            check_source(Path(log), pairs.log)
