"""`tgq collab`: item vectors from behaviour, trained, judged and embedded like their multimodal twins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.errors import TgqError

if TYPE_CHECKING:
    from tgqformer.collaborative.run import Content

app = typer.Typer(
    help="Items embedded by behaviour: LightGCN, NGCF, SASRec, PinSage, and the counting baselines.",
    no_args_is_help=True,
)
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `tgq collab train`.")]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Content of the items, a folder written by `tgq embed`; for pinsage and lightgcn.")
]


@app.command()
def train(
    preset: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped preset.")],
    to: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A log of interactions, or a folder with train.txt and test.txt.")
    ] = None,
    features: FeaturesOption = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: `--set training.epochs=20`; repeatable.")
    ] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train a model on interactions and judge it by its paper's protocol. A run that was killed goes on where it was.

    Examples:

        tgq collab train gowalla-lightgcn --data ../shared/data/gowalla --to runs/lightgcn --device cuda

        tgq collab train shop-pinsage --data clicks.csv --features embeddings --to runs/pinsage
    """
    from tgqformer.collaborative.run import train_run
    from tgqformer.collaborative.settings import load_preset

    loaded = load_preset(preset, tuple(change or ()))
    folder = to or Path("runs") / loaded.name
    _check_device(device)
    _show(train_run(loaded, folder, data=data, device=device, content=_content(features)), folder)


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[Path | None, typer.Option(help="Where the interactions are, if they were moved.")] = None,
    features: FeaturesOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Judge a finished run again on its test part, by its preset's protocol.

    Example:

        tgq collab evaluate runs/lightgcn
    """
    from tgqformer.collaborative.run import evaluate_run, open_run
    from tgqformer.files import read_json

    open_run(run)
    known = read_json(run / "run.json").get("content")
    content = _content(features or (Path(known) if known else None))
    _check_device(device)
    _show(evaluate_run(run, data=data, device=device, content=content), run)


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
) -> None:
    """Write the item vectors of a finished run as embeddings, which `tgq index` and `tgq neighbours` take.

    Similar items are those of the greatest cosine. With a catalogue, items without interactions get a vector of zeros.

    Examples:

        tgq collab embed runs/pinsage --catalog catalogs/shop --to behaviour

        tgq collab embed runs/lightgcn --to behaviour
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.collaborative.run import for_cosine, item_vectors, vectors_for
    from tgqformer.store.embeddings import Embeddings, fingerprint_of

    found = item_vectors(run)
    ids = found.ids if catalog is None else Catalog.open(catalog).ids()
    vectors, missing = vectors_for(found, ids)
    vectors = for_cosine(vectors) if for_users else vectors
    version = found.version + ("-for-users" if for_users else "")
    made = Embeddings.create(
        to, dim=vectors.shape[1], model_version=version, ids_fingerprint=fingerprint_of(ids), count=len(ids)
    )
    for number in made.missing():
        start, stop = made.bounds(number)
        made.write(number, ids[start:stop], vectors[start:stop])
    typer.echo(f"{len(ids) - missing:,} items of {vectors.shape[1]} dimensions in {to}, model {version}")
    if missing:
        typer.echo(f"{missing:,} items of the catalogue have no interactions in this run: their vectors are zeros")


@app.command()
def presets() -> None:
    """List the presets that come with the package, and where they are.

    Example:

        tgq collab presets
    """
    from tgqformer.collaborative.settings import shipped_presets

    for name, path in shipped_presets().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:<22} {first}\n{'':<22} {path}")


def _content(folder: Path | None) -> Content | None:
    from tgqformer.collaborative.run import Content
    from tgqformer.store.embeddings import Embeddings

    if folder is None:
        return None
    opened = Embeddings.open(folder)
    return Content(opened.ids(), opened.vectors(), str(folder))


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TgqError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}; use cpu") from error


def _show(metrics: dict[str, float], folder: Path) -> None:
    for name, value in metrics.items():
        typer.echo(f"{name:<14} {value:,.0f}" if name == "users" else f"{name:<14} {value:.4f}")
    typer.echo(f"run in {folder}")
