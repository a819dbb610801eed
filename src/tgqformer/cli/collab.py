"""`tgq collab`: item vectors from behaviour, trained, judged and embedded like their multimodal twins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import (
    Change,
    Device,
    Overwrite,
    Top,
    log_options,
    names_of,
    settings_of,
    shipped_sheet,
    written_as,
)
from tgqformer.cli.sheets import Column, Sheet, results_sheet
from tgqformer.errors import TgqError, counted
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.collaborative.run import Content
    from tgqformer.pairs.pairs import Pairs

app = Group(
    name="collab",
    help="Items embedded by behaviour: LightGCN, NGCF, SASRec, PinSage, and the counting baselines.",
    no_args_is_help=True,
)
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `tgq collab train`.")]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Content of the items, a folder written by `tgq embed`; for pinsage and lightgcn.")
]


@app.command()
@log_options
def train(
    context: typer.Context,
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET",
            help="A YAML file, or the name of a shipped preset (see `tgq collab presets`).",
            autocompletion=names_of("tgqformer.collaborative", "presets"),
        ),
    ],
    to: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")] = None,
    data: Annotated[
        Path | None, typer.Option("--log", help="A log of interactions, or a folder with train.txt and test.txt.")
    ] = None,
    features: FeaturesOption = None,
    change: Change = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Pairs to train on, by `tgq pairs mine`, over the graph of the log; for pinsage."),
    ] = None,
    device: Device = "cpu",
) -> Sheet:
    """Train a model on interactions and judge it by its paper's protocol. A run that was killed goes on where it was.

    Examples:

        tgq collab train gowalla-lightgcn --log ../shared/data/gowalla --to runs/lightgcn --device cuda

        tgq collab train shop-pinsage --log clicks.csv --features embeddings --to runs/pinsage

        tgq collab train shop-pinsage --log events/ --session user --where event=view,buy --to runs/pinsage
    """
    from tgqformer.collaborative.run import train_run
    from tgqformer.collaborative.settings import load_preset
    from tgqformer.config import slug
    from tgqformer.pairs.columns import LogSettings

    loaded = load_preset(preset, tuple(change or ()))
    loaded = replace(loaded, log=settings_of(LogSettings, context, "the log", loaded.log))
    folder = to or Path("runs") / slug(loaded.name)
    _check_device(device)
    given, mined = _content(features), _pairs(pairs)
    metrics = train_run(loaded, folder, data=data, device=device, content=given, pairs=mined)
    then(
        f"tgq collab evaluate {in_shell(folder)}",
        f"tgq collab embed {in_shell(folder)} --to {in_shell(folder)}-embeddings",
    )
    return _metrics_sheet(metrics, folder)


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[Path | None, typer.Option("--log", help="Where the interactions are, if they were moved.")] = None,
    features: FeaturesOption = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Held-out pairs of items that similar items are judged by.  [default: of the test part]"),
    ] = None,
    catalog: Annotated[Path | None, typer.Option(help="A catalogue, whose pictures the report shows.")] = None,
    device: Device = "cpu",
) -> tuple[Sheet, ...]:
    """Judge a finished run again on its test part, by its preset's protocol and as similar items; write report.html.

    Similar items: a query is the last item that is known of a user, its positives are the user's held-out items; with
    `--pairs`, every item of the pairs is a query. Every item but the query is in the pool, as for `tgq run`.

    Examples:

        tgq collab evaluate runs/lightgcn

        tgq collab evaluate runs/pinsage --pairs pairs-test.parquet --catalog catalogs/shop
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.collaborative.run import evaluate_run, load_run, open_run
    from tgqformer.evaluation.results import summarize
    from tgqformer.experiments.study.similar import judge, write_run_report
    from tgqformer.files import read_json
    from tgqformer.progress import console

    open_run(run)
    known = read_json(run / "run.json").get("content")
    content = _content(features or (Path(known) if known else None))
    _check_device(device)
    metrics = evaluate_run(run, data=data, device=device, content=content)
    judged = judge(load_run(run, data=data, device=device, content=content), _pairs(pairs))
    page = write_run_report(run, metrics, judged, Catalog.open(catalog) if catalog is not None else None)
    if judged.warning is not None:
        console.print(f"warning: {judged.warning}", style="yellow", markup=False)
    say(f"report: {page}")
    then(f"open {in_shell(page)}", f"tgq collab embed {in_shell(run)} --to {in_shell(run)}-embeddings")
    return _metrics_sheet(metrics, run), results_sheet(summarize([judged.result]), "similar items")


@app.command()
def embed(
    run: RunPath,
    to: Annotated[Path, typer.Option(help="Folder for the embeddings.")],
    catalog: Annotated[
        Path | None, typer.Option(help="Embed the items of this catalogue, in its order, as `tgq index` asks for.")
    ] = None,
    for_users: Annotated[
        bool, typer.Option("--for-users", help="One more dimension, so that cosines order items as dot products do.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the item vectors of a finished run as embeddings, which `tgq index` and `tgq neighbours` take.

    Similar items are those of the greatest cosine. With a catalogue, items without interactions get a vector of zeros.

    Examples:

        tgq collab embed runs/pinsage --catalog catalogs/shop --to behaviour

        tgq collab embed runs/lightgcn --to behaviour
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.collaborative.run import for_cosine, item_vectors, vectors_for
    from tgqformer.stages import make_way
    from tgqformer.store.embeddings import Embeddings, fingerprint_of

    make_way(to, "embeddings", resumable=True, sources=[run, catalog])
    found = item_vectors(run)
    ids = found.ids if catalog is None else Catalog.open(catalog).ids()
    vectors, missing = vectors_for(found, ids)
    vectors = for_cosine(vectors) if for_users else vectors
    version = found.version + ("-for-users" if for_users else "")
    made = Embeddings.create(
        to,
        dim=vectors.shape[1],
        model_version=version,
        ids_fingerprint=fingerprint_of(ids),
        count=len(ids),
        cuttable=False,
        overwrite=overwrite,
    )
    for number in made.missing():
        start, stop = made.bounds(number)
        made.write(number, ids[start:stop], vectors[start:stop])
    made.finish()
    say(f"{counted(len(ids) - missing, 'item')} of {counted(vectors.shape[1], 'dimension')} in {to}, model {version}")
    if missing:
        say(f"{counted(missing, 'item')} of the catalogue without interactions in this run: the vectors are zeros")
    named = [f"tgq index {in_shell(to)} --catalog {in_shell(catalog)} --to {in_shell(to)}-store"] if catalog else []
    then(*named, f"tgq neighbours {in_shell(to)} --to {in_shell(to)}-neighbours")


@app.command()
def study(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study: fashion.")
    ],
    to: Annotated[Path | None, typer.Option(help="Folder of the study.  [default: runs/NAME-joined]")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--run", help="A run's folder, whose catalogue and token cache serve: of the same recipe."),
    ] = None,
    change: Change = None,
    content_change: Annotated[
        list[str] | None, typer.Option("--content-set", help="Change a key of its content recipe; repeatable.")
    ] = None,
    device: Device = "cpu",
) -> Sheet:
    """Compare content, behaviour and both joined, for items with many clicks, with few and with none; say what to use.

    Everything is kept in the folder. A second call reuses what is done; a killed call goes on where it was.

    Examples:

        tgq collab study fashion --content-set catalog.source=data/fashion --to runs/joined

        tgq collab study my-shop.yaml --set seeds=[0,1,2] --to runs/joined
    """
    from tgqformer.config import slug
    from tgqformer.experiments.study.page import Findings, write_report
    from tgqformer.experiments.study.settings import load_study
    from tgqformer.experiments.study.study import StudyRun
    from tgqformer.stages import only_one

    loaded = load_study(study, tuple(change or ()))
    _check_device(device)
    folder = to or Path("runs") / slug(f"{loaded.name}-joined")
    run = StudyRun(loaded, folder, data=data, changes=tuple(content_change or ()), device=device)
    with only_one(folder):
        page = write_report(run)
        say(f"recommended, best on validation: {run.chosen()}; report: {page}")
        then(f"open {in_shell(page)}")
        return results_sheet(Findings(run, run.results()).shown(), loaded.name)


@app.command()
@log_options
def join(
    context: typer.Context,
    embeddings: Annotated[Path, typer.Argument(metavar="EMBEDDINGS", help="Content: a folder written by `tgq embed`.")],
    log: Annotated[Path, typer.Option(help="The shop's interactions, a log as `tgq pairs mine` reads it.")],
    to: Annotated[Path, typer.Option(help="Folder for what is made.")],
    top: Top = 100,
    blend: Annotated[
        Path | None, typer.Option(help="Weights that were learned before: a blend.json. Otherwise they are learned.")
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(callback=written_as(".parquet"), help="Also write one Parquet file: id, neighbours, scores."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Join content and clicks: TO/neighbours holds for every item what to show beside it, in the form of
    `tgq neighbours`; TO/embeddings holds joined vectors, which `tgq index` takes.

    What weighs how much is learned from the log, for items with many clicks, with few and with none. A service with a
    store of the same EMBEDDINGS answers from the lists, and searches live, by content, what is newer than they are.

    Example:

        tgq collab join embeddings --log clicks.csv --to joined
    """
    from tgqformer.collaborative.blend import Blend
    from tgqformer.experiments.study import shop
    from tgqformer.pairs.columns import LogSettings
    from tgqformer.pairs.interactions import read_interactions
    from tgqformer.stages import atomic_folder, make_way
    from tgqformer.store.embeddings import Embeddings
    from tgqformer.store.neighbours import Neighbours

    make_way(to, "joined embeddings", overwrite=overwrite, sources=[embeddings, log, blend])
    if parquet is not None:
        make_way(parquet, "neighbours", overwrite=overwrite, file=True, sources=[embeddings, log, blend, to])
    reading = settings_of(LogSettings, context, "the log")
    opened, interactions = Embeddings.open(embeddings), read_interactions(log, reading)
    ids, vectors = opened.ids(), opened.vectors()
    weights = Blend.read(blend) if blend is not None else shop.learn(vectors, ids, interactions)
    joined = shop.join(vectors, ids, interactions, weights, top)
    with atomic_folder(to, "joined embeddings", overwrite=overwrite) as unfinished:
        shop.write(joined, opened, unfinished)
    made = Neighbours.open(to / "neighbours")
    if parquet is not None:
        made.to_parquet(parquet)
    say(
        f"{counted(made.manifest.width, 'neighbour')} of each of {counted(len(made), 'item')} in {made.path};"
        f" vectors in {to / 'embeddings'}, weights in {to / 'blend.json'}"
    )
    then(
        f"tgq serve STORE --neighbours {in_shell(made.path)}",
        f"tgq index {in_shell(to / 'embeddings')} --catalog CATALOG --to STORE",
    )


@app.command()
def presets() -> Sheet:
    """List the presets that come with the package, and where they are.

    Example:

        tgq collab presets
    """
    from tgqformer.collaborative.settings import shipped_presets

    return shipped_sheet(shipped_presets())


def _content(folder: Path | None) -> Content | None:
    from tgqformer.collaborative.run import Content
    from tgqformer.store.embeddings import Embeddings

    if folder is None:
        return None
    opened = Embeddings.open(folder)
    return Content(opened.ids(), opened.vectors(), str(folder))


def _pairs(path: Path | None) -> Pairs | None:
    from tgqformer.pairs.pairs import Pairs

    return None if path is None else Pairs.read(path)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TgqError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}; use cpu") from error


def _metrics_sheet(metrics: dict[str, float], folder: Path) -> Sheet:
    rows = [(name, f"{value:,.0f}" if name == "users" else f"{value:.4f}") for name, value in metrics.items()]
    return Sheet((Column("metric"), Column("value", "s")), rows, note=f"run in {folder}", data=metrics)
