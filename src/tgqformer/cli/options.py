"""Options that many commands have."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from tgqformer.cli.commands import with_options
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import TgqError

# One word for one thing: what several commands have is declared here once. docs/commands.md is the rule for people.
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands there, if `tgq` made it; else nothing is replaced.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, …")]
Change = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key: `--set training.steps=200`; may be repeated.")
]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="How many to find or to list.")]
Dim = Annotated[int | None, typer.Option(min=1, help="Keep the first so many dimensions of each vector.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Items embedded at once.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that read and embed.  [default: one a processor]")]
STORE_HELP = "A folder, the URI of an object store (s3://…), or postgresql://user@host/database."


FORMATS = {".png": "a PNG", ".html": "a page of HTML", ".csv": "CSV", ".parquet": "Parquet", ".yaml": "YAML"}
_SAME = {".htm": ".html", ".yml": ".yaml"}
_OTHERS = {".jpg", ".jpeg", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp", ".svg", ".pdf", ".tsv", ".xlsx", ".ods",
           ".json", ".jsonl", ".txt", ".md", ".zip"}  # fmt: skip


def written_as(ending: str) -> Callable[[Path | None], Path | None]:
    """Return the callback of an option that names a file to write in one of `FORMATS`.

    It raises TgqError where the ending of the file is that of another format.
    """

    def checked(file: Path | None) -> Path | None:
        found = "" if file is None else _SAME.get(file.suffix.lower(), file.suffix.lower())
        if file is not None and found != ending and found in (*FORMATS, *_OTHERS):
            raise TgqError(f"{file} is written as {FORMATS[ending]}; name it {file.with_suffix(ending)}")
        return file

    return checked


def store_in(place: str) -> str:
    """Return the store that a place holds: that of a run where it is the folder of one, else the place itself."""
    folder = Path(place)
    inner = "://" not in place and not (folder / "store.json").is_file() and (folder / "store/store.json").is_file()
    return str(folder / "store") if inner else place


Store = Annotated[str, typer.Option(metavar="STORE", help=f"{STORE_HELP} Or the folder of a run.", callback=store_in)]
_POWERS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def amount(text: str) -> int:
    """Return the whole number that `100e6`, `1b`, `10M`, `1.5k` or `31,788,324` means.

    Raises:
        TgqError: for anything else.
    """
    plain = re.fullmatch(r"(\d{1,3}(?:[,_]\d{3})+|\d{1,18})(\.\d+)?(?:e(\d{1,2}))?([kmb]?)", str(text).strip().lower())
    if plain is not None:
        digits, rest, power, unit = plain.groups(default="")
        value = Decimal(re.sub("[,_]", "", digits) + rest) * 10 ** int(power or 0) * _POWERS[unit]
        if value == int(value):
            return int(value)
    raise TgqError(f"{text!r} is no whole number; write it as 250000, 100e6, 10M or 1b")


Form = Literal["float32", "float16", "int8"]  # as store.base.Dtype, which is not imported for the help's sake
MODEL_HELP = "A saved model: its folder, a hub id `OWNER/NAME[@REVISION]`, or `small`, which comes as a package."
S = TypeVar("S")


def settings_of(schema: type[S], context: typer.Context, where: str, base: S | None = None, **more: Any) -> S:
    """Return the settings that the options of a command say: those with the names of fields, and `more`.

    An option that is not given leaves its default, or what `base` says. where: name of the whole, for errors.
    """
    from tgqformer.config import parse, plain

    names = schema.__dataclass_fields__  # type: ignore[attr-defined]
    given = {name: value for name, value in (context.params | more).items() if name in names}
    given = {name: value for name, value in given.items() if value not in (None, [], ())}
    return parse(schema, (plain(base) if base is not None else {}) | given, where)


def _log(  # what `LogSettings` says, as options
    session: Annotated[
        list[str] | None, typer.Option(help="Column with the session, user or order; several make one key.")
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(help="Column with the item; inside objects by its path, items.item_id; NAME[]: a list."),
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with the weight.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with such a value: event=view,add_to_cart; may be repeated.")
    ] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A further word for *not known*; may be repeated.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names of all columns, where the file has no header: session,item,time.")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            help="Form of the times: seconds, ms, us, ns, excel, day-first, month-first, or such as '%d.%m.%Y %H:%M'."
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of a text file that is neither UTF-8 nor UTF-16.")
    ] = None,
) -> None: ...


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of how a log is read; it finds them by `settings_of(LogSettings, context, …)`."""
    own, more = inspect.signature(command).parameters, inspect.signature(_log, eval_str=True).parameters

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        return command(**{name: value for name, value in given.items() if name in own})

    return with_options(called, more)


def names_of(package: str, folder: str) -> Callable[[str], list[str]]:
    """Return what completes the names of files that come with a package, such as recipes."""

    def complete(incomplete: str) -> list[str]:
        from tgqformer.config import shipped_in

        return [name for name in shipped_in(package, folder) if name.startswith(incomplete)]

    return complete


def shipped_sheet(shipped: Mapping[str, Path]) -> Sheet:
    """Lay out what comes with the package: its name, the first line of its file, and where that is."""
    rows = [
        (name, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), path) for name, path in shipped.items()
    ]
    folders = dict.fromkeys(str(path.parent) for path in shipped.values())
    data = [{"name": name, "about": about, "path": str(path)} for name, about, path in rows]
    columns = (Column("name"), Column("about", wrap=True))
    return Sheet(columns, [row[:2] for row in rows], note=f"files in {', '.join(folders)}", data=data)
