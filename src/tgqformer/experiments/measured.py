"""What a run's folder holds of its recipe's models: each measured, and made from what the recipe says now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgqformer.catalog.catalog import Catalog
from tgqformer.config import plain, slug
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result
from tgqformer.experiments.recipe import ModelSection, Recipe, load_recipe
from tgqformer.objects import in_shell
from tgqformer.stages import note_of
from tgqformer.synthetic.noise.plan import NoisePlan


@dataclass(frozen=True)
class MeasuredRun:
    """The results of a run, its recipe's noise, and the digests of the catalogue and the pairs that all are of."""

    folder: Path
    results: list[Result]
    noise: NoisePlan
    catalog: str
    pairs: str

    @classmethod
    def open(cls, folder: Path) -> MeasuredRun:
        """Read the results of the models and seeds of a run's recipe; what an earlier recipe left is not looked at.

        Raises:
            TgqError: if it is no run's folder, or a model is not measured yet as the recipe says.
        """
        if not (folder / "models").is_dir() or not (folder / "recipe.yaml").is_file():
            raise TgqError(f"{folder} is not the folder of a run: it has no folder models; give that of `tgq run`")
        recipe, results, of = load_recipe(folder / "recipe.yaml", deep=False), list[Result](), set[tuple[str, str]]()
        for section in recipe.models:
            for seed in recipe.seeds:
                to = folder / "models" / slug(section.name) / f"seed-{seed}" / "result"
                note = note_of(to) or {}
                inputs = note.get("inputs", {})
                if not note.get("done") or not _says(recipe, section, inputs):
                    raise _unmeasured(folder, f"{section.name}, seed {seed}, is not measured yet as its recipe says")
                of.add((inputs["catalog"], inputs["pairs"]))
                results.append(Result.read(to))
        if len(of) > 1:
            raise _unmeasured(folder, "its models were measured on different data")
        return cls(folder, results, recipe.noise, *of.pop())

    def check_same_task(self, other: MeasuredRun) -> None:
        """Raise TgqError if two runs have other pairs, items or noise: then their figures do not mean the same."""
        where = f"{self.folder} and {other.folder}"
        if self.pairs != other.pairs:
            raise TgqError(f"{where} have different pairs or splits: other items count as found; run both on the same")
        if self.noise != other.noise:
            raise TgqError(f"{where} draw other noise: they look at other pictures; run both with the same noise")
        if self.catalog != other.catalog:
            ids = [Catalog.open(run.folder / "catalog").ids() for run in (self, other)]
            if ids[0] != ids[1]:
                raise TgqError(f"{where} search among different items; run both on the same catalogue")


def _says(recipe: Recipe, section: ModelSection, inputs: Mapping[str, Any]) -> bool:
    """Whether a model was measured from what the recipe says. Numbers of steps that it leaves out may be any."""
    sections = {"noise": recipe.noise, "encoders": recipe.encoders, "prompt": recipe.prompt, "model": section}
    sections |= {"training": recipe.training} | ({"language": recipe.language} if section.language else {})
    for name, said in sections.items():
        noted = inputs.get(name, {})
        if any(noted[key] != value for key, value in plain(said).items() if key in noted and value is not None):
            return False
    return inputs.get("views") == list(recipe.evaluation.views)


def _unmeasured(folder: Path, why: str) -> TgqError:
    return TgqError(f"{folder}: {why}; call `tgq run {in_shell(folder / 'recipe.yaml')} --to {in_shell(folder)}`")
