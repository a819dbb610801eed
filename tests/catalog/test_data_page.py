"""Every command and every piece of code on the page docs/data.md runs, and its tables name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog import Catalog
from tgqformer.catalog.readers import READERS
from tgqformer.cli.catalog import app

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / f"photos/{name}.jpg")
    rows = ["sku,name,maker,group,kind,cost,photo,color", "1,Shirt,Acme,Clothes,Shirts,5.00,photos/a.jpg,red"]
    (tmp_path / "shop.csv").write_text("\n".join([*rows, "2,Hat,Acme,Clothes,Hats,7.00,b.jpg,blue", ""]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands(shop: Path) -> None:
    commands = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    assert len(commands) == 3
    for command in commands:
        program, group, *words = shlex.split(command)
        assert (program, group) == ("tgq", "catalog")
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    items = list(Catalog.open("catalogs/shop").items())
    assert (items[1].title, items[1].price, len(items[1].pictures)) == ("Hat", 7.0, 1)


def test_python(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks("python")
    assert len(code) == 2
    text = (shop / "shop.csv").read_text()
    (shop / "shop.csv").write_text(text.replace("photo,", "image,", 1))
    for block in code:
        exec(block, {})
    assert "1 Shirt ('Clothes', 'Shirts')" in capsys.readouterr().out
    assert Catalog.open("catalogs/mine").ids() == ["1"]


def test_every_reader_is_on_the_page() -> None:
    named = re.findall(r"\| `([\w-]+)` \|$", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(reader.name for reader in READERS)
