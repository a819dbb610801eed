"""The catalogue of a recipe: drawn, or imported from the files of a shop."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.importer import import_catalog
from tgqformer.errors import named_by
from tgqformer.experiments.recipe import IMPORT_KEYS, CatalogSection
from tgqformer.progress import console
from tgqformer.synthetic.shoppers import subset


def make_catalog(section: CatalogSection, to: Path, beside: Path) -> None:
    """Draw or import a catalogue into `to`, and say what was read; `beside` is where unfinished work may stand."""
    if section.source == "studio":
        from tgqformer.synthetic.studio import draw_studio

        draw_studio(to, items=section.items or 2000, seed=section.seed)
        return
    with TemporaryDirectory(dir=beside, prefix=".imported-") as whole, named_by(IMPORT_KEYS):
        imported = Path(whole) / "catalog" if section.items else to
        report = import_catalog(
            Path(section.source),
            imported,
            reader=section.reader,
            mapping=section.mapping or None,
            pack=section.pack,
            root=Path(section.pictures) if section.pictures else None,
            show_progress_bar=True,
        )
        console.print(report.summary())
        for warning in report.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False)
        if section.items:
            _keep_some(Catalog.open(imported), section.items, to)


def _keep_some(catalog: Catalog, count: int, to: Path) -> None:
    """Write a catalogue of `count` items, chosen by a stable hash of their ids, in the same order."""
    kept = set(subset(catalog.ids(), count))
    with CatalogWriter(to, name=catalog.name, pack=False, root=catalog.root) as writer:
        for item in catalog.items():
            if item.id in kept:
                writer.add(item)
