"""`tgq serve` and `tgq keys`: the HTTP service, and who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tgqformer.cli.commands import Group, say, then
from tgqformer.cli.options import BatchSize, settings_of
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import TgqError
from tgqformer.objects import in_shell

if TYPE_CHECKING:
    from tgqformer.service.places import Places
    from tgqformer.service.settings import ServiceSettings

keys_app = Group(name="keys", help="Make, list and remove API keys for `tgq serve --keys`.", no_args_is_help=True)
KeysFile = Annotated[Path, typer.Option("--keys", help="File of keys; only their digests are kept in it.")]


def serve(
    context: typer.Context,
    where: Annotated[
        str, typer.Argument(metavar="STORE", help="Folder of a run (demo/) or of a store, or a store's URL.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    model: Annotated[
        list[str] | None, typer.Option(help="Folder or hub id of a saved model; repeat for those of other versions.")
    ] = None,
    runtime: Annotated[
        Literal["torch", "onnx"],
        typer.Option(help="What runs models: PyTorch, or ONNX Runtime those that `tgq export` wrote."),
    ] = "torch",
    catalog: Annotated[Path | None, typer.Option(help="Catalogue with pictures and metadata, if not beside.")] = None,
    neighbours: Annotated[
        list[Path] | None, typer.Option(help="Folder written by `tgq neighbours`; repeat for those of other versions.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="A recipe, or a file of rules.  [default: those of the run that the store lies in]"),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for what comes in over HTTP.  [default: beside it]")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File of API keys, see `tgq keys new`; open to all without.")
    ] = None,
    open_reads: Annotated[bool, typer.Option("--open-reads", help="With --keys, only writes need a key.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name by which clients call it, besides localhost; repeat; '*' for any.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of pages whose scripts may ask, as https://shop.example.com; repeat; '*' for any."),
    ] = None,
    no_explorer: Annotated[bool, typer.Option("--no-explorer", help="The API alone, no web pages.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.", min=0.1)] = 30.0,
    concurrency: Annotated[int, typer.Option(help="Requests in work at once; more get 503.", min=1)] = 128,
    max_upload: Annotated[float, typer.Option(help="MB of one request.", min=0.01)] = 16.0,
    max_pixels: Annotated[float, typer.Option(help="Millions of pixels of a picture.", min=0.01)] = 24.0,
    decodes: Annotated[
        int | None,
        typer.Option(
            help="Uploaded pictures decoded at once, 27 bytes a pixel each.  [default: one for two processors]", min=1
        ),
    ] = None,
    upload_burst: Annotated[
        float, typer.Option(help="Seconds that decoding the costly pictures of one client may take at once.", min=0.01)
    ] = 5.0,
    upload_share: Annotated[
        float, typer.Option(help="Share of a processor that they may take for ever; beyond that 429.", min=0.001)
    ] = 0.1,
    batch: BatchSize = 16,
    optimize_every: Annotated[
        int, typer.Option(help="Writes (transactions) after which the table is compacted in the background.", min=1)
    ] = 100,
    index_cache: Annotated[
        float | None,
        typer.Option(help="MB of memory for a version's indexes in LanceDB.  [default: 1.5 times their need]", min=1),
    ] = None,
    no_memory_index: Annotated[
        bool, typer.Option("--no-memory-index", help="Search the store itself, not a copy of it in memory.")
    ] = False,
    explorer_threads: Annotated[int, typer.Option(help="Threads of the web pages, apart from the API's.", min=1)] = 2,
    log_level: Annotated[
        str, typer.Option(help="Debug, info, warning or error; requests are logged at info.")
    ] = "info",
) -> None:
    """Serve similar items over HTTP, with web pages to look at them.

    In the folder of a run, the store, its model, the catalogue and the table of neighbours are found. Of a store
    alone, name what it does not know by the options. Another version is taken into service without a pause
    when `tgq store serve` serves it. Logs are JSON lines on standard error.

    Examples:

        tgq serve demo

        tgq serve store --model runs/shop/models/tgq-former/served/model --catalog catalogs/shop --neighbours neighbours

        tgq serve demo --host 0.0.0.0 --port 80 --keys keys.json --open-reads

        tgq serve store --runtime onnx --model small-onnx --catalog catalogs/shop

    Then:

        curl localhost:8000/items/studio-00042/similar?k=5

        curl -F picture=@shoe.jpg -F 'title=Red canvas shoe' localhost:8000/search
    """
    from tgqformer.model.hub import locate_model
    from tgqformer.service.places import find_places
    from tgqformer.service.settings import ServiceSettings

    models = [locate_model(one) for one in model or ()]
    beside = {"models": models, "catalog": catalog, "neighbours": neighbours or (), "state": state}
    places = find_places(where, **beside, rules=rules, runtime=runtime)  # type: ignore[arg-type]
    settings = settings_of(
        ServiceSettings,
        context,
        "the service",
        explorer=not no_explorer,
        memory_index=not no_memory_index,
        hosts=("localhost", *(name.lower() for name in allow_host or ())),
        origins=tuple(origin.lower() for origin in allow_origin or ()),
        max_body_bytes=int(max_upload * (1 << 20)),
        max_pixels=int(max_pixels * 1e6),
        index_cache=None if index_cache is None else int(index_cache * (1 << 20)),
    )
    _serve(places, settings, host, port, log_level)


@keys_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it, for example the shop front.")],
    file: KeysFile = Path("keys.json"),
    read_only: Annotated[bool, typer.Option("--read-only", help="This key may not put or delete items.")] = False,
) -> None:
    """Make a key and print it: this once, for only its digest is kept.

    Examples:

        tgq keys new shop-front --read-only

        tgq keys new importer --keys keys.json
    """
    from tgqformer.service.keys import new_key

    say(new_key(file, name, "read" if read_only else "write"))
    say(f"kept as a digest in {file}; it cannot be shown again", err=True)
    then(f"tgq serve STORE --keys {in_shell(file)}")


@keys_app.command("list")
def listed(file: KeysFile = Path("keys.json")) -> Sheet:
    """List the names of the keys, what they may do, and since when.

    Example:

        tgq keys list --keys keys.json
    """
    from tgqformer.service.keys import read_keys

    columns = (Column("name", cut=True), Column("may"), Column("since"))
    return Sheet(columns, [(key.name, key.scope, key.created) for key in read_keys(file)])


@keys_app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")], file: KeysFile = Path("keys.json")
) -> None:
    """Remove a key; a running service refuses it within a second.

    Example:

        tgq keys remove shop-front
    """
    from tgqformer.service.keys import remove_key

    remove_key(file, name)
    say(f"{name} is removed from {file}")


def _serve(places: Places, settings: ServiceSettings, host: str, port: int, log_level: str) -> None:
    if log_level not in ("debug", "info", "warning", "error"):
        raise TgqError(f"--log-level is debug, info, warning or error; got {log_level!r}")
    try:
        from tgqformer.service.server import run
    except ModuleNotFoundError as error:
        raise TgqError(f"the service needs the package {error.name}; run: pip install 'tgqformer[serve]'") from error
    run(places, settings, host, port, log_level)
