"""From what a shop hands over to pairs: a log that is mined, or a list that is taken as it is; checked at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tgqformer import config
from tgqformer.catalog.shape import plain_name
from tgqformer.cluster.work import Maker, fill_nothing
from tgqformer.errors import TgqError, counted, option
from tgqformer.pairs.clicks import Clicks
from tgqformer.pairs.columns import LogSettings, choose_columns
from tgqformer.pairs.interactions import Interactions
from tgqformer.pairs.log_files import files_of, open_log_file
from tgqformer.pairs.logs import ReadReport, read_log
from tgqformer.pairs.matching import check_items
from tgqformer.pairs.mining import MiningSettings, Window, mine_table
from tgqformer.pairs.pairs import Pairs, PairSets, mine_pairs, pairs_from_related
from tgqformer.pairs.parts import MADE_OF, SIZE, MiningPlan, MiningWork, beside_of
from tgqformer.pairs.splits import PARTS, cut_by_time, split_by_time
from tgqformer.progress import console

_LISTS = (
    "a b|item_a item_b|item_1 item_2|item other|item_id other_id|id other|id_1 id_2|item_id_1 item_id_2|from to|"
    "product_a product_b|product_1 product_2|product_id_1 product_id_2|source target|source_id target_id|left right|"
    "query positive|anchor positive|item_id related_item_id|product_id related_product_id|item_id similar_item_id"
)
_LIST_NAMES = [tuple(map(plain_name, names.split())) for names in _LISTS.split("|")]
"""Names of the two columns of a list of pairs."""


def read_source(
    source: Path,
    *,
    ids: Sequence[str] | None = None,
    log: LogSettings = LogSettings(),  # noqa: B008
    mining: MiningSettings = MiningSettings(),  # noqa: B008
    kinds: Sequence[str] | None = None,
    before: float | None = None,
) -> Pairs:
    """Read or mine the pairs of a source, and say on standard error what was read.

    Args:
        source: a log of interactions; or a list of pairs: any table with two columns of items (`a` and `b`, `item_1`
            and `item_2`, …), or `related.parquet`. ids: of the catalogue; other items are left out.
        log: how the file is read. mining: how pairs are mined from a log.
        kinds: of related.parquet: only these. before: only interactions before this time, in seconds since 1970.

    Raises:
        TgqError: where nothing can be read, no item is in the catalogue, or there is no pair.
    """
    listed = _listed(source, kinds, log)
    if listed is not None:
        _refuse_unused(source, log, mining, before)
        return _within(listed, ids, source)
    # The interactions have no name here: their memory is free as soon as their clicks are sorted.
    clicks = Clicks.of(_interactions(source, log, before, ids), mining.max_session, mining.window, shown=True)
    pairs = Pairs(mine_table(clicks, mining, shown=True))
    if not len(pairs):
        raise _no_pair(source, log, mining, before, ids)
    return pairs


def mine_in_parts(
    source: Path,
    to: Path,
    make: Maker,
    *,
    ids: Sequence[str] | None = None,
    log: LogSettings = LogSettings(),  # noqa: B008
    mining: MiningSettings = MiningSettings(),  # noqa: B008
    before: float | None = None,
    size: int = SIZE,
    alone: bool = True,
) -> Pairs | list[int]:
    """Let `make` mine the pairs of a log; return them, or the partitions that are still missing.

    The work lies in a hidden folder beside the file `to` until all is there. Who makes the last partition writes the
    file. Only the first job reads the log. The rest as `read_source`.

    Args:
        size: items of a partition. alone: whether nobody else is at work, see `MiningWork.begin`. Else, where all are
            done already, the pairs of the file are returned.

    Raises:
        TgqError: as `read_source`; for a list of pairs; where another log or other settings were begun, or are done.
    """
    if _listed(source, None, log) is not None:
        raise TgqError(f"{source} lists pairs, so nothing is to be mined: leave --shard, --finish and --cluster out")

    def read() -> Clicks:
        return Clicks.of(_interactions(source, log, before, ids), mining.max_session, mining.window, shown=True)

    plan = MiningPlan.of(_digest(source, log, before, ids), mining, size)
    if not alone and to.exists():
        pairs = _done(to, plan)
        console.print(f"{to} is finished already, of this log: nothing to do")
        return pairs
    if make is fill_nothing and not beside_of(to).exists():
        raise TgqError(f"nothing was begun for {to}: mine it with --shard first")
    work = MiningWork.begin(to, plan, read, alone=alone)
    if not alone and to.exists():  # it was begun anew after another job had made all
        work.clear()
        return _done(to, plan)
    make(work)
    if missing := work.missing():
        return missing
    try:
        pairs = work.finish()
    except TgqError:
        if not alone and to.exists():  # another job was done at the same time
            return _done(to, plan)
        raise
    if len(pairs):
        pairs.write(to, {MADE_OF: plan.digest()})
    work.clear()
    if not len(pairs):
        raise _no_pair(source, log, mining, before, ids)
    return pairs


def _done(to: Path, plan: MiningPlan) -> Pairs:
    """Read the pairs that other jobs have mined by this plan. Raise TgqError where the file is another."""
    pairs = Pairs.read(to)
    if (pq.read_schema(to).metadata or {}).get(MADE_OF.encode()) != plan.digest().encode():
        raise TgqError(f"{to} exists, and is not of these parts; shards replace nothing: name another")
    return pairs


def _digest(source: Path, log: LogSettings, before: float | None, ids: Sequence[str] | None) -> str:
    """Name what decides the clicks: the files of the log by name, size and time, how they are read, and the items."""
    files = [(str(file.relative_to(source)), file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(source)]
    known = None if ids is None else blake2b("\x1f".join(ids).encode(), digest_size=16).hexdigest()
    words = json.dumps([files, config.plain(log), before, known], default=str)
    return blake2b(words.encode(), digest_size=16).hexdigest()


def _no_pair(
    source: Path, log: LogSettings, mining: MiningSettings, before: float | None, ids: Sequence[str] | None
) -> TgqError:
    again = _interactions(source, log, before, ids, shown=False)
    return TgqError(f"{source} gives no pair: {_why_none(again, mining)}")


def read_periods(
    source: Path, ids: Sequence[str], shares: Sequence[float], log: LogSettings, mining: MiningSettings
) -> PairSets:
    """Cut a log by time into periods for training, validation and test, and mine the pairs of each.

    Args:
        source: a log with times. ids: of the catalogue; the part of an item is the period of its first click, and
            training where it was never clicked. shares: of the interactions, for each period.
        log: how the file is read. mining: how pairs are mined.

    Raises:
        TgqError: for a list of pairs, a log without times, and a period without pairs in training or test.
    """
    if _listed(source, None, log) is not None:
        raise TgqError(f"{source} lists pairs, which have no times; only a log of interactions can be split by time")
    interactions = _interactions(source, log, None, ids)
    periods, split = cut_by_time(interactions, ids, shares)
    found = tuple(mine_pairs(period, mining, shown=True) for period in periods)
    for name, period, pairs in zip(PARTS, periods, found, strict=True):
        if not len(pairs) and name != "val":
            raise TgqError(
                f"the period for {name} of {source}, {len(period):,} of {len(interactions):,} interactions, gives no "
                f"pair: {_why_none(period, mining)}"
            )
    train, val, test = found
    return PairSets(train, val, test, split, Pairs.of([], []), by_time=True)


def check_source(source: Path, log: LogSettings) -> None:
    """Check that a log, or a list of pairs, has the columns that are needed; only the start of its first file is read.

    Raises:
        TgqError: for a column that is not there, with the nearest, or that cannot be guessed.
    """
    first = files_of(source)[0]
    names = open_log_file(first, log, lambda *_: None).names
    if log.session or log.item or not (_is_table(source, names) or _two_columns(names)):
        choose_columns(first, names, log)


def tell_read(report: ReadReport) -> None:
    """Say on standard error which columns were used, how many rows were left out and why."""
    log = report.log
    used = {"session": " + ".join(log.session), "item": log.item, "time": log.time, "weight": log.weight}
    columns = ", ".join(f"{name} = {value}" for name, value in used.items() if value)
    other = f", {report.other_rows:,} of other events" if report.other_rows else ""
    left_out = f"{counted(report.rows, 'row')} read, {report.bad_rows:,} left out{other}"
    console.print(f"columns: {columns}; {left_out}", markup=False)
    for row in report.bad[:5]:
        console.print(f"  {row.file}, row {row.row}: {row.reason}", markup=False)
    for warning in report.warnings:
        _say(warning)


def _say(warning: str | None) -> None:
    if warning is not None:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _listed(source: Path, kinds: Sequence[str] | None, log: LogSettings) -> Pairs | None:
    """Return the pairs of a file that lists them; None for a log of interactions."""
    if log.session or log.item:
        return None
    names = open_log_file(files_of(source)[0], log, lambda *_: None).names
    related = {"id", "other", "kind"} <= set(names)
    if kinds and not (related and _is_table(source, names)):
        raise TgqError(
            f"{source} has no kinds of relations, so {option('kind')} says nothing; only related.parquet has them"
        )
    if _is_table(source, names):
        return pairs_from_related(source, kinds) if related else Pairs.read(source)
    found = _two_columns(names)
    if found is None:
        return None
    report = ReadReport()
    table = read_log(source, replace(log, session=found[:1], item=found[1]), report, shown=True)
    console.print(
        f"a list of pairs: {found[0]} with {found[1]}; {counted(report.rows, 'row')} read, {report.bad_rows:,} left out"
    )
    weights = table["weight"].to_pylist() if "weight" in table.column_names else None
    return Pairs.of(table["session"].to_pylist(), table["item"].to_pylist(), weights)


def _refuse_unused(source: Path, log: LogSettings, mining: MiningSettings, before: float | None) -> None:
    """Raise TgqError where something is asked that a list of pairs, which is taken as it is, cannot heed."""
    ours = source.suffix == ".parquet"
    of_log = [one.name for one in fields(LogSettings) if ours or one.name in ("time", "time_format")]
    asked = [name for name in of_log if getattr(log, name) != getattr(LogSettings(), name)]
    asked += [
        one.name for one in fields(MiningSettings) if getattr(mining, one.name) != getattr(MiningSettings(), one.name)
    ]
    asked += ["before"] if before is not None else []
    if asked:
        raise TgqError(
            f"{source} lists pairs, which are taken as they are, so {option(asked[0])} says nothing; leave it out"
        )


def _is_table(source: Path, names: Sequence[str]) -> bool:
    """Say whether a file is a table of relations or of pairs, as we write them."""
    return source.suffix == ".parquet" and ({"id", "other", "kind"} <= set(names) or {"a", "b"} <= set(names))


def _two_columns(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the two columns of a list of pairs, by their names."""
    plain = {plain_name(name): name for name in reversed(names)}
    return next(((plain[one], plain[two]) for one, two in _LIST_NAMES if {one, two} <= plain.keys()), None)


def _within(pairs: Pairs, ids: Sequence[str] | None, source: Path) -> Pairs:
    if ids is not None:
        _say(check_items(pa.array(pairs.ids(), pa.string()), ids, source.name))
        pairs = pairs.within(ids)
    if not len(pairs):
        raise TgqError(f"{source} has no pair" + ("" if ids is None else " of which both items are in the catalogue"))
    return pairs


def _interactions(
    source: Path, log: LogSettings, before: float | None, ids: Sequence[str] | None, *, shown: bool = True
) -> Interactions:
    """Read a log, and leave out what is too late or of no item of `ids`; say what was read."""
    report = ReadReport()
    found = Interactions.from_table(read_log(source, log, report, shown=shown))
    if shown:
        tell_read(report)
        _say(_one_for_all(found))
    if before is not None:
        found = split_by_time(found, int(before))[0]
        if not len(found):
            raise TgqError(f"{source} has no interaction before the day that {option('before')} names")
    if ids is None:
        return found
    warning = check_items(found.item_names, ids, source.name)
    found = found.within(ids)
    if shown:
        _say(warning)
        console.print(f"{counted(len(found), 'interaction')} with items of the catalogue")
    return found


def _one_for_all(interactions: Interactions) -> str | None:
    """Return a warning where one session holds a great share of the rows: it may stand for all unknown visitors."""
    counts = np.bincount(interactions.sessions)
    if len(counts) < 3:
        return None
    most, next_most = np.sort(np.partition(counts, -2)[-2:])[::-1]
    if most < 0.2 * len(interactions) or most < 5 * next_most:
        return None
    name = interactions.session_names[int(counts.argmax())].as_py()
    return (
        f"the session {name!r} holds {most:,} of {len(interactions):,} rows; where it stands for visitors who are not "
        f"known, leave it out: {option('missing')} {name}"
    )


def _why_none(interactions: Interactions, mining: MiningSettings) -> str:
    """Say what would have to be different for a pair."""
    keys = np.unique(interactions.sessions.astype(np.int64) << 32 | interactions.items)
    sessions, counts = np.unique(keys >> 32, return_counts=True)
    several = int((counts > 1).sum())
    if not several:
        name = pc.unique(interactions.session_names).to_pylist()[:3]
        some = ", ".join(map(repr, name))
        return f"none of its {counted(len(sessions), 'session')} ({some} …) holds two items; check {option('session')}"
    looser = mine_pairs(interactions, replace(mining, min_support=1))
    if len(looser):
        most = max(looser.table["count"].to_pylist())
        return (
            f"{counted(len(looser), 'pair')} in one session or more, the most frequent in {most}, and "
            f"{option('min_support')} asks for {mining.min_support}; "
            f"{several:,} of {len(sessions):,} sessions hold two items"
        )
    if len(mine_pairs(interactions, replace(mining, min_support=1, window=Window(), weighting="count"))):
        near = f"none so near to each other ({option('window')}) or so strongly tied"
        return f"{several:,} sessions hold two items, but {near}"
    return f"{several:,} sessions hold two items"
