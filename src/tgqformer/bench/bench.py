"""The bench as a folder: its data, its tuning, its cells, and what is made of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

import yaml

from tgqformer.bench.cell import Measured, noised_sample, run_cell, tune_cell
from tgqformer.bench.grid import BenchRecipe, Cell, Setting, cells_of, recipe_of, to_dict
from tgqformer.bench.page import write_bench_page
from tgqformer.bench.summary import csv_of, markdown_of
from tgqformer.dataset import Dataset
from tgqformer.files import read_json, write_json, write_text
from tgqformer.progress import console
from tgqformer.reporting import NoisedSample


class Bench:
    """A bench in a folder; what is done is not done again.

    Args:
        bench: the grid. folder: holds `data/`, `tuning/`, `cells/` and the report.
    """

    def __init__(self, bench: BenchRecipe, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.cells = list(dict.fromkeys(self._alone(cell) for _, cell in cells_of(bench)))
        self._data: dict[tuple[str, str], Dataset] = {}
        self._samples: dict[str, NoisedSample] = {}
        write_text(folder / "bench.yaml", yaml.safe_dump(_plain(to_dict(bench)), sort_keys=False, allow_unicode=True))

    def run(self) -> dict[Cell, Measured]:
        """Tune, then run every cell; print where it stands and about how long the rest takes."""
        rates = self.tune()
        clock, measured = _Clock(self.folder / "clock.json"), {}
        for number, cell in enumerate(self.cells, 1):
            console.print(
                f"[bold]cell {number} of {len(self.cells)}[/] {cell.model} · {cell.setting.title} · seed {cell.seed}"
                f"{clock.left(self.cells[number - 1:])}"
            )  # fmt: skip
            recipe = recipe_of(self.bench, cell, rates[cell.model, cell.setting.language, cell.setting.noise])
            data = self.data(cell.setting)
            with clock.timing(cell):
                measured[cell] = run_cell(recipe, data, self.folder / "cells" / cell.path, self._sample(cell.setting))
        return measured

    def report(self) -> Path:
        """Run what is missing, then write table.md, table.csv and report.html; give the path of the last."""
        measured = self.run()
        write_text(self.folder / "table.md", markdown_of(self.bench, measured))
        write_text(self.folder / "table.csv", csv_of(self.bench, measured))
        tuning = read_json(self.folder / "tuning.json")
        return write_bench_page(self.folder / "report.html", self.bench, measured, tuning)

    def tune(self) -> dict[tuple[str, str, str], float]:
        """Find each model's learning rate in each language and noise, on validation alone; give and write them."""
        rates: dict[tuple[str, str, str], float] = {}
        wanted = dict.fromkeys((cell.model, cell.setting.language, cell.setting.noise) for cell in self.cells)
        tuned = dict.fromkeys((self.bench.model(name).tuned_as or name, *rest) for name, *rest in wanted)
        found: dict[tuple[str, str, str], dict[float, float]] = {}
        for number, (name, language, noise) in enumerate(tuned, 1):
            if len(self.bench.tuning.lr) == 1 or self.bench.model(name).multimodal:
                found[name, language, noise] = {self.bench.tuning.lr[0]: float("nan")}
                continue
            console.print(f"[bold]tuning {number} of {len(tuned)}[/] {name} · {language}")
            found[name, language, noise] = {lr: self._try(name, language, noise, lr) for lr in self.bench.tuning.lr}
        for name, language, noise in wanted:
            scores = found[self.bench.model(name).tuned_as or name, language, noise]
            rates[name, language, noise] = max(scores, key=lambda lr: (scores[lr], -lr))
        write_json(self.folder / "tuning.json", [
            {"model": name, "language": language, "noise": noise, "tuned_as": self.bench.model(name).tuned_as,
             "lr": rates[name, language, noise],
             "tried": {str(lr): score for lr, score in
                       found[self.bench.model(name).tuned_as or name, language, noise].items()}}
            for name, language, noise in wanted
        ])  # fmt: skip
        return rates

    def data(self, setting: Setting) -> Dataset:
        """The data of a setting; settings of the same language and noise share them."""
        key = setting.language, setting.noise
        if key not in self._data:
            first = next(cell for cell in self.cells if (cell.setting.language, cell.setting.noise) == key)
            self._data[key] = Dataset(recipe_of(self.bench, first, self.bench.tuning.lr[0]), self.folder / "data")
        return self._data[key]

    def _try(self, name: str, language: str, noise: str, lr: float) -> float:
        tokens = next(
            cell.setting.tokens for cell in self.cells
            if (cell.setting.language, cell.setting.noise) == (language, noise)
        )  # fmt: skip
        cell = Cell(Setting(language, noise, tokens), name, self.bench.tuning.seed)
        recipe = recipe_of(self.bench, cell, lr)
        data = self.data(cell.setting)
        return tune_cell(recipe, data, self.folder / "tuning" / cell.path / f"lr-{lr:g}")

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


class _Clock:
    """How long cells took, to say how long the others will."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.took: dict[str, float] = read_json(path) if path.exists() else {}

    def left(self, cells: list[Cell]) -> str:
        """Say about how long the cells that are not done will take; nothing as long as none is done."""
        open_cells = [cell for cell in cells if str(cell.path) not in self.took]
        if not self.took or not open_cells:
            return ""
        known = {_kind(Path(path)): [] for path in self.took}  # type: dict[str, list[float]]
        for path, seconds in self.took.items():
            known[_kind(Path(path))].append(seconds)
        usual = mean(self.took.values())
        total = sum(mean(known.get(_kind(cell.path), [usual])) for cell in open_cells)
        return f" · about {_duration(total)} left"

    def timing(self, cell: Cell) -> _Timing:
        """Time a cell; one that was done already is not counted."""
        return _Timing(self, str(cell.path))


class _Timing:
    def __init__(self, clock: _Clock, path: str) -> None:
        self.clock, self.path = clock, path

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.path not in self.clock.took:
            self.clock.took[self.path] = time.perf_counter() - self.started
            write_json(self.clock.path, self.clock.took)


def _kind(path: Path) -> str:
    """All but the seed: cells of one kind take alike long."""
    return str(path.parent)


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _plain(value: object) -> object:
    """Tuples as lists, so that YAML stays plain."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
