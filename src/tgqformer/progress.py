"""What reaches a terminal: progress bars of one look, and text whose control characters are shown, not sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

T = TypeVar("T")
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # of the direction of writing
_CONTROLS = {*range(32), *range(127, 160), *_TURNS, *range(0xD800, 0xE000)} - {ord("\n"), ord("\t")}
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CONTROLS}


def shown(text: str) -> str:
    """Spell out control characters, and bytes of a file's name that are no text: a terminal would obey them."""
    return text.translate(_SHOWN)


class Terminal(Console):
    """A console that shows control characters, of a title or an id, rather than send them to the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render anything; what would reach the terminal in it is spelt out."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text, its control characters spelt out."""
        return super().render_str(shown(text), **options)


console = Terminal(stderr=True)


class Bar:
    """A running progress bar; `advance` moves it, `note` shows a few words behind it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._due, self._next = 0, 0.0

    def advance(self, steps: int = 1) -> None:
        """Move on by `steps`; the bar is told ten times a second at most, for that costs more than a small step."""
        self._due += steps
        if (now := monotonic()) >= self._next:
            self.flush()
            self._next = now + 0.1

    def flush(self) -> None:
        """Tell the bar the steps that it does not know yet."""
        self._progress.advance(self._task, self._due)
        self._due = 0

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
        bar = Bar(bars, bars.add_task(what, total=total, note=""))
        try:
            yield bar
        finally:
            bar.flush()


def track(items: Iterable[T], what: str, total: int | None = None, *, shown: bool = True) -> Iterator[T]:
    """Iterate over `items` behind a progress bar."""
    with progress(what, total, shown=shown) as bar:
        for item in items:
            yield item
            bar.advance()
