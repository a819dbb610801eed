"""One self-contained HTML report of an evaluation: no scripts, no outside styles, fonts or pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from tgqformer.evaluation import sections
from tgqformer.evaluation.attention import GateStatistics, NoiseShare
from tgqformer.evaluation.cost import Cost
from tgqformer.evaluation.pictures import data_uri, overlay, thumbnail
from tgqformer.evaluation.results import Result, summarize
from tgqformer.evaluation.tables import caption
from tgqformer.evaluation.words import MEANINGS, falls
from tgqformer.files import write_text
from tgqformer.progress import track
from tgqformer.types import Bools, Reals


@dataclass(frozen=True)
class ReportCard:
    """One item as the report shows it; `hit` says that it is a positive of the query. A picture may be missing."""

    id: str
    title: str
    picture: Image.Image | None = None
    hit: bool = False
    score: float | None = None


@dataclass(frozen=True)
class NeighbourExample:
    """A query item and, per model, its nearest items, best first."""

    query: ReportCard
    rows: Mapping[str, Sequence[ReportCard]]


@dataclass(frozen=True)
class AttentionExample:
    """What the streams look at in one noised picture.

    mask: bool [h, w] over the picture's pixels, True in the noise. maps: stream -> attention [gh, gw].
    in_noise: stream -> share of its attention inside the mask, 0 to 1.
    """

    title: str
    picture: Image.Image
    maps: Mapping[str, Reals]
    mask: Bools | None = None
    in_noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that a report can show; what is empty gets no section.

    verdict: whether training pays, the first line. settings: what was set, name -> value. rule: how the examples were
        chosen.
    shares: model -> stream -> share of attention inside the noise.
    gates: model -> gate statistics. commands: the command lines that made it. notes: paragraphs on how it was measured.
    """

    title: str
    settings: Mapping[str, object] = field(default_factory=dict)
    results: Sequence[Result] = ()
    examples: Sequence[NeighbourExample] = ()
    attention: Sequence[AttentionExample] = ()
    shares: Mapping[str, Mapping[str, NoiseShare]] = field(default_factory=dict)
    gates: Mapping[str, Sequence[GateStatistics]] = field(default_factory=dict)
    cost: Sequence[Cost] = ()
    commands: Sequence[str] = ()
    notes: Sequence[str] = ()
    verdict: str = ""
    rule: str = ""


def write_report(to: Path, report: Report, *, shown: bool = False) -> Path:
    """Write the report to one HTML file, atomically; gives the path. `shown`: whether to show a progress bar."""
    return write_page(to, "report.html", _context(report, shown))


def write_page(to: Path, template: str, context: Mapping[str, object]) -> Path:
    """Fill one of the templates, with the style sheet inside, and write it atomically; gives the path."""
    environment = Environment(
        loader=PackageLoader("tgqformer.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"amount": amount, "share": _share}
    environment.globals["meanings"] = {name: (f"term-{at}", words) for at, (name, words) in enumerate(MEANINGS.items())}
    css = files("tgqformer.evaluation").joinpath("templates/report.css").read_text(encoding="utf-8")
    write_text(to, environment.get_template(template).render(css=css, **context))
    return to


def versions() -> dict[str, str]:
    """Return the versions that figures depend on, and the machine's kind and number of cores."""
    found = {"Python": platform.python_version()}
    for package in ("tgqformer", "torch", "transformers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}


def amount(number: float | None) -> str:
    """Write a number with three figures and the unit's prefix: 35.4 G, 1.20 M; nothing for None."""
    if number is None:
        return ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:#.3g}".rstrip(".") + f" {prefix}"
    return f"{number:.3g}"


def _share(number: float) -> str:
    return "" if np.isnan(number) else f"{100 * number:.1f} %"


def _context(report: Report, shown: bool) -> dict[str, Any]:
    rows = summarize(report.results)
    leads = sections.Leads(report.results, rows)
    parts: dict[str, Callable[[], object]] = {
        "headlines": lambda: [*([report.verdict] if report.verdict else []), *sections.headlines(rows, leads)],
        "tables": lambda: sections.tables(rows, leads),
        "differences": lambda: sections.differences(rows, leads),
        "bars": lambda: sections.view_bars(rows),
        "curves": lambda: sections.training_curves(report.results),
        "falls": lambda: falls(report.results),
        "severity": lambda: sections.severity_curves(report.results),
        "agreement": lambda: sections.agreement_curves(report.results),
        "categories": lambda: sections.category_tables(report.results),
        "examples": lambda: [_example(example) for example in report.examples],
        "attention": lambda: [_attention(example) for example in report.attention],
    }
    made = {name: make() for name, make in track(parts.items(), "writing the report", len(parts), shown=shown)}
    return made | {
        "report": report,
        "models": list(dict.fromkeys(row.model for row in rows)),
        "caption": caption(rows),
        "parts": list(dict.fromkeys(part for cost in report.cost for part in cost.flops)),
        "versions": versions(),
    }


def _example(example: NeighbourExample) -> dict[str, Any]:
    rows = [(name, [_card(card) for card in cards], sum(c.hit for c in cards)) for name, cards in example.rows.items()]
    return {"query": _card(example.query), "rows": rows}


def _card(card: ReportCard) -> dict[str, Any]:
    picture = None if card.picture is None else thumbnail(card.picture)
    score = "" if card.score is None else f"{card.score:.3f}"
    return {"id": card.id, "title": card.title, "picture": picture, "hit": card.hit, "score": score}


def _attention(example: AttentionExample) -> dict[str, Any]:
    noise = None if example.mask is None else float(example.mask.mean())
    maps = [
        (stream, data_uri(overlay(example.picture, heat, example.mask)), example.in_noise.get(stream))
        for stream, heat in example.maps.items()
    ]
    plain = data_uri(overlay(example.picture, None, example.mask))
    return {"title": example.title, "picture": plain, "noise": noise, "maps": maps}
