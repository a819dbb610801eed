"""The page docs/platforms.md: each sample is imported by the command that is shown, and becomes what is shown."""

from __future__ import annotations

import re
import shutil
from itertools import count
from pathlib import Path

import pytest
from bad_pictures import bad_server
from doc_commands import ROOT, blocks
from doc_runs import Terminal, walk_page

from tgqformer.catalog import Catalog, Item

PAGE = (ROOT / "docs/platforms.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def row_of(item: Item) -> str:
    prices = ["" if one is None else f"{one:.2f}" for one in (item.price, item.sale_price)]
    said = [item.title or "", item.brand or "", " > ".join(item.category), *prices, item.availability or ""]
    attributes = ", ".join(f"{name}: {value}" for name, value in item.attributes.items())
    return f"| `{item.id}` | {' | '.join([*said, item.item_group or '', attributes])} |"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_sample_becomes_what_the_page_says(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "docs/platforms", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    text = SECTIONS[section]
    terminal = Terminal()
    walk_page("docs/platforms.md", terminal, section)
    shown = re.findall(r"^\| `.*$", text, re.MULTILINE)
    assert sorted(map(row_of, Catalog.open(terminal.ran[0].split()[-1]).items())) == sorted(shown)


def test_pictures_of_an_export_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/platforms/shopify.csv").read_text(encoding="utf-8")
    with bad_server() as server:
        numbers = count()
        here = re.sub(r"https://[^,\s\"]+", lambda _: server.url("good", next(numbers)), text)
        Path("shopify.csv").write_text(here, encoding="utf-8")
        more = ["--allow-host", "127.0.0.1", "--rate", "1000"]
        walk_page("docs/platforms.md", Terminal(more={"pictures fetch": more}), "")
    assert any(item.pictures for item in Catalog.open("catalogs/shopify").items())


def test_every_sample_is_imported() -> None:
    named = {
        words[3] for block in blocks(ROOT / "docs/platforms.md") for words in block.commands() if "import" in words
    }
    assert named == {path.name for path in (ROOT / "docs/platforms").iterdir() if path.is_file()}
