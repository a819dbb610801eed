"""Options that many commands have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from tgqformer.errors import TgqError

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what stands there, if `tgq` made it; else nothing is replaced.")
]


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
