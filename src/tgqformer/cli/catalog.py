"""Commands of `tgq catalog`: bring a shop's items in, and look at them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import Overwrite, Top, written_as
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.cli.work import AFTER_SHARD, ClusterOption, Cores, Finish, ShardOption, maker, only_whole, still_missing
from tgqformer.errors import TgqError, counted
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.catalog import Catalog, ImportReport, Item, Picture
    from tgqformer.catalog.duplicates import Twin
    from tgqformer.catalog.importer import ImportPlan

app = Group(
    name="catalog",
    no_args_is_help=True,
    help="Bring a shop's items in, check them, look at them.",
    rich_markup_mode="markdown",
)

_Columns = list[str]


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="EXPORT", help="A file, or a folder of files or pictures.")],
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
    partition_size: Annotated[
        int | None, typer.Option(min=1, help="Rows of a partition, where several import.  [default: 65536]")
    ] = None,
    shard: ShardOption = None,
    finish: Finish = False,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    overwrite: Overwrite = False,
) -> Sheet | None:
    """Read a shop's items, check every row and every picture, and write a catalogue with a report.

    Reads CSV, TSV, JSON lines, Parquet (also .gz), folders of pictures, and the layouts of well-known data sets.
    Columns with usual names are found; the columns used are shown first. Bad rows are set apart in `rejects.jsonl`.

    Examples:

        tgq catalog import shop.csv --to catalogs/shop

        tgq catalog import shop.csv --to catalogs/shop --title name --category group --category kind --pictures photos/

        tgq catalog import photos/ --to catalogs/photos --pack

        tgq catalog import meta_Video_Games.json.gz --to catalogs/games --reader amazon-2018 --limit 1000

        tgq catalog import shop.csv --to catalogs/shop --shard 2/8
    """
    from tgqformer.catalog import import_catalog
    from tgqformer.catalog.parts import SIZE, ImportWork, import_in_parts
    from tgqformer.stages import is_free

    offer = {"group": group, "availability": availability, "sale_price": sale_price}
    single = {"id": id_, "title": title, "brand": brand, **offer, "currency": currency, "created": created}
    several = {"category": category, "price": price, "pictures": picture, "attributes": attribute, "missing": missing}
    columns: dict[str, str | list[str]] = {name: one for name, one in {**single, **several}.items() if one}
    if no_pictures and (picture or pictures):
        raise TgqError(f"--no-pictures and {'--picture' if picture else '--pictures'} contradict each other; give one")
    if not re.fullmatch(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?", language):
        raise TgqError(f"--language {language!r} is no language; write it as de or en_US")
    if no_pictures:
        columns["pictures"] = []
    options: dict[str, Any] = {"reader": reader, "mapping": columns, "pack": pack, "strict": strict, "limit": limit}
    options |= {"root": pictures, "name": name, "overwrite": overwrite, "encoding": encoding, "language": language}
    make = maker(ImportWork, shard=shard, finish=finish, cluster=cluster, cores=cores, gpus=0)
    if make is None:
        if partition_size is not None:
            raise TgqError("--partition-size goes with --shard, --finish or --cluster; one process needs no partitions")
        report = import_catalog(source, to, show_progress_bar=True, on_plan=_show_plan, **options)
    else:
        only_whole(overwrite, shard, finish)
        options |= {"size": partition_size or SIZE, "alone": cluster is not None, "on_plan": _show_plan}
        found = import_in_parts(source, to, make, show_progress_bar=True, **options)
        if isinstance(found, list):
            if found or is_free(to):
                say(still_missing(found), err=True)
                then(AFTER_SHARD)
            else:
                then(f"tgq catalog show {in_shell(to)}")
            return None
        report = found
    _show_unread(to)
    then(
        *([f"tgq pictures fetch {in_shell(to)} --to photos"] if report.problems["picture-remote"] else []),
        f"tgq catalog show {in_shell(to)}",
        f"tgq pairs mine CLICKS --catalog {in_shell(to)} --to pairs.parquet",
    )
    return _report_sheet(report, to)


@app.command()
def readers() -> Sheet:
    """List the readers: which layouts of files are recognised.

    Example:

        tgq catalog readers
    """
    from tgqformer.catalog.readers import READERS

    return Sheet((Column("reader"), Column("reads", wrap=True)), [(one.name, one.about) for one in READERS])


@app.command()
def show(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="The folder of a catalogue.")],
    item: Annotated[str | None, typer.Argument(metavar="ITEM", help="An item to show in full.")] = None,
    top: Top = 10,
) -> Sheet:
    """Show what a catalogue holds, or one item of it.

    Examples:

        tgq catalog show catalogs/shop

        tgq catalog show catalogs/shop B000123456
    """
    from tgqformer.catalog import Catalog

    opened = Catalog.open(catalog)
    return _catalog_sheet(opened, top) if item is None else _item_sheet(opened.take([item])[0], opened)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="CATALOG", help="The folder of a catalogue.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Write a catalogue, with its pictures, as a folder that `datasets.load_dataset` of Hugging Face reads.

    It holds Parquet files; `tgq catalog import` reads them back.

    Example:

        tgq catalog export catalogs/shop --to shop-dataset
    """
    from tgqformer.catalog import Catalog
    from tgqformer.catalog.exchange import KIND, export_catalog
    from tgqformer.stages import make_way

    make_way(to, KIND, overwrite=overwrite, sources=[folder])
    catalog = Catalog.open(folder)
    export_catalog(catalog, to, overwrite=overwrite, shown=True)
    say(f"{counted(len(catalog), 'item')} in {to}; in Python: datasets.load_dataset({str(to)!r})")
    then(f"tgq catalog import {in_shell(to / 'data')} --to CATALOG, to read it back")


@app.command()
def duplicates(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="The folder of a catalogue.")],
    by: Annotated[
        Literal["both", "picture", "title"], typer.Option(help="What must be the same: picture and title, or one.")
    ] = "both",
    variants: Annotated[
        bool, typer.Option("--variants", help="Also groups of one product's variants, which are known to be one.")
    ] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=written_as(".csv"), help="Write all of them as a table.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=written_as(".html"), help="Write a page with their pictures."),
    ] = None,
    top: Top = 20,
    overwrite: Overwrite = False,
) -> Sheet:
    """List groups of products that are one, by picture and title, for people to look at. Nothing is changed.

    Pictures are near-identical where they are one photo, at whatever size; titles are equal, or one word without digits
    is missing or another. `-k` says how many groups table and page show; --csv and --json have all.

    Examples:

        tgq catalog duplicates catalogs/shop

        tgq catalog duplicates catalogs/shop --by picture --html duplicates.html --csv duplicates.csv
    """
    from tgqformer.catalog import Catalog
    from tgqformer.catalog.duplicates import (
        WORDS,
        described,
        find_duplicates,
        write_csv,
        write_duplicates_page,
    )
    from tgqformer.stages import make_way

    for file in (csv, html):
        if file is not None:
            make_way(file, "list of duplicates", overwrite=overwrite, file=True, sources=[catalog])
    opened = Catalog.open(catalog)
    groups = described(opened, find_duplicates(opened, by, variants=variants))
    items = sum(map(len, groups))
    say(f"{counted(len(groups), 'group')}, {items:,} of {counted(len(opened), 'item')}: {WORDS[by]}")
    if csv is not None:
        write_csv(csv, groups)
    if html is not None:
        write_duplicates_page(html, opened, groups, by, top)
    return _twins_sheet(groups, top)


def _twins_sheet(groups: Sequence[Sequence[Twin]], top: int) -> Sheet:
    columns = (
        Column("group", "d"),
        Column("id"),
        Column("title", cut=True),
        Column("price", ",.2f"),
        Column("picture", cut=True),
    )
    rows: list[tuple[object, ...]] = []
    for number, twins in enumerate(groups[:top], 1):
        for one in twins[:5]:
            picture = "the same file" if one.same_file and one is not twins[0] else one.picture
            rows.append((number, one.id, one.title, one.price, picture))
        if len(twins) > 5:
            rows.append((number, f"and {len(twins) - 5:,} more", None, None, None))
    note = f"and {len(groups) - top:,} more groups; --csv, --json or --html has them" if len(groups) > top else ""
    return Sheet(columns, rows, note=note, data=[[asdict(one) for one in twins] for twins in groups])


def _show_plan(plan: ImportPlan) -> None:
    from tgqformer.progress import console

    lines = [f"reading {plan.source} with the reader {plan.reader.name}, pictures from {plan.root}"]
    lines += [f"  {field:<14} {columns}" for field, columns in plan.mapping.lines()]
    if plan.sold:
        lines.append(f"fields of their own, which no model reads: {', '.join(plan.sold)}")
    if plan.unused:
        lines.append(f"not used: {', '.join(plan.unused)}")
    console.print("\n".join(lines), markup=False, emoji=False, highlight=False, soft_wrap=True)


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


def _report_sheet(report: ImportReport, to: Path) -> Sheet | None:
    from tgqformer.catalog.checks import KINDS
    from tgqformer.objects import told

    say(report.summary())
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"report: {told(to / 'report.html')}")
    kinds = [(severity, kind) for severity in ("error", "warning", "note") for kind in report.kinds(severity)]
    columns = (Column("count", ",d"), Column("is"), Column("problem"), Column("first of them", wrap=True))
    rows = []
    for severity, kind in kinds:
        one = report.examples[kind][0]
        rows.append((report.problems[kind], severity, KINDS[kind].title, f"{one.file}:{one.line}: {one.reason}"))
    return Sheet(columns, rows) if rows else None


def _catalog_sheet(catalog: Catalog, top: int) -> Sheet:
    about = catalog.about
    where = "packed" if about["packed"] else f"in {catalog.root}"
    say(f"{catalog.name}: {counted(len(catalog), 'item')}, {counted(about['pictures'], 'picture')} ({where})")
    items = list(catalog.items(0, top, pictures=False))
    cells: dict[Column, list[Any]] = {
        Column("id"): [item.id for item in items],
        Column("title", cut=True): [item.title for item in items],
        Column("brand", cut=True): [item.brand for item in items],
        Column("category", cut=True): [item.category for item in items],
        Column("price", ",.2f"): [item.price for item in items],
        Column("group", cut=True): [item.item_group for item in items],
        Column("stock", cut=True): [item.availability for item in items],
        Column("pictures", "d"): [len(item.pictures) for item in items],
    }
    filled = {column: values for column, values in cells.items() if any(values)}
    more = f"and {len(catalog) - top:,} more; " if len(catalog) > top else ""
    rows = list(zip(*filled.values(), strict=True))
    return Sheet(tuple(filled), rows, note=f"{more}fingerprint {catalog.fingerprint}")


def _item_sheet(item: Item, catalog: Catalog) -> Sheet:
    from tgqformer.catalog.item import OFFER

    rows = [("id", item.id), ("title", item.title), ("brand", item.brand), ("category", " > ".join(item.category))]
    rows += [(name, None if price is None else f"{price:,.2f}") for name, price in _prices(item).items()]
    rows += [(name, getattr(item, name)) for name in OFFER if name != "sale_price"]
    rows += item.attributes.items()
    rows += [(f"picture {number}", _describe(one, catalog)) for number, one in enumerate(item.pictures, 1)]
    return Sheet(
        (Column("field", cut=True), Column("value", wrap=True)), [(name, value or None) for name, value in rows]
    )


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
