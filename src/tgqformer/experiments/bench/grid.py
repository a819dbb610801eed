"""The grid of a bench: models x language models x token budgets x noises x seeds, from one YAML."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from tgqformer.connectors import check_connector
from tgqformer.experiments.recipe import (
    LanguageSection,
    ModelSection,
    Recipe,
    change_key,
    load_recipe,
    parse_as,
    parse_recipe,
    read_yaml,
)
from tgqformer.synthetic.noise import NoisePlan
from tgqformer.training.settings import TrainingSettings


@dataclass(frozen=True)
class BenchModel:
    """One model of the bench.

    Args:
        name, connector, options, language, multimodal: as in a recipe; the token budget comes from the grid.
        training: settings of training that this model alone has, shown in the report.
        ablation: whether it is a variant of TGQ-Former, not one of the connectors it is compared with.
        tuned_as: name of the model whose learning rate it takes; by default it is tuned itself.
    """

    name: str
    connector: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    language: bool = True
    multimodal: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    ablation: bool = False
    tuned_as: str | None = None

    def __post_init__(self) -> None:
        check_connector(self.connector, self.options)


@dataclass(frozen=True)
class Grid:
    """A block of cells: every combination of what it lists.

    Args:
        models: names; none listed means all. languages, noises: names from the sections above. tokens: visual tokens
            given to the language model. seeds: how many.
        probes: of how many seeds the probes are measured too; None for all.
    """

    title: str
    languages: tuple[str, ...]
    models: tuple[str, ...] = ()
    noises: tuple[str, ...] = ("catalogue",)
    tokens: tuple[int, ...] = (4,)
    seeds: int = 5
    probes: int | None = None


@dataclass(frozen=True)
class Tuning:
    """Every model is trained once with each learning rate; that of the best validation H@10 is taken.

    Args:
        lr: the learning rates; a single one means no tuning. seed: of the tuning, not one of the cells'.
    """

    lr: tuple[float, ...] = (1e-3,)
    seed: int = 1000


@dataclass(frozen=True)
class Headline:
    """What the report puts first: this model against the strongest other connector, in this setting."""

    model: str
    language: str
    noise: str = "catalogue"
    tokens: int = 4


@dataclass(frozen=True)
class BenchRecipe:
    """A whole bench.

    Args:
        base: a recipe, shipped or a file; its data, prompt, encoders, training are those of every cell.
        set: keys of it that are changed: `section.key: value`, or sections of keys.
        models, languages, noises: what the grids choose from, languages and noises by name.
    """

    name: str
    base: str
    models: tuple[BenchModel, ...]
    languages: dict[str, LanguageSection]
    grids: tuple[Grid, ...]
    headline: Headline
    set: dict[str, Any] = field(default_factory=dict)
    noises: dict[str, NoisePlan] = field(default_factory=lambda: {"catalogue": NoisePlan()})
    tuning: Tuning = Tuning()

    def __post_init__(self) -> None:
        names = {model.name for model in self.models}
        if len(names) < len(self.models):
            raise ValueError("models: each needs a name of its own")
        listed = [
            *((name, names, "models") for grid in self.grids for name in grid.models),
            *((name, set(self.languages), "languages") for grid in self.grids for name in grid.languages),
            *((name, set(self.noises), "noises") for grid in self.grids for name in grid.noises),
            *((model.tuned_as, names, "models") for model in self.models if model.tuned_as),
            (self.headline.model, names, "models"), (self.headline.language, set(self.languages), "languages"),
            (self.headline.noise, set(self.noises), "noises"),
        ]  # fmt: skip
        for name, known, section in listed:
            if name not in known:
                raise ValueError(f"{name!r} is not one of the {section}: {', '.join(sorted(known))}")
        if any(grid.seeds < 1 or min(grid.tokens) < 1 for grid in self.grids) or not self.tuning.lr:
            raise ValueError("grids need at least one seed and one token, tuning at least one learning rate")

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
        return f"{self.language}, {self.tokens} tokens" + (
            "" if self.noise == "catalogue" else f", noise: {self.noise}"
        )


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
        return Path(_slug(own.noise)) / _slug(own.language) / f"tokens-{own.tokens}" / _slug(self.model) / (
            f"seed-{self.seed}"
        )  # fmt: skip


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
        cell for grid, cell in cells_of(bench)
        if not only or any(part.lower() in f"{grid.title.lower()}/{cell.path.as_posix()}/" for part in only)
    ]  # fmt: skip


def is_probed(bench: BenchRecipe, cell: Cell) -> bool:
    """Whether one of the grids that hold a cell asks for its probes."""
    own, budgeted = cell.setting, bench.model(cell.model).connector != "none"
    return any(
        cell.seed < (grid.seeds if grid.probes is None else grid.probes)
        and own.language in grid.languages and own.noise in grid.noises
        and (own.tokens in grid.tokens or not budgeted) and cell.model in (grid.models or (cell.model,))
        for grid in bench.grids
    )  # fmt: skip


def recipe_of(bench: BenchRecipe, cell: Cell, lr: float) -> Recipe:
    """The recipe of a cell: one model, one seed, its learning rate; without probes, where no grid asks for them."""
    base, model = base_recipe(bench), bench.model(cell.model)
    options = dict(model.options)
    if model.connector != "none":
        options.setdefault("tokens", cell.setting.tokens)
    training = _training(model, {**asdict(base.training), "lr": lr, **model.training})
    evaluation = base.evaluation if is_probed(bench, cell) else replace(base.evaluation, probes=())
    return replace(
        base, evaluation=evaluation, name=cell.path.as_posix().replace("/", " "), seeds=(cell.seed,), training=training,
        models=(ModelSection(model.name, model.connector, options, model.language, model.multimodal),),
        language=bench.languages[cell.setting.language], noise=bench.noises[cell.setting.noise],
    )  # fmt: skip


def _training(model: BenchModel, values: dict[str, Any]) -> TrainingSettings:
    return parse_as(TrainingSettings, values, f"models: {model.name}: training")


def base_recipe(bench: BenchRecipe) -> Recipe:
    """The recipe that all cells start from, with the changes of the bench."""
    found = load_recipe(bench.base)
    if not bench.set:
        return found
    data = copy.deepcopy(found.to_dict())
    for place, value in _leaves(bench.set):
        change_key(data, place, value)
    return parse_recipe(data, f"{bench.base} with the changes of {bench.name}")


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
    path, data = read_yaml(source, shipped_benches(), "bench", changes)
    bench = parse_as(BenchRecipe, data, str(path))
    for _, cell in cells_of(bench):
        recipe_of(bench, cell, bench.tuning.lr[0])  # refuses what no cell could do, before anything runs
    return bench


def to_dict(bench: BenchRecipe) -> dict[str, Any]:
    """The bench as plain data, every default written out."""
    return asdict(bench)


def shipped_benches() -> dict[str, Path]:
    """The benches that come with the package, by name."""
    folder = Path(str(files("tgqformer") / "experiments" / "bench" / "grids"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _slug(name: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name.lower())
    return kept.strip("-.") or "x"
