"""The token cache of a run as work for several: shards of it, or tasks of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgqformer.cluster.work import Maker, fill_here, fill_nothing
from tgqformer.errors import TgqError
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe, check_models
from tgqformer.progress import console
from tgqformer.stages import NOTE, Stage, Stages, check_ours, note_of

if TYPE_CHECKING:
    from tgqformer.model.caching import CacheWork


class Made(Stages):
    """Takes the stages that are made, and makes none."""

    def run(self, stage: Stage) -> Path:
        """Return the folder of a stage. Raise TgqError where it is not made of what the recipe says now."""
        if not stage.is_done():
            raise _unmade(f"the {stage.name} of {stage.folder.parent}", stage.folder.parent)
        return stage.folder


def _unmade(what: str, folder: Path) -> TgqError:
    return TgqError(
        f"{what} is not there, or made of other files or settings; let one process make it first: `tgq run RECIPE --to"
        f" {folder} --until pairs`"
    )


def work_of(recipe: Recipe, folder: Path, **how: Any) -> CacheWork:
    """Return the work of filling the cache of a run, whose catalogue and pairs are made.

    how: `size` and `workers`, see `CacheWork`.

    Raises:
        TgqError: where they are not made, or of other files or settings than the recipe says now.
    """
    from tgqformer.model.caching import CacheWork

    if note_of(folder) is None:
        raise _unmade(f"the catalogue of {folder}", folder)
    data = Dataset(recipe, folder, stages=Made())
    cache = folder / "cache"
    if not (cache / NOTE).exists():
        data.features_stage().begin()
    check_ours(cache, data.features_stage().kind)
    views = list(data.views.values())
    return CacheWork(data.catalog, data.encoders, data.language(), views, cache, **how)


def open_cache(cache: Path, recipe: Recipe, **how: Any) -> CacheWork:
    """Take up the filling of the cache of a run, on whatever machine.

    Raises:
        TgqError: where it is of other settings, or of another catalogue.
    """
    return work_of(recipe, cache.parent, **how).open()


def fill_cache(
    recipe: Recipe, folder: Path, make: Maker | None = None, *, alone: bool = True, **how: Any
) -> tuple[int, list[int]]:
    """Fill the cache of a run; return how many pictures and texts were encoded, and the pieces that are left to others.

    make: makes what is missing, or a shard of it; this process, by default. alone: whether nobody else does, see
        `CacheWork.begin`. how: see `work_of`.

    Raises:
        TgqError: where the catalogue is not made; where others are at work with other settings; where nothing was begun
            and `make` makes nothing.
    """
    check_models(recipe)
    if make is fill_nothing and not (folder / "cache" / NOTE).exists():
        raise TgqError(f"nothing was begun in {folder / 'cache'}: fill it with --shard first")
    work = work_of(recipe, folder, **how)
    work = work.open() if make is fill_nothing else work.begin(alone=alone)
    if not work.missing():
        console.print(f"{work.path} holds all that this run reads: nothing to do")
    done = (make or fill_here)(work)
    missing = work.missing()
    if not missing:
        work.finish()
    return done, missing
