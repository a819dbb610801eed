"""What a bench has to do, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tgqformer.experiments.bench.grid import Cell
from tgqformer.files import read_json, write_json


@dataclass(frozen=True)
class CellTask:
    """A cell to train and measure, or (`tuning`) a learning rate to try on validation alone."""

    cell: Cell
    lr: float
    tuning: bool = False

    @property
    def path(self) -> Path:
        """Its folder, below that of the bench."""
        return Path("tuning") / self.cell.path / f"lr-{self.lr:g}" if self.tuning else Path("cells") / self.cell.path

    @property
    def kind(self) -> Path:
        """What it shares with tasks that take alike long: all but seed and learning rate."""
        return self.path.parent.parent if self.tuning else self.path.parent

    @property
    def title(self) -> str:
        """For people."""
        own = self.cell
        return f"{own.model} · {own.setting.title} · " + (f"lr {self.lr:g}" if self.tuning else f"seed {own.seed}")


@dataclass(frozen=True)
class Done:
    """A task that was done, and the seconds it took."""

    task: CellTask
    seconds: float


class Clock:
    """Seconds of the tasks that were done, kept in a file.

    Args:
        path: of the file. jobs: how many tasks run side by side.
    """

    def __init__(self, path: Path, jobs: int = 1) -> None:
        self.path, self.jobs = path, jobs
        self.took: dict[str, list[float]] = read_json(path) if path.exists() else {}

    def note(self, done: Done) -> None:
        """Keep how long a task took."""
        self.took.setdefault(done.task.kind.as_posix(), []).append(round(done.seconds, 2))
        write_json(self.path, self.took)

    def left(self, tasks: Sequence[CellTask]) -> str:
        """Say about how long these tasks will take; nothing as long as none was done.

        A kind of task that was not seen yet takes as long as the usual one of its stage, or of all.
        """
        if not self.took or not tasks:
            return ""
        total = sum(self._expected(task) for task in tasks) / min(self.jobs, len(tasks))
        minutes = max(1, round(total / 60))
        return "about " + (f"{minutes} min left" if minutes < 120 else f"{minutes / 60:.1f} h left")

    def _expected(self, task: CellTask) -> float:
        kind = task.kind.as_posix()
        if kind in self.took:
            return mean(self.took[kind])
        stage = [mean(seconds) for other, seconds in self.took.items() if other.startswith(task.path.parts[0])]
        return mean(stage or [mean(seconds) for seconds in self.took.values()])
