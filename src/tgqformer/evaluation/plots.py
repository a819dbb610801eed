"""Plots as inline SVG that follow the page: its fonts, its light or dark colours, its width.

Matplotlib draws with marker colours that are swapped for the page's CSS variables afterwards. Nothing global is
touched: no pyplot, and settings only inside a context.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tgqformer.packages import matplotlib, need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = 10
"""How many series the page has colours for (CSS variables --s0 to --s9)."""

_INK, _LINE = "#010101", "#010102"
_SERIES = [f"#0102{i:02x}" for i in range(COLORS)]
_MARKERS = "osD^vPX*dp"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Series:
    """One line of a plot. `low` and `high` draw intervals; `faint` draws it thin (one seed among several)."""

    name: str
    color: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    faint: bool = False


def lines(
    alt: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    ticks: Sequence[str] | None = None,
    markers: bool = True,
    top: float | None = None,
) -> Markup:
    """Draw lines over x; `ticks` names the whole numbers 0, 1, 2 … of the x axis.

    `alt` is the text for no picture. `top` makes the y axis go from 0 to it, so that several plots share a scale.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _panel(x, y)
        for one in series:
            _line(axes, one, markers)
        if ticks is not None:
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlim(-0.25, len(ticks) - 0.75)
        if top is not None:
            axes.set_ylim(0, top * 1.05)
        axes.grid(visible=False, axis="x")
        return _embed(figure, alt)


def bars(alt: str, series: Sequence[Series], *, y: str, top: float) -> Markup:
    """Draw one bar per series, its first y value with its interval; the scale goes from 0 to `top`, names below."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _panel("", y)
        for place, one in enumerate(series):
            axes.bar(place, one.y[0], width=0.62, color=_SERIES[one.color % COLORS])
            end = one.y[0]
            if one.low and one.low[0] == one.low[0]:
                error = [[max(0.0, one.y[0] - one.low[0])], [max(0.0, one.high[0] - one.y[0])]]
                axes.errorbar(place, one.y[0], yerr=error, color=_INK, capsize=4, linewidth=1.3)
                end = max(end, one.high[0])
            axes.annotate(f"{one.y[0]:.1f}", (place, end), (0, 4), textcoords="offset points", ha="center", va="bottom")
        axes.set_xticks(range(len(series)), [_wrap(one.name) for one in series])
        axes.set_ylim(0, top * 1.12)
        axes.grid(visible=False, axis="x")
        return _embed(figure, alt)


def ranking(alt: str, series: Sequence[Series], *, x: str, top: float) -> Markup:
    """Draw one horizontal bar per series, its first y value with its interval, the first on top; for many series."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _panel(x, "", 0.7 + 0.27 * len(series))
        for place, one in enumerate(series):
            axes.barh(-place, one.y[0], height=0.66, color=_SERIES[one.color % COLORS])
            end = one.y[0]
            if one.low and one.low[0] == one.low[0]:
                error = [[max(0.0, one.y[0] - one.low[0])], [max(0.0, one.high[0] - one.y[0])]]
                axes.errorbar(one.y[0], -place, xerr=error, color=_INK, capsize=2, linewidth=1.0)
                end = max(end, one.high[0])
            axes.annotate(f"{one.y[0]:.1f}", (end, -place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks([-place for place in range(len(series))], [one.name for one in series])
        axes.set_xlim(0, top * 1.15)
        axes.grid(visible=False, axis="y")
        return _embed(figure, alt)


def _wrap(name: str) -> str:
    return name.replace(" ", "\n").replace("-", "-\n") if len(name) > 8 else name


def _panel(x: str, y: str, height: float = 3.1) -> tuple[Figure, Axes]:
    figure = need("matplotlib.figure").Figure(figsize=(4.6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _line(axes: Axes, one: Series, markers: bool) -> None:
    color = _SERIES[one.color % COLORS]
    marker = _MARKERS[one.color % COLORS] if markers else ""
    width, alpha = (1.0, 0.45) if one.faint else (2.0, 1.0)
    axes.plot(one.x, one.y, color=color, marker=marker, markersize=5, linewidth=width, alpha=alpha)
    if one.low:
        axes.fill_between(one.x, one.low, one.high, color=color, alpha=0.13, linewidth=0)


def _embed(figure: Figure, alt: str) -> Markup:
    """Write the figure as SVG for the inside of a page: no header, no metadata, ids of its own, the page's colours."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": alt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:xlink)?|version|width|height)="[^"]*"', "", svg, count=5)
    svg = _own_ids(svg)
    for marker, name in ((_INK, "ink"), (_LINE, "line"), *((c, f"s{i}") for i, c in enumerate(_SERIES))):
        svg = svg.replace(marker, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1))


def _own_ids(svg: str) -> str:
    """Drop ids that nothing points to and keep the others, which matplotlib derives from the content and the salt."""
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', svg))
    return re.sub(r'\sid="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)
