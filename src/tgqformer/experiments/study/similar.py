"""How good a run of `tgq collab train` is at similar items: the figures and the report of a run of `tgq run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.collaborative.blend import BUCKETS, bucket_of
from tgqformer.collaborative.data import histories, take
from tgqformer.collaborative.graph import interactions_matrix
from tgqformer.collaborative.lists import Lists, lists_of_scorer, lists_of_vectors, ranks_of_lists
from tgqformer.collaborative.run import FinishedRun
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Csr, Queries, Scores, score
from tgqformer.evaluation.report import NeighbourExample, Report, ReportCard, write_report
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.files import read_json
from tgqformer.objects import in_shell
from tgqformer.pairs.pairs import Pairs
from tgqformer.synthetic.noise import NoisePlan, NoiseView, noise_views
from tgqformer.types import Array, Ints

K, SHOWN, EXAMPLES, FEW = 200, 6, 8, 3
LEAK, PART = 0.5, 1 << 16
NOTES = (
    "A query is the last item that is known of a user, its positives are the user's held-out items; or every item of "
    "the pairs that were given. Columns: how many interactions the query has. Examples are drawn by chance.",
)


@dataclass(frozen=True)
class Judged:
    """What was found of a run: a view for all queries and one for each bucket; lists are those of the queries.

    known: the share of the given pairs of which one user has both items in what the run was trained on.
    """

    result: Result
    queries: Queries
    lists: Lists
    ids: list[str]
    known: float = 0.0

    @property
    def warning(self) -> str | None:
        """Say that the pairs were no secret to the run, if half of them were not."""
        if self.known < LEAK:
            return None
        return (
            f"{self.known:.0%} of the pairs were clicked together in the log that this run was trained on: the figures "
            "say how well it remembers, not how well it finds. Hold pairs out: mine them from later sessions, or leave "
            "the pairs away to be judged on the run's own test part"
        )


def judge(run: FinishedRun, pairs: Pairs | None = None) -> Judged:
    """Judge a run as a source of similar items, by its vectors' cosine, or, where it counts, by its counts.

    pairs: held out; None takes those of users' last known and held-out items.

    Raises:
        TgqError: where no query is left: pairs of other items, or a test part without known items.
    """
    split, known, seen = run.split, run.split.known(), 0.0
    if pairs is not None:
        inside = pairs.within(split.item_names)
        if not len(inside):
            raise TgqError("no pair is of two items of this run; are both of one shop?")
        places = inside.positions(split.item_names)
        queries, seen = Queries.from_pairs(*places.T), _known_share(known, split.items, places)
    else:
        queries = _of_users(known, split.test)
    clicks = np.bincount(known.indices, minlength=split.items).astype(np.int64)
    lists = _lists(run, clicks > 0, queries.query)
    scores = score(queries, ranks_of_lists(lists, queries, split.items))
    code = bucket_of(clicks, FEW)[queries.query]
    parts = {"all": np.arange(len(queries))} | {name: np.flatnonzero(code == at) for at, name in enumerate(BUCKETS)}
    views = {name: ViewScores.of(_some(scores, at), split.item_names) for name, at in parts.items() if len(at)}
    return Judged(Result(run.preset.name, run.preset.seed, views), queries, lists, split.item_names, seen)


def write_run_report(folder: Path, metrics: dict[str, float], judged: Judged, catalog: Catalog | None = None) -> Path:
    """Write report.html into a run's folder; with a catalogue it shows neighbours with their pictures.

    metrics: what the preset's protocol said.
    """
    about = read_json(folder / "run.json")
    protocol = {name: f"{value:,.0f}" if name == "users" else f"{value:.4f}" for name, value in metrics.items()}
    counts = ", ".join(f"{number:,} {name}" for name, number in about["interactions"].items())
    judged.result.write(folder / "similar")
    return write_report(
        folder / "report.html",
        Report(
            title=f"{judged.result.model}: similar items, {len(judged.queries):,} queries",
            settings={
                "model": about["model"],
                "users": f"{about['users']:,}",
                "items": f"{about['items']:,}",
                "interactions": counts,
                **protocol,
            },
            results=[judged.result],
            examples=_examples(judged, catalog) if catalog is not None else (),
            rule=f"The first {EXAMPLES} queries, in an order drawn once, whose neighbours are all in the catalogue.",
            commands=[f"tgq collab evaluate {in_shell(folder)}"],
            notes=(*NOTES, *filter(None, [judged.warning])),
        ),
    )


def _known_share(known: Csr, items: int, pairs: Ints) -> float:
    """Return the share of pairs, int64 [M, 2], of which one user has both items."""
    users, found = interactions_matrix(known, items).T.tocsr(), 0
    for start in range(0, len(pairs), PART):
        a, b = pairs[start : start + PART].T
        found += int((users[a].multiply(users[b]).sum(1) > 0).sum())
    return found / len(pairs)


def _of_users(known: Csr, test: Csr) -> Queries:
    users = np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(test.indptr) > 0))
    if not len(users):
        raise TgqError("no user has both a known and a held-out item; give --pairs")
    last = known.indices[known.indptr[users + 1] - 1]
    place, held = take(test, users)
    edges = np.unique(np.stack([last[place], held], axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    query, start = np.unique(edges[:, 0], return_index=True)
    indptr = np.append(start, len(edges)).astype(np.int64)
    return Queries(query, Csr(indptr, np.ascontiguousarray(edges[:, 1])))


def _lists(run: FinishedRun, known: Array, rows: Ints) -> Lists:
    recommender = run.model
    if recommender.vectors is not None:
        vectors = recommender.vectors().detach().float().cpu().numpy()
        return lists_of_vectors(vectors, K, rows=rows, shown=True)
    everything = np.arange(len(known))
    scorer = recommender.scorer(histories(everything, everything, len(known)))
    return lists_of_scorer(scorer, known, K, rows=rows, floor=0.0, shown=True)


def _some(scores: Scores, places: Ints) -> Scores:
    return Scores(scores.query[places], {metric: values[places] for metric, values in scores.values.items()})


def _examples(judged: Judged, catalog: Catalog) -> list[NeighbourExample]:
    view = noise_views(catalog, NoisePlan(share=0.0), {"clean": None})[0]
    there, made = set(catalog.ids()), []
    for at in np.random.default_rng(0).permutation(len(judged.queries)).tolist():
        query = judged.ids[int(judged.queries.query[at])]
        partners = {judged.ids[item] for item in judged.queries.positives.row(at).tolist()}
        near = [judged.ids[item] for item in judged.lists.items[at, :SHOWN].tolist() if item >= 0]
        if query in there and near and all(name in there for name in near):
            scores = judged.lists.scores[at].tolist()
            cards = [_card(view, name, name in partners, value) for name, value in zip(near, scores, strict=False)]
            made.append(NeighbourExample(_card(view, query, False, None), {judged.result.model: cards}))
        if len(made) == EXAMPLES:
            break
    return made


def _card(view: NoiseView, item_id: str, hit: bool, value: float | None) -> ReportCard:
    item = view.catalog.take([item_id])[0]
    shown = view.render(item)
    return ReportCard(item.id, item.title or "", shown.picture if shown else None, hit, value)
