"""What README.md and docs/ show is true: commands parse, recipes are recipes, links lead somewhere; some pages are run.

The others are run in tests/docs, and by the tests of what they are about: tests/docs/test_census.py forgets none.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doc_commands import COMMANDS, ROOT, Block, blocks, check_command
from doc_runs import Terminal, is_benchmark, is_run, of_pages, walk_page
from doc_shop import write_shop

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
    "models=[{name: TGQ-Former, connector: tgq, preset: given, share: 1}]",
    "evaluation.views=[mixed]", "evaluation.examples=1",
)  # fmt: skip


def of_kind(*languages: str) -> Any:
    chosen = [(page, block) for page, block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize(
        ("page", "block"), chosen, ids=[f"{page.name}:{block.line}" for page, block in chosen]
    )


def changed(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


SMALLER = {
    "run": changed(*SMALL),
    "demo": changed(*SMALL, "catalog.items=48"),
    "demo --quick": changed("catalog.items=48", "alignment.steps=2"),
}


def test_commands_that_are_not_run_exist_with_their_options() -> None:
    for _, _, words in of_pages():
        if is_benchmark(words) or not is_run(words):
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
    with Terminal(more=SMALLER) as terminal:
        names = walk_page("README.md", terminal)
        assert names["vectors"].shape[0] == 100 and names["nearest"].shape == (100, 3)
        for made in ("noise.png", "similar.html", "neighbours.parquet", "store/store.json", "runs/shop/report.html"):
            assert Path(made).is_file(), made
        walk_page("docs/commands.md", terminal)
        assert walk_page("packages/small/README.md", terminal, "")["vectors"].shape[0] == 2


@pytest.mark.slow
def test_coming_from_other_programs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 40)
    Path("shoe.jpg").write_bytes(Path("photos/2.jpg").read_bytes())
    # without a model hub the packaged encoders stand for CLIP
    small_clip = ["--set", "encoders.vision=efficientnet-lite0", "--set", "alignment.steps=20"]
    with Terminal(more={"run clip.yaml": small_clip}) as terminal:
        names = walk_page("docs/coming-from.md", terminal)
    assert names["vectors"].shape == (40, names["model"].dim) and len(set(names["places"][0]) - {0}) == 5
    for made in ("similar.html", "neighbours.parquet", "pairs.parquet", "duplicates.csv"):
        assert Path(made).is_file(), made


def test_answers_that_are_commands_or_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path, 12)
    Path("numbers.csv").write_text("number,id\n7,1042\n", encoding="utf-8")
    Path("clicks-by-number.csv").write_text("session,item\na,7\na,8\n", encoding="utf-8")
    walk_page("docs/questions.md", Terminal())
    assert "1042" in Path("similar.html").read_text(encoding="utf-8")
    assert Path("clicks.csv").read_text(encoding="utf-8").split() == ["session,item", "a,1042"]


def test_the_worked_example_of_a_connector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgqformer.connectors.CONNECTORS", dict(CONNECTORS))
    torch.manual_seed(0)
    spaces: dict[str, Any] = {"__name__": "glance"}
    walk_page("docs/connectors.md", Terminal(), "1. One file", "2. One line", "3. One test", names=spaces)
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
    spaces = walk_page("docs/pairs.md", Terminal(), "Splits", "Other shoppers")
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
