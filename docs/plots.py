"""Draw the plots of the pages from their tables: `python docs/plots.py` writes docs/img/plot-*.svg.

The figures are read from the pages, so a plot cannot say anything else than its table. A test draws them again.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
INK = "#7a8087"  # readable on white and on black
COLORS = ("#0f8b8d", "#c9a227", "#8d6a9f", "#7a8087", "#b5594b")
NUMBER = re.compile(r"[+−-]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Plot:
    """A plot: the page and the heading of its table, which rows and columns are drawn, and what they are called.

    turned: a group of bars for each row, not for each column. spread: whether a second number of a cell is half of its
    interval. digits: behind the point. shown: the page that shows it, where it is another one.
    """

    name: str
    page: str
    heading: str
    rows: dict[str, str]
    columns: dict[str, str]
    axis: str
    turned: bool = False
    spread: bool = True
    digits: int = 1
    shown: str = ""


FOUND = "found among the ten nearest, of 100"
PLOTS = (
    Plot(
        "published",
        "results.md",
        "## Against every rival as published",
        {
            "TGQ-Former, as it is by default": "TGQ-Former",
            "Perceiver resampler as published": "Perceiver resampler",
            "text-aware Q-Former as published": "text-aware Q-Former",
            "Q-Former as published": "Q-Former",
        },
        {
            "mixed": "half noised",
            "clean": "clean",
            "noised": "all noised",
            "every picture with a second product": "second product",
        },
        FOUND,
    ),
    Plot(
        "joined",
        "joined.md",
        "## The study",
        {"content (TGQ-Former)": "content alone", "LightGCN": "clicks alone (LightGCN)", "blend of all": "joined"},
        {"warm": "many clicks", "few clicks": "few clicks", "brand-new": "brand-new"},
        FOUND,
    ),
    Plot(
        "headline",
        "results.md",
        "## Everyone with our additions: the headline",
        {"TGQ-Former": "TGQ-Former", "text-aware Q-Former": "text-aware Q-Former", "Q-Former": "Q-Former"},
        {
            "mixed": "half noised",
            "clean": "clean",
            "noised": "all noised",
            "every picture with a second product": "second product",
            "no title": "no title",
        },
        FOUND,
    ),
    Plot(
        "behaviour",
        "joined.md",
        "## The study",
        {
            "content (TGQ-Former)": "content",
            "item-kNN": "item-kNN",
            "EASE": "EASE",
            "LightGCN": "LightGCN",
            "SASRec": "SASRec",
        },
        {"warm": "many clicks", "few clicks": "few clicks", "brand-new": "brand-new"},
        FOUND,
        shown="collaborative.md",
    ),
    Plot(
        "cut",
        "store.md",
        "## How vectors are kept",
        {f"{dim} x float32": f"{dim} numbers" for dim in (384, 128, 64, 32, 16)},
        {"plain": "as it is", "trained for it": "trained to be cut"},
        FOUND,
        turned=True,
        spread=False,
    ),
    Plot(
        "neighbours",
        "scale.md",
        "## Exact neighbours",
        {
            "`tgq neighbours`": "tgq neighbours",
            "bare `torch.mm` and `topk`, best block size": "bare PyTorch",
            "faiss Flat, which orders no ties": "faiss Flat",
        },
        {"44,441 items, ms": "44,441 items", "134,000 items, ms": "134,000 items"},
        "ms of a processor for a query",
        spread=False,
        digits=2,
    ),
)


def table(page: str, heading: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the first table of figures below a heading: row -> column -> (mean, half of its interval)."""
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = text[text.index(f"\n{heading}\n") :].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|") and "--:" in lines[at + 1])
    head = cells(lines[start])
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *figures = cells(line)
        found[name] = {
            column: (numbers[0], numbers[1] if len(numbers) > 1 else 0.0)
            for column, cell in zip(head[1:], figures, strict=True)
            if (numbers := [float(one.replace("−", "-")) for one in NUMBER.findall(cell)])
        }
    return found


def cells(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table, without bold."""
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def draw(plot: Plot) -> str:
    """Return a plot as SVG: groups of bars, each with its figure and its interval above it."""
    figures = table(plot.page, plot.heading)
    settings = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "svg.hashsalt": plot.name}
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    settings |= dict.fromkeys(inked, INK)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        bars, groups = (plot.columns, plot.rows) if plot.turned else (plot.rows, plot.columns)
        width = 0.8 / len(bars)
        for at, (bar, label) in enumerate(bars.items()):
            known = [figures[group][bar] if plot.turned else figures[bar][group] for group in groups]
            places = [place + (at - (len(bars) - 1) / 2) * width for place in range(len(known))]
            axes.bar(places, [mean for mean, _ in known], width * 0.92, color=COLORS[at], label=label)
            if plot.spread:
                axes.errorbar(places, *zip(*known, strict=True), fmt="none", ecolor=INK, capsize=2, linewidth=1)
            for place, (mean, half) in zip(places, known, strict=True):
                axes.annotate(
                    f"{mean:.{plot.digits}f}",
                    (place, mean + half * plot.spread),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        axes.set_xticks(range(len(groups)), list(groups.values()))
        axes.set_ylabel(plot.axis)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        figure.legend(frameon=False, ncols=len(bars), loc="outside upper left")
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def main() -> None:
    """Write every plot."""
    for plot in PLOTS:
        (DOCS / f"img/plot-{plot.name}.svg").write_text(draw(plot), encoding="utf-8")


if __name__ == "__main__":
    main()
