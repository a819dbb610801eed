"""How every command of `tgq` behaves: one place for what they have in common.

- A command that returns a `Sheet` prints it as a table, or with `--json` as JSON; all else then goes to standard error.
- An option that was spelt otherwise before is refused, with the word of today. So is an option that is given twice.
- Every stage ends with the commands that come next, on standard error.
- An error about a file that is not there names the file beside it that is spelt most like it.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from tgqformer.cli.sheets import Sheet, print_json
from tgqformer.errors import TgqError, beside

RENAMED: dict[str, dict[str, str]] = {
    "bench": {"--interactions": "--log"},
    "catalog duplicates": {"--shown": "--top"},
    "catalog show": {"--first": "--top"},
    "collab evaluate": {"--data": "--log"},
    "collab study": {"--data": "--run"},
    "collab train": {"--data": "--log"},
    "embed": {"--truncate-dim": "--dim"},
    "keys list": {"--file": "--keys"},
    "keys new": {"--file": "--keys"},
    "keys remove": {"--file": "--keys"},
    "pairs show": {"--item": "ITEM, without a name, after the file of pairs"},
    "serve": {"--batch": "--batch-size"},
    "store report": {"--log": "--export-log"},
}
"""What options were called before: a command, an old spelling, and the word of today."""


class Group(typer.Typer):
    """A group of commands, each a `Command`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Make a command of a function, as `typer.Typer.command` does."""
        register = super().command(name, **{"cls": Command, **settings})

        def registered(function: Callable[..., Any]) -> Callable[..., Any]:
            prints = "Sheet" in str(inspect.signature(function).return_annotation)
            register(_printing(function) if prints else function)
            return function

        return registered


class Command(TyperCommand):
    """A command that knows what its options were called, and what was meant where a file is not there."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Refuse old spellings and what is given twice, and read the rest."""
        renamed = RENAMED.get(_path(context), {})
        for word in args[: args.index("--") if "--" in args else None]:
            name = word.partition("=")[0]
            if name in renamed:
                raise TgqError(f"{name} is now {renamed[name]}: see `tgq {_path(context)} --help`")
        _check_once(self.params, args)
        return super().parse_args(context, args)

    def invoke(self, context: Any) -> Any:
        """Run the command, then say what to do next; an error about a file that is not there names the one meant."""
        _NEXT.clear()
        try:
            result = super().invoke(context)
            for at, line in enumerate(_NEXT):
                say(("next:  " if at == 0 else "       ") + line, err=True)
            return result
        except TgqError as error:
            read = {name: value for name, value in context.params.items() if name not in NO_FILES}
            hint = next(filter(None, (beside(word) for word in _texts(read) if _names(str(error), word))), "")
            if hint and "did you mean" not in str(error):
                error.args = (f"{error}; {hint}",)
            raise


NO_FILES = frozenset({"to", "allow_host", "allow_origin"})
"""Parameters whose words need not be files that are there."""
_NEXT: list[str] = []


def then(*commands: str) -> None:
    """Say what to do next, a command a line, when the command has ended: every stage does."""
    _NEXT.extend(commands)


def say(text: str, *, err: bool = False) -> None:
    """Print a line, its control characters shown: a title or a path may hold what a terminal obeys."""
    from tgqformer.progress import shown

    typer.echo(shown(text), err=err)


def with_options(function: Callable[..., Any], more: Mapping[str, inspect.Parameter]) -> Callable[..., Any]:
    """Return the function with further parameters in its signature, from which options are made."""
    own = inspect.signature(function, eval_str=True)
    whole = {**own.parameters, **more}
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in whole.values()]

    @functools.wraps(function)
    def called(**given: Any) -> Any:
        return function(**given)

    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {name: one.annotation for name, one in whole.items()}
    return called


def _json(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None: ...


def _printing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that prints what the function returns."""

    def called(**given: Any) -> None:
        if not given.pop("as_json"):
            for sheet in _sheets(function(**given)):
                sheet.show()
            return
        with redirect_stdout(sys.stderr):
            found = function(**given)
        sheets = [one.as_data() for one in _sheets(found)]
        print_json(sheets if isinstance(found, tuple) else sheets[0] if sheets else [])

    functools.update_wrapper(called, function)
    return with_options(called, inspect.signature(_json, eval_str=True).parameters)


def _sheets(found: Sheet | tuple[Sheet, ...] | None) -> tuple[Sheet, ...]:
    return found if isinstance(found, tuple) else () if found is None else (found,)


def _path(context: Any) -> str:
    """Return the name of a command without the program's: `catalog show`."""
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, context.info_name)
        context = context.parent
    return " ".join(words)


def _texts(value: Any) -> Iterator[str]:
    """Return every text in what a command was given."""
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _names(text: str, word: str) -> bool:
    """Say whether a text holds a word by itself: `onnx` is no word of `--onnx`."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def _check_once(params: list[Any], words: list[str]) -> None:
    """Refuse an option that takes one value and is given twice: the first would be dropped without a word."""
    given: dict[Any, str] = {}
    rest = list(words)
    while rest and rest[0] != "--":
        name, equals, value = rest.pop(0).partition("=")
        option = next((one for one in params if isinstance(one, TyperOption) and name in one.opts), None)
        if option is None or option.is_flag or option.multiple or option.count:
            continue
        value = value if equals else rest.pop(0) if rest else ""
        if option.name in given:
            raise TgqError(f"{name} takes one value, and is given twice: {given[option.name]} and {value}")
        given[option.name] = value
