"""The bench as a folder: its data, its tuning, its cells, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tgqformer import config
from tgqformer.cluster.ray import Cluster
from tgqformer.config import slug
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result
from tgqformer.experiments.bench.cell import (
    Measured,
    cell_stage,
    is_whole,
    noised_sample,
    read_cell,
    tuning_stage,
    validation_of,
)
from tgqformer.experiments.bench.grid import (
    BenchRecipe,
    Cell,
    Setting,
    base_recipe,
    cells_of,
    chosen,
    load_bench,
    recipe_of,
)
from tgqformer.experiments.bench.page import write_bench_page
from tgqformer.experiments.bench.summary import csv_of, markdown_of
from tgqformer.experiments.bench.tasks import CellTask, Clock
from tgqformer.experiments.bench.workers import Do, work
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.reporting import NoisedSample
from tgqformer.experiments.untrained import untrained_results
from tgqformer.files import read_json, write_json, write_text
from tgqformer.progress import console
from tgqformer.stages import Stage, Stages, claim, only_one

Rates = dict[tuple[str, str, str], float]


class Bench:
    """A bench in a folder; what is done is not done again.

    Args:
        bench: the grid. folder: holds `data/`, `tuning/`, `cells/` and the report.
        only: parts of the names of grids or of the paths of cells; the others are left for another time.
        jobs: how many cells run side by side, each in a process of its own. cluster: where they run instead.

    Raises:
        TgqError: if one of `only` leaves no cell.
    """

    def __init__(
        self,
        bench: BenchRecipe,
        folder: Path,
        *,
        only: Sequence[str] = (),
        jobs: int = 1,
        cluster: Cluster | None = None,
    ) -> None:
        self.bench, self.folder, self.jobs, self.cluster = bench, folder, jobs, cluster
        self.every = list(dict.fromkeys(self._alone(cell) for _, cell in cells_of(bench)))
        self.cells = list(dict.fromkeys(self._alone(cell) for cell in chosen(bench, only)))
        for part in only:
            if not chosen(bench, [part]):
                where = f"in its path or its grid's title; a path is {self.every[0].path.as_posix()}"
                raise TgqError(f"no cell of {bench.name} has {part!r} {where}")
        self.stages, self._data = Stages(), dict[tuple[str, str], Dataset]()
        self._samples: dict[str, NoisedSample] = {}

    def run(self) -> dict[Cell, Measured]:
        """Tune, then run every cell; print where it stands and about how long the rest takes.

        Gives all cells that are done, those that `only` left out and that were done before among them, as long as they
        were made from what this bench says now.
        """
        claim(self.folder, "bench", self.bench.name)
        with only_one(self.folder):
            config.write(self.bench, self.folder / "bench.yaml")
            rates = self.tune()
            self._work([CellTask(cell, rates[_key(cell)]) for cell in self.cells], [])
        return self._measured()

    def _measured(self) -> dict[Cell, Measured]:
        """Read the cells that are done, without those that other settings or data made; say how many these are."""
        folders = {cell: self.folder / "cells" / cell.path for cell in self.every}
        found = {cell: read_cell(folder) for cell, folder in folders.items() if is_whole(folder)}
        other = [cell for cell, measured in found.items() if not self._is_of_this(cell, measured.lr)]
        if other:
            what = f"{len(other)} done cells are of other settings or data, and left out of the report"
            console.print(f"[yellow]{what}; call without --only to make them again[/]")
        return {cell: measured for cell, measured in found.items() if cell not in other}

    def _is_of_this(self, cell: Cell, lr: float) -> bool:
        return lr in self._rates(_key(cell)) and self._stage(CellTask(cell, lr)).is_done()

    def report(self) -> Path:
        """Run what is missing, then write table.md, table.csv and report.html; give the path of the last."""
        measured = self.run()
        untrained = {cell.setting.noise: self._untrained(cell.setting) for cell in measured}
        write_text(self.folder / "table.md", markdown_of(self.bench, measured, untrained))
        write_text(self.folder / "table.csv", csv_of(self.bench, measured, untrained))
        shown = {_key(cell) for cell in measured}
        rows = read_json(self.folder / "tuning.json")
        tuning = [row for row in rows if (row["model"], row["language"], row["noise"]) in shown]
        return write_bench_page(self.folder / "report.html", self.bench, measured, tuning, untrained)

    def _untrained(self, setting: Setting) -> list[Result]:
        """Measure what needs no training in one noise; the language model plays no part in it."""
        data = self.data(setting)
        return untrained_results(data, self.folder / "untrained" / slug(setting.noise))

    def tune(self) -> Rates:
        """Find each model's learning rate in each language and noise, on validation alone; give and write them."""
        wanted = dict.fromkeys(_key(cell) for cell in self.cells)
        tried = {self._tuned(key): self._tries(self._tuned(key)) for key in wanted}
        tasks = [task for tasks in tried.values() for task in tasks]
        scores = self._work(tasks, self.cells)
        rates: Rates = {}
        for key in wanted:
            found = {task.lr: scores[task] for task in tried[self._tuned(key)]}
            rates[key] = max(found, key=lambda lr: (found[lr], -lr)) if found else self._rates(key)[0]
        self._write_tuning(rates, {key: {task.lr: scores[task] for task in tasks} for key, tasks in tried.items()})
        return rates

    def do(self, task: CellTask) -> None:
        """Do one task in this process; an error says of which."""
        try:
            self.stages.run(self._stage(task))
        except TgqError as error:
            raise TgqError(f"{task.title}: {error}") from error

    def data(self, setting: Setting) -> Dataset:
        """The data of a setting; settings of the same language and noise share them."""
        key = setting.language, setting.noise
        if key not in self._data:
            first = next(cell for cell in self.every if (cell.setting.language, cell.setting.noise) == key)
            # Cells differ in what is measured; the data have what any of them looks at.
            recipe = replace(
                recipe_of(self.bench, first, self.bench.tuning.lr[0]), evaluation=base_recipe(self.bench).evaluation
            )
            self._data[key] = Dataset(recipe, self.folder / "data", stages=self.stages)
        return self._data[key]

    def _work(self, tasks: Sequence[CellTask], later: Sequence[Cell]) -> dict[CellTask, float]:
        """Do what is not done yet; return the best validation H@10 of all. later: cells that come after these tasks."""
        left = [task for task in tasks if not self._stage(task).is_done()]
        self._prepare(left)
        clock, after = Clock(self.folder / "clock.json", self.jobs), [CellTask(cell, 0.0) for cell in later]
        opened = partial(_opened, self.folder.resolve())
        for done in work(list(left), self.jobs, self._announced(left, after, clock), opened, self.cluster):
            left.remove(done.task)
            clock.note(done)
            if self.jobs > 1 or self.cluster is not None:
                console.print(
                    _line(f"{done.task.title} · {done.seconds:.0f} s", left, done.task, clock.left([*left, *after]))
                )
        return {task: validation_of(self.folder / task.path) for task in tasks}

    def _announced(self, left: Sequence[CellTask], after: Sequence[CellTask], clock: Clock) -> Do:
        def do(task: CellTask) -> None:
            console.print(_line(f"[bold]{task.title}[/]", left, task, clock.left([*left, *after])))
            self.do(task)

        return do

    def _prepare(self, tasks: Sequence[CellTask]) -> None:
        """Make what tasks share before any of them runs: features, and the alignment of each seed."""
        shared = {}
        for cell in (task.cell for task in tasks):
            shared[cell.setting.language, cell.setting.noise, cell.seed] = self.data(cell.setting)
        for (*_, seed), data in shared.items():
            data.alignment(seed)
            _ = data.features

    def _stage(self, task: CellTask) -> Stage:
        recipe, folder, data = self._recipe(task), self.folder / task.path, self.data(task.cell.setting)
        if task.tuning:
            return tuning_stage(recipe, data, folder)
        return cell_stage(recipe, data, folder, lambda: self._sample(task.cell.setting))

    def _recipe(self, task: CellTask) -> Recipe:
        return recipe_of(self.bench, task.cell, task.lr)

    def _tuned(self, key: tuple[str, str, str]) -> tuple[str, str, str]:
        """Whose tuning a model takes, in its language and noise."""
        own = self.bench.model(key[0])
        return (key[0] if "lr" in own.training else own.tuned_as or key[0], *key[1:])

    def _rates(self, key: tuple[str, str, str]) -> tuple[float, ...]:
        """The learning rates that a model may have: that of its own settings of training alone, or those tried."""
        given = self.bench.model(self._tuned(key)[0]).training.get("lr")
        return self.bench.tuning.lr if given is None else (float(given),)

    def _tries(self, key: tuple[str, str, str]) -> list[CellTask]:
        """The learning rates that a model is tried with; none where there is nothing to choose."""
        name, language, noise = key
        if len(self._rates(key)) == 1 or self.bench.model(name).multimodal:
            return []
        tokens = next(
            cell.setting.tokens
            for cell in self.every
            if (cell.setting.language, cell.setting.noise) == (language, noise)
        )
        if self.data(Setting(language, noise, tokens)).validation is None:
            raise TgqError(
                "no validation pairs tell which of tuning.lr is best: give one alone, or raise set.pairs.val"
            )
        cell = Cell(Setting(language, noise, tokens), name, self.bench.tuning.seed)
        return [CellTask(cell, lr, tuning=True) for lr in self.bench.tuning.lr]

    def _write_tuning(self, rates: Rates, found: dict[tuple[str, str, str], dict[float, float]]) -> None:
        """Write tuning.json; what an earlier call found for other models stays."""
        path = self.folder / "tuning.json"
        known = {
            (row["model"], row["language"], row["noise"]): row for row in (read_json(path) if path.exists() else [])
        }
        for key, lr in rates.items():
            tried = found[self._tuned(key)] or {lr: float("nan")}
            known[key] = {
                "model": key[0],
                "language": key[1],
                "noise": key[2],
                "tuned_as": self.bench.model(key[0]).tuned_as,
                "lr": lr,
                "tried": {str(rate): score for rate, score in tried.items()},
            }
        names = {model.name for model in self.bench.models}
        write_json(path, [row for key, row in known.items() if key[0] in names])

    def _sample(self, setting: Setting) -> NoisedSample:
        if setting.noise not in self._samples:
            self._samples[setting.noise] = noised_sample(self.data(setting))
        return self._samples[setting.noise]

    def _alone(self, cell: Cell) -> Cell:
        """A model without visual tokens is the same under every token budget: it is run once."""
        if self.bench.model(cell.model).connector != "none":
            return cell
        tokens = min(tokens for grid in self.bench.grids for tokens in grid.tokens)
        return replace(cell, setting=replace(cell.setting, tokens=tokens))


def open_bench(folder: Path) -> Bench:
    """Open the bench in a folder: what stands in its bench.yaml."""
    return Bench(load_bench(str(folder / "bench.yaml")), folder)


def _opened(folder: Path) -> Do:
    return open_bench(folder).do


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.setting.language, cell.setting.noise


def _line(words: str, left: Sequence[CellTask], task: CellTask, time: str) -> str:
    """Where the bench stands, in a line."""
    to_go = f"{len(left)} {'learning rates' if task.tuning else 'cells'} to go"
    return " · ".join(part for part in (words, to_go, time) if part)
