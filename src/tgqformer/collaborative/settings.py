"""A preset: which model, on which split, trained how, judged how. One YAML, checked key by key."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

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
from tgqformer.errors import TgqError
from tgqformer.files import write_text

Protocol = Literal["full", "leave-one-out"]
OPTIONS: dict[str, type[Any]] = {
    "lightgcn": LightGCNSettings, "ngcf": NGCFSettings, "sasrec": SASRecSettings, "pinsage": PinSageSettings,
    "popularity": PopularitySettings, "co-occurrence": CooccurrenceSettings, "item-knn": ItemKnnSettings,
    "swing": SwingSettings, "ease": EaseSettings,
}  # fmt: skip
"""The models, and the class that their `options` are."""


@dataclass(frozen=True)
class LoopSettings:
    """How a model is trained, by Adam.

    Args:
        epochs: at most. batch: triples, users, sequences or pairs a step. lr, betas: of Adam. decay: factor of the
            learning rate after each epoch.
        evaluate_every: epochs between evaluations: on validation where the split has it; 0 for none.
        patience: evaluations without a better one before the training stops, which needs validation; 0 never stops it.
            With validation the best weights are kept, without it the last.
        checkpoint_every: epochs between checkpoints; 0 for none.
    """

    epochs: int = 100
    batch: int = 2048
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 1.0
    evaluate_every: int = 10
    patience: int = 0
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.lr < float("inf") or not 0 < self.decay <= 1:
            raise ValueError(f"training takes epochs, batch >= 1, lr > 0, decay in (0, 1]; found {self}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"training.betas lie in [0, 1), found {list(self.betas)}")
        if min(self.evaluate_every, self.patience, self.checkpoint_every) < 0:
            raise ValueError("training.evaluate_every, patience and checkpoint_every must be 0 or more")
        if self.patience and not self.evaluate_every:
            raise ValueError("training.patience counts evaluations: set training.evaluate_every")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is judged.

    Args:
        protocol: `full`, all items but those of training ranked for each user (LightGCN, NGCF); `leave-one-out`, the
            held-out item among `negatives` sampled ones (SASRec), and the full ranking beside it.
        k: of recall@k, hit@k and nDCG@k. negatives: sampled for each user. users: at most so many, drawn by `seed`.
    """

    protocol: Protocol = "full"
    k: int = 20
    negatives: int = 100
    users: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.k, self.negatives, self.users) < 1:
            raise ValueError(f"evaluation takes k, negatives, users >= 1; found {self}")


@dataclass(frozen=True)
class Preset:
    """One model on one split. `options` are those of the model's class in `OPTIONS`; `data` is where the data lies."""

    name: str
    model: str
    data: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    split: SplitSettings = field(default_factory=SplitSettings)
    training: LoopSettings = field(default_factory=LoopSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in OPTIONS:
            raise ValueError(f"there is no model {self.model!r}; {_nearest(self.model, list(OPTIONS))}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, found {self.seed}")
        has_validation = self.split.kind == "leave-one-out" or self.split.valid > 0
        if self.training.patience and not has_validation:
            raise ValueError("training.patience needs validation: set split.valid above 0")
        if self.evaluation.protocol == "leave-one-out" and self.split.kind != "leave-one-out":
            raise ValueError("evaluation.protocol leave-one-out needs split.kind leave-one-out")

    def model_options(self) -> Any:
        """Give `options` as the model's own class, checked."""
        return _parse(OPTIONS[self.model], self.options, f"{self.name}: options")

    def to_dict(self) -> dict[str, Any]:
        """Give the preset as plain data, every default written out."""
        plain: dict[str, Any] = TypeAdapter(Preset).dump_python(self, mode="json")
        options = self.model_options()
        return {**plain, "options": TypeAdapter(type(options)).dump_python(options, mode="json")}


def load_preset(source: str, changes: tuple[str, ...] = ()) -> Preset:
    """Load a preset: a YAML file, or the name of one that is shipped; `changes` are `section.key=value`, set on top.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    path = Path(source)
    if not path.is_file():
        shipped = shipped_presets()
        if source not in shipped:
            raise TgqError(f"there is no preset file {source!r}; shipped presets are {', '.join(shipped)}")
        path = shipped[source]
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            _change(data, change)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TgqError(f"{path} or a --set is not YAML: {error}") from error
    return parse_preset(data, str(path))


def parse_preset(data: Any, where: str) -> Preset:
    """Check plain data key by key, the model's options too."""
    preset: Preset = _parse(Preset, data, where)
    preset.model_options()
    return preset


def shipped_presets() -> dict[str, Path]:
    """The presets that come with the package, by name."""
    folder = Path(str(files("tgqformer") / "collaborative" / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def write_preset(preset: Preset, path: Path) -> None:
    """Write a preset, every default written out."""
    write_text(path, yaml.safe_dump(preset.to_dict(), sort_keys=False, allow_unicode=True))


def _parse(schema: type[Any], data: Any, where: str) -> Any:
    _check_keys(data, schema, where)
    try:
        return TypeAdapter(schema).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TgqError(
            f"{where}: {place + ': ' if place else ''}{first['msg']} (found {first['input']!r:.80})"
        ) from error


def _check_keys(data: Any, schema: type[Any], where: str, place: str = "") -> None:
    if not isinstance(data, dict):
        raise TgqError(f"{where}: {place or 'a preset'} must be a section of keys, found {data!r:.60}")
    known = get_type_hints(schema)
    for key, value in data.items():
        full = f"{place}.{key}" if place else str(key)
        if key not in known:
            raise TgqError(f"{where}: {full!r} is not a key here; {_nearest(str(key), list(known))}")
        if dataclasses.is_dataclass(known[key]):
            _check_keys(value, known[key], where, full)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"


def _change(data: Any, change: str) -> None:
    place, equals, value = change.partition("=")
    *sections, key = place.split(".")
    if not equals:
        raise TgqError(f"--set {change!r} must be section.key=value, for example training.epochs=20")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise TgqError(f"--set {change!r}: {section!r} is not a section")
    data[key] = yaml.safe_load(value)
