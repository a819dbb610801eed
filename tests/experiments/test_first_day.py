"""A shop is two commands: `tgq init` and `tgq run`, with a drawn Shopify export and its log in an empty folder."""

from __future__ import annotations

import csv
import random
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_pictures import bad_server
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog import Catalog
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.experiments.recipe import load_recipe
from tgqformer.pairs.mining import Window
from tgqformer.pairs.source import read_source
from tgqformer.store.rules import Rules, rules_beside

HEADER = ["Handle", "Title", "Vendor", "Type", "Option1 Name", "Option1 Value", "Variant SKU"]
HEADER += ["Variant Inventory Tracker", "Variant Inventory Qty", "Variant Inventory Policy"]
HEADER += ["Variant Price", "Variant Compare At Price", "Image Src", "Status"]
COUNT = 30


def draw_export(folder: Path, *, pictures: bool = True) -> Path:
    """A Shopify export of 30 products of two sizes, some sold out, some reduced, and their pictures beside it."""
    with (folder / "products_export.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for n in range(COUNT):
            kind, colour = ("shirt", "bag")[n % 2], ("red", "blue", "green")[n % 3]
            stock = 0 if n % 5 == 0 else 7
            first = [f"item-{n}", f"{colour} {kind}", "Acme", kind, "Size", "S", f"{n}-S", "shopify", stock, "deny"]
            rows.writerow(
                [*first, f"{10 + n}.00", "99.00" if n % 4 == 0 else "", f"https://cdn.test/{n}.png?v=1", "active"]
            )
            second = [f"item-{n}", "", "", "", "", "M", f"{n}-M", "shopify", 0, "deny", f"{10 + n}.00", "", "", ""]
            rows.writerow(second)
            if pictures:
                Image.new("RGB", (24, 24), (8 * n, 90, 255 - 8 * n)).save(folder / f"{n}.png")
    return folder / "products_export.csv"


def draw_log(folder: Path, name: str = "item-{}") -> Path:
    draw = random.Random(0)
    with (folder / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["visitor_id", "product_id", "timestamp"])
        for visitor in range(60):
            for at, n in enumerate(draw.sample(range(COUNT), 8)):
                rows.writerow([f"v{visitor}", name.format(n), 1_700_000_000 + 1000 * visitor + at])
    return folder / "clicks.csv"


def tgq(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_shop_is_two_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    draw_export(tmp_path), draw_log(tmp_path)
    said = tgq("init", "products_export.csv", "clicks.csv")
    assert "shopify; 30 items" in said and "pictures: 30 found of 30" in said and "100 % of the log's items" in said
    assert "clicks.csv: 480 rows read, 0 left out; guessed: session = visitor_id, item = product_id" in said
    assert "time = timestamp" in said and "look at this" not in said
    recipe = load_recipe("shop.yaml")
    assert (recipe.rules, recipe.catalog.reader) == (Rules(in_stock=True), "shopify")
    text = Path("shop.yaml").read_text()
    assert "# pictures: 30 found" in text and "variants of one product" in text

    small: dict[str, Any] = {
        "encoders.vision": f"hf:{tiny_model('vit')}",
        "encoders.text": f"hf:{tiny_model('bert')}",
        "language": f"{{name: 'hf:{tiny_model('bert')}', max_tokens: 16}}",
        "alignment": "{steps: 2, batch: 8}",
        "training": "{steps: 2, visual_steps: 2, visual_batch: 4, batch: 4, group: 2, warmup: 1, validate_every: 2}",
        "models": "[{name: TGQ-Former, connector: tgq, options: {dim: 16, heads: 2}, share: 1, preset: given}]",
        "evaluation.validation_pool": 10,
    }
    changes = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    said = tgq("run", "shop.yaml", *changes)
    end = said[said.index("next:  tgq similar item-0") :].removeprefix("next:").splitlines()
    assert [line.split()[0] for line in end[:3]] == ["tgq", "tgq", "open"]
    run = Path("runs/products-export")
    assert (run / "report.html").is_file() and rules_beside(str(run / "store")) == Rules(in_stock=True)
    items = {item.id: item for item in Catalog.open(run / "catalog").items()}
    assert items["item-0"].availability == "out_of_stock" and items["item-4"].sale_price == 14.0
    listed = tgq("similar", "item-3", "--store", run / "store", "-k", 29)
    assert "left out: 6 by in_stock" in listed and " item-10 " not in listed


def test_pictures_that_are_not_here_are_told_and_done_without(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path, pictures=False), draw_log(tmp_path)
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    assert "none is on this disk" in said
    assert load_recipe(tmp_path / "shop.yaml").catalog.mapping == {"pictures": []}
    with pytest.raises(TgqError, match="exists"):
        CliRunner().invoke(
            app, ["init", str(export), str(log), "--to", str(tmp_path / "shop.yaml")], catch_exceptions=False
        )
    with pytest.raises(TgqError, match="what is read"):
        tgq("init", export, log.rename(tmp_path / "log.yaml"), "--to", tmp_path / "log.yaml", "--overwrite")


def test_pictures_in_a_folder_beside_the_export_are_found(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path), draw_log(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    for picture in tmp_path.glob("*.png"):
        picture.rename(tmp_path / "photos" / picture.name)
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    assert "pictures: 30 found of 30" in said and "photos" in said
    recipe = load_recipe(tmp_path / "shop.yaml")
    assert recipe.catalog.pictures == str(tmp_path / "photos") and recipe.models[0].connector == "tgq"


def test_pictures_by_address_are_a_step_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with bad_server() as server:
        export, log = draw_export(tmp_path, pictures=False), draw_log(tmp_path)
        text = export.read_text()
        for n in range(COUNT):
            text = text.replace(f"https://cdn.test/{n}.png?v=1", server.url("good", n))
        export.write_text(text)
        said = tgq("init", export, log, "--to", "first.yaml")
        assert "tgq pictures fetch products_export.csv --to photos" in said
        fetched = tgq("pictures", "fetch", export.name, "--to", "photos", "--allow-host", "127.0.0.1", "--rate", 1000)
        assert "30 pictures fetched" in fetched
    assert "pictures: 30 found of 30" in tgq("init", export, log, "--to", "shop.yaml")
    assert load_recipe("shop.yaml").catalog.pictures == str(tmp_path / "photos")


def test_no_column_of_pictures_is_told(tmp_path: Path) -> None:
    export, log = tmp_path / "items.csv", draw_log(tmp_path)
    export.write_text("sku,title\n" + "".join(f"item-{n},thing {n}\n" for n in range(COUNT)))
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    assert load_recipe(tmp_path / "shop.yaml").pairs.mining.window == Window(seconds=1800)
    assert "no column names any" in said and load_recipe(tmp_path / "shop.yaml").models[0].connector == "none"


def test_a_log_without_times_is_mined_by_its_order(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path), tmp_path / "clicks.csv"
    log.write_text("user,item\nu1,item-1\nu1,item-2\n")
    tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    recipe = load_recipe(tmp_path / "shop.yaml").pairs
    assert len(read_source(log, log=recipe.log, mining=replace(recipe.mining, min_support=1))) == 1


def test_a_log_of_other_ids_is_refused_with_both(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path), draw_log(tmp_path, "gid-{}")
    with pytest.raises(TgqError, match=r"no item of .*clicks.csv is in .*gid-0.*item-0"):
        CliRunner().invoke(
            app, ["init", str(export), str(log), "--to", str(tmp_path / "x.yaml")], catch_exceptions=False
        )
    assert not (tmp_path / "x.yaml").exists()


def test_columns_of_the_log_that_cannot_be_guessed_are_named(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path), draw_log(tmp_path)
    log.write_text(log.read_text().replace("visitor_id,product_id,timestamp", "who,what,at"))
    with pytest.raises(TgqError, match="no column looks like the session; name it with --session"):
        tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    named = ("--session", "who", "--item", "what", "--time", "at", "--time-format", "seconds")
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml", *named)
    assert "read by: session = who, item = what, time = at" in said
    found = load_recipe(tmp_path / "shop.yaml").pairs.log
    assert (found.session, found.item, found.time, found.time_format) == (("who",), "what", "at", "seconds")


def test_rows_that_are_left_out_are_told(tmp_path: Path) -> None:
    export, log = draw_export(tmp_path), draw_log(tmp_path)
    head, *rows = log.read_text().splitlines()
    spoilt = [row if n % 3 == 0 else row.rpartition(",")[0] + ",no time" for n, row in enumerate(rows)]
    log.write_text("\n".join([head, *spoilt]))
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    assert "clicks.csv: 160 rows read, 320 left out" in said
    assert said.count("look at this: only 160 of 480 rows can be used: timestamp is not a time (320)") == 1
    assert "# look at this: only 160 of 480" in (tmp_path / "shop.yaml").read_text()
    log.write_text("\n".join([head, *rows[1:], rows[0].rpartition(",")[0] + ",no time"]))
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml", "--overwrite")
    assert "clicks.csv: 479 rows read, 1 left out" in said
    assert "look at this: clicks.csv: 1 row left out: timestamp is not a time (1)" in said


@pytest.mark.parametrize("name", ["Zeit", "at"])
def test_columns_that_may_be_times_are_told(tmp_path: Path, name: str) -> None:
    export, log = draw_export(tmp_path), draw_log(tmp_path)
    _, *rows = log.read_text().splitlines()
    log.write_text("\n".join([f"visitor_id,product_id,{name},event", *(f"{row},view" for row in rows)]))
    said = tgq("init", export, log, "--to", tmp_path / "shop.yaml")
    assert f"look at this: clicks.csv: no column looks like times; it has: {name}; name it with --time" in said
    assert "has no times" not in (tmp_path / "shop.yaml").read_text()
    tgq("init", export, log, "--to", tmp_path / "shop.yaml", "--overwrite", "--time", name)
    assert load_recipe(tmp_path / "shop.yaml").pairs.log.time == name


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    to = tmp_path / "a shop's ü" / "my shop.yaml"
    to.parent.mkdir()
    said = tgq("init", draw_export(tmp_path), draw_log(tmp_path), "--to", to)
    (line,) = [line for line in said.splitlines() if line.startswith("next:")]
    assert shlex.split(line) == ["next:", "tgq", "run", str(to)]
