"""The notebook of the documentation: every cell runs, offline, and what it shows is what stands in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from doc_commands import ROOT


def notebook_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_notebook", ROOT / "docs/notebook.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_stands_in_the_notebook(tmp_path: Path) -> None:
    module = notebook_module()
    kept = module.read()
    found = module.run(kept, tmp_path)
    cells = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert len(found) == len(cells) >= 5
    for cell, outputs in zip(cells, found, strict=True):
        assert [one["output_type"] for one in cell["outputs"]] == [one["output_type"] for one in outputs]
        assert all(one.get("text") or one["data"] for one in outputs)
    assert cells[0]["outputs"] == found[0]  # the catalogue is drawn alike everywhere; cosines differ in last digits
    pictures = [one for outputs in found for one in outputs if "image/jpeg" in one.get("data", {})]
    assert len(pictures) == 2


def test_the_page_shows_cells_and_outputs() -> None:
    module = notebook_module()
    text = module.page(module.read())
    assert text.startswith("# Similar items") and text.count("data:image/jpeg;base64,") == 2
    assert "120 items, for example:" in text and "model.encode(shop)" in text
