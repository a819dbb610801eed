"""Commands of `tgq pictures`: from addresses to files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import settings_of
from tgqformer.errors import TgqError
from tgqformer.objects import in_shell

app = Group(
    name="pictures", no_args_is_help=True, help="Get pictures that are named by addresses.", rich_markup_mode="markdown"
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def fetch(
    context: typer.Context,
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="A catalogue, or the export it is made from.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the pictures go; a killed job goes on.")],
    reader: Annotated[str | None, typer.Option(help="Of an export: the reader to use; found by itself.")] = None,
    picture: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Of an export: a column of pictures; may be repeated.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second to one host.", show_default="10")] = None,
    at_once: Annotated[int | None, typer.Option(help="Connections to one host.", min=1, show_default="4")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one picture.", show_default="30")] = None,
    tries: Annotated[int | None, typer.Option(help="Tries of one picture.", min=1, show_default="4")] = None,
    pause: Annotated[
        float | None, typer.Option(help="Seconds before the second try; doubled before each next.", show_default="1")
    ] = None,
    max_mb: Annotated[float | None, typer.Option(help="MB of one picture, at most.", show_default="20")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host that may lie in a private network; may be repeated."),
    ] = None,
) -> None:
    """Fetch pictures that are named by http(s) addresses, from public hosts, and say why any could not be had.

    Nothing else in this program asks for an address. Import again afterwards, with `--pictures FOLDER`: each address
    finds its file. What failed stands in `failures.csv`; another call asks for it again.

    Examples:

        tgq pictures fetch shop.csv --to photos

        tgq pictures fetch catalogs/shop --to photos --rate 5
    """
    from tgqformer.catalog.fetch.client import FetchSettings
    from tgqformer.catalog.fetch.job import FAILURES, fetch_pictures
    from tgqformer.catalog.importer import addresses_of
    from tgqformer.catalog.sink import ADDRESSES

    options: dict[str, object] = {"reader": reader, "mapping": {"pictures": picture} if picture else None}
    options = {name: one for name, one in options.items() if one is not None}
    if options and (catalog / ADDRESSES).exists():
        raise TgqError(f"{catalog} is a catalogue, which knows its addresses; --reader and --picture say nothing")
    how = settings_of(FetchSettings, context, "the fetch")
    report = fetch_pictures(addresses_of(catalog, **options), to, how, show_progress_bar=True)
    say(report.summary())
    if report.failures:
        first = report.failures[0]
        say(f"why: {to / FAILURES}, such as {first.address}: {first.reason}")
    if not report.fetched + report.there:
        raise TgqError(f"none of the {report.addresses:,} pictures could be had")
    then(f"tgq catalog import EXPORT --to catalogs/shop --pictures {in_shell(to)}")
