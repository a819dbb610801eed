"""The documentation as a site, without building it: its navigation, and the pages that are made from the code."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from browsing import assert_accessible, needs_browser
from doc_commands import COMMANDS, ROOT
from pydantic import TypeAdapter

import tgqformer
from tgqformer.collaborative.settings import OPTIONS, Preset
from tgqformer.experiments.bench.grid import BenchRecipe
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.study.settings import Study

SOURCE = ROOT / "src/tgqformer"


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml; what names a function of Python is left out."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


_, reference, links = module("notebook"), module("reference"), module("links")


@cache
def made() -> dict[str, str]:
    return reference.pages()  # type: ignore[no-any-return]


def settings() -> Any:
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)  # noqa: S506 - a safe one


def nav() -> list[str]:
    """The pages of the navigation, in its order."""

    def walk(node: Any) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [page for one in (node.values() if isinstance(node, dict) else node) for page in walk(one)]

    return walk(settings()["nav"])


def test_nav_names_every_page_once_and_nothing_else() -> None:
    files = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(nav()) == sorted([*files, *made(), *links.FROM_ROOT.values()])
    assert all((ROOT / name).is_file() for name in links.FROM_ROOT)


def test_groups_of_the_nav() -> None:
    whole = settings()
    assert [name for group in whole["nav"] for name in group] == ["Home", "Start", "How-to", "Reference", "Research"]
    assert len(whole["nav"][1]["Start"]) == 5 and whole["strict"] is True


def test_every_command_and_option_is_on_its_page() -> None:
    text = made()["reference/commands.md"]
    sections = dict(re.findall(r"^## `tgq ([^`]+)`\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(sections) == {name for name, command in COMMANDS.items() if not command.hidden}
    for name, section in sections.items():
        shown = [one for one in COMMANDS[name].params if one.name != "help" and not one.hidden]
        words = [word for one in shown for word in one.opts if word.startswith("-")]
        assert all(re.search(rf"^\| .*`{word}[ `]", section, re.MULTILINE) for word in words), name
        assert section.count("\n| `") == len(shown), f"a row for each argument and option of tgq {name}"


SCHEMAS = {
    "recipe": [Recipe],
    "bench-file": [BenchRecipe],
    "study-file": [Study],
    "preset-file": [Preset, *OPTIONS.values()],
}


@pytest.mark.parametrize("page", SCHEMAS)
def test_every_key_of_a_file_is_on_its_page_with_its_meaning(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) \| (.*) \|$", made()[f"reference/{page}.md"], re.MULTILINE)
    keys: set[str] = set()
    for schema in SCHEMAS[page]:
        whole = TypeAdapter(schema).json_schema()
        for section in (whole, *whole.get("$defs", {}).values()):
            keys |= section.get("properties", {}).keys()
    assert {name for name, *_ in rows} == keys
    assert not [name for name, *_, meaning in rows if not meaning.strip()], "keys without a meaning in a docstring"


def test_defaults_and_bounds_are_those_of_the_classes() -> None:
    text = made()["reference/recipe.md"]
    assert "| `lr` | number, above 0 | `0.001` | peak learning rate. |" in text
    assert "| `name` | text | must be given | of the run and its folder. |" in text
    assert "| `trackers` | list of texts | `[]` |" in text
    assert "## pairs.mining.window" in text and "## models[]" in text


def test_every_exported_name_is_in_the_list_of_the_api() -> None:
    text = made()["reference/api/index.md"]
    for name in tgqformer.__all__:
        assert f"| [`{name}`][" in text, name
    for init in SOURCE.rglob("__init__.py"):
        for name in re.findall(
            r"[\"\'](\w+)[\"\']",
            "".join(re.findall(r"^__all__ \+?= \[(.*?)\]", init.read_text(), re.DOTALL | re.MULTILINE)),
        ):
            assert f"| [`{name}`][" in text, f"{init}: {name}"


def test_every_public_class_and_function_is_on_a_page_of_the_api() -> None:
    shown = {}
    for place, text in made().items():
        if place.startswith("reference/api/"):
            shown |= dict(re.findall(r"^::: (\S+)\n    options:\n      members: (.+)$", text, re.MULTILINE))
    assert len(shown) > 150
    for path in SOURCE.rglob("*.py"):
        if "cli" in path.parts or path.name == "__main__.py":
            continue
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for public in re.findall(
            r"^(?:class|def|async def) ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            assert f"'{public}'" in shown[name], f"{name}.{public}"


def test_links_lead_to_where_files_are_on_the_site() -> None:
    for page, text, wanted in (
        ("start/demo.md", "[a](../../README.md#x) [b](../explorer.md)", "[a](../index.md#x) [b](../explorer.md)"),
        (
            "index.md",
            "![p](docs/img/p.jpg) [l](LICENSE) [w](https://x.org/a.md)",
            "![p](img/p.jpg) [l](files/LICENSE) [w](https://x.org/a.md)",
        ),
        ("log.md", "[m](../benchmarks/load.py) [n](#here)", "[m](files/benchmarks/load.py) [n](#here)"),
    ):
        assert links.moved(text, page) == wanted
    assert links.outside("[l](LICENSE) [d](docs/data.md) [c](CHANGELOG.md)", "index.md") == {"LICENSE"}


def test_several_entries_of_a_docstring_line_are_told_apart() -> None:
    text = """What it is: a thing.

    Args:
        a, b: of both. c: of one (see d: no).
            goes on.
        d: last; unknown: stays.
    """
    found = list(reference.entries(text, "abcd"))
    assert found == [
        (["a", "b"], "of both."),
        (["c"], "of one (see d: no). goes on."),
        (["d"], "last; unknown: stays."),
    ]


def test_each_name_of_a_docstring_has_a_row_of_its_own() -> None:
    end = "c: of one,\n        see d: no.\n\nReturns:\n    all."
    text = f"What [Q][P] is.\n\nArgs:\n    a, b: of both. {end}"
    wanted = f"What [Q]\u200b[P] is.\n\nArgs:\n    a: of both.\n    b: of both.\n    {end}"
    assert reference.one_row_each(text, "abcd") == wanted
    assert reference.one_row_each("a: of one. b: of two.", "ab") == "a: of one. b: of two."


def test_meanings_are_one_line_of_a_table() -> None:
    assert reference.cell("a | b\n  <c>") == "a \\| b &lt;c>"
    assert "\n\n|" not in made()["reference/recipe.md"].replace("\n\n| key", "")


QUESTIONS = yaml.safe_load((ROOT / "tests/cold_reader.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked["question"][:40])
def test_the_pages_answer_what_a_cold_reader_asks(asked: dict[str, Any]) -> None:
    text = " ".join((ROOT / asked["page"]).read_text(encoding="utf-8").split())
    assert [word for word in asked["words"] if word not in text] == [] and asked["answer"]


def test_a_cold_reader_asks_ten_questions_or_more() -> None:
    assert len({asked["question"] for asked in QUESTIONS}) == len(QUESTIONS) >= 10


plots = module("plots")


@pytest.mark.parametrize("plot", plots.PLOTS, ids=lambda plot: plot.name)
def test_plots_are_drawn_from_the_tables_as_they_stand(plot: Any) -> None:
    """The figures above the bars are those of the table; the picture itself may differ by the version of matplotlib."""
    drawn = (ROOT / f"docs/img/plot-{plot.name}.svg").read_text(encoding="utf-8")
    found = plots.table(plot.page, plot.heading)
    cells = [(row, column) for row in plot.rows for column in plot.columns]
    if plot.turned:
        cells = [(row, column) for column in plot.columns for row in plot.rows]
    wanted = [f"{found[row][column][0]:.{plot.digits}f}" for row, column in cells]
    assert re.findall(r"font-size: 8px[^>]*>([\d.]+)</text>", drawn) == wanted  # what stands above the bars
    page = (ROOT / "docs" / (plot.shown or plot.page)).read_text(encoding="utf-8")
    assert len(drawn) < 40_000 and f"img/plot-{plot.name}.svg" in page


AS_THE_THEME = """<!doctype html><html lang="en"><head><title>Page</title>
<meta name="viewport" content="width=device-width"></head>
<body><nav aria-label="Navigation"><nav aria-label="store" aria-expanded="true"><a href="#a">One</a></nav>
<nav aria-label="store"><a href="#a">Two</a></nav></nav><main><h1 id="a">Page</h1>
<pre tabindex="0"><nav class="md-code__nav"><button>Copy</button></nav></pre>
<pre tabindex="0"><nav class="md-code__nav"><button>Copy</button></nav></pre>
<div class="md-typeset__scrollwrap" style="width: 9em; overflow: auto"><table><tr><th></th><th>a longer head</th></tr>
<tr><td>without_a_break</td><td>1</td></tr></table></div></main><script src="SCRIPT"></script></body></html>"""


@needs_browser
def test_what_the_theme_leaves_out_is_mended(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(AS_THE_THEME.replace("SCRIPT", (ROOT / "docs/site.js").as_uri()), encoding="utf-8")
    assert_accessible(page)
