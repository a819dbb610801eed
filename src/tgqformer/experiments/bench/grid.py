"""The grid of a bench: models x language models x token budgets x noises x seeds, from one YAML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tgqformer import config
from tgqformer.config import Natural, Positive, PositiveFloat, settings, slug, unique_slugs
from tgqformer.connectors import check_connector
from tgqformer.errors import nearest
from tgqformer.experiments.recipe import LanguageSection, ModelSection, Recipe, RecipeName, load_recipe
from tgqformer.synthetic.noise import NoisePlan
from tgqformer.training.settings import TrainingSettings, check_afresh

CATALOGUE = "catalogue"
"""The noise that is there without being named: that of the base."""
ELSEWHERE = {
    "models": "models",
    "language": "languages",
    "seeds": "the grids' seeds",
    "training.lr": "tuning.lr, or training.lr of a model",
    **dict.fromkeys(("neighbours", "rules", "serve"), "it in a recipe: a bench makes no lists"),
}
"""Keys of the base that a bench does not read, and what it reads instead."""


@settings
class BenchModel(ModelSection):
    """One model of the bench: as in a recipe, but the token budget comes from the grid.

    It is trained as `training` says, on its own: `share`, `preset` and `pretrained` are for runs alone.

    Args:
        training: settings of training that this model alone has, shown in the report.
        ablation: whether it is a variant of TGQ-Former, not one of the connectors it is compared with.
        tuned_as: name of the model whose learning rate it takes; by default it is tuned itself.
    """

    training: dict[str, Any] = field(default_factory=dict)
    ablation: bool = False
    tuned_as: str | None = None

    def __post_init__(self) -> None:
        for key in ("share", "preset", "pretrained"):
            if getattr(self, key) != ModelSection.__dataclass_fields__[key].default:
                raise ValueError(f"{self.name}: {key} is for a run; a bench trains every model alike")


@settings
class Grid:
    """A block of cells: every combination of what it lists.

    Args:
        title: of its table. models: names; none listed means all. languages, noises: names from the sections below.
        tokens: visual tokens given to the language model. seeds: how many.
        probes: of how many seeds the probes are measured too; None for all.
    """

    title: str
    languages: Annotated[tuple[str, ...], Field(min_length=1)]
    models: tuple[str, ...] = ()
    noises: Annotated[tuple[str, ...], Field(min_length=1)] = (CATALOGUE,)
    tokens: Annotated[tuple[Positive, ...], Field(min_length=1)] = (4,)
    seeds: Positive = 5
    probes: Natural | None = None


@settings
class Tuning:
    """Every model is trained once with each learning rate; that of the best validation H@10 is taken.

    Args:
        lr: the learning rates; a single one means no tuning. seed: of the tuning, not one of the cells'.
    """

    lr: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-3,)
    seed: Natural = 1000


@settings
class Headline:
    """What the report puts first: one model against the strongest other connector, in one setting.

    Args:
        model, language, noise: names from the sections of the bench. tokens: visual tokens given to the language model.
    """

    model: str
    language: str
    noise: str = CATALOGUE
    tokens: int = 4


@settings
class BenchRecipe:
    """A whole bench.

    Args:
        name: of the bench and its folder.
        base: a recipe, shipped or a file; its data, prompt, encoders, training are those of every cell.
        set: keys of it that are changed: `section.key: value`, or sections of keys.
        models, languages, noises: what the grids choose from, languages and noises by name. The noise `catalogue` is
            that of the base, where it is not given.
    """

    name: str
    base: RecipeName
    models: tuple[BenchModel, ...]
    languages: dict[str, LanguageSection]
    grids: Annotated[tuple[Grid, ...], Field(min_length=1)]
    headline: Headline
    set: dict[str, Any] = field(default_factory=dict)
    noises: dict[str, NoisePlan] = field(default_factory=dict)
    tuning: Tuning = Tuning()

    def __post_init__(self) -> None:
        noises = [CATALOGUE, *(name for name in self.noises if name != CATALOGUE)]
        unique_slugs("models", [model.name for model in self.models])
        unique_slugs("languages", list(self.languages))
        unique_slugs("noises", noises)
        names = {model.name for model in self.models}
        listed = [
            *((name, names, "models") for grid in self.grids for name in grid.models),
            *((name, set(self.languages), "languages") for grid in self.grids for name in grid.languages),
            *((name, set(noises), "noises") for grid in self.grids for name in grid.noises),
            *((model.tuned_as, names, "models") for model in self.models if model.tuned_as),
            (self.headline.model, names, "models"),
            (self.headline.language, set(self.languages), "languages"),
            (self.headline.noise, set(noises), "noises"),
        ]
        for name, known, section in listed:
            if name not in known:
                raise ValueError(f"{name!r} is not one of the {section}; {nearest(name, sorted(known))}")
        self._check_headline()
        unread = ELSEWHERE | ({"noise": "noises"} if CATALOGUE in self.noises else {})
        for place, _ in _leaves(self.set):
            for key, instead in unread.items():
                if f"{place}.".startswith(f"{key}."):
                    raise ValueError(f"set: a bench does not read {place} of its base; set {instead}")

    def _check_headline(self) -> None:
        own = self.headline
        wanted = Cell(Setting(own.language, own.noise, own.tokens), own.model, 0)
        if not any(wanted == cell for _, cell in cells_of(self)):
            raise ValueError(f"headline: no grid has {own.model} with {wanted.setting.title}; name a cell of a grid")

    def model(self, name: str) -> BenchModel:
        """The model of this name."""
        return next(model for model in self.models if model.name == name)


@dataclass(frozen=True)
class Setting:
    """What all models of one table share."""

    language: str
    noise: str
    tokens: int

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.language}, {self.tokens} tokens" + ("" if self.noise == CATALOGUE else f", noise: {self.noise}")


@dataclass(frozen=True)
class Cell:
    """One model of one seed in one setting."""

    setting: Setting
    model: str
    seed: int

    @property
    def path(self) -> Path:
        """Its folder, below that of the cells."""
        own = self.setting
        return (
            Path(slug(own.noise))
            / slug(own.language)
            / f"tokens-{own.tokens}"
            / slug(self.model)
            / (f"seed-{self.seed}")
        )


def cells_of(bench: BenchRecipe) -> Iterator[tuple[Grid, Cell]]:
    """Every cell of every grid; a cell may belong to several grids. Seed by seed, so that tables fill evenly."""
    for grid in bench.grids:
        for seed in range(grid.seeds):
            for noise in grid.noises:
                for language in grid.languages:
                    for tokens in grid.tokens:
                        for name in grid.models or tuple(model.name for model in bench.models):
                            yield grid, Cell(Setting(language, noise, tokens), name, seed)


def chosen(bench: BenchRecipe, only: Sequence[str]) -> list[Cell]:
    """The cells in whose path, or the title of whose grid, one of `only` stands; all cells where it is empty."""
    return [
        cell
        for grid, cell in cells_of(bench)
        if not only or any(part.lower() in f"{grid.title.lower()}/{cell.path.as_posix()}/" for part in only)
    ]


def is_probed(bench: BenchRecipe, cell: Cell) -> bool:
    """Whether one of the grids that hold a cell asks for its probes."""
    own, budgeted = cell.setting, bench.model(cell.model).connector != "none"
    return any(
        cell.seed < (grid.seeds if grid.probes is None else grid.probes)
        and own.language in grid.languages
        and own.noise in grid.noises
        and (own.tokens in grid.tokens or not budgeted)
        and cell.model in (grid.models or (cell.model,))
        for grid in bench.grids
    )


def recipe_of(bench: BenchRecipe, cell: Cell, lr: float) -> Recipe:
    """The recipe of a cell: one model, one seed, its learning rate; without probes, where no grid asks for them."""
    base, model = base_recipe(bench), bench.model(cell.model)
    options = dict(model.options)
    if model.connector != "none":
        options.setdefault("tokens", cell.setting.tokens)
    check_connector(model.connector, options)
    values = config.plain(base.training) | {"lr": lr} | model.training
    training = config.parse(TrainingSettings, values, f"models: {model.name}: training")
    check_afresh(training, "bench")
    evaluation = base.evaluation if is_probed(bench, cell) else replace(base.evaluation, probes=())
    return replace(
        base,
        evaluation=evaluation,
        name=cell.path.as_posix().replace("/", " "),
        seeds=(cell.seed,),
        training=training,
        models=(
            ModelSection(
                model.name, model.connector, options, model.language, model.multimodal, share=1.0, preset="given"
            ),
        ),
        language=bench.languages[cell.setting.language],
        noise=bench.noises.get(cell.setting.noise, base.noise),
    )


def base_recipe(bench: BenchRecipe, folder: Path | None = None) -> Recipe:
    """Return the recipe that all cells start from, with the changes of the bench.

    folder: what relative paths in `set` are relative to; `load_bench` has made them absolute.
    """
    data = config.plain(load_recipe(bench.base))
    for place, value in _leaves(bench.set):
        config.set_key(data, place, value)
    return config.parse(Recipe, data, f"{bench.base} with the changes of {bench.name}", base=folder)


def _leaves(tree: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        full = f"{place}.{key}" if place else key
        if isinstance(value, dict):
            yield from _leaves(value, full)
        else:
            yield full, value


def load_bench(source: str, changes: tuple[str, ...] = ()) -> BenchRecipe:
    """Load a bench: a YAML file, or the name of one that is shipped.

    Args:
        source: path of a file, or one of `shipped_benches()`. changes: `section.key=value`, set on top.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    bench = config.load(BenchRecipe, source, shipped_benches(), "bench", changes)
    folder = Path(source).parent if Path(source).is_file() else Path.cwd()
    base = config.plain(base_recipe(bench, folder))
    changed = {place: reduce(lambda at, key: at[key], place.split("."), base) for place, _ in _leaves(bench.set)}
    bench = replace(bench, set=changed)
    for _, cell in cells_of(bench):
        recipe_of(bench, cell, bench.tuning.lr[0])  # refuses what no cell could do, before anything runs
    return bench


def shipped_benches() -> dict[str, Path]:
    """Return the benches that come with the package, by name."""
    return config.shipped_in("tgqformer.experiments.bench", "grids")
