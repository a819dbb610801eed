"""What README.md and docs/ show is true: commands parse or run, code runs, recipes are recipes, links lead somewhere.

`docs/data.md` is run by `tests/catalog/test_data_page.py`. What takes long (`make`, `pip`, the whole demo, the fashion
benchmark) is read by the command line's own parser, and the demo is run here in a small form.
"""

from __future__ import annotations

import ast
import csv
import inspect
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doc_commands import COMMANDS, ROOT, Block, blocks, check_command
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.config import parse
from tgqformer.connectors import CONNECTORS, ConnectorWidths, make_connector
from tgqformer.errors import TgqError
from tgqformer.experiments.bench.grid import load_bench
from tgqformer.experiments.recipe import LanguageSection, Recipe
from tgqformer.training.settings import ALIGNMENT_PASSES, AlignmentSettings, TrainingSettings

OWN = ("README.md", "CONTRIBUTING.md", "packages/small/README.md")
PAGES = [*(ROOT / name for name in OWN), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [(page, block) for page in PAGES for block in blocks(page)]
SMALL = (
    "training.steps=2", "training.warmup=1", "training.batch=16", "training.visual_steps=1", "training.visual_batch=16",
    "training.validate_every=0", "alignment.steps=20",
    "models=[{name: TGQ-Former, connector: tgq, share: 1}]", "evaluation.views=[mixed]", "evaluation.examples=1",
)  # fmt: skip


def of_kind(*languages: str) -> Any:
    chosen = [(page, block) for page, block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize(
        ("page", "block"), chosen, ids=[f"{page.name}:{block.line}" for page, block in chosen]
    )


def tgq(*words: str) -> str:
    """Run a command; give what it printed on standard output."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None:
        raise result.exception
    return result.output


def small(*changes: str) -> list[str]:
    return [word for change in (*SMALL, *changes) for word in ("--set", change)]


@of_kind("bash", "sh")
def test_every_command_exists_with_its_options(page: Path, block: Block) -> None:
    assert block.commands()
    for words in block.commands():
        check_command(words)


@of_kind("python")
def test_python_is_python(page: Path, block: Block) -> None:
    ast.parse(block.text)


@of_kind("yaml")
def test_every_recipe_is_one(page: Path, block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if "grids:" in block.text:
        (tmp_path / "bench.yaml").write_text(block.text)
        assert load_bench(str(tmp_path / "bench.yaml")).grids
        return
    monkeypatch.setitem(CONNECTORS, "glance", CONNECTORS["mlp"])  # of the worked example
    whole = {"name": "shown", "catalog": {}, "pairs": {"pairs": "pairs.parquet"}, **yaml.safe_load(block.text)}
    parse(Recipe, {"models": [{"name": "TGQ-Former", "connector": "tgq"}], **whole}, f"{page.name}:{block.line}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_fences_name_their_language_and_links_lead_somewhere(page: Path) -> None:
    assert not [block.line for block in blocks(page) if not block.language]
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name} links to {link}"


def sentences(page: Path) -> list[str]:
    """The sentences of running text: without code, tables, headings, formulas and the addresses of links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^(\||#|    ).*$", "", re.sub(r"\]\([^)]*\)", "]", text), flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", text)
    return [one for block in blocks for one in re.split(r"(?<=[.!?])\s+", " ".join(block.split()))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_can_be_read_once(page: Path) -> None:
    """At most some 25 words are the aim. What is longer than 60 is parted, or is a list or a table."""
    assert [one for one in sentences(page) if len(one.split()) > 60] == []


def test_commands_in_running_text_exist() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for shown in re.findall(r"`tgq ([a-z][a-z ]*)", text):
            words = shown.split()
            assert any(name.split()[: len(words)] == words[: len(name.split())] for name in COMMANDS), (
                f"{page}: {shown}"
            )


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `tgq ")] + [text]
    for name in COMMANDS:
        group, _, last = name.rpartition(" ")
        assert any(f"`tgq {group}" in row and f"{last}`" in row for row in rows) if group else f"tgq {name}" in text


def test_readme_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 40)
    tgq("demo", *small("catalog.items=48"))
    spaces: dict[str, Any] = {}
    for block in blocks(ROOT / "README.md"):
        if block.is_shell:
            run_block(block)
        elif block.language == "yaml":
            name = re.match(r"# (\S+)\n", block.text)
            assert name is not None, "a recipe on this page says which file it is"
            Path(name[1]).write_text(block.text)
        else:
            exec(block.text, spaces)
    assert spaces["vectors"].shape[0] == 100 and spaces["nearest"].shape == (100, 3)
    for made in ("noise.png", "similar.html", "neighbours.parquet", "store/store.json", "runs/shop/report.html"):
        assert Path(made).is_file(), made
    spelt = [words for block in blocks(ROOT / "docs/commands.md") if block.is_shell for words in block.commands()]
    for words in spelt:
        if words[1] != "--install-completion":  # which changes the shell of who runs it
            tgq(*words[1:])
    assert len(spelt) == 5


@pytest.mark.slow
def test_start_pages_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 40)
    tgq("demo", *small("catalog.items=48"))
    for name in ("demo", "shop", "every-day"):
        for block in blocks(ROOT / f"docs/start/{name}.md"):
            if block.is_shell:
                run_block(block)
            elif block.language == "python":  # settings in yaml are read by a test of their own
                exec(block.text, spaces := {})
                assert spaces["vectors"].shape[0] == 5
    for made in ("demo.html", "pairs.parquet", "runs/shop/report.html", "runs/shop/store/store.json"):
        assert Path(made).is_file(), made


@pytest.mark.slow
def test_coming_from_other_programs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 40)
    for block in blocks(ROOT / "docs/coming-from.md"):
        if block.language == "yaml":  # without a model hub the packaged encoders stand for CLIP
            encoder = "vision: joint:hf:openai/clip-vit-base-patch32"
            assert encoder in block.text
            Path("clip.yaml").write_text(block.text.replace(encoder, "vision: efficientnet-lite0"))
        elif block.language == "python":
            exec(block.text, spaces := {})
            assert spaces["vectors"].shape == (40, spaces["model"].dim) and len(set(spaces["places"][0]) - {0}) == 5
        elif block.language == "bash":  # what answers over HTTP is in sh, and tested with the service
            for words in block.commands():
                tgq(*words[1:], *(("--set", "alignment.steps=20") if words[1] == "run" else ()))
    for made in ("similar.html", "neighbours.parquet", "pairs.parquet", "duplicates.csv"):
        assert Path(made).is_file(), made


def test_answers_that_are_commands_or_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 12)
    Path("numbers.csv").write_text("number,id\n7,1042\n", encoding="utf-8")
    Path("clicks-by-number.csv").write_text("session,item\na,7\na,8\n", encoding="utf-8")
    for block in blocks(ROOT / "docs/questions.md"):
        if block.language == "python":
            exec(block.text, {})
        run_block(block)
    assert "1042" in Path("similar.html").read_text(encoding="utf-8")
    assert Path("clicks.csv").read_text(encoding="utf-8").split() == ["session,item", "a,1042"]


def run_block(block: Block) -> None:
    """Run the commands of a block but for those that set up the machine or take long."""
    for words in block.commands():
        if words[0] == "tgq":
            tgq(*words[1:], *(small() if words[1] == "run" else ()))


def write_shop(folder: Path, count: int) -> None:
    """A shop as the README has it: shop.csv, photos/, clicks.csv."""
    rng = random.Random(0)
    (folder / "photos").mkdir()
    with (folder / "shop.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sku", "name", "brand", "category", "price", "photo"])
        for i in range(count):
            kind, colour = ("Shirt", "Hat", "Shoe", "Bag")[i % 4], ("red", "blue", "green")[i // 4 % 3]
            photo = Image.new("RGB", (64, 64), "white")
            ImageDraw.Draw(photo).rectangle((8, 8, 30 + 8 * (i % 4), 50), fill=colour)
            photo.save(folder / f"photos/{i}.jpg")
            table.writerow([1040 + i, f"{kind} {i}", "Acme", f"Clothes > {kind}", 5 + i, f"{i}.jpg"])
    with (folder / "clicks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["session", "item", "time"])
        for session in range(300):
            first = rng.randrange(count)
            table.writerow([session, 1040 + first, 1_700_000_000 + 10_000 * session])
            table.writerow([session, 1040 + (first + 12) % count, 1_700_000_000 + 10_000 * session + 60])


def test_the_worked_example_of_a_connector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgqformer.connectors.CONNECTORS", dict(CONNECTORS))
    torch.manual_seed(0)
    spaces: dict[str, Any] = {"__name__": "glance"}
    for block in blocks(ROOT / "docs/connectors.md"):
        if block.language == "python":
            exec(compile(block.text, "docs/connectors.md", "exec"), spaces)
    glance = spaces["glance"]
    assert (glance.tokens, glance.width) == (1, 32)
    with pytest.raises(TgqError, match="did you mean 'heads'"):
        make_connector("glance", spaces["widths"], {"headz": 2})


def test_connectors_page_lists_every_connector_with_its_options() -> None:
    text = (ROOT / "docs/connectors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `[A-Z].*\| ([^|]*) \|$", text, re.MULTILINE)
    table = {name: re.findall(r"`(\w+)`", options) for name, options in rows}
    assert table == {name: list(inspect.signature(made).parameters)[1:] for name, made in CONNECTORS.items()}


def test_python_of_the_pairs_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(tmp_path, 40)
    monkeypatch.chdir(tmp_path)
    spaces: dict[str, Any] = {}
    for block in blocks(ROOT / "docs/pairs.md"):
        if block.language == "python":
            exec(block.text, spaces)
    assert len(spaces["pairs"]) and len(spaces["sets"].train)


def test_defaults_on_the_method_page_are_those_of_the_code() -> None:
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| `", text, re.MULTILINE))
    tgq_defaults = {name: one.default for name, one in inspect.signature(CONNECTORS["tgq"]).parameters.items()}
    training, alignment, language = (
        TrainingSettings().resolved(10**6),
        AlignmentSettings().resolved(10**6),
        LanguageSection(),
    )
    assert rows["width, heads, blocks"] == "{dim}, {heads}, {blocks}".format(**tgq_defaults)
    halves = make_connector("tgq", ConnectorWidths(8, 8, 8, (2, 2)), {})
    assert rows["queries"] == f"{halves.anchored} anchored + {halves.exploratory} exploratory"
    assert rows["streams"] == tgq_defaults["streams"]
    assert (
        rows["learning rate"]
        == f"{training.lr}, {training.warmup} steps up, cosine down to {100 * training.floor:.0f} %"
    )
    assert rows["batch"] == f"{training.batch} pairs, groups of {training.group} of one category"
    assert rows["temperature"] == f"from {training.temperature}, not below 0.01"
    assert rows["λ"] == f"{training.redundancy:g}"
    assert rows["β"] == f"from {tgq_defaults['beta']:g}, {training.beta_lr:g} times the learning rate"
    shape = f"{alignment.steps} steps of {alignment.batch} pairs"
    assert rows["alignment"] == f"{shape}, at most {ALIGNMENT_PASSES} times through them; half of them noised"
    assert rows["LoRA"] == f"rank {language.lora_rank}, α {language.lora_alpha}, dropout {language.lora_dropout:g}"
