"""`tgq store`: which versions a store holds, which one is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tgqformer.cli.options import say

if TYPE_CHECKING:
    from rich.table import Table

    from tgqformer.store.base import Store

Form = Literal["float32", "float16", "int8"]  # as store.base.Dtype, which is not imported for the help's sake
STORE_HELP = "A folder, the URI of an object store (s3://…), or postgresql://user@host/database."

app = typer.Typer(
    help="Versions of a store: one for each model, built beside each other; one is served.", no_args_is_help=True
)
StorePlace = Annotated[str, typer.Argument(metavar="STORE", help=STORE_HELP)]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, as `tgq store versions` lists it.")]


@app.command()
def versions(store: StorePlace) -> None:
    """List the versions of a store: model, form, rows, index, size; the served one is marked.

    Examples:

        tgq store versions store

        tgq store versions "postgresql://me@db.shop/search?schema=shop"
    """
    from tgqformer.progress import Terminal
    from tgqformer.store import open_store

    Terminal().print(_table(open_store(store)))


@app.command()
def serve(store: StorePlace, version: VersionName) -> None:
    """Serve another version from now on. Servers that run notice within a second and need no restart.

    Example:

        tgq store serve store v3
    """
    from tgqformer.store import open_store

    opened = open_store(store)
    served = opened.serve(version)
    say(f"{opened.where} serves {served.name}, model {served.model_version}")


@app.command()
def rollback(store: StorePlace) -> None:
    """Serve the version that was served before the present one; the present one stays.

    Example:

        tgq store rollback store
    """
    from tgqformer.store import open_store

    opened = open_store(store)
    served = opened.rollback()
    say(f"{opened.where} serves {served.name} again, model {served.model_version}")


@app.command()
def drop(store: StorePlace, version: VersionName) -> None:
    """Remove a version for good, whole or unfinished; the served one is refused.

    Example:

        tgq store drop store v1
    """
    from tgqformer.store import open_store

    opened = open_store(store)
    opened.drop(version)
    say(f"{version} is gone from {opened.where}")


@app.command()
def optimize(
    store: StorePlace,
    version: Annotated[str | None, typer.Option(help="This version, not the served one.")] = None,
) -> None:
    """Bring the index of a version up to date after many single writes. Searches are right without it, only slower.

    Example:

        tgq store optimize store
    """
    from tgqformer.store import open_store

    table = open_store(store).table(version)
    table.optimize()
    stats = table.stats()
    say(f"version {stats.version.name}: {stats.indexed:,} of {stats.rows:,} rows indexed")


def _table(store: Store) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(store.where), title_justify="left")
    for name in ("", "version", "label", "model", "kept as"):
        table.add_column(name)
    for name in ("rows", "indexed", "MB"):
        table.add_column(name, justify="right")
    table.add_column("created")
    for one in store.stats():
        made = one.version
        size = "" if one.bytes is None else f"{one.bytes / 1e6:,.1f}"
        words = (
            "served" if one.served else "",
            made.name,
            made.label,
            made.model_version,
            f"{made.dim} x {made.dtype}",
        )
        table.add_row(*map(Text, (*words, f"{one.rows:,}", f"{one.indexed:,}", size, made.created)))
    for made in store.unfinished():
        words = ("unfinished", made.name, made.label, made.model_version, f"{made.dim} x {made.dtype}")
        table.add_row(*map(Text, (*words, "", "", "", made.created)))
    return table
