"""`tgq run`, `tgq demo`, `tgq recipes`: a whole run from one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tgqformer.cli.options import Overwrite, list_shipped, say
from tgqformer.errors import TgqError
from tgqformer.experiments import Until

Precision = Literal["auto", "float32", "bfloat16"]  # as encoders.frozen has it; not imported for the help


def run(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a shipped recipe (see `tgq recipes`)")],
    to: Annotated[Path | None, typer.Option(help="folder of the run  [default: runs/NAME]")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="change a key: `--set training.steps=200`; repeatable")
    ] = None,
    until: Annotated[Until, typer.Option(help="stop after this stage")] = "report",
    recheck: Annotated[
        bool, typer.Option("--recheck", help="read every source again, whatever its size and time of change say")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="take over the folder of a run of another recipe")
    ] = False,
) -> None:
    """Run a recipe from raw files to a served table: import, pairs, features, training, evaluation, embedding, index,
    neighbours, report.

    Every stage is kept in the run's folder. A second call makes again what depends on a changed file or setting, and
    nothing else: call it every night. A killed call goes on where it was.

    Examples:

        tgq run demo

        tgq run fashion --set catalog.source=data/fashion --set seeds=[0]

        tgq run my-shop.yaml --to runs/my-shop --until evaluate

        tgq run my-shop.yaml --recheck
    """
    from tgqformer.config import slug
    from tgqformer.experiments.recipe import load_recipe
    from tgqformer.experiments.run import execute

    loaded = load_recipe(recipe, tuple(change or ()), deep=False)  # `execute` checks the rest
    folder = to or Path("runs") / slug(loaded.name)
    done = execute(loaded, folder, until, recheck=recheck, overwrite=overwrite)
    if until in ("neighbours", "report"):
        first = next(iter(done.shown_catalog.items(0, 1, pictures=False))).id
        say(
            "\nWhat to do next:\n"
            f"  tgq similar {first} --store {folder / 'store'} --html similar.html\n"
            f"  tgq serve {folder}\n"
            f"  open {folder / 'report.html'}"
        )


def init(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="its products, as `tgq catalog import` reads them")],
    log: Annotated[Path, typer.Argument(metavar="LOG", help="its clicks or orders, as `tgq pairs mine` reads them")],
    to: Annotated[Path, typer.Option(help="the recipe to write")] = Path("shop.yaml"),
    overwrite: Overwrite = False,
) -> None:
    """Look at a shop's export and its clicks, say what was found and guessed, and write a recipe with comments.

    `tgq run` does the rest. Look at the recipe first: every line may be changed.

    Example:

        tgq init shop-export.csv clicks.csv

    Then:

        tgq run shop.yaml
    """
    from tgqformer.experiments.first_day import look_at, recipe_of
    from tgqformer.files import write_text

    if to.exists() and not overwrite:
        raise TgqError(f"{to} exists; replace it with --overwrite, or name another one with --to")
    if to.resolve() in (export.resolve(), log.resolve()):
        raise TgqError(f"{to} is what is read; name another file with --to")
    found = look_at(export, log)
    for line in found.lines:
        say(line)
    write_text(to, recipe_of(found, to.parent))
    say(f"\nrecipe in {to}; now: tgq run {to}")


def demo(
    to: Annotated[Path, typer.Option(help="folder of the run")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="train nothing: take the pretrained model `small`")] = False,
    change: Annotated[list[str] | None, typer.Option("--set", help="change a key of the recipe; repeatable")] = None,
) -> None:
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

    execute(load_recipe("quick" if quick else "demo", tuple(change or ()), deep=False), to, "report")
    say(
        "\nWhat to try next:\n"
        f"  tgq serve {to}, and look around on http://127.0.0.1:8000\n"
        f"  open {to / 'report.html'} in a browser\n"
        f"  tgq similar studio-00042 --store {to / 'store'}\n"
        f"  tgq similar studio-00042 --store {to / 'store'} --html similar.html\n"
        f"  tgq noise sheet {to / 'catalog'} --to noise.png"
    )


def recipes() -> None:
    """List the recipes that come with the package, and where they are.

    Example:

        tgq recipes
    """
    from tgqformer.experiments.recipe import shipped_recipes

    list_shipped(shipped_recipes())


def embed(
    model: Annotated[Path, typer.Argument(help="a saved model: the folder `model` of a training")],
    catalog: Annotated[Path, typer.Argument(help="a catalogue made by `tgq catalog import`")],
    to: Annotated[Path, typer.Option(help="folder for the embeddings")],
    batch_size: Annotated[int, typer.Option(min=1, help="items at once")] = 64,
    workers: Annotated[
        int | None, typer.Option(min=1, help="threads that read and embed  [default: one per processor]")
    ] = None,
    truncate_dim: Annotated[int | None, typer.Option(min=1, help="keep the first so many dimensions")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    precision: Annotated[
        Precision, typer.Option(help="of matrix products; auto: bfloat16 where the processor has it, which is faster")
    ] = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Embed every item of a catalogue, in partitions: a killed job goes on where it was, a finished one stays as it is.

    Example:

        tgq embed runs/fashion/models/tgq-former/served/model runs/fashion/catalog --to embeddings
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.stages import make_way
    from tgqformer.store.embed import embed_catalog

    make_way(to, "embeddings", resumable=True, sources=[model, catalog])
    report = embed_catalog(
        ItemEmbedder.load(model, device),
        Catalog.open(catalog),
        to,
        batch_size=batch_size,
        workers=workers,
        truncate_dim=truncate_dim,
        precision=precision,
        overwrite=overwrite,
    )
    say(f"embedded {report.embedded:,} items into {to}")
    if report.unreadable:
        kept = to / "unreadable.json"
        count = len(report.unreadable)
        say(f"{count:,} pictures could not be read; those items are embedded by their text, see {kept}")


def register(app: typer.Typer) -> None:
    """Put the commands on the root."""
    for command in (demo, init, run, recipes, embed):
        app.command()(command)
