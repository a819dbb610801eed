"""A preset: which model, on which split, trained how, judged how. One YAML."""

from __future__ import annotations

from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from tgqformer.collaborative.counting import (
    CooccurrenceSettings,
    EaseSettings,
    ItemKnnSettings,
    PopularitySettings,
    SwingSettings,
)
from tgqformer.collaborative.data import SplitSettings
from tgqformer.collaborative.lightgcn import LightGCNSettings
from tgqformer.collaborative.ngcf import NGCFSettings
from tgqformer.collaborative.pinsage import PinSageSettings
from tgqformer.collaborative.sasrec import SASRecSettings
from tgqformer.collaborative.training import EpochSettings
from tgqformer.config import Natural, Positive, load, parse, plain, settings, shipped_in
from tgqformer.pairs.columns import LogSettings

ModelName = Literal["lightgcn", "ngcf", "sasrec", "pinsage", "popularity", "co-occurrence", "item-knn", "swing", "ease"]
OPTIONS: dict[ModelName, type[Any]] = {
    "lightgcn": LightGCNSettings,
    "ngcf": NGCFSettings,
    "sasrec": SASRecSettings,
    "pinsage": PinSageSettings,
    "popularity": PopularitySettings,
    "co-occurrence": CooccurrenceSettings,
    "item-knn": ItemKnnSettings,
    "swing": SwingSettings,
    "ease": EaseSettings,
}
"""The class that the `options` of each model are."""


@settings
class EvaluationSettings:
    """How a model is judged.

    Args:
        protocol: `full`, all items but those of training ranked for each user (LightGCN, NGCF); `leave-one-out`, the
            held-out item among `negatives` sampled ones (SASRec), and the full ranking beside it.
        k: of recall@k, hit@k and nDCG@k. negatives: sampled for each user.
        users: at most so many, drawn by `seed`. seed: of all draws.
    """

    protocol: Literal["full", "leave-one-out"] = "full"
    k: Positive = 20
    negatives: Positive = 100
    users: Positive = 10_000
    seed: int = 0


@settings
class Preset:
    """One model on one split.

    Args:
        name: of the preset. model: which model. data: where the data lies. options: those of the model's class.
        log: how the file of the interactions is read. seed: of the start and of all draws.
    """

    name: str
    model: ModelName
    data: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    log: LogSettings = LogSettings()
    split: SplitSettings = field(default_factory=SplitSettings)
    training: EpochSettings = field(default_factory=EpochSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: Natural = 0

    def __post_init__(self) -> None:
        self.model_options()
        has_validation = self.split.kind == "leave-one-out" or self.split.valid > 0
        if self.training.patience and not has_validation:
            raise ValueError("training.patience needs validation: set split.valid above 0")
        if self.evaluation.protocol == "leave-one-out" and self.split.kind != "leave-one-out":
            raise ValueError("evaluation.protocol leave-one-out needs split.kind leave-one-out")

    def model_options(self) -> Any:
        """Return `options` as the model's own class, checked."""
        return parse(OPTIONS[self.model], self.options, "options")

    def whole(self) -> Preset:
        """Return the preset with every default of its model's options written out."""
        return replace(self, options=plain(self.model_options()))


def load_preset(source: str, changes: tuple[str, ...] = ()) -> Preset:
    """Load a preset: a YAML file, or the name of one that is shipped; see `config.load`."""
    return load(Preset, source, shipped_presets(), "preset", changes)


def shipped_presets() -> dict[str, Path]:
    """Return the presets that come with the package, by name."""
    return shipped_in("tgqformer.collaborative", "presets")
