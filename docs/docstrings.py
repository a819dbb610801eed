"""An extension of griffe: docstrings that say `a: this. b: that.` in one line are shown as one row for each name."""

from __future__ import annotations

import re
from typing import Any

import griffe


class OneRowEach(griffe.Extension):
    """Part the entries of `Args:` that share a line or a text."""

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        """Part those of a class: its fields, and what it takes when it is made."""
        made = cls.members.get("__init__")
        taken = [one.name for one in made.parameters] if isinstance(made, griffe.Function) else []
        part(cls.docstring, {*taken, *cls.members})

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Part those of a function."""
        part(func.docstring, {one.name.lstrip("*") for one in func.parameters})


def part(docstring: griffe.Docstring | None, names: set[str]) -> None:
    """Write each `a, b: text` within `Args:` as one line for each name."""
    if docstring is None:
        return
    docstring.value = docstring.value.replace("][", "]\u200b[")  # shapes, which are no links
    if "Args:\n" not in docstring.value:
        return
    before, mark, block = docstring.value.partition("Args:\n")
    args, gap, after = block.partition("\n\n")

    def alone(found: re.Match[str]) -> str:
        keys = found[1].split(", ")
        return f"\n    {found[1]}: " if set(keys) <= names else found[0]

    args = re.sub(r"(?<=[.;)])\s+(\w+(?:, \w+)*): ", alone, args)
    rows = []
    for row in re.split(r"\n(?=    \S)", args):
        keys, colon, text = row.strip().partition(": ")
        rows += [f"    {key}: {text}" for key in keys.split(", ")] if colon else [row]
    docstring.value = before + mark + "\n".join(rows) + gap + after
