"""The log of a training: a row of figures every so many steps, as JSON lines and for trackers of Accelerate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tgqformer.errors import TgqError, nearest
from tgqformer.files import write_text

PROJECT = "tgqformer"
"""The project of W&B, the experiment of MLflow, the folder of TensorBoard."""


@contextmanager
def training_log(
    folder: Path | None, done: int, *, trackers: Sequence[Any] = (), told: Mapping[str, Any] | None = None
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield a function that appends a row, with a `step`, to `log.jsonl` in a folder; None writes nothing.

    Rows of steps after `done`, where the training is resumed, are cut.

    Args:
        folder: of the training. done: its steps so far.
        trackers: names that Accelerate knows, or its `GeneralTracker` objects. told: settings for the trackers.

    Raises:
        TgqError: for a tracker that is not known, or whose package is not installed.
    """
    if folder is None:
        yield lambda _: None
        return
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    write_text(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done))
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a", encoding="utf-8"))
        track = stack.enter_context(_tracked(folder, done, trackers, told or {})) if trackers else None

        def write(row: dict[str, float]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if track is not None:
                track(row)

        yield write


def check_trackers(names: Sequence[str]) -> None:
    """Raise TgqError for a tracker that Accelerate does not know, or whose package is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

    known, there = [str(name) for name in LOGGER_TYPE_TO_CLASS], [str(name) for name in get_available_trackers()]
    own = set(known) - {str(name) for name in LoggerType}  # registered by `register_tracker_class`
    for name in names:
        if name not in known:
            raise TgqError(f"training.trackers: there is no tracker {name!r}; {nearest(name, known)}")
        if name not in (*there, *own):
            extra = "'tgqformer[tensorboard]'" if name == "tensorboard" else name.replace("_", "-")
            raise TgqError(f"training.trackers: {name} needs a package: pip install {extra}")


@contextmanager
def _tracked(
    folder: Path, done: int, trackers: Sequence[Any], told: Mapping[str, Any]
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield a function that gives a row to trackers; they are finished whatever happens."""
    from accelerate import Accelerator

    check_trackers([name for name in trackers if isinstance(name, str)])
    run = _name_of(folder.resolve())
    place = Accelerator(log_with=list(trackers), project_dir=str(folder))
    settings = {name: value for name, value in told.items() if isinstance(value, bool | int | float | str)}
    own = {"tensorboard": {"purge_step": done + 1}, "wandb": {"name": run}, "mlflow": {"run_name": run}}
    place.init_trackers(PROJECT, settings, init_kwargs=own)
    try:
        yield partial(_give, place.trackers)
    finally:
        for tracker in place.trackers:  # not `end_training`, which ends the processes' group, too
            tracker.finish()


def _give(trackers: Sequence[Any], row: Mapping[str, float]) -> None:
    """Give a row to trackers. MLflow refuses an `@` in a name, so there `val_hit@10` is `val_hit_at_10`."""
    for tracker in trackers:
        at = "_at_" if tracker.name == "mlflow" else "@"
        tracker.log({name.replace("@", at): row[name] for name in row.keys() - {"step"}}, step=int(row["step"]))


def _name_of(folder: Path) -> str:
    """Return what trackers call a training: in the `models` of a run, the run and all below; else three folders."""
    *above, last = folder.as_posix().rsplit("/models/", 1)
    return "/".join([*(Path(place).name for place in above), last] if above else folder.parts[-3:])
