"""`tgq store`: which versions a store holds, which one is served."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import STORE_HELP, Overwrite, store_in, written_as
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import counted
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.store.base import Store
    from tgqformer.store.ledger import Version

app = Group(
    name="store",
    help="Versions of a store: one for each model, built beside each other; one is served.",
    no_args_is_help=True,
)
StorePlace = Annotated[
    str, typer.Argument(metavar="STORE", help=f"{STORE_HELP} Or the folder of a run.", callback=store_in)
]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, as `tgq store versions` lists it.")]


@app.command()
def versions(store: StorePlace) -> Sheet:
    """List the versions of a store: model, form, rows, index, size; the served one is marked.

    Examples:

        tgq store versions store

        tgq store versions "postgresql://me@db.shop/search?schema=shop"
    """
    from tgqformer.store import open_store

    return _versions_sheet(open_store(store))


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
def share(
    store: StorePlace,
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION=SHARE]...", help="Such as v3=0.5; none ends the test.")
    ] = None,
) -> None:
    """Let other versions give a part of the answers, the served one the rest: an A/B test.

    Who asks always gets the same version: by `visitor` where a request names one, else by the item that is asked for.
    Servers that run notice within a second. `tgq store report` compares; `tgq store serve` or `rollback` ends the test.

    Examples:

        tgq store share store v3=0.5

        tgq store share store
    """
    from tgqformer.errors import TgqError
    from tgqformer.store import open_store

    opened, parts = open_store(store), dict[str, float]()
    for word in shares or ():
        name, _, part = word.partition("=")
        if name in parts:
            raise TgqError(f"{name} is given twice; give each version one share")
        try:
            parts[name] = float(part)
        except ValueError as error:
            raise TgqError(f"{word!r} is no share; write VERSION=SHARE, such as v3=0.5") from error
    opened.share(parts)
    served = opened.served.name if opened.served else ""
    rest = f"{served} gives {1 - sum(parts.values()):.0%} of the answers"
    say(", ".join([rest, *(f"{name} {part:.0%}" for name, part in parts.items())]))
    models = Counter(one.latest for one in opened.versions() if one.name in {served, *parts})
    if any(count > 1 for count in models.values()) and parts:
        say("warning: versions of one model share; `tgq store report` tells models apart, and so not these versions")


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
    say(f"version {stats.version.name}: {stats.indexed:,} of {counted(stats.rows, 'row')} indexed")


@app.command()
def report(
    where: Annotated[str, typer.Argument(metavar="STORE", help="What `tgq serve` serves: a run, or a store.")],
    state: Annotated[Path | None, typer.Option(help="The service's folder, if it was given one by --state.")] = None,
    html: Annotated[Path | None, typer.Option(callback=written_as(".html"), help="Also write a page.")] = None,
    export_log: Annotated[
        Path | None,
        typer.Option(callback=written_as(".parquet"), help="Also write the clicks, carts and buys as a click log."),
    ] = None,
    overwrite: Overwrite = False,
) -> Sheet:
    """Say what shoppers did with the lists: CTR, carts, buys and coverage by model version and rules, with intervals.

    It reads what came to `POST /events`. The service may be running.

    Examples:

        tgq store report demo --html sales.html

        tgq store report demo --export-log clicks.parquet
    """
    from collections import Counter
    from dataclasses import asdict

    from tgqformer.service.events import export_log as write_log
    from tgqformer.service.events import read_events, read_rules
    from tgqformer.service.places import find_places
    from tgqformer.service.sales import HEAD, cells, sales_of, write_sales_page
    from tgqformer.stages import make_way
    from tgqformer.store import open_store

    places = find_places(where, state=state)
    for path, kind in ((html, "page"), (export_log, "log")):
        if path is not None:
            make_way(path, kind, overwrite=overwrite, file=True, sources=[places.state])
    items = Counter[str]()
    for one in open_store(places.store).stats():
        items[one.version.model_version] = max(items[one.version.model_version], one.rows)
    found = sales_of(read_events(places.state), read_rules(places.state), items)
    if html is not None:
        write_sales_page(html, found)
    if export_log is not None:
        say(f"{counted(write_log(places.state, export_log), 'row')} in {export_log}")
        then(f"tgq pairs mine {in_shell(export_log)} --to pairs.parquet")
    rows = []
    for sales in found:
        name, rules, *figures = cells(sales)
        lines = [one for one in zip(HEAD[2:], figures, strict=True) if one[1]]
        rows += [(*((name, rules) if at == 0 else ("", "")), *line) for at, line in enumerate(lines)]
    columns = (Column(HEAD[0]), Column(HEAD[1], cut=True), Column("figure"), Column("value (95 %)", "s"))
    return Sheet(columns, rows, data=[asdict(sales) for sales in found])


def _versions_sheet(store: Store) -> Sheet:
    columns = (
        Column("version"),
        Column("state", cut=True),
        Column("label", cut=True),
        Column("model"),
        Column("kept as"),
        Column("rows", ",d"),
        Column("indexed", ",d"),
        Column("MB", ",.1f"),
        Column("created", cut=True),
    )
    known: list[tuple[Version, str, int | None, int | None, int | None]] = []
    for one in store.stats():
        marks = [*(["served"] if one.served else []), *(["damaged"] if one.trouble else [])]
        counts = (None, None, None) if one.trouble else (one.rows, one.indexed, one.bytes)
        known.append((one.version, ", ".join(marks), *counts))
        if one.trouble:
            say(f"warning: {one.trouble}", err=True)
    whole = [*known, *((made, "unfinished", None, None, None) for made in store.unfinished())]
    rows = []
    for made, state, count, indexed, size in whole:
        kept = (made.label, " + ".join(made.models), f"{made.dim} x {made.dtype}")
        rows.append((made.name, state, *kept, count, indexed, None if size is None else size / 1e6, made.created))
    return Sheet(columns, rows, store.where)
