"""The one command: `tgq`. One file per group of commands; this one puts them together."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import mkstemp
from traceback import format_exc
from typing import NoReturn

import typer

from tgqformer.cli import (
    bench,
    catalog,
    collab,
    compare,
    cost,
    noise,
    pairs,
    pictures,
    plan,
    run,
    search,
    serve,
    studio,
)
from tgqformer.cli.options import check_once, say
from tgqformer.errors import TgqError
from tgqformer.version import __version__

app = typer.Typer(
    name="tgq",
    help="Turn a shop's catalogue and click logs into item embeddings that look past promo stickers and clutter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(catalog.app, name="catalog")
app.add_typer(pictures.app, name="pictures")
app.add_typer(pairs.app, name="pairs")
app.add_typer(noise.app, name="noise")
app.add_typer(collab.app, name="collab")
app.command()(studio.studio)
app.command()(compare.compare)
app.command()(cost.cost)
app.command()(plan.plan)
run.register(app)
bench.register(app)
search.register(app)
serve.register(app)


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
    if any(re.search(r"postgres(ql)?://([^:/@]*:.*@|.*[?&]password=)", one) for one in arguments):
        raise TgqError(
            "a password in a command is seen by everybody on this machine; put it into the variable PGPASSWORD, or into"
            " the file that PGPASSFILE names (~/.pgpass)"
        )


def main() -> None:
    """Run the command line. No traceback is shown: mistakes are told, what nobody foresaw is kept in a file."""
    try:
        _refuse_passwords(sys.argv[1:])
        command = typer.main.get_command(app)
        check_once(command, sys.argv[1:])
        command()
    except TgqError as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - of whatever kind; nothing is hidden
        if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
            _fail(f"{error.filename}: {error.strerror}")
        kept = Path(mkstemp(prefix="tgq-", suffix=".log")[1])
        kept.write_text(format_exc(), encoding="utf-8", errors="backslashreplace")
        _fail(f"this should not have happened: {type(error).__name__}: {error}. Please report it, with {kept}", 1)


def _fail(words: str, status: int = 2) -> NoReturn:
    from rich.markup import escape

    from tgqformer.progress import console

    console.print(f"[bold red]error:[/] {escape(words)}", highlight=False, emoji=False)
    sys.exit(status)
