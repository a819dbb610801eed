"""How long tasks took, to say how long the others will."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from tgqformer.experiments.bench.workers import Done, Task
from tgqformer.files import read_json, write_json


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

    def left(self, tasks: Sequence[Task]) -> str:
        """Say about how long these tasks will take; nothing as long as none was done.

        A kind of task that was not seen yet takes as long as the usual one of its stage, or of all.
        """
        if not self.took or not tasks:
            return ""
        total = sum(self._expected(task) for task in tasks) / min(self.jobs, len(tasks))
        minutes = max(1, round(total / 60))
        return "about " + (f"{minutes} min left" if minutes < 120 else f"{minutes / 60:.1f} h left")

    def _expected(self, task: Task) -> float:
        kind = task.kind.as_posix()
        if kind in self.took:
            return mean(self.took[kind])
        stage = [mean(seconds) for other, seconds in self.took.items() if other.startswith(task.path.parts[0])]
        return mean(stage or [mean(seconds) for seconds in self.took.values()])
