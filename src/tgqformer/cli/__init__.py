"""The one command: `tgq`. One file per group of commands; this one puts them together, by what they are for."""

from __future__ import annotations

import re
import sys
from errno import ENOSPC
from pathlib import Path
from tempfile import mkstemp
from traceback import format_exc
from typing import Any, NoReturn

import typer

from tgqformer.cli import (
    bench,
    cache,
    catalog,
    collab,
    compare,
    cost,
    embed,
    export,
    model,
    noise,
    pairs,
    pictures,
    plan,
    run,
    search,
    serve,
    store,
    studio,
    sync,
)
from tgqformer.cli.commands import Group, say
from tgqformer.errors import TgqError
from tgqformer.packages import told_missing
from tgqformer.version import __version__

app = Group(
    name="tgq",
    help="Turn a shop's catalogue and click logs into item embeddings that look past promo stickers and clutter.",
    epilog="Start with `tgq demo --quick`, or with `tgq init` for your own shop. What a command works on stands first, "
    "all else is named; whatever prints a table has `--json`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
PANELS: dict[str, tuple[Any, ...]] = {
    "The main path": (run.demo, run.init, run.run, search.similar, serve.serve),
    "Every day": (sync.sync, store.app, model.app, export.export, serve.keys_app),
    "Step by step": (
        catalog.app,
        pictures.app,
        pairs.app,
        cache.cache,
        embed.embed,
        search.index,
        search.neighbours,
    ),
    "Compare and try out": (
        run.recipes,
        bench.bench,
        compare.compare,
        collab.app,
        plan.plan,
        cost.cost,
        studio.studio,
        noise.app,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, Group):
            app.add_typer(command, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)


def _version(asked: bool) -> None:
    if asked:
        say(f"tgqformer {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and leave."
    ),
) -> None:
    pass


def _refuse_passwords(arguments: list[str]) -> None:
    """Raise TgqError for a URL with a password: everybody on the machine sees what stands in a command."""
    if any(re.search(r"(s3|gs|az)://[^/]*:[^/]*@", one) for one in arguments):
        raise TgqError("keys of an object store stand in no address, but in the environment: see docs/cluster.md")
    if any(re.search(r"postgres(ql)?://([^:/@]*:.+@|.*[?&]password=[^&])", one) for one in arguments):
        raise TgqError(
            "a password in a command is seen by everybody on this machine; put it into the variable PGPASSWORD, or into"
            " the file that PGPASSFILE names (~/.pgpass)"
        )


def main() -> None:
    """Run the command line. No traceback is shown: mistakes are told, what nobody foresaw is kept in a file."""
    try:
        _refuse_passwords(sys.argv[1:])
        app()
    except TgqError as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - of whatever kind; nothing is hidden
        if isinstance(error, ModuleNotFoundError) and (missing := told_missing(error)) is not None:
            _fail(missing)
        if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
            _fail(f"{error.filename}: {error.strerror}")
        if getattr(error, "errno", None) == ENOSPC or "no space left" in str(error).lower():
            _fail("the disk is full; make room, and run the same command again")
        kept = Path(mkstemp(prefix="tgq-", suffix=".log")[1])
        kept.write_text(format_exc(), encoding="utf-8", errors="backslashreplace")
        _fail(f"this should not have happened: {type(error).__name__}: {error}. Please report it, with {kept}", 1)


def _fail(words: str, status: int = 2) -> NoReturn:
    from rich.markup import escape

    from tgqformer.progress import console

    console.print(f"[bold red]error:[/] {escape(words)}", highlight=False, emoji=False)
    sys.exit(status)
