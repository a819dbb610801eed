"""`tgq catalog`: what a person types and sees."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog import Catalog
from tgqformer.catalog.readers import READERS
from tgqformer.cli import main
from tgqformer.cli.catalog import app
from tgqformer.errors import TgqError


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    buffer = BytesIO()
    Image.new("RGB", (30, 40), "red").save(buffer, "JPEG")
    (tmp_path / "photos/1.jpg").write_bytes(buffer.getvalue())
    lines = ["sku,name,maker,group,kind,photo,color,stock", "1,Red shirt [new],Acme,Clothes,Shirts,1.jpg,red,5"]
    lines += ["2,Hat,Acme,Clothes,Hats,2.jpg,,0", "1,Again,,,,,,", "3,,,,,,,"]
    (tmp_path / "shop.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def test_import_and_show(shop: Path) -> None:
    said = run(
        "import",
        shop / "shop.csv",
        "--to",
        shop / "out",
        "--title",
        "name",
        "--brand",
        "maker",
        "--category",
        "group",
        "--category",
        "kind",
        "--picture",
        "photo",
        "--attribute",
        "color",
        "--pictures",
        shop / "photos",
        "--name",
        "mine",
    )
    assert "2 items with 1 picture from 4 rows" in said
    assert "Duplicate ids" in said
    assert "Missing pictures" in said
    assert "report.html" in said
    listed = run("show", shop / "out")
    assert "mine: 2 items, 1 picture" in listed
    assert "Red shirt [new]" in listed
    assert "Clothes > Hats" in listed
    assert "price" not in listed
    one = run("show", shop / "out", "1")
    assert "30 x 40 pixels" in one
    assert "color" in one
    (shop / "photos/1.jpg").unlink()
    assert "there is no file" in run("show", shop / "out", "1")
    assert "and 1 more" in run("show", shop / "out", "--top", "1")


def test_what_is_guessed_is_shown_first(shop: Path) -> None:
    said = run("import", shop / "shop.csv", "--to", shop / "out", "--pack", "--pictures", shop / "photos")
    assert said.index("sku") < said.index("maker") < said.index("not used")
    assert said.index("availability") < said.index("stock")
    assert Catalog.open(shop / "out").about["reader"] == "csv"


def test_nothing_imported_is_an_error(shop: Path) -> None:
    (shop / "bad.csv").write_text("id,title\n,x\n")
    result = CliRunner().invoke(app, ["import", str(shop / "bad.csv"), "--to", str(shop / "out")])
    assert isinstance(result.exception, TgqError)
    assert "no item can be made of the 1 rows" in str(result.exception)
    assert "rows without an id (1), such as bad.csv:2: the column 'id' is empty" in str(result.exception)
    assert not (shop / "out").exists()


def test_errors_for_the_user_come_through(shop: Path) -> None:
    result = CliRunner().invoke(app, ["import", str(shop / "shop.csv"), "--to", str(shop / "out"), "--title", "nam"])
    assert isinstance(result.exception, TgqError)
    assert "did you mean 'name'" in str(result.exception)
    result = CliRunner().invoke(app, ["import", str(shop / "shop.csv"), "--to", str(shop / "out"), "--strict"])
    assert isinstance(result.exception, TgqError)
    assert not (shop / "out").exists()


def test_brackets_in_an_error_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tgq", "catalog", "show", "/nowhere/[/x]:100:"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "/nowhere/[/x]:100:" in capsys.readouterr().err


def test_help_teaches() -> None:
    assert "tgq catalog import shop.csv" in run("import", "--help")
    said = run("readers")
    assert all(reader.name in said for reader in READERS)
