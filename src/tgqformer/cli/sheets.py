"""What commands print as a table: a `Sheet`. A command that returns one has `--json`; see `commands.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tgqformer.evaluation.results import SummaryRow

LEAST = 8  # characters that a cell keeps where a table is too wide


@dataclass(frozen=True)
class Column:
    """A column. `form`: how its numbers are written, such as ",.2f". `cut`, `wrap`: cells may be shortened, or broken
    into lines, to fit."""

    name: str
    form: str = ""
    cut: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: its columns, and rows of text, numbers, paths of words, or None.

    data: what `--json` prints, where that is more than the rows. note: a line below, for people alone.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    note: str = ""
    data: Any = None

    def as_data(self) -> Any:
        """Return plain data for JSON: an object for each row, by the names of the columns."""
        names = [one.name for one in self.columns]
        rows = [dict(zip(names, row, strict=True)) for row in self.rows]
        return _plain(rows if self.data is None else self.data)

    def show(self) -> None:
        """Print the table; cells are shortened until a line fits the terminal, or 80 characters where there is none."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        from tgqformer.progress import Terminal, shown

        terminal = Terminal(emoji=False, highlight=False)
        cells = [[shown(_written(one, at)) for one, at in zip(row, self.columns, strict=True)] for row in self.rows]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for column, width in zip(self.columns, self._widths(cells, terminal.width), strict=True):
            side: Any = "right" if column.form else "left"
            long: Any = "fold" if column.wrap else "ellipsis"
            table.add_column(Text(column.name), justify=side, width=width, no_wrap=not column.wrap, overflow=long)
        for row in cells:
            table.add_row(*map(Text, row))
        shows = table if cells else "nothing to list"
        for words, style in ((self.title, "bold"), (shows, None), (self.note, "dim")):
            if words:
                terminal.print(words, style=style, markup=False)

    def _widths(self, cells: Sequence[Sequence[str]], room: int) -> list[int]:
        """Return the width of each column: the widest of those that may be cut gives way first."""
        from rich.cells import cell_len

        columns = zip((one.name for one in self.columns), *cells, strict=True)
        widths = [max(1, *map(cell_len, column)) for column in columns]
        room -= 2 * (len(widths) - 1)
        while sum(widths) > max(room, len(widths)):
            may = [at for at, one in enumerate(self.columns) if (one.cut or one.wrap) and widths[at] > LEAST] or range(
                len(widths)
            )
            widths[max(may, key=widths.__getitem__)] -= 1
        return widths


def results_sheet(rows: Sequence[SummaryRow], title: str) -> Sheet:
    """Lay the rows of `summarize` out: a line for each view and model; JSON has every metric, as shares."""
    from dataclasses import asdict

    from tgqformer.evaluation.tables import caption, lines_of

    head, lines = lines_of(rows)
    columns = [Column(name, cut=at < 2, form="" if at < 2 else "s") for at, name in enumerate(head)]
    return Sheet(columns, lines, title, caption(rows), [asdict(row) for row in rows])


def _written(value: Any, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " > ".join(value)
    return str(value) if isinstance(value, str | bool) else format(value, column.form)


def _plain(value: Any) -> Any:
    """Return the same without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(data: Any) -> None:
    """Print plain data as JSON on standard output."""
    import typer

    typer.echo(json.dumps(data, indent=2))
