"""Options that many commands have."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup, TyperOption

from tgqformer.errors import TgqError

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands there, if `tgq` made it; else nothing is replaced.")
]
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
        list[str] | None, typer.Option(help="Column with the session, user or order; several make one key")
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="Column with the item; inside objects by its path, items.item_id; NAME[]: a list")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column with the time")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with the weight")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with such a value: event=view,add_to_cart; may be repeated")
    ] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A further word for *not known*; may be repeated")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names of all columns, where the file has no header: session,item,time")
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(help="seconds, ms, us, ns, excel, day-first, month-first, or such as '%d.%m.%Y %H:%M'"),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text file; else UTF-8 or UTF-16")] = None,
) -> None: ...


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of how a log is read; it finds them by `settings_of(LogSettings, context, …)`."""
    own, more = (inspect.signature(one, eval_str=True) for one in (command, _log))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        command(**{name: value for name, value in given.items() if name not in more.parameters})

    whole = {**own.parameters, **more.parameters}
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in whole.values()]
    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {name: one.annotation for name, one in whole.items()}
    return called


def list_shipped(shipped: Mapping[str, Path]) -> None:
    """Print what comes with the package: its name, the first line of its file, and where that is."""
    width = max(map(len, shipped))
    for name, path in shipped.items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:<{width}} {first}\n{'':<{width}} {path}")


def say(text: str, *, err: bool = False) -> None:
    """Print a line, its control characters shown: a title or a path may hold what a terminal obeys."""
    from tgqformer.progress import shown

    typer.echo(shown(text), err=err)


def check_once(command: Any, words: Sequence[str]) -> None:
    """Refuse an option that takes one value and is given twice: the first would be dropped without a word.

    Raise TgqError, with both values.
    """
    given: dict[Any, str] = {}
    rest = list(words)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if not word.startswith("-") and isinstance(command, TyperGroup) and word in command.commands:
            command = command.commands[word]
            continue
        name, equals, value = word.partition("=")
        option = next((one for one in command.params if isinstance(one, TyperOption) and name in one.opts), None)
        if option is None or option.is_flag or option.multiple or option.count:
            continue
        value = value if equals else rest.pop(0) if rest else ""
        if option.name in given:
            raise TgqError(f"{name} takes one value, and is given twice: {given[option.name]} and {value}")
        given[option.name] = value
