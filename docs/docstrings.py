"""An extension of griffe: docstrings that say `a: this. b: that.` in one line are shown as one row for each name."""

from __future__ import annotations

from typing import Any

import griffe
from reference import one_row_each


class OneRowEach(griffe.Extension):
    """Part the entries of `Args:` that share a line or a text."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Part those of a class: its fields, and what it takes when it is made."""
        made = cls.members.get("__init__")
        taken = [one.name for one in made.parameters] if isinstance(made, griffe.Function) else []
        if cls.docstring is not None:
            cls.docstring.value = one_row_each(cls.docstring.value, {*taken, *cls.members})

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Part those of a function."""
        if func.docstring is not None:
            func.docstring.value = one_row_each(func.docstring.value, {one.name.lstrip("*") for one in func.parameters})
