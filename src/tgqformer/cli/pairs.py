"""Commands of `tgq pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import Overwrite, Top, log_options, settings_of, written_as
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.cli.work import AFTER_SHARD, ClusterOption, Cores, Finish, ShardOption, maker, only_whole, still_missing
from tgqformer.errors import TgqError, counted, nearest
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    import pyarrow as pa


app = Group(
    name="pairs",
    no_args_is_help=True,
    help="Items that belong together: mined from click logs, or from simulated shoppers where there are no clicks.",
)


@app.command()
@log_options
def mine(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="LOG", help="A log (CSV, TSV, Parquet, JSON, text; .gz) or a folder, or a list of pairs."
        ),
    ],
    to: Annotated[
        Path, typer.Option(callback=written_as(".parquet"), help="File to write: Parquet with a, b, weight, count.")
    ],
    catalog: Annotated[Path | None, typer.Option(help="Keep only the items of this catalogue.")] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            help="How far apart two clicks may be: 5 (items), 90s, 30m, 12h, 7d, or session; may be repeated. "
            " [default: 10 items]"
        ),
    ] = None,
    weighting: Annotated[
        Literal["count", "pmi", "swing"] | None, typer.Option(help="Weight of a pair.  [default: count]")
    ] = None,
    min_support: Annotated[int | None, typer.Option(help="Sessions that must hold a pair.  [default: 2]")] = None,
    cap: Annotated[int | None, typer.Option(help="Pairs of one item, at most.  [default: 50]")] = None,
    alpha: Annotated[float | None, typer.Option(help="Swing's smoothing.  [default: 1.0]")] = None,
    max_session: Annotated[
        int | None, typer.Option(help="Clicks of one session that count, the latest.  [default: 200]")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds of related.parquet.")] = None,
    before: Annotated[str | None, typer.Option(help="Only interactions before this date (2020-09-16).")] = None,
    partition_size: Annotated[
        int | None, typer.Option(min=1, help="Items of a partition, of a log that several mine.  [default: 65536]")
    ] = None,
    shard: ShardOption = None,
    finish: Finish = False,
    cluster: ClusterOption = None,
    cores: Cores = 1,
    overwrite: Overwrite = False,
) -> None:
    """Mine pairs from a log of interactions, from co-purchase lists, or from a list of pairs.

    Columns are guessed where their names are usual, and shown. Rows that cannot be read are listed and left out. Where
    nothing can be used, or no pair comes out, nothing is written.

    Examples:

        tgq pairs mine transactions_train.csv --catalog shop --window 1d --weighting swing --to pairs.parquet

        tgq pairs mine clicks.tsv.gz --session visit --item sku --time at --window 5 --window 30m --to pairs.parquet

        tgq pairs mine events/ --session user --session visit --where event=view,add_to_cart --to pairs.parquet

        tgq pairs mine shop/related.parquet --kind also_buy --catalog shop --to pairs.parquet

        tgq pairs mine clicks.parquet --to pairs.parquet --shard 2/8
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.pairs.columns import LogSettings
    from tgqformer.pairs.mining import MiningSettings
    from tgqformer.pairs.parts import SIZE, MiningWork
    from tgqformer.pairs.source import mine_in_parts, read_source
    from tgqformer.pairs.times import seconds_of
    from tgqformer.stages import make_way

    shared = shard is not None or finish
    make_way(to, "pairs", overwrite=overwrite, file=True, sources=[source, catalog], resumable=shared)
    log = settings_of(LogSettings, context, "the log")
    mining = settings_of(MiningSettings, context, "mining")
    until = None if before is None else seconds_of(before)
    if until is not None and until != until:
        raise TgqError(f"--before {before} is not a date; write it as 2020-09-16")
    ids = Catalog.open(catalog).ids() if catalog is not None else None
    make = maker(MiningWork, shard=shard, finish=finish, cluster=cluster, cores=cores, gpus=0)
    if make is None:
        if partition_size is not None:
            raise TgqError("--partition-size goes with --shard, --finish or --cluster; one process needs no partitions")
        pairs = read_source(source, ids=ids, log=log, mining=mining, kinds=kind, before=until)
        pairs.write(to)
    else:
        if kind:
            raise TgqError("--kind is of related.parquet, which lists pairs; leave --shard, --finish and --cluster out")
        only_whole(overwrite, shard, finish)
        size, alone = partition_size or SIZE, not shared
        found = mine_in_parts(source, to, make, ids=ids, log=log, mining=mining, before=until, size=size, alone=alone)
        if isinstance(found, list):
            say(still_missing(found), err=True)
            then(AFTER_SHARD)
            return
        pairs = found
    say(f"{counted(len(pairs), 'pair')} of {counted(len(pairs.ids()), 'item')} in {to}", err=True)
    then(f"tgq pairs show {in_shell(to)}")


@app.command()
def simulate(
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="A catalogue, with clean pictures.")],
    to: Annotated[Path, typer.Option(help="Folder to write the sessions, the split and the pairs to.")],
    shoppers: Annotated[Literal["fashion", "studio"], typer.Option(help="Whose tastes the shoppers have.")] = "fashion",
    truth: Annotated[
        Path | None, typer.Option(help="Parquet with id and attributes.  [default: truth.parquet of the catalogue]")
    ] = None,
    train: Annotated[float, typer.Option(min=0, max=1, help="Share of items for training.")] = 0.7,
    val: Annotated[float, typer.Option(min=0, max=1, help="Share for validation; the rest is for test.")] = 0.05,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many items, chosen by a stable hash.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    complements: Annotated[float, typer.Option(min=0, max=1, help="Share of clicks on complements.")] = 0.0,
    accidental: Annotated[float, typer.Option(min=0, max=1, help="Share of clicks on any item.")] = 0.0,
    reference: Annotated[
        bool, typer.Option("--reference", help="Rank by what the shoppers know, and show it.")
    ] = False,
    overwrite: Overwrite = False,
) -> Sheet | None:
    """Simulate shoppers for a catalogue that has no clicks, and mine the pairs of their sessions.

    Writes interactions.parquet, split.parquet, and pairs-train.parquet, pairs-val.parquet, pairs-test.parquet.

    Examples:

        tgq pairs simulate fashion --to fashion-pairs --reference

        tgq pairs simulate studio --shoppers studio --to studio-pairs
    """
    from tgqformer import config
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.pairs.splits import PARTS, ItemSplit
    from tgqformer.stages import atomic_folder, make_way
    from tgqformer.synthetic.reference import reference_rankers
    from tgqformer.synthetic.shoppers import SHOPPERS, Affinity, Shoppers, read_truth, simulate, subset, write_pairs

    clicks = {"complements": complements, "accidental": accidental}
    plan = config.parse(Shoppers, config.plain(SHOPPERS[shoppers]) | clicks, "the shoppers")
    make_way(to, "pairs", overwrite=overwrite, sources=[catalog, truth])
    opened = Catalog.open(catalog)
    ids = opened.ids() if limit is None else subset(opened.ids(), limit)
    beside = catalog / "truth.parquet"
    known = read_truth(truth or beside, ids) if truth is not None or beside.is_file() else None
    split = ItemSplit.by_hash(ids, (train, val, 1 - train - val), seed)
    affinity = Affinity.of(opened, plan, truth=known, ids=ids)
    sessions = simulate(affinity, plan, split, shown=True)
    with atomic_folder(to, "pairs", overwrite=overwrite) as unfinished:
        sets = write_pairs(sessions, split, unfinished)
        if not any(map(len, (sets.train, sets.val, sets.test))):
            raise TgqError(f"no two of the {len(ids):,} items stand in one part of the split and one session: no pairs")
    counts = split.counts()
    for name, pairs in (("train", sets.train), ("val", sets.val), ("test", sets.test)):
        say(f"{name:5} {counts[name]:7,} items {len(pairs):9,} pairs of {len(pairs.ids()):,} items")
    shown = to / next(f"pairs-{name}.parquet" for name in PARTS if len(getattr(sets, name)))
    then(f"tgq pairs show {in_shell(shown)} --catalog {in_shell(catalog)}")
    return _reference_sheet(reference_rankers(affinity, sets.test, shown=True)) if reference else None


@app.command()
def show(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="A file of pairs.")],
    item: Annotated[str | None, typer.Argument(metavar="ITEM", help="Only the pairs of this item.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Show titles from this catalogue.")] = None,
    top: Top = 10,
) -> Sheet:
    """Show the heaviest pairs, and how many pairs items have.

    Examples:

        tgq pairs show pairs.parquet --catalog shop

        tgq pairs show pairs.parquet 15970
    """
    import pyarrow.compute as pc

    from tgqformer.pairs.pairs import Pairs

    found = Pairs.read(pairs)
    table = found.table
    if item is not None:
        table = table.filter(pc.or_(pc.equal(table["a"], item), pc.equal(table["b"], item)))
        if not len(table):
            hint = nearest(item, found.ids(), "its ids are like", most=3)
            raise TgqError(f"{pairs} has no pair with the item {item!r}; {hint}")
    rows = table.sort_by([("weight", "descending"), ("a", "ascending"), ("b", "ascending")]).slice(0, top)
    items, titles = len(found.ids()), _titles(catalog, rows)
    each = 2 * len(found) / max(items, 1)
    note = f"{counted(len(found), 'pair')} of {counted(items, 'item')}; {each:.1f} an item on average"
    sides = [(row["a"], titles.get(row["a"]), row["b"], titles.get(row["b"])) for row in rows.to_pylist()]
    cells = [(*one, row["weight"], row["count"]) for one, row in zip(sides, rows.to_pylist(), strict=True)]
    columns = (
        Column("a"),
        Column("title", cut=True),
        Column("b"),
        Column("title of b", cut=True),
        Column("weight", ",.3f"),
        Column("count", ",d"),
    )
    shown = range(len(columns)) if titles else (0, 2, 4, 5)
    return Sheet([columns[at] for at in shown], [[row[at] for at in shown] for row in cells], note=note)


def _titles(catalog: Path | None, rows: pa.Table) -> dict[str, str]:
    from tgqformer.catalog.catalog import Catalog

    if catalog is None:
        return {}
    ids = list(dict.fromkeys([*rows["a"].to_pylist(), *rows["b"].to_pylist()]))
    return {item.id: item.title or "" for item in Catalog.open(catalog).take(ids, pictures=False)}


def _reference_sheet(table: pa.Table) -> Sheet:
    names = [name for name in table.column_names if name.startswith("H@")]
    columns = (Column("ranker"), *(Column(f"{name} %", ".1f") for name in names), Column("queries", ",d"))
    rows = [(row["ranker"], *(100 * (row[name] or 0) for name in names), row["queries"]) for row in table.to_pylist()]
    return Sheet(columns, rows)
