"""Recipes: one YAML says all of a run. The dataclasses below are its schema; a key they do not know is an error."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from tgqformer.connectors import check_connector
from tgqformer.encoders import check_encoders
from tgqformer.errors import TgqError
from tgqformer.files import write_text
from tgqformer.model.language import check_language
from tgqformer.model.prompt import Prompt
from tgqformer.pairs.logs import LogSettings
from tgqformer.pairs.mining import MiningSettings
from tgqformer.synthetic.noise import VIEWS, WHOLE_VIEWS, NoisePlan
from tgqformer.training.settings import AlignmentSettings, TrainingSettings

S = TypeVar("S")
TEXT_PROBES = ("no-text", "wrong-text")
"""Probes of the text: the query item loses its metadata, or wears those of an item of another category."""
TOKEN_PROBES = ("cover", "spill")
"""Probes of the visual tokens: a clean query with the noised picture's where noise touches, or where it does not."""


@dataclass(frozen=True)
class CatalogSection:
    """Where the catalogue comes from.

    Args:
        source: files of a shop (see `tgq catalog import`), or `studio` for the catalogue that the project draws itself.
        items: how many items `studio` draws; of other sources so many are chosen by a stable hash of their id (0 for
            all).
        reader, mapping, pictures, pack: as in `tgq catalog import`.
        seed: of the drawing.
    """

    source: str = "studio"
    items: int = 0
    reader: str | None = None
    mapping: dict[str, str | list[str]] = field(default_factory=dict)
    pictures: str | None = None
    pack: bool = False
    seed: int = 0


@dataclass(frozen=True)
class PairsSection:
    """Where the pairs come from: simulated shoppers, a log of interactions, or a file of pairs.

    Args:
        shoppers: `fashion` or `studio`: simulate shopping sessions. interactions: a file of (session, item, time).
        pairs: a file of pairs. Exactly one of the three.
        train, val, test: shares of the items. seed: of the split.
        mining: how pairs are mined from interactions. log: how their file is read, see `tgq pairs mine`.
    """

    shoppers: Literal["fashion", "studio"] | None = None
    interactions: str | None = None
    pairs: str | None = None
    train: float = 0.7
    val: float = 0.05
    test: float = 0.25
    seed: int = 0
    mining: MiningSettings = MiningSettings()  # noqa: RUF009
    log: LogSettings = LogSettings()  # noqa: RUF009

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.shoppers, self.interactions, self.pairs)) != 1:
            raise ValueError("pairs: give exactly one of shoppers, interactions, pairs")
        shares = self.train, self.val, self.test
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"pairs: train, val and test are shares of the items and add up to 1, found {shares}")


@dataclass(frozen=True)
class EncoderSection:
    """The frozen encoders: `efficientnet-lite0` and `minilm` (packaged), or `hf:<folder or hub id>`.

    `vision: joint:hf:<folder or hub id>` takes both towers of a CLIP, Chinese-CLIP or SigLIP; `text` is not read then.
    """

    vision: str = "efficientnet-lite0"
    text: str = "minilm"
    vision_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_encoders(self.vision, self.text, self.vision_options)


@dataclass(frozen=True)
class LanguageSection:
    """The language model: `minilm`, `smollm2` (packaged), or `hf:<folder or hub id>`; and its adapters."""

    name: str = "minilm"
    layers: int | None = None
    frozen_layers: int | None = None
    pooling: Literal["mean", "last"] | None = None
    max_tokens: int = 64
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_language(self.name)


@dataclass(frozen=True)
class ModelSection:
    """One model of the comparison: a connector with its options, see `connectors.CONNECTORS`.

    `language: false` gives a picture-only model. `multimodal` names a whole image-text-to-text model instead (a
    folder or a hub id), which is taken as it is, without training; only `tgq bench` does that.
    """

    name: str
    connector: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    language: bool = True
    multimodal: str | None = None

    def __post_init__(self) -> None:
        check_connector(self.connector, self.options)


@dataclass(frozen=True)
class EvaluationSection:
    """What is measured.

    Args:
        views: looks at the whole catalogue, see `noise.NoiseView`: queries and pool are seen alike.
        probes: looks at the query alone, in the mixed pool: the name of a view (`poster-3`), `no-text`, `wrong-text`;
            `cover`, a clean query whose visual tokens are the noised picture's where noise touches, and `spill`, where
            it does not.
        probe_queries: how many of the queries are probed.
        examples: example queries that the report shows.
        validation_pool: training items that join those of validation in its pool.
    """

    views: tuple[str, ...] = ("mixed", "clean", "noised")
    probes: tuple[str, ...] = ()
    probe_queries: int = 1000
    examples: int = 8
    validation_pool: int = 2500

    def __post_init__(self) -> None:
        for key, names, known in (
            ("views", self.views, WHOLE_VIEWS), ("probes", self.probes, (*VIEWS, *TEXT_PROBES, *TOKEN_PROBES)),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise ValueError(f"evaluation.{key}: {name!r} is not known; choose from {', '.join(known)}")
        if self.probe_queries < 1:
            raise ValueError("evaluation.probe_queries must be 1 or more")

    @property
    def picture_probes(self) -> tuple[str, ...]:
        """The views that probes look at; those of the tokens are put together from two of them."""
        named = tuple(name for name in self.probes if name not in (*TEXT_PROBES, *TOKEN_PROBES))
        return (*named, "clean", "noised") if set(self.probes) & set(TOKEN_PROBES) else named


@dataclass(frozen=True)
class Recipe:
    """All of a run, from raw files to a served table. The first model is the one that is embedded and indexed."""

    name: str
    catalog: CatalogSection
    pairs: PairsSection
    models: tuple[ModelSection, ...]
    noise: NoisePlan = NoisePlan()  # noqa: RUF009
    encoders: EncoderSection = EncoderSection()
    prompt: Prompt = Prompt()  # noqa: RUF009
    language: LanguageSection = LanguageSection()
    alignment: AlignmentSettings = AlignmentSettings()  # noqa: RUF009
    training: TrainingSettings = TrainingSettings()  # noqa: RUF009
    evaluation: EvaluationSection = EvaluationSection()
    seeds: tuple[int, ...] = (0,)
    neighbours: int = 100

    def __post_init__(self) -> None:
        names = [model.name.lower().replace(" ", "-") for model in self.models]  # as their folders are called
        if not names or len(set(names)) < len(names):
            raise ValueError("models: give at least one, each with a name of its own")
        if any(not name or name.startswith(".") or set(name) & set("/\\") for name in names):
            raise ValueError("models: a name also names a folder; give it letters, and no slash")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: give at least one, each once, from 0 on")
        if self.neighbours < 1:
            raise ValueError("neighbours must be 1 or more")
        if "mixed" not in self.evaluation.views:
            raise ValueError("evaluation.views must hold mixed: it is the catalogue that the model is trained on")

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as plain data, every default written out."""
        plain: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        return plain


def load_recipe(source: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Load a recipe: a file, or the name of one that is shipped.

    Args:
        source: path of a YAML file, or one of `shipped_recipes()`.
        changes: `section.key=value`, read as YAML, set on top.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    path, data = read_yaml(source, shipped_recipes(), "recipe", changes)
    return parse_recipe(data, str(path))


def parse_recipe(data: dict[str, Any], where: str) -> Recipe:
    """Check plain data key by key."""
    return parse_as(Recipe, data, where)


def read_yaml(
    source: str, shipped: dict[str, Path], kind: str, changes: tuple[str, ...] = ()
) -> tuple[Path, dict[str, Any]]:
    """Read a YAML file of sections, or a shipped one by its name, with changes set on top.

    Args:
        source: path or name. shipped: name -> path. kind: what it is, for errors.
        changes: `section.key=value`, read as YAML.

    Raises:
        TgqError: for a file that is not there or is no YAML of sections, or a change that is none.
    """
    path = Path(source)
    if not path.is_file():
        if source not in shipped:
            raise TgqError(f"there is no {kind} file {source!r}; shipped are {', '.join(shipped)}")
        path = shipped[source]
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TgqError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise TgqError(f"{path} must hold sections of keys; found {type(data).__name__}")
    for change in changes:
        _change(data, change)
    return path, data


def parse_as(schema: type[S], data: dict[str, Any], where: str) -> S:
    """Check plain data key by key against a dataclass and make it.

    Raises:
        TgqError: for a key that is not known (with the nearest one) or a wrong value, with its place.
    """
    check_keys(data, schema, where)
    try:
        return TypeAdapter(schema).validate_python(data)
    except TgqError as error:
        raise TgqError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise TgqError(f"{where}: {place}: {first['msg']} (found {first['input']!r:.80})") from error


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("tgqformer") / "experiments" / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe, every default written out."""
    write_text(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True))


def _change(data: dict[str, Any], change: str) -> None:
    place, equals, value = change.partition("=")
    if not equals:
        raise TgqError(f"--set {change!r} must be section.key=value, for example training.steps=200")
    try:
        change_key(data, place, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise TgqError(f"--set {change!r}: the value is not YAML: {error}") from error


def change_key(data: dict[str, Any], place: str, value: Any) -> None:
    """Set a key of plain data by its place, `section.key`; sections that are missing are made."""
    *sections, key = place.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise TgqError(f"{place} cannot be set: {section!r} is not a section")
    data[key] = value


def check_keys(data: Any, schema: Any, where: str, place: str = "") -> None:
    """Refuse keys that a section does not have, naming the nearest that it has.

    Args:
        data: plain data. schema: the dataclass it must fit; tuples and dicts of dataclasses are looked into.
        where: name of the file, for the error. place: where in it `data` stands.
    """
    if not isinstance(data, dict):
        raise TgqError(f"{where}: {place or 'the recipe'} must be a section of keys, found {data!r:.60}")
    known = get_type_hints(schema)
    for key, value in data.items():
        full = f"{place}.{key}" if place else str(key)
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise TgqError(f"{where}: {full!r} is not a key here; {hint}")
        several = named = get_args(known[key])
        if dataclasses.is_dataclass(known[key]):
            check_keys(value, known[key], where, full)
        elif several and dataclasses.is_dataclass(several[0]) and isinstance(value, list):
            for index, part in enumerate(value):
                check_keys(part, several[0], where, f"{full}.{index}")
        elif len(named) == 2 and dataclasses.is_dataclass(named[1]) and isinstance(value, dict):
            for name, part in value.items():
                check_keys(part, named[1], where, f"{full}.{name}")
