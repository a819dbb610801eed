"""Every night one `tgq run`: what a changed file or setting touches is made again, and nothing else."""

from __future__ import annotations

import csv
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from tiny_recipe import write_recipe

from tgqformer import packages, stages
from tgqformer.catalog import Catalog
from tgqformer.catalog.readers import products
from tgqformer.errors import TgqError
from tgqformer.experiments import run, sources
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.run import Run, execute

COLOURS = ("red", "blue", "green")
KINDS = ("shirt", "shoe", "bag")
FIXED = {"share": 1, "preset": "given"}
SHORT = {"what needs no training": "untrained", "evaluation of what needs no training": "judged"}
MODEL = ["training", "evaluation", "refit", "embeddings", "store", "neighbours", "lists"]
AFTER_PAIRS = [*MODEL, "untrained", "judged", "report"]


def write_items(shop: Path, count: int = 36) -> None:
    with (shop / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "category", "picture"])
        for n in range(count):
            rows.writerow([f"i{n}", f"{COLOURS[n % 3]} {KINDS[n % 2]}", KINDS[n % 2], f"pictures/{n}.png"])


def write_picture(shop: Path, name: int, shade: int) -> None:
    from PIL import Image

    (shop / "pictures").mkdir(exist_ok=True)
    picture = Image.new("RGB", (24, 24), (shade % 256, (7 * shade) % 256, 90))
    picture.save(shop / "pictures" / f"{name}.png")


def write_log(shop: Path, sessions: int) -> None:
    draw = random.Random(0)
    with (shop / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["session", "item", "time"])
        for session in range(sessions):
            for at, item in enumerate(draw.sample(range(36), 8)):
                rows.writerow([f"s{session}", f"i{item}", 1_700_000_000 + 1000 * session + at])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("pairs.log.session=visit", "no column 'visit'"),
        ("pairs.interactions=odd.csv", r"looks like the item; name it with pairs\.log\.item"),
        (
            "pairs.interactions=days.csv",
            r"say pairs\.log\.time_format day-first or pairs\.log\.time_format month-first",
        ),
        ("pairs.mining.min_support=99", r"pairs\.mining\.min_support asks for 99"),
    ],
)
def test_an_error_about_the_log_names_the_key_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path)
    write_log(tmp_path, 20)
    (tmp_path / "odd.csv").write_text("session,what\n1,i1\n")
    (tmp_path / "days.csv").write_text("session,item,time\n1,i1,01/02/2024\n1,i2,01/02/2024\n")
    recipe = {
        "name": "keys", "catalog": {"source": "items.csv", "mapping": {"pictures": []}},
        "pairs": {"interactions": "clicks.csv"}, "models": [{"name": "none", "connector": "none"}],
    }  # fmt: skip
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(TgqError, match=error) as told:
        execute(load_recipe("keys.yaml", (change,)), tmp_path / "run", "pairs")
    assert "--" not in str(told.value)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shop")
    write_items(folder)
    write_log(folder, 60)
    for n in range(36):
        write_picture(folder, n, 5 * n)
    training = {"steps": 2, "visual_steps": 2, "visual_batch": 4, "validate_every": 2, "checkpoint_every": 0}
    shares = {"train": 0.6, "val": 0.15, "test": 0.25}
    write_recipe(folder, tiny_model, pairs=shares, training=training, model=FIXED)
    return folder


@pytest.fixture
def night(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run the shop's recipe; return the first words of the stages that were made, in order."""

    def run(*changes: str, recheck: bool = False) -> list[str]:
        said = Console(file=StringIO(), width=200)
        monkeypatch.setattr(stages, "console", said)
        execute(load_recipe(shop / "shop.yaml", changes), shop / "run", recheck=recheck)
        text = said.file.getvalue()  # type: ignore[attr-defined]
        for name in re.findall(r"^(.+): (?:made|reused)", text, re.MULTILINE):
            assert len(re.findall(rf"^{re.escape(name)}: (?:made|reused)", text, re.MULTILINE)) == 1, name
        made = re.findall(r"^(.+): made in", text, re.MULTILINE)
        return [re.split(r"\W", SHORT.get(name, name))[0] for name in made]

    return run


@pytest.mark.slow
def test_each_kind_of_change_makes_again_what_depends_on_it(shop: Path, night: Callable[..., list[str]]) -> None:
    everything = ["catalogue", "pairs", "features", "alignment", *AFTER_PAIRS]
    assert night() == everything
    assert night() == []
    os.utime(shop / "items.csv")
    assert night() == []  # another time, the same content
    assert night("neighbours=3") == ["neighbours", "lists"]
    assert night("neighbours=3", "rules.in_stock=true") == ["lists"]
    assert night("neighbours=3") == ["lists"]
    assert night("training.lr=0.002", "neighbours=3") == [*MODEL, "report"]
    assert night("training.lr=0.002", "neighbours=3", "evaluation.views=[mixed,noised]") == [
        "features",
        "evaluation",
        "judged",
        "report",
    ]
    assert night() == ["features", *MODEL, "judged", "report"]
    write_log(shop, 70)
    assert night() == ["pairs", *AFTER_PAIRS]
    write_picture(shop, 5, 200)
    assert night() == ["catalogue", "features", "alignment", *AFTER_PAIRS]
    write_items(shop, 37)
    write_picture(shop, 36, 77)
    assert night() == everything
    assert night("prompt.fields=[title]") == ["features", "alignment", *AFTER_PAIRS]
    log, before = shop / "clicks.csv", (shop / "clicks.csv").stat()
    log.write_bytes(log.read_bytes().replace(b"s1,", b"s2,"))
    assert log.stat().st_size == before.st_size
    os.utime(log, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert night("prompt.fields=[title]") == []  # neither size nor time says so
    assert night("prompt.fields=[title]", recheck=True) == ["pairs", *AFTER_PAIRS]


def test_the_store_serves_all_through_a_retraining(shop: Path, night: Callable[..., list[str]]) -> None:
    from tgqformer.store import open_store

    night()
    before = open_store(shop / "run" / "store").served
    night("training.lr=0.003")
    store = open_store(shop / "run" / "store")
    assert before is not None and store.served is not None and store.served.name != before.name
    assert (shop / "run" / "store" / "store.json").exists()


def test_fewer_queries_are_asked_of_every_model(shop: Path, night: Callable[..., list[str]]) -> None:
    night()
    whole = (shop / "run" / "table.csv").read_text()
    assert night("evaluation.queries=3") == ["evaluation", "judged", "report"]
    done = Run(load_recipe(shop / "shop.yaml", ("evaluation.queries=3",)), shop / "run")
    for result in (*done.results(), *done.untrained()):
        assert {len(view.query) for view in result.views.values()} == {3}
    assert night() == ["evaluation", "judged", "report"]
    assert (shop / "run" / "table.csv").read_text() == whole


def test_the_report_says_which_model_is_served(shop: Path, night: Callable[..., list[str]]) -> None:
    night()
    refitted = "fitted again on all pairs"
    assert refitted in (shop / "run" / "report.html").read_text()
    assert night("serve=train") == ["embeddings", "store", "neighbours", "lists", "report"]
    assert refitted not in (shop / "run" / "report.html").read_text()


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], bool]:
    """Return what imports a source into a run, and says whether that was done anew."""
    monkeypatch.chdir(tmp_path)

    def run(source: Path) -> bool:
        said = Console(file=StringIO(), width=200)
        monkeypatch.setattr(stages, "console", said)
        write_log(tmp_path, 2)
        recipe = {
            "name": "shop", "catalog": {"source": str(source)}, "pairs": {"interactions": "clicks.csv"},
            "models": [{"name": "none", "connector": "none"}],
        }  # fmt: skip
        (tmp_path / "shop.yaml").write_text(yaml.safe_dump(recipe))
        execute(load_recipe("shop.yaml"), tmp_path / "run", "catalog")
        return "catalogue: made" in said.file.getvalue()  # type: ignore[attr-defined]

    return run


@pytest.mark.parametrize("name", ["p1", "p1.JPG_large"])
def test_a_changed_picture_without_a_usual_ending_is_noticed(
    tmp_path: Path, imported: Callable[[Path], bool], name: str
) -> None:
    from PIL import Image

    def draw(shade: int) -> bytes:
        Image.new("RGB", (24, 24), (shade, 90, 10)).save(tmp_path / name, "JPEG")
        return (tmp_path / name).read_bytes()

    (tmp_path / "items.csv").write_text(f"id,title,picture\ni1,red shirt,{name}\n")
    before = draw(10)
    assert imported(tmp_path / "items.csv")
    (tmp_path / "nohup.out").write_text("no picture")
    assert not imported(tmp_path / "items.csv")
    assert draw(200) != before
    assert imported(tmp_path / "items.csv")


def test_a_sale_ends_on_its_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: Callable[[Path], bool]
) -> None:
    head = "id\ttitle\timage_link\tavailability\tprice\tsale_price\tsale_price_effective_date\n"
    (tmp_path / "feed.tsv").write_text(
        f"{head}i1\tTee\t\tin_stock\t49.00 EUR\t39.00 EUR\t2026-11-01T00:00+0000/2026-12-01T00:00+0000\n"
    )

    def night(day: str) -> tuple[bool, float | None]:
        for reads in (products, sources):
            monkeypatch.setattr(reads, "today", lambda: day)
        made = imported(tmp_path / "feed.tsv")
        return made, next(iter(Catalog.open(tmp_path / "run" / "catalog").items())).sale_price

    assert night("2026-11-28") == (True, 39.0)
    assert night("2026-11-28") == (False, 39.0)
    assert night("2026-11-29") == (True, 39.0)
    assert night("2027-02-01") == (True, None)


def test_a_source_without_days_is_not_read_again_on_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: Callable[[Path], bool]
) -> None:
    (tmp_path / "items.csv").write_text("id,title\ni1,red shirt\n")
    assert imported(tmp_path / "items.csv")
    monkeypatch.setattr(sources, "today", lambda: "2099-01-01")
    assert not imported(tmp_path / "items.csv")


def test_what_a_killed_import_left_is_removed(tmp_path: Path, imported: Callable[[Path], bool]) -> None:
    (tmp_path / "items.csv").write_text("id,title\ni1,red shirt\n")
    killed = f"""
import os
from pathlib import Path
from tgqformer.experiments import sources
from tgqformer.experiments.recipe import load_recipe
sources.import_catalog = lambda *_, **__: os.kill(os.getpid(), 9)
recipe = load_recipe({str(tmp_path / "shop.yaml")!r})
sources.make_catalog(recipe.catalog, recipe.pairs, Path({str(tmp_path / "run" / "catalog")!r}))
"""
    assert imported(tmp_path / "items.csv")
    before = set((tmp_path / "run").iterdir())
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert set((tmp_path / "run").iterdir()) > before
    (tmp_path / "items.csv").write_text("id,title\ni1,blue shirt\n")
    assert imported(tmp_path / "items.csv")
    assert set((tmp_path / "run").iterdir()) == before


def test_a_missing_file_is_named_before_anything_is_made(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(TgqError, match=r"pairs\.interactions: there is no file or folder .*no\.csv"):
        execute(load_recipe(shop / "shop.yaml", ("pairs.interactions=no.csv",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a run"])
def test_a_log_of_other_items_leaves_nothing_new(shop: Path, tmp_path: Path, there: str) -> None:
    runs, log = tmp_path / "runs" / "of" / "shop", tmp_path / "other.csv"
    log.write_text("session,item,time\n1,z1,1700000000\n1,z2,1700000001\n")
    if there == "an empty folder":
        runs.mkdir(parents=True)
    if there == "a run":
        execute(load_recipe(shop / "shop.yaml"), runs, "pairs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TgqError, match=r"no item of other\.csv is in the catalogue"):
        execute(load_recipe(shop / "shop.yaml", (f"pairs.interactions={log}",)), runs)
    left = {path for path in set(tmp_path.rglob("*")) ^ set(before) if path.parent.name != "pairs"}
    assert not left, "what an earlier call made stays, but for its pairs"
    execute(load_recipe(shop / "shop.yaml"), runs, "pairs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("catalog.mapping={title: nmae}", "column"),
        ("pairs.log.item=itm", "clicks.csv has no column 'itm'; did you mean 'item'"),
        ("pairs.log.where={event: view}", "clicks.csv has no column 'event'"),
        ("encoders.vision=hf:no/such-model", "encoders.vision: The Hugging Face model 'no/such-model' cannot be read"),
        ("encoders.text=hf:./nowhere", "encoders.text: The Hugging Face model"),
        ("language.name=hf:no/such-model", "language.name: The Hugging Face model"),
        ("encoders.vision_options={levls: last}", "'levls' is not a key here; did you mean 'levels'"),
        ("models=[{name: x, connector: tgq, options: {gates: boht}}]", "did you mean 'both'"),
        ("models=[{name: x, multimodal: hf:no/such-model}]", "models: x is a whole multimodal model"),
    ],
)
@pytest.mark.parametrize("deep", [True, False])
def test_what_a_recipe_names_is_checked_before_anything_is_made(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str, deep: bool
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TgqError, match=message):
        execute(load_recipe(shop / "shop.yaml", (change,), deep=deep), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_not_installed_is_told_before_anything_is_made(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: there(name) if name in packages.EXTRAS else None)
    named = {"language.name": "smollm2", "encoders.text": "minilm", "encoders.vision": "efficientnet-lite0"}
    for key, name in named.items():
        with pytest.raises(TgqError, match=f"{key}: the package .* is not installed; run: pip install"):
            execute(load_recipe(shop / "shop.yaml", (f"{key}={name}",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_call_with_nothing_to_do_imports_no_torch(shop: Path, night: Callable[..., list[str]]) -> None:
    night()
    again = f"""
import sys
from tgqformer.cli import main
sys.argv = ["tgq", "run", {str(shop / "shop.yaml")!r}, "--to", {str(shop / "run")!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
print("loaded:", *sorted({{"torch", "scipy", "transformers", "lancedb", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
    asked = ["catalogue", "pairs", "features", *MODEL, "judged", "report"]
    assert done.stderr.count(": reused") == len(asked) and ": made" not in done.stderr


def test_the_steps_and_the_time_are_said_before_the_first_training(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Console(file=StringIO(), width=200)
    monkeypatch.setattr(run, "console", said)
    monkeypatch.setattr(stages, "console", said)
    loaded = load_recipe(shop / "shop.yaml")
    loaded = replace(loaded, seeds=(0, 1), models=(replace(loaded.models[0], preset="auto"),))
    execute(loaded, tmp_path / "run", "train")
    text = said.file.getvalue()  # type: ignore[attr-defined]
    lines = [
        line for line in text.splitlines() if "steps:" in line or "to train" in line or line.startswith("training")
    ]
    assert lines[:3] == [
        "TGQ-Former, gentle settings, and 4 folds: steps: 2 of the whole model",
        "TGQ-Former, given settings, and 4 folds: steps: 2 of the connector alone, 2 of the whole model",
        "2 to train, under a minute",
    ]
    assert lines[3].startswith("training of TGQ-Former, seed 0")


def test_a_folder_with_files_of_a_person_is_refused_and_left_alone(shop: Path) -> None:
    own = shop / "own"
    (own / "catalog").mkdir(parents=True)
    (own / "catalog" / "mine.txt").write_text("of a person")
    with pytest.raises(TgqError, match="was not made by tgq"):
        execute(load_recipe(shop / "shop.yaml"), own)
    assert [path.name for path in own.rglob("*")] == ["catalog", "mine.txt"]


def test_a_folder_of_a_person_inside_the_run_is_refused_before_anything_is_made(shop: Path, tmp_path: Path) -> None:
    stages.claim(tmp_path / "run", "run", "shop")
    for name in ("pairs", "models/tgq-former/seed-0", "neighbours"):
        own = tmp_path / "run" / name
        own.mkdir(parents=True)
        (own / "mine.txt").write_text("of a person")
        with pytest.raises(TgqError, match=f"{name} was not made by tgq"):
            execute(load_recipe(shop / "shop.yaml"), tmp_path / "run")
        assert not (tmp_path / "run" / "catalog").exists() and (own / "mine.txt").read_text() == "of a person"
        (own / "mine.txt").unlink()


def test_every_folder_that_is_written_is_looked_at_first(shop: Path, night: Callable[..., list[str]]) -> None:
    night()
    known = Run(load_recipe(shop / "shop.yaml"), shop / "run").folders()
    noted = {path.parent for path in (shop / "run").rglob(stages.NOTE)} - {shop / "run"}
    fixed = {path for path in noted if path.parent.name not in ("alignment", "frozen") and path.name != "model"}
    # Results, and what stands in folders that are ours: whoever writes there has taken our folder for theirs.
    assert {path for path in fixed if path.name != "result" and path.parent not in known} == set(known)


def test_two_runs_in_one_folder(shop: Path, tmp_path: Path) -> None:
    stages.claim(tmp_path / "run", "run", "shop")
    with stages.only_one(tmp_path / "run"), pytest.raises(TgqError, match="another tgq is at work"):
        execute(load_recipe(shop / "shop.yaml"), tmp_path / "run")
