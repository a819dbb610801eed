"""`tgq sync`: keep a store fresh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgqformer.cli.commands import say, then
from tgqformer.cli.options import MODEL_HELP, BatchSize, Device, Dim, Form, Store, Workers, settings_of
from tgqformer.errors import counted
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.store.sync import SyncReport


def sync(
    context: typer.Context,
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="The catalogue as it is now.")],
    store: Store,
    model: Annotated[str | None, typer.Option(help=f"{MODEL_HELP}.  [default: the one the version knows]")] = None,
    version: Annotated[str | None, typer.Option(help="Keep this version fresh, not the served one.")] = None,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Build a version of this model beside, and serve it when it is whole.")
    ] = False,
    label: Annotated[str, typer.Option(help="A name of the new version for people.")] = "",
    dtype: Annotated[Form, typer.Option(help="How the new version keeps vectors.")] = "float32",
    dim: Dim = None,
    serve: Annotated[bool, typer.Option(help="Serve the new version when it is whole.")] = True,
    keep: Annotated[int, typer.Option(min=1, help="How many versions stay after a new one.")] = 2,
    batch_size: BatchSize = 64,
    batch_rows: Annotated[int, typer.Option(help="Items of one write: what a kill loses at most.", min=1)] = 512,
    workers: Workers = None,
    allow_shrink: Annotated[bool, typer.Option("--allow-shrink", help="Let more than half of the items go.")] = False,
    neighbours: Annotated[
        list[Path] | None,
        typer.Option(help="A table of neighbours to bring up to date; may be repeated.  [default: those of the run]"),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Compare a catalogue with a store by content: embed what is new or changed, delete what is gone.

    What the model does not read, such as the price, is updated without embedding. Pictures count by the digest that
    the catalogue holds, so import a changed shop first. Killed anywhere, the same command goes on. A model
    trained to be compatible with the version's own embeds what is new from then on, and old vectors stay. Any other
    model is refused, unless a new version is asked for: that is built beside the served one, which stays for
    `tgq store rollback`. One call keeps one version fresh; for several, call it once for each with `--version`.
    Tables of exact neighbours follow, as a fresh `tgq neighbours` would make them.

    Examples:

        tgq sync catalogs/shop --store store --model runs/shop/models/tgq-former/served/model

        tgq sync catalogs/shop --store store --model runs/new/models/tgq-former/served/model --new-version --label new
    """
    from tgqformer.catalog.catalog import Catalog
    from tgqformer.errors import TgqError
    from tgqformer.model.embedder import ItemEmbedder
    from tgqformer.model.encoding import unread_in
    from tgqformer.model.hub import known_place, locate_model
    from tgqformer.store import make_store, open_store
    from tgqformer.store.sync import SyncSettings
    from tgqformer.store.sync import sync as bring_up_to_date

    opened = make_store(store) if new_version else open_store(store)
    known = None if new_version else opened.table(version).version.model
    if model is None and not known:
        raise TgqError("which model? the version does not know it; give it with --model")
    place = locate_model(model) if model else known_place(known or "")
    settings = settings_of(SyncSettings, context, "the sync", model=place, neighbours=tuple(neighbours or ()))
    shop, embedder = Catalog.open(catalog), ItemEmbedder.load(place, device)
    if embedder.encoders is not None:
        for warning in unread_in(shop, embedder.encoders, embedder.language):
            say(f"warning: {warning}")
    report = bring_up_to_date(shop, opened, embedder, settings)
    _show(report, opened.where)
    then(f"tgq store versions {in_shell(store)}", f"tgq similar ITEM --store {in_shell(store)}")


def _show(report: SyncReport, where: Path | str) -> None:
    say(
        f"version {report.version.name} of {where}: embedded {report.embedded:,}, updated {report.updated:,},"
        f" deleted {report.deleted:,}, unchanged {report.same:,}"
    )
    for path, done in report.neighbours.items():
        if isinstance(done, str):
            say(f"neighbours left as they are: {done}")
        elif done.changed:
            words = f"{done.fresh:,} vectors came, {done.gone:,} went, {done.searched:,} lists searched"
            say(f"neighbours in {path}: {words}")
        else:
            say(f"neighbours in {path}: unchanged")
    if report.unreadable:
        first, reason = next(iter(report.unreadable.items()))
        say(
            f"{counted(len(report.unreadable), 'picture')} could not be read (first {first!r}: {reason}); those items"
            " are embedded by their text, and the next sync tries again"
        )
