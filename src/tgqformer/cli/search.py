"""`tgq index`, `tgq similar`, `tgq neighbours`: from embeddings to a store, and looking things up in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import STORE_HELP, Device, Dim, Form, Overwrite, Store, Top, written_as
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.cli.work import AFTER_SHARD, ClusterOption, Cores, Finish, ShardOption, maker, only_whole, still_missing
from tgqformer.errors import TgqError, counted
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.store.base import Filter, Hit, StoreRow

RULES_HELP = "A recipe, or a file of rules.  [default: those of the run that the store lies in]"
EmbeddingsPath = Annotated[
    Path, typer.Argument(metavar="EMBEDDINGS", help="Written by `tgq embed`: a folder, or s3://…")
]


def index(
    embeddings: EmbeddingsPath,
    catalog: Annotated[Path, typer.Option(help="The catalogue that was embedded.")],
    to: Annotated[str, typer.Option(metavar="STORE", help=STORE_HELP)],
    model: Annotated[
        str | None, typer.Option(help="The saved model that embedded; then `tgq sync` knows what is unchanged.")
    ] = None,
    label: Annotated[str, typer.Option(help="A name of this version for people, for example of its connector.")] = "",
    dtype: Annotated[Form, typer.Option(help="How vectors are kept.")] = "float32",
    dim: Dim = None,
    serve: Annotated[bool, typer.Option(help="Serve the new version when it is whole.")] = True,
    keep: Annotated[int, typer.Option(min=1, help="How many versions stay, the new one among them.")] = 2,
) -> None:
    """Put embeddings and metadata into a store that answers searches.

    They are a new version beside the one that is served, which it replaces at once when it is whole. `tgq store
    rollback` brings the one before back.

    Examples:

        tgq index embeddings --catalog catalogs/shop --to store

        tgq index embeddings --catalog catalogs/shop --to postgresql://me@db.shop/search --dtype float16 --no-serve
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.model.hub import locate_model
    from tgqformer.store.build import Build, build_store
    from tgqformer.store.embeddings import Embeddings

    folder = None if model is None else locate_model(model)
    build = Build(label, folder, dtype, dim, serve, keep)
    store = build_store(Embeddings.open(embeddings), Catalog.open(catalog), to, build)
    stats = store.table(store.versions()[-1].name).stats()
    how = "indexed" if stats.indexed else "searched exactly: too few to need an index"
    made = stats.version
    say(
        f"{counted(stats.rows, 'item')} of {counted(made.dim, 'dimension')} in {store.where} ({how}),"
        f" version {made.name}, model {made.model_version}{'' if serve else ', not served yet'}"
    )
    then(
        *([] if serve else [f"tgq store serve {in_shell(to)} {in_shell(made.name)}"]),
        f"tgq similar ITEM --store {in_shell(to)}",
        f"tgq serve {in_shell(to)} --catalog {in_shell(catalog)}" + (f" --model {in_shell(model)}" if model else ""),
    )


def similar(
    item_id: Annotated[str, typer.Argument(metavar="ITEM", help="Id of an item in the store.")],
    store: Store,
    top: Top = 10,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Only items in this category, at any level, or below a path A > B; repeat for or."),
    ] = None,
    brand: Annotated[list[str] | None, typer.Option(help="Only items of this brand; repeat for or.")] = None,
    min_price: Annotated[float | None, typer.Option(help="Only items that cost at least this.")] = None,
    max_price: Annotated[float | None, typer.Option(help="Only items that cost at most this.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Of availability, item_group, currency; repeat a field for or."),
    ] = None,
    in_stock: Annotated[bool, typer.Option("--in-stock", help="Leave out what is known to be out of stock.")] = False,
    rules: Annotated[Path | None, typer.Option(metavar="FILE", help=RULES_HELP)] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set a rule for this list, such as diversity=0.3; may be repeated."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every item instead of using the index.")] = False,
    html: Annotated[
        Path | None, typer.Option(callback=written_as(".html"), help="Also write a page with the pictures.")
    ] = None,
    catalog: Annotated[Path | None, typer.Option(help="Where the pictures are, if the catalogue was moved.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Search this version (see `tgq store versions`), not the served one.")
    ] = None,
    overwrite: Overwrite = False,
) -> Sheet:
    """Find the items most similar to one item, and print them as a table.

    Examples:

        tgq similar studio-00042 --store demo/store

        tgq similar B000123456 --store store -k 20 --category Shoes --max-price 80 --html similar.html

        tgq similar B000123456 --store store --in-stock --where currency=EUR

        tgq similar B000123456 --store store --rule same_category=require --rule price_to=1.5 --rule diversity=0.3
    """
    from tgqformer.stages import make_way
    from tgqformer.store import open_store
    from tgqformer.store.base import Filter, UnknownItem, fields_of, unknown_item
    from tgqformer.store.facets import KnownValues
    from tgqformer.store.page import words_of
    from tgqformer.store.rules import listed, rules_of

    if html is not None:
        folder = None if "://" in store else Path(store)
        make_way(html, "page", overwrite=overwrite, file=True, sources=[folder, catalog])
    opened = open_store(store)
    table = opened.table(version)
    wanted = rules_of(store, rules, [*(rule or ()), *(["in_stock=true"] if in_stock else [])])
    asked = Filter(tuple(category or ()), tuple(brand or ()), min_price, max_price)
    passing = KnownValues(table).meant(replace(asked, **fields_of(where or ())))
    if passing and not table.count(passing):
        raise TgqError(f"no item passes the filter ({words_of(passing)}); leave a part of it out")
    try:
        [query] = table.get([item_id])
        hits, chosen = listed(table, query, top, passing, wanted, exact=exact)
    except UnknownItem as error:
        raise unknown_item(item_id, [name for name, _ in table.contents()], opened.where) from error
    if html is not None:
        known = table.version.catalog
        pictures = catalog or (Path(known) if known else None)
        _write_html(html, pictures, query, hits, passing, table.version.model_version)
    return _hits_sheet(query, hits, chosen.told())


def neighbours(
    embeddings: EmbeddingsPath,
    to: Annotated[Path, typer.Option(help="Folder for the table, or s3://…; a killed job goes on where it was.")],
    top: Top = 100,
    parquet: Annotated[
        Path | None,
        typer.Option(callback=written_as(".parquet"), help="Also write one Parquet file: id, neighbours, scores."),
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="The catalogue: also look what the rules leave of each list, and write that.")
    ] = None,
    rules: Annotated[Path | None, typer.Option(metavar="FILE", help="A recipe, or a file of rules.")] = None,
    length: Annotated[
        int | None, typer.Option(help="With a catalogue: how long lists by the rules are.  [default: 10]", min=1)
    ] = None,
    device: Device = "cpu",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Find at least 0.98 of them, measured on a sample, in less time.")
    ] = False,
    shard: ShardOption = None,
    finish: Finish = False,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    overwrite: Overwrite = False,
) -> None:
    """Compute the exact nearest neighbours of every item among all others: the table that shops serve from.

    Examples:

        tgq neighbours embeddings --to neighbours -k 100 --parquet neighbours.parquet

        tgq neighbours embeddings --to neighbours --shard 2/8

        tgq neighbours embeddings --to neighbours --approximate --shard 2/8

        tgq neighbours embeddings --to neighbours --catalog catalogs/shop --rules shop.yaml --parquet lists.parquet
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.cluster.work import fill_here
    from tgqformer.objects import absolute, told
    from tgqformer.stages import make_way
    from tgqformer.store.approximate import ApproximateWork, make_approximate
    from tgqformer.store.build import other_catalog
    from tgqformer.store.embeddings import Embeddings
    from tgqformer.store.lists import write_ruled
    from tgqformer.store.neighbours import Neighbours, NeighboursWork, make_neighbours
    from tgqformer.store.rules import LENGTH, Rules, load_rules

    only_whole(overwrite, shard, finish)
    where = {"embeddings": absolute(embeddings)}
    make = maker(
        partial(ApproximateWork.open, **where) if approximate else partial(NeighboursWork.open, **where, device=device),
        shard=shard,
        finish=finish,
        cluster=cluster,
        cores=cores,
        gpus=int(device.startswith("cuda")),
    )
    if approximate and device != "cpu":
        raise TgqError("approximate neighbours are computed on the processor; leave --device or --approximate out")
    if shard is not None and (parquet, catalog) != (None, None):
        raise TgqError("a shard makes a part of the lists; give --parquet and --catalog with --finish")
    if catalog is None and (rules, length) != (None, None):
        raise TgqError("lists by rules need to know the items; give their catalogue with --catalog")
    if length is not None and length > top:
        raise TgqError(
            f"a table of {counted(top, 'neighbour')} cannot fill lists of {length}; give {length} with --top"
        )
    wanted = load_rules(rules) if rules is not None else Rules()
    make_way(to, "neighbours", resumable=True, objects=True, sources=[embeddings])
    if parquet is not None:
        make_way(parquet, "neighbours", overwrite=overwrite, file=True, sources=[embeddings, to])
    source, shop = Embeddings.open(embeddings), None if catalog is None else Catalog.open(catalog)
    if shop is not None and shop.ids() != source.ids():
        raise other_catalog(source, shop)
    found: Neighbours | list[int]
    if approximate:
        alone = shard is None and not finish
        made = make_approximate(source, to, top, make or fill_here, alone=alone, overwrite=overwrite)
        found = made if isinstance(made, list) else made[0]
        if not isinstance(made, list):
            say(made[1].told())
    else:
        found = make_neighbours(source, to, top, make or fill_here, device=device, overwrite=overwrite)
    if isinstance(found, list):
        say(still_missing(found))
        then(AFTER_SHARD)
        return
    say(f"{counted(found.manifest.width, 'neighbour')} of each of {counted(len(found), 'item')} in {told(to)}")
    then(f"tgq serve STORE --neighbours {in_shell(to)}")
    if shop is not None:
        say(write_ruled(found, shop, wanted, length or min(LENGTH, top), parquet).told())
    elif parquet is not None:
        found.to_parquet(parquet)
        say(f"the same with ids in {parquet}")


def _hits_sheet(query: StoreRow, hits: Sequence[Hit], rules: str) -> Sheet:
    from tgqformer.store.page import price_now

    columns = (
        Column("", "d"),
        Column("id"),
        Column("title", cut=True),
        Column("brand", cut=True),
        Column("category", cut=True),
        Column("price", "s"),
        Column("score", ".3f"),
    )
    names = ("rank", "id", "title", "brand", "category", "price", "score")
    rows = [
        (at, hit.id, hit.title, hit.brand, hit.category, price_now(hit), hit.score) for at, hit in enumerate(hits, 1)
    ]
    offers = [
        {name: getattr(hit, name) for name in ("price", "sale_price", "currency", "availability")} for hit in hits
    ]
    plain = [dict(zip(names, row, strict=True)) | offer for row, offer in zip(rows, offers, strict=True)]
    title = f"Similar to {query.id}: {query.title or '(no title)'}"
    return Sheet(columns, rows, title, f"rules {rules}" if rules else "", plain)


def _write_html(
    html: Path, catalog: Path | None, query: StoreRow, hits: Sequence[Hit], where: Filter, model_version: str
) -> None:
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.store.page import write_page

    if catalog is None:
        raise TgqError("the store does not know its catalogue; give it with --catalog to get pictures")
    write_page(html, query.id, hits, Catalog.open(catalog), model_version=model_version, where=where)
    say(f"pictures in {html}")
