"""A study: a catalogue with its content model, a log, models of behaviour, ways to join. One YAML, checked by key."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tgqformer import config
from tgqformer.collaborative.settings import Preset
from tgqformer.config import FilePath, Natural, Positive, PositiveFloat, Seeds, settings, unique_slugs
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import Recipe, RecipeName, load_recipe
from tgqformer.pairs.columns import LogSettings

OpenShare = Annotated[float, Field(gt=0, lt=1)]
Way = Literal["cosine", "next"]


@settings
class ContentSection:
    """The content model.

    Args:
        recipe: a recipe, shipped or a file; its catalogue, noise and encoders are those of the study. model: which of
            its models; the first one, if not named. set: changes of the recipe, as `tgq run --set` takes them.
    """

    recipe: RecipeName = "fashion"
    model: str | None = None
    set: tuple[str, ...] = ()

    def load(self) -> Recipe:
        """Read the recipe, with the one model alone; raise TgqError where it has no such model."""
        recipe = load_recipe(self.recipe, ("evaluation.views=[mixed]", "evaluation.probes=[]", *self.set))
        chosen = [model for model in recipe.models if self.model in (None, model.name)]
        if not chosen:
            names = ", ".join(model.name for model in recipe.models)
            raise TgqError(f"content.model: {self.recipe} has no model {self.model!r}; it has {names}")
        return dataclasses.replace(recipe, models=tuple(chosen[:1]))


@settings
class LogSection:
    """The log: a file, or shoppers simulated on the catalogue.

    interactions: the file, as `tgq pairs mine` reads it. shoppers: which are simulated instead.
    read: how the file is read. sessions_per_item, sharpness, seed: of the simulated ones. Shoppers here are less strict
    than those that test content alone (`sharpness` 2): else what was clicked before is all that is ever clicked, and
    counting is enough.
    """

    shoppers: Literal["fashion", "studio"] | None = None
    interactions: FilePath | None = None
    read: LogSettings = LogSettings()
    sessions_per_item: PositiveFloat = 4.0
    sharpness: PositiveFloat = 0.7
    seed: Natural = 0

    def __post_init__(self) -> None:
        if (self.shoppers is None) == (self.interactions is None):
            raise ValueError("give one of shoppers and interactions")


@settings
class ProtocolSettings:
    """How the log is split, see `joined.log`.

    Args:
        valid, test: shares of the time that are held out for validation and for the test.
        new, few: shares of the items that lose all, or nearly all, of their training clicks.
        few_clicks: clicks that make an item one of few: 1 to this.
        validation_items: share of the items that are queries of the validation; the others are of the test.
        queries: of each bucket at most. k: how long the lists are. seed: of hashes and draws.
    """

    valid: OpenShare = 0.1
    test: OpenShare = 0.2
    new: Annotated[float, Field(ge=0, lt=1)] = 0.15
    few: Annotated[float, Field(ge=0, lt=1)] = 0.2
    few_clicks: Positive = 3
    validation_items: OpenShare = 0.25
    queries: Positive = 3000
    k: Annotated[int, Field(ge=10)] = 200
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.valid + self.test >= 1 or self.new + self.few >= 1:
            raise ValueError("valid and test, new and few are shares that leave something to train on")


@settings
class System:
    """One model of behaviour.

    Args:
        name: in tables. model, options, training: as in a preset of `tgq collab train`. content: whether it is given
            the content vectors. by: `cosine` of the item vectors, or `next`: the scores of a history of the item alone.
        ablation: whether it is a variant of another system, and so stands in the table of variants only.
    """

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    content: bool = False
    by: Way = "cosine"
    ablation: bool = False

    def preset(self, seed: int) -> Preset:
        """Return the preset of one seed."""
        plain = {"name": self.name, "model": self.model, "options": self.options, "training": self.training}
        return config.parse(Preset, {**plain, "seed": seed}, f"system {self.name!r}")


@settings
class Spread:
    """Content spread over behaviour, see `fusion.spread`.

    Args:
        content, behaviour: sources of the vectors and of the lists. share: how much of what is spread is taken.
    """

    content: str
    behaviour: str
    share: float = 1.0


@settings
class JoinSection:
    """How content and behaviour are joined. A source is `content`, the name of a system or of a spread.

    Args:
        spreads: name → content vectors that are spread over the lists of a model of behaviour. near: items of a list.
        alike: name → sources whose lists are fused by reciprocal rank, all alike.
        blends: name → sources whose lists are blended, with weights for each bucket of queries learned on validation.
    """

    spreads: dict[str, Spread] = field(default_factory=dict)
    near: int = 30
    alike: dict[str, tuple[str, ...]] = field(default_factory=dict)
    blends: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return the sources of every join, by its name, in the order in which they are made."""
        spreads = {name: (spread.content, spread.behaviour) for name, spread in self.spreads.items()}
        return {**spreads, **self.alike, **self.blends}


@settings
class Study:
    """All of a study.

    Args:
        name: of the study and its folder. seeds: each system is trained once with each.
    """

    name: str
    log: LogSection
    content: ContentSection = ContentSection()
    protocol: ProtocolSettings = ProtocolSettings()
    systems: tuple[System, ...] = ()
    join: JoinSection = JoinSection()
    seeds: Seeds = (0, 1, 2)

    def __post_init__(self) -> None:
        unique_slugs("systems", [system.name for system in self.systems])
        for system in self.systems:
            system.preset(0)
        known = {"content", *(system.name for system in self.systems)}
        for name, sources in self.join.sources().items():
            unknown = set(sources) - known
            if unknown or name in known:
                raise ValueError(f"join: {name!r} has unknown sources {sorted(unknown)}, or its name is taken")
            known.add(name)
        unique_slugs("systems and join", ["content", *(one.name for one in self.systems), *self.join.sources()])


def load_study(source: str, changes: tuple[str, ...] = ()) -> Study:
    """Load a study: a YAML file, or the name of one that is shipped; `changes` are `section.key=value`, set on top.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    return config.load(Study, source, shipped_studies(), "study", changes)


def shipped_studies() -> dict[str, Path]:
    """Return the studies that come with the package, by name."""
    return config.shipped_in("tgqformer.experiments.study", "studies")
