"""The log of a training: a row of figures every so many steps, as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tgqformer.errors import TgqError
from tgqformer.files import write_text


@contextmanager
def training_log(
    folder: Path | None, done: int, *, tensorboard: bool = False
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield a function that appends a row, with a `step`, to `log.jsonl` in a folder; None writes nothing.

    Rows of steps after `done`, where the training is resumed, are cut.
    """
    if folder is None:
        yield lambda _: None
        return
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    write_text(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done))
    with ExitStack() as stack:
        file = stack.enter_context(path.open("a", encoding="utf-8"))
        writer = _tensorboard(folder / "tensorboard", done) if tensorboard else None
        if writer is not None:
            stack.callback(writer.close)

        def write(row: dict[str, float]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if writer is not None:
                for name in row.keys() - {"step"}:
                    writer.add_scalar(name, row[name], row["step"])

        yield write


def _tensorboard(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TgqError("training.tensorboard needs a package: pip install 'tgqformer[tensorboard]'") from error
    return SummaryWriter(folder, purge_step=done + 1)
