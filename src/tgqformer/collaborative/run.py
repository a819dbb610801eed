"""A run: a folder with everything that one training made.

RUN/
  preset.yaml            every setting, written out
  run.json               the data: where, fingerprint, counts; the device; seconds
  log.jsonl              a row an epoch
  checkpoint/            what a killed training goes on from
  weights.safetensors    what the training ended with (none for models that count)
  vectors.safetensors    item vectors [N, d], as the model's score takes them; items.json: their ids, in order
  metrics.json           what the preset's protocol says of the test part
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from tgqformer.collaborative.base import Recommender
from tgqformer.collaborative.data import Split, read_split
from tgqformer.collaborative.evaluate import evaluate
from tgqformer.collaborative.models import make_recommender
from tgqformer.collaborative.settings import Preset, load_preset
from tgqformer.collaborative.training import train_epochs
from tgqformer.config import plain, write
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import read_log
from tgqformer.files import atomic_path, read_json, write_json
from tgqformer.pairs.pairs import Pairs
from tgqformer.training.loop import Validation
from tgqformer.types import Ints, Vectors


@dataclass(frozen=True)
class Content:
    """Content features: ids, and float32 [n, Df] in their order. `source` says where they came from."""

    ids: list[str]
    vectors: Vectors
    source: str = ""

    def fingerprint(self) -> str:
        """Return 16 hex digits of ids and vectors."""
        digest = blake2b("\0".join(self.ids).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()


def train_run(
    preset: Preset,
    folder: Path,
    *,
    data: Path | None = None,
    device: str = "cpu",
    content: Content | None = None,
    pairs: Pairs | None = None,
    shown: bool = True,
) -> dict[str, float]:
    """Train a preset in `folder`, or go on where it was; write weights, item vectors and metrics.

    data: where the interactions are, instead of the preset's own. content: features of items; items that only these
    know are new ones, without interactions. pairs: what pinsage trains on instead of users' items.

    Returns:
        What the preset's protocol says of the test part.

    Raises:
        TgqError: for unreadable data, or a folder that holds a run of another preset, other data, or more epochs.
    """
    place = data or (Path(preset.data) if preset.data else None)
    if place is None:
        raise TgqError(f"the preset {preset.name} names no data; say with --log where the interactions are")
    preset = dataclasses.replace(preset, data=str(place))
    split, features = _with_content(read_split(place, preset.split, preset.log), content)
    places = _places(pairs, split)
    digest = None if places is None else blake2b(np.stack(places).tobytes(), digest_size=8).hexdigest()
    _same_run(folder, preset, split, content)
    _same_training(folder, preset, digest)
    model = make_recommender(preset, split, device=device, features=features, pairs=places)
    about = {
        "model": preset.model,
        "score": model.score,
        "data": str(place),
        "fingerprint": split.fingerprint,
        "content": content.source if content else None,
        "content_fingerprint": content.fingerprint() if content else None,
        "pairs_fingerprint": digest,
        "users": split.users,
        "items": split.items,
        "interactions": {name: len(getattr(split, name).indices) for name in ("train", "valid", "test")},
    }
    write(preset.whole(), folder / "preset.yaml")
    write_json(folder / "run.json", about)
    start = time.perf_counter()
    _train(model, preset, split, folder, shown=shown)
    _keep(model, split, folder)
    metrics = evaluate(model, split, preset.evaluation, shown=shown)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "run.json", {**about, "device": device, "seconds": round(time.perf_counter() - start, 1)})
    return metrics


def evaluate_run(
    folder: Path, *, data: Path | None = None, device: str = "cpu", content: Content | None = None, shown: bool = True
) -> dict[str, float]:
    """Judge the test part again with the weights of a finished run; writes `metrics.json`.

    Raises:
        TgqError: where the run is not finished, or the data are no longer those it was trained on.
    """
    run = load_run(folder, data=data, device=device, content=content)
    metrics = evaluate(run.model, run.split, run.preset.evaluation, shown=shown)
    write_json(folder / "metrics.json", metrics)
    return metrics


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its preset, the interactions it was made of, the model with its weights."""

    preset: Preset
    split: Split
    model: Recommender


def load_run(
    folder: Path, *, data: Path | None = None, device: str = "cpu", content: Content | None = None
) -> FinishedRun:
    """Load a finished run; raises TgqError where it is not finished, or the data are not those it was trained on."""
    preset = open_run(folder)
    split, features = _with_content(read_split(data or Path(str(preset.data)), preset.split, preset.log), content)
    _same_run(folder, preset, split, content)
    model = make_recommender(preset, split, device=device, features=features)
    if model.objective is not None:
        _load(model.objective.model, folder)
    return FinishedRun(preset, split, model)


def open_run(folder: Path) -> Preset:
    """Read the preset of a run; raises TgqError where there is none."""
    if not (folder / "preset.yaml").is_file() or not (folder / "run.json").is_file():
        raise TgqError(f"{folder} holds no run; `tgq collab train` makes one")
    return load_preset(str(folder / "preset.yaml"))


@dataclass(frozen=True)
class ItemVectors:
    """Item vectors of a run: ids [N], float32 [N, d], how two are compared, and a version that names the weights."""

    ids: list[str]
    vectors: Vectors
    score: str
    version: str


def item_vectors(folder: Path) -> ItemVectors:
    """Read the item vectors of a finished run.

    Raises:
        TgqError: where the run is not finished, or its model only counts and has no vectors.
    """
    preset, about = open_run(folder), read_json(folder / "run.json")
    if not (folder / "vectors.safetensors").is_file():
        counts = (folder / "metrics.json").is_file()
        raise TgqError(
            f"{folder}: {preset.model} counts pairs and has no item vectors; embed a trained model"
            if counts
            else f"{folder} is not finished; call `tgq collab train` again, which goes on where it was"
        )
    ids = read_json(folder / "items.json")
    try:
        vectors = load_arrays(folder / "vectors.safetensors")["items"]
    except (SafetensorError, KeyError) as error:
        raise TgqError(f"{folder / 'vectors.safetensors'} is damaged: {error}; train the run again") from error
    digest = blake2b(np.ascontiguousarray(vectors).tobytes(), digest_size=6).hexdigest()
    return ItemVectors(ids, vectors, about["score"], f"{preset.name}-{digest}")


def vectors_for(found: ItemVectors, ids: list[str]) -> tuple[Vectors, int]:
    """Return the vectors of `ids` in their order, zeros where there is none, and how many have none."""
    places = {item: place for place, item in enumerate(found.ids)}
    at = np.array([places.get(item, -1) for item in ids], dtype=np.int64)
    vectors = np.where((at >= 0)[:, None], found.vectors[at], 0.0).astype(np.float32)
    return vectors, int((at < 0).sum())


def for_cosine(vectors: Vectors) -> Vectors:
    """Add a coordinate so that the cosine with a query (q, 0) orders items as the dot product with q does.

    Every vector becomes as long as the longest one (Bachrach et al., RecSys 2014), so that a store of cosines finds
    the greatest dot products exactly. It is the order for users; between two items it is not their dot product.
    """
    squares = (vectors.astype(np.float64) ** 2).sum(1)
    extra = np.sqrt(np.maximum(squares.max(initial=0.0) - squares, 0.0))
    return np.concatenate([vectors, extra[:, None].astype(np.float32)], axis=1)


def _train(model: Recommender, preset: Preset, split: Split, folder: Path, *, shown: bool) -> None:
    """Train; with a validation part, keep what is best on it. The test part is only looked at for the log."""
    has_validation = bool(len(split.valid.indices))
    watch = f"ndcg@{preset.evaluation.k}" if has_validation else None

    def validate() -> Validation:
        found = evaluate(model, split, preset.evaluation, validation=has_validation)
        figures = {name: value for name, value in found.items() if name != "users"}
        return Validation(figures, figures[watch] if watch else None)

    train_epochs(model.objective, preset.training, folder, validate=validate, shown=shown)


@torch.no_grad()
def _keep(model: Recommender, split: Split, folder: Path) -> None:
    """Write final weights and item vectors."""
    if model.objective is not None:
        named = model.objective.model.named_parameters()
        weights = {name: weight.detach().cpu().contiguous() for name, weight in named}
        with atomic_path(folder / "weights.safetensors") as unfinished:
            save_file(weights, unfinished)
    if model.vectors is not None:
        vectors = model.vectors().detach().float().cpu().contiguous()
        with atomic_path(folder / "vectors.safetensors") as unfinished:
            save_file({"items": vectors.clone()}, unfinished)
        write_json(folder / "items.json", split.item_names)


def _load(model: torch.nn.Module, folder: Path) -> None:
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise TgqError(f"{folder} is not finished; call `tgq collab train` again, which goes on where it was")
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise TgqError(f"{path} does not fit the run's preset: {error}; train it again") from error
    model.eval()


def _with_content(split: Split, content: Content | None) -> tuple[Split, Vectors | None]:
    """Join items that only the content knows, and put the features in the order of the items (zeros where none)."""
    if content is None:
        return split, None
    known = set(split.item_names)
    names = split.item_names + [item for item in content.ids if item not in known]
    grown = dataclasses.replace(split, item_names=names)
    features, missing = vectors_for(ItemVectors(content.ids, content.vectors, "", ""), names)
    if missing == len(split.item_names):
        raise TgqError(
            f"the content features {content.source} know none of the {missing} items of the interactions; are both of"
            " one shop?"
        )
    return grown, features


def _places(pairs: Pairs | None, split: Split) -> tuple[Ints, Ints] | None:
    """Return the places of the two items of each pair that has both among the items."""
    if pairs is None:
        return None
    a, b = pairs.within(split.item_names).positions(split.item_names).T
    return a, b


def _same_run(folder: Path, preset: Preset, split: Split, content: Content | None) -> None:
    """Refuse a folder whose run is of another preset (more epochs are fine), other data or other content."""
    if not (folder / "run.json").is_file():
        return
    about = read_json(folder / "run.json")
    before, now = plain(open_run(folder).whole()), plain(preset.whole())
    for settings in (before, now):
        settings["training"].pop("epochs")
        settings.pop("data")
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise TgqError(f"{folder} holds a run of another preset ({', '.join(changed)} differ); choose another folder")
    if bool(about["content_fingerprint"]) != (content is not None):
        how = "with" if about["content_fingerprint"] else "without"
        raise TgqError(f"{folder} was trained {how} content features; do the same")
    if content is not None and about["content_fingerprint"] != content.fingerprint():
        raise TgqError(f"{folder} was trained with other content ({about['content']}); give that, or another folder")
    if about["fingerprint"] != split.fingerprint or about["items"] != split.items:
        raise TgqError(f"{folder} was trained on other data ({about['data']}); give those, or choose another folder")


def _same_training(folder: Path, preset: Preset, pairs: str | None) -> None:
    """Refuse a folder whose training had other pairs, or went further already than it is to go."""
    if not (folder / "run.json").is_file():
        return
    if read_json(folder / "run.json").get("pairs_fingerprint", pairs) != pairs:
        raise TgqError(f"{folder} was trained with other --pairs, or without; do the same, or choose another folder")
    done = max((int(row["epoch"]) for row in read_log(folder / "log.jsonl")), default=0)
    if preset.training.epochs < done:
        raise TgqError(
            f"{folder} has trained {done} epochs already, and training.epochs is {preset.training.epochs}; choose"
            " another folder"
        )
