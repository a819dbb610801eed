"""Commands of `tgq catalog`: bring a shop's items in, and look at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tgqformer.cli.options import Overwrite

if TYPE_CHECKING:
    from rich.table import Table

    from tgqformer.catalog import Catalog, ImportReport, Item, Picture
    from tgqformer.catalog.duplicates import Twin
    from tgqformer.catalog.importer import ImportPlan

app = typer.Typer(
    no_args_is_help=True, help="Bring a shop's items in, check them, look at them.", rich_markup_mode="markdown"
)

_Columns = list[str]


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file, or a folder of files or pictures.")],
    to: Annotated[Path, typer.Option("--to", help="The folder of the new catalogue.")],
    reader: Annotated[
        str | None, typer.Option(help="The reader to use; found by itself. `tgq catalog readers` lists them.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="The column of the id.")] = None,
    title: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the title.")] = None,
    brand: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the brand.")] = None,
    category: Annotated[
        _Columns | None, typer.Option(metavar="COLUMN", help="A level of the category path; may be repeated.")
    ] = None,
    price: Annotated[
        _Columns | None,
        typer.Option(metavar="COLUMN", help="The column of the price; of several the first filled."),
    ] = None,
    sale_price: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the price now, where it is lower.")
    ] = None,
    currency: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the currency.")] = None,
    availability: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the stock: words, yes or no, or a number.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that variants of one product share.")
    ] = None,
    created: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the day it came.")] = None,
    picture: Annotated[
        _Columns | None, typer.Option(metavar="COLUMN", help="A column of pictures: paths or bytes; may be repeated.")
    ] = None,
    attribute: Annotated[
        _Columns | None, typer.Option(metavar="COLUMN", help="A column to keep as an attribute; may be repeated.")
    ] = None,
    missing: Annotated[
        _Columns | None,
        typer.Option(metavar="VALUE", help="A value that means *not known*, such as NA; may be repeated."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the picture files lie; else beside the source.")
    ] = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Import without any pictures.")] = False,
    encoding: Annotated[
        str | None, typer.Option(help="Of text files, where it is neither UTF-8, UTF-16 nor cp1252.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of texts that are given in several, such as de or en_US.")] = "en",
    pack: Annotated[
        bool, typer.Option("--pack", help="Store the pictures in the catalogue; else they stay where they are.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first rejected row or unreadable picture; write nothing.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Read only the first N rows (to try out the columns).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name of the catalogue; else that of its folder.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read a shop's items, check every row and every picture, and write a catalogue with a report.

    Reads CSV, TSV, JSON lines, Parquet (also .gz), folders of pictures, and the layouts of well-known data sets.
    Columns with usual names are found; the columns used are shown first. Bad rows are set apart in `rejects.jsonl`.

    **Examples**

    `tgq catalog import shop.csv --to catalogs/shop`

    `tgq catalog import shop.csv --to catalogs/shop --title name --category group --category kind --pictures photos/`

    `tgq catalog import photos/ --to catalogs/photos --pack`

    `tgq catalog import meta_Video_Games.json.gz --to catalogs/games --reader amazon-2018 --limit 1000`
    """
    from tgqformer.catalog import import_catalog

    offer = {"group": group, "availability": availability, "sale_price": sale_price}
    single = {"id": id_, "title": title, "brand": brand, **offer, "currency": currency, "created": created}
    several = {"category": category, "price": price, "pictures": picture, "attributes": attribute, "missing": missing}
    columns: dict[str, str | list[str]] = {name: one for name, one in {**single, **several}.items() if one}
    if no_pictures:
        columns["pictures"] = []
    options: dict[str, object] = {"reader": reader, "mapping": columns, "pack": pack, "strict": strict, "limit": limit}
    options |= {"root": pictures, "name": name, "overwrite": overwrite, "encoding": encoding, "language": language}
    report = import_catalog(source, to, show_progress_bar=True, on_plan=_show_plan, **options)
    _show_report(report, to)
    _show_unread(to)


@app.command()
def readers() -> None:
    """List the readers: which layouts of files are recognised.

    Example: `tgq catalog readers`
    """
    from tgqformer.catalog.readers import READERS
    from tgqformer.progress import Terminal

    table = _table("reader", "reads")
    for one in READERS:
        table.add_row(f"[bold]{one.name}[/]", one.about)
    Terminal(emoji=False).print(table)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="The folder of a catalogue.")],
    item_id: Annotated[str | None, typer.Argument(help="An item to show in full.")] = None,
    first: Annotated[int, typer.Option(min=1, metavar="N", help="How many items to list.")] = 10,
) -> None:
    """Show what a catalogue holds, or one item of it.

    **Examples**

    `tgq catalog show catalogs/shop`

    `tgq catalog show catalogs/shop B000123456`
    """
    from tgqformer.catalog import Catalog

    catalog = Catalog.open(folder)
    if item_id is None:
        _show_catalog(catalog, first)
    else:
        _show_item(catalog.take([item_id])[0], catalog)


@app.command()
def duplicates(
    folder: Annotated[Path, typer.Argument(metavar="CATALOG", help="The folder of a catalogue.")],
    by: Annotated[
        Literal["both", "picture", "title"], typer.Option(help="What must be the same: picture and title, or one.")
    ] = "both",
    variants: Annotated[
        bool, typer.Option("--variants", help="Also groups of one product's variants, which are known to be one.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of them as a table.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of them as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with their pictures.")] = None,
    shown: Annotated[int, typer.Option(min=1, metavar="N", help="How many groups the page shows.")] = 200,
    overwrite: Overwrite = False,
) -> None:
    """List groups of products that are one, by picture and title, for people to look at. Nothing is changed.

    Pictures are near-identical where they are one photo, at whatever size; titles are equal, or one word without digits
    is missing or another.

    **Examples**

    `tgq catalog duplicates catalogs/shop`

    `tgq catalog duplicates catalogs/shop --by picture --html duplicates.html --csv duplicates.csv`
    """
    from tgqformer.catalog import Catalog
    from tgqformer.catalog.duplicates import (
        WORDS,
        described,
        find_duplicates,
        write_csv,
        write_duplicates_page,
        write_lines,
    )
    from tgqformer.progress import Terminal
    from tgqformer.stages import make_way

    for file in (csv, json, html):
        if file is not None:
            make_way(file, "list of duplicates", overwrite=overwrite, file=True, sources=[folder])
    catalog = Catalog.open(folder)
    groups = described(catalog, find_duplicates(catalog, by, variants=variants))
    console = Terminal(emoji=False)
    items = sum(map(len, groups))
    console.print(f"{len(groups):,} groups, {items:,} of {len(catalog):,} items: {WORDS[by]}", soft_wrap=True)
    if groups:
        console.print(_twins_table(groups[:_FIRST]))
    if len(groups) > _FIRST:
        console.print(f"and {len(groups) - _FIRST:,} more groups; --csv, --json or --html has them", style="dim")
    if csv is not None:
        write_csv(csv, groups)
    if json is not None:
        write_lines(json, groups)
    if html is not None:
        write_duplicates_page(html, catalog, groups, by, shown)


_FIRST = 20  # groups on the terminal


def _twins_table(groups: Sequence[Sequence[Twin]]) -> Table:
    from rich.markup import escape

    table = _table("group", "id", "title", "price", "picture")
    for number, twins in enumerate(groups, 1):
        for one in twins[:5]:
            price = "" if one.price is None else f"{one.price:,.2f}"
            picture = "the same file" if one.same_file and one is not twins[0] else one.picture or ""
            table.add_row(str(number), *map(escape, (one.id, one.title or "", price, picture)))
        if len(twins) > 5:
            table.add_row(str(number), f"and {len(twins) - 5:,} more", "", "", "")
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def _show_plan(plan: ImportPlan) -> None:
    from rich.markup import escape

    from tgqformer.progress import console

    console.print(
        f"reading [bold]{escape(str(plan.source))}[/] with the reader [bold]{plan.reader.name}[/], "
        f"pictures from {escape(str(plan.root))}"
    )
    table = _table("field", "column")
    for field, columns in plan.mapping.lines():
        table.add_row(field, f"[dim]{columns}[/]" if columns == "-" else escape(columns))
    console.print(table, emoji=False)
    if plan.sold:
        console.print(f"fields of their own, which no model reads: {escape(', '.join(plan.sold))}", emoji=False)
    if plan.unused:
        console.print(f"not used: {escape(', '.join(plan.unused))}", emoji=False)


def _show_unread(to: Path) -> None:
    """Warn of titles that the packaged text model cannot read; it is the one that is used where no other is named."""
    from tgqformer.catalog import Catalog
    from tgqformer.progress import console
    from tgqformer.scripts import packaged_tokenizer, unread

    tokenizer = packaged_tokenizer()
    if tokenizer is None:
        return
    warning = unread(
        Catalog.open(to).table(["title"])["title"].to_pylist(), *tokenizer, "the packaged text encoder minilm"
    )
    if warning is not None:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _show_report(report: ImportReport, to: Path) -> None:
    from rich.markup import escape

    from tgqformer.catalog.checks import KINDS
    from tgqformer.progress import Terminal

    console = Terminal(emoji=False)
    console.print(report.summary())
    colors = {"error": "red", "warning": "yellow", "note": "dim"}
    table = _table("", "problem", "first of them")
    for severity, color in colors.items():
        for kind in report.kinds(severity):  # type: ignore[arg-type]
            one = report.examples[kind][0]
            where = escape(f"{one.file}:{one.line}: {one.reason}")
            table.add_row(f"{report.problems[kind]:,}", f"[{color}]{KINDS[kind].title}[/]", where)
    if report.problems:
        console.print(table)
    for warning in report.warnings:
        console.print(f"warning: {escape(warning)}", style="yellow")
    console.print(f"report: {escape(str(to / 'report.html'))}", soft_wrap=True)
    if report.problems["picture-remote"]:
        console.print(f"next:   tgq pictures fetch {escape(str(to))} --to photos", soft_wrap=True)
    console.print(f"next:   tgq catalog show {escape(str(to))}", soft_wrap=True)


def _show_catalog(catalog: Catalog, first: int) -> None:
    from rich.markup import escape

    from tgqformer.progress import Terminal

    about = catalog.about
    console = Terminal(emoji=False)
    where = "packed" if about["packed"] else f"in {catalog.root}"
    console.print(
        f"[bold]{escape(catalog.name)}[/]: {len(catalog):,} items, {about['pictures']:,} pictures ({escape(where)})"
    )
    console.print(f"fingerprint {catalog.fingerprint}", style="dim")
    items = list(catalog.items(0, first, pictures=False))
    columns = {
        "id": [item.id for item in items],
        "title": [item.title or "" for item in items],
        "brand": [item.brand or "" for item in items],
        "category": [" > ".join(item.category) for item in items],
        "price": ["" if item.price is None else f"{item.price:,.2f}" for item in items],
        "group": [item.item_group or "" for item in items],
        "stock": [item.availability or "" for item in items],
        "pictures": [str(len(item.pictures)) for item in items],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    table = _table(*filled)
    for cells in zip(*filled.values(), strict=True):
        table.add_row(*map(escape, cells))
    console.print(table)
    if len(catalog) > first:
        console.print(f"and {len(catalog) - first:,} more", style="dim")


def _show_item(item: Item, catalog: Catalog) -> None:
    from rich.markup import escape

    from tgqformer.catalog.item import OFFER
    from tgqformer.progress import Terminal

    table = _table("field", "value")
    rows = [("id", item.id), ("title", item.title), ("brand", item.brand), ("category", " > ".join(item.category))]
    rows += [(name, None if price is None else f"{price:,.2f}") for name, price in _prices(item).items()]
    rows += [(name, getattr(item, name)) for name in OFFER if name != "sale_price"]
    rows += item.attributes.items()
    for field, value in rows:
        table.add_row(escape(field), escape(value) if value else "[dim]-[/]")
    for number, picture in enumerate(item.pictures, 1):
        table.add_row(f"picture {number}", escape(_describe(picture, catalog)))
    Terminal(emoji=False).print(table)


def _prices(item: Item) -> dict[str, float | None]:
    return {"price": item.price, "sale price": item.sale_price}


def _describe(picture: Picture, catalog: Catalog) -> str:
    from tgqformer.catalog import PictureError, read_picture

    place = f"packed, {len(picture.data):,} bytes" if picture.data is not None else str(picture.path)
    try:
        image = read_picture(picture, catalog.root)
    except PictureError as error:
        return f"{place}: {error.reason}"
    return f"{place}, {image.width} x {image.height} pixels"
