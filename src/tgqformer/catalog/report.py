"""The report of an import: counts, coverage, every kind of problem with examples, a few pictures; JSON and HTML."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tgqformer.catalog.checks import KINDS, ImportProblem, Severity
from tgqformer.catalog.item import OFFER, Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.errors import TgqError, counted, option
from tgqformer.files import write_json, write_text
from tgqformer.version import __version__

_FIELDS = ("title", "brand", "category", "pictures", "price", *OFFER)
_EXAMPLES, _ATTRIBUTES = 8, 200
_SUMMED, _COUNTED = ("rows", "rejected", "related", "named", "seconds"), ("currencies", "problems")
_SHARED, _DIGESTS = 8, 200_000
"""From so many items with one picture on, the report says so; so many pictures are compared."""
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_HEADINGS = {
    "error": ("Rows that were rejected", "They are in rejects.jsonl, with file, line and reason."),
    "warning": ("Warnings", "The items were kept; each finding is in warnings.jsonl."),
    "note": ("Notes", "Nothing to do; each finding is in warnings.jsonl."),
}


@dataclass
class ImportReport:
    """What an import did. `rows` = `items` + `rejected`, always.

    named: pictures that the items name. warnings: what a person should look at, in sentences.
    currencies: prices by currency. shared: items by the digest of their first picture, of the first so many.
    """

    name: str
    source: str
    reader: str
    mapping: tuple[tuple[str, str], ...]
    rows: int = 0
    items: int = 0
    rejected: int = 0
    pictures: int = 0
    related: int = 0
    seconds: float = 0.0
    named: int = 0
    warnings: list[str] = field(default_factory=list)
    currencies: Counter[str] = field(default_factory=Counter)
    shared: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[ImportProblem]] = field(default_factory=dict)
    filled: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_FIELDS, 0)))

    def count(self, item: Item, named: int = 0, currency: str | None = None, times: int = 1) -> None:
        """Count an item that was kept, and which of its fields are filled.

        times: how many there are that are filled alike; more than one have no pictures.
        """
        self.items += times
        self.named += named
        self.pictures += len(item.pictures)
        self.currencies[currency or "none"] += times * (item.price is not None)
        if item.pictures and (len(self.shared) < _DIGESTS or item.pictures[0].digest in self.shared):
            self.shared[item.pictures[0].digest] += 1
        filled = self.filled
        for name in _FIELDS:
            value = getattr(item, name)
            if value or value == 0:
                filled[name] += times
        for name in item.attributes:
            if (about := f"attribute {name}") in filled or len(filled) < _ATTRIBUTES:
                filled[about] += times

    def told(self) -> dict[str, Any]:
        """Return as plain data what cannot be told from the items that were kept."""
        summed = {name: getattr(self, name) for name in _SUMMED}
        counted = {name: dict(getattr(self, name)) for name in _COUNTED}
        examples = {kind: [asdict(one) for one in some] for kind, some in self.examples.items()}
        return {**summed, **counted, "examples": examples}

    def add(self, told: dict[str, Any]) -> None:
        """Add what the report of a later part of the source told."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + told[name])
        for name in _COUNTED:
            getattr(self, name).update(told[name])
        for kind, some in told["examples"].items():
            examples = self.examples.setdefault(kind, [])
            examples += [ImportProblem(**one) for one in some[: _EXAMPLES - len(examples)]]

    @property
    def in_vain(self) -> bool:
        """Whether pictures are named as files, and none is found."""
        lost = self.problems["picture-missing"]
        return self.named > self.items / 2 and not self.pictures and lost > self.named / 2

    def check(self, root: Path) -> None:
        """Add warnings about what is plainly not meant. Raise TgqError where nothing can be used.

        root: where pictures were looked for.
        """
        if not self.items:
            raise TgqError(f"no item can be made of the {self.rows:,} rows of {self.source}: {self._reasons('error')}")
        lost = {kind: self.problems[kind] for kind in ("picture-missing", "picture-remote", "picture-ambiguous")}
        if self.in_vain:
            beside = sorted(file.name for file in islice(root.iterdir(), 1000) if not file.name.startswith("."))[:3]
            missing = self._reasons("warning", "picture-missing")
            there = ", ".join(beside) or "no files"
            raise TgqError(
                f"none of {self.named:,} pictures was found: {missing}. In {root} lie {there}. "
                f"Name the folder of the pictures by {option('pictures')}, or import without them by "
                f"{option('no_pictures')}"
            )
        if sum(lost.values()) > self.named / 2:
            why = self._reasons("warning", max(lost, key=lambda kind: lost[kind]))
            self.warnings.append(f"only {self.pictures:,} of {self.named:,} pictures can be used: {why}")
        if self.rejected > self.rows / 2:
            self.warnings.append(f"only {self.items:,} of {self.rows:,} rows made an item: {self._reasons('error')}")
        if self.problems["price"] > self.rows / 2:
            why = self._reasons("warning", "price")
            self.warnings.append(f"only {self.filled['price']:,} prices can be read: {why}")
        known = {name: count for name, count in self.currencies.most_common() if name != "none" and count}
        if len(known) > 1:
            each = ", ".join(f"{name} {count:,}" for name, count in known.items())
            self.warnings.append(f"prices are in several currencies, side by side as numbers: {each}")
        items = max(self.shared.values(), default=0)
        if items >= _SHARED:
            self.warnings.append(f"{items:,} items have one and the same first picture: a placeholder?")

    def _reasons(self, severity: Severity, kind: str | None = None) -> str:
        """Return the most frequent kinds of problems with their counts, and the first of each."""
        kinds = [kind] if kind is not None else self.kinds(severity)[:3]
        told = [f"{KINDS[one].title.lower()} ({self.problems[one]:,}), such as {self._where(one)}" for one in kinds]
        return "; ".join(told) or "there are none"

    def _where(self, kind: str) -> str:
        first = self.examples[kind][0]
        return f"{first.file}:{first.line}: {first.reason}"

    def tell(self, problem: ImportProblem) -> None:
        """Count a problem; the first few of each kind are kept as examples."""
        self.problems[problem.kind] += 1
        examples = self.examples.setdefault(problem.kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(problem)

    def summary(self) -> str:
        """Return what was done in one sentence."""
        return (
            f"{counted(self.items, 'item')} with {counted(self.pictures, 'picture')} "
            f"from {counted(self.rows, 'row')} in {self.seconds:.1f} s; "
            f"{counted(self.rejected, 'row')} rejected, {counted(self.of('warning'), 'warning')}"
        )

    def of(self, severity: Severity) -> int:
        """Return the number of problems of one severity."""
        return sum(count for kind, count in self.problems.items() if KINDS[kind].severity == severity)

    def kinds(self, severity: Severity) -> list[str]:
        """Return the kinds of problems of one severity that were met, the most frequent first."""
        return [kind for kind, _ in self.problems.most_common() if KINDS[kind].severity == severity]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        plain = ("name", "source", "reader", "rows", "items", "rejected", "pictures", "related", "warnings")
        return {
            **{name: getattr(self, name) for name in plain},
            "mapping": dict(self.mapping),
            "seconds": round(self.seconds, 2),
            "problems": {kind: self._told(kind) for kind, _ in self.problems.most_common()},
            "filled": dict(self.filled.most_common()),
        }

    def _told(self, kind: str) -> dict[str, Any]:
        examples = [{**asdict(one), "kind": kind} for one in self.examples[kind]]
        return {"severity": KINDS[kind].severity, "count": self.problems[kind], "examples": examples}


class PictureSamples:
    """A few pictures, drawn evenly from all items as they stream by (reservoir sampling, seeded)."""

    def __init__(self, size: int = 24, side: int = 112) -> None:
        self._size, self._side = size, side
        self._rng = np.random.default_rng(0)
        self._seen = 0
        self._kept: dict[int, tuple[int, Item]] = {}

    def see(self, item: Item, whole: Callable[[], Item] | None = None) -> None:
        """Look at an item; keep it when the draw says so. whole: returns it with its pictures, where it has none."""
        if not item.pictures:
            return
        self._seen += 1
        place = self._seen - 1 if self._seen <= self._size else int(self._rng.integers(self._seen))
        if place < self._size:
            self._kept[place] = (self._seen, whole() if whole is not None else item)

    def shown(self, root: Path | None) -> list[tuple[str, str]]:
        """Return a small copy of each item's first picture (base64 JPEG), and a caption, in the order of the items."""
        found = []
        for _, item in sorted(self._kept.values(), key=lambda kept: kept[0]):
            try:
                image = read_picture(item.pictures[0], root)
            except PictureError:  # it was readable a moment ago: the file is being changed meanwhile
                continue
            image.thumbnail((self._side, self._side))
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=85)
            found.append((base64.b64encode(buffer.getvalue()).decode(), f"{item.id}: {item.title or 'no title'}"))
        return found


def write_report(report: ImportReport, folder: Path, samples: Sequence[tuple[str, str]]) -> None:
    """Write `report.json` and the self-contained `report.html` into a folder. samples: pictures with captions."""
    write_json(folder / "report.json", report.to_json())
    groups = []
    for severity in _SEVERITIES:
        heading, explanation = _HEADINGS[severity]
        kinds = [(kind, KINDS[kind], report.problems[kind], report.examples[kind]) for kind in report.kinds(severity)]
        groups.append({"severity": severity, "heading": heading, "explanation": explanation, "kinds": kinds})
    page = _template().render(report=report, groups=groups, samples=samples, filled=_bars(report), version=__version__)
    write_text(folder / "report.html", page)


@cache
def _template() -> Template:
    loader = PackageLoader("tgqformer.catalog", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("report.html")


def _bars(report: ImportReport) -> list[tuple[str, int, float]]:
    """Return (field, items that have it, share in %) for the fields of an item, then its attributes."""
    fields = ["title", "brand", "category", "price", "pictures", *(name for name in OFFER if report.filled[name])]
    attributes = [name for name, _ in report.filled.most_common() if name.startswith("attribute ")]
    return [
        (name, report.filled[name], 100 * report.filled[name] / max(report.items, 1))
        for name in [*fields, *attributes[:40]]
    ]
