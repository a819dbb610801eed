"""A training of a trial as something that other processes can do: they open the same data and build the same model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.folds import name_of, part_of
from tgqformer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from tgqformer.experiments.trial import Trial


class TrialTraining:
    """The training of a trial in one folder, with nothing in it but plain data; called, it trains.

    Whatever is shared is made before: side by side, no process may make a stage.
    """

    def __init__(self, trial: Trial, settings: TrainingSettings, folder: Path, until: float | None) -> None:
        self._data = trial.data.recipe, trial.data.folder
        self._part = name_of(trial.data)
        self._trial = trial.section, trial.seed, trial.folder, trial.earlier
        self._recipe, self._how = trial.recipe, (settings, folder, until)
        trial.build()
        _ = trial.data.features

    def __call__(self) -> None:
        """Train."""
        from tgqformer.experiments.trial import Trial

        data = part_of(Dataset(*self._data), self._part)
        Trial(self._recipe, data, *self._trial)._train(*self._how)
