"""Progress bars: one look for everything that takes more than two seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
_CONTROLS = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {ord("\n"), ord("\t")}
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CONTROLS}


class Terminal(Console):
    """A console that shows control characters, of a title or an id, rather than send them to the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text, its control characters spelt out."""
        return super().render_str(text.translate(_SHOWN), **options)


console = Terminal(stderr=True)


class Bar:
    """A running progress bar; `advance` moves it, `note` shows a few words behind it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Move on by `steps`."""
        self._progress.advance(self._task, steps)

    def note(self, words: str) -> None:
        """Show `words` behind the bar (a loss, a rate)."""
        self._progress.update(self._task, note=words)


@contextmanager
def progress(what: str, total: int | None, *, shown: bool = True) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs; `total` None means that the length is not known."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not shown) as bars:
        yield Bar(bars, bars.add_task(what, total=total, note=""))


def track(items: Iterable[T], what: str, total: int | None = None, *, shown: bool = True) -> Iterator[T]:
    """Iterate over `items` behind a progress bar."""
    with progress(what, total, shown=shown) as bar:
        for item in items:
            yield item
            bar.advance()
