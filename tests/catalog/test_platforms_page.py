"""The page docs/platforms.md: each sample is imported by the command that is shown, and becomes what is shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from doc_commands import ROOT, Block, blocks
from typer.testing import CliRunner

from tgqformer.catalog import Catalog, Item
from tgqformer.cli import app

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
    commands = [
        words for code in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for words in Block("sh", code, 0).commands()
    ]
    assert commands
    for words in commands:
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, done.output
    shown = re.findall(r"^\| `.*$", text, re.MULTILINE)
    assert sorted(map(row_of, Catalog.open(commands[0][-1]).items())) == sorted(shown)


def test_every_sample_is_imported() -> None:
    named = {
        words[3] for block in blocks(ROOT / "docs/platforms.md") for words in block.commands() if "import" in words
    }
    assert named == {path.name for path in (ROOT / "docs/platforms").iterdir() if path.is_file()}
