"""The command line can be guessed: one word for one thing, `--json` with every table, 80 columns."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doc_commands import COMMANDS, ROOT, check_tgq
from rich.cells import cell_len
from typer.testing import CliRunner

from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import PANELS, app
from tgqformer.cli.commands import RENAMED
from tgqformer.cli.sheets import Column, Sheet
from tgqformer.errors import TgqError
from tgqformer.pairs.pairs import Pairs
from tgqformer.service.keys import new_key
from tgqformer.store import make_store
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import VersionSpec

CLI = ROOT / "src/tgqformer/cli"
FIRST = {  # what a command works on; docs/commands.md says so in words
    "BENCH", "CATALOG", "EMBEDDINGS", "EXPORT", "ITEM", "LOG", "MODEL", "NAME", "PAIRS", "PRESET", "RECIPE", "RUN",
    "STORE", "STUDY",
}  # fmt: skip
SECOND = {
    "ITEM",
    "VERSION",
    "[VERSION=SHARE]...",
    "LOG",
    "OWNER/NAME",
    "RUN",
}  # a part of the first, or another one beside it
NEVER = {"--first", "--shown", "--truncate-dim", "--interactions", "--data", "--batch", "--file", "--model-path", "--k"}


def arguments(command: Any) -> list[Any]:
    return [one for one in command.params if not one.opts[0].startswith("-")]


def options(command: Any) -> list[Any]:
    return [one for one in command.params if one.opts[0].startswith("-") and one.name != "help"]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_works_on_stands_first_and_all_else_is_named(name: str) -> None:
    words = [one.metavar for one in arguments(COMMANDS[name])]
    assert set(words[:1]) <= FIRST and set(words[1:]) <= SECOND and len(words) <= 2, words


def test_one_word_is_one_thing() -> None:
    forms, helps = defaultdict[str, set[Any]](set), defaultdict[str, set[str]](set)
    for name, command in COMMANDS.items():
        for option in options(command):
            assert not NEVER & set(option.opts), f"tgq {name}: {option.opts}"
            forms[option.opts[-1]].add((tuple(option.opts), option.is_flag))
            helps[option.opts[-1]].add(option.help)
    assert [word for word, spelt in forms.items() if len(spelt) > 1] == []
    for word in ("--top", "--dim", "--device", "--batch-size", "--workers", "--set", "--store", "--json"):
        assert len(helps[word]) == 1, f"{word} is declared once: {helps[word]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_texts_are_sentences(name: str) -> None:
    command = COMMANDS[name]
    for one in [*arguments(command), *options(command)]:
        text, _, _ = (one.help or "").partition("  [default:")
        assert text[:1].isupper() or not text[:1].isalpha(), f"tgq {name} {one.opts}: {one.help}"
        assert text.endswith((".", "…")), f"tgq {name} {one.opts}: {one.help}"
    assert command.help.strip().endswith((".", "…")) or "\n    tgq " in command.help, name


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_spelling_is_refused_with_the_word_of_today(name: str) -> None:
    spelt = {word for option in options(COMMANDS[name]) for word in option.opts}
    for old, new in RENAMED[name].items():
        assert old not in spelt and (new in spelt or " " in new)
        for word in (old, f"{old}=3"):
            result = CliRunner().invoke(app, [*name.split(), word, "3"])
            assert isinstance(result.exception, TgqError) and f"{old} is now {new}" in str(result.exception)


def test_groups_have_their_order_and_every_command_stands_in_one() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    places = [shown.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places) and "─ Commands ─" not in shown
    assert shown.index(" demo ") < shown.index(" init ") < shown.index(" run ") < shown.index(" similar ")
    assert "--json" in shown and max(map(cell_len, shown.splitlines())) <= 80


def test_every_table_has_json_by_the_one_mechanism() -> None:
    for path in CLI.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "sheets.py" or "rich.table" not in text, f"{path.name} lays a table out by itself"
        assert path.name == "commands.py" or '"--json"' not in text, f"{path.name} has a --json of its own"
    printing = {name for name, command in COMMANDS.items() if any("--json" in one.opts for one in options(command))}
    assert printing >= {
        "bench", "catalog duplicates", "catalog import", "catalog readers", "catalog show", "collab evaluate",
        "collab presets", "collab study", "collab train", "compare", "cost", "demo", "keys list", "pairs show",
        "pairs simulate",
        "plan", "recipes", "run", "similar", "store report", "store versions",
    }  # fmt: skip


def test_every_stage_ends_with_the_next_steps() -> None:
    """A command with --to makes something, and says what to do with it; the steps are commands that there are."""
    said: list[ast.Call] = []
    for path in CLI.glob("*.py"):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(function, ast.FunctionDef) or path.name in ("commands.py", "sheets.py", "options.py"):
                continue
            calls = [one for one in ast.walk(function) if isinstance(one, ast.Call) and ast.unparse(one.func) == "then"]
            if "to" in [one.arg for one in function.args.args] and not function.name.startswith("_"):
                assert calls, f"{path.name}: {function.name} writes something and names no next step"
            said += calls
    texts = [text for call in said for text in ast.walk(call) if isinstance(text, ast.JoinedStr)]
    steps = ["".join(one.value if isinstance(one, ast.Constant) else "X" for one in text.values) for text in texts]
    commands = [step.partition(",")[0].replace(" in a browser", "") for step in steps if step.startswith("tgq ")]
    assert len(commands) > 20
    for command in commands:
        check_tgq(command.split()[1:])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a catalogue, pairs, a store of two versions and keys, all with long words."""
    monkeypatch.chdir(tmp_path)
    long = "A red canvas shoe of a name that is longer than any line of a terminal is wide, and goes on"
    with CatalogWriter(tmp_path / "shop", name="shop", pack=True) as writer:
        for n in range(12):
            kind = ("Shoes", "Canvas shoes of linen")
            writer.add(Item(f"SKU-{n}", f"{long} {n // 2}", "Brand of many words", kind, {"c": long}, 9.5))
    store = make_store("store")
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    rows = [StoreRow(f"SKU-{n}", vectors[n], f"{long} {n}", "Brand", ("Shoes", "Canvas"), 9.5) for n in range(12)]
    for label in ("first", "a label of many words"):
        store.serve(store.create(VersionSpec("0123456789abcdef", 4, label=label), rows).name)
    ids = [f"SKU-{n}" for n in range(12)]
    Pairs.of(ids[:6], ids[6:]).write(tmp_path / "pairs.parquet")
    new_key(tmp_path / "keys.json", "a shop front of a long name", "read")
    return tmp_path


TABLES = [
    "catalog readers", "catalog show shop", "catalog show shop SKU-3", "catalog duplicates shop --by title",
    "pairs show pairs.parquet", "pairs show pairs.parquet --catalog shop", "similar SKU-5 --store store -k 4",
    "store versions store", "keys list", "recipes", "bench --list", "collab presets", "cost",
    "plan paper-hm --items 1000", "plan --items 100e6 --clicks 1e9",
]  # fmt: skip


@pytest.mark.parametrize("words", TABLES)
def test_tables_fit_80_columns_and_are_json_when_asked(shop: Path, words: str) -> None:
    result = CliRunner().invoke(app, words.split(), env={"COLUMNS": "80"})
    assert result.exception is None and result.stdout
    table = [line for line in result.stdout.splitlines() if "───" in line]
    assert table
    rest = result.stdout.split("───")[-1] if words != "plan paper-hm --items 1000" else "\n".join(table)
    assert max(map(cell_len, rest.splitlines())) <= 80
    plain = json.loads(CliRunner().invoke(app, [*words.split(), "--json"]).stdout)
    assert isinstance(plain, list) and plain


def test_ids_and_numbers_stay_whole_where_titles_are_cut(shop: Path) -> None:
    shown = CliRunner().invoke(app, ["similar", "SKU-5", "--store", "store"], env={"COLUMNS": "80"}).stdout
    plain = json.loads(CliRunner().invoke(app, ["similar", "SKU-5", "--store", "store", "--json"]).stdout)
    assert "…" in shown and all(f" {hit['id']} " in shown and f"{hit['score']:.3f}" in shown for hit in plain)
    assert plain[0]["price"] == 9.5 and plain[0]["category"] == ["Shoes", "Canvas"] and len(plain) == 10
    assert {"sale_price", "currency", "availability"} <= plain[0].keys()


def test_the_folder_of_a_run_stands_for_its_store(shop: Path) -> None:
    plain = [
        CliRunner().invoke(app, ["similar", "SKU-5", "--store", place, "--json"]).stdout for place in (".", "store")
    ]
    assert plain[0] == plain[1] and "SKU-" in plain[0]
    assert "v2" in CliRunner().invoke(app, ["store", "versions", "."]).stdout


def test_a_sheet_too_wide_cuts_the_widest_first_and_writes_what_json_knows() -> None:
    sheet = Sheet((Column("id"), Column("n", ",.1f"), Column("title", cut=True)), [("x" * 30, float("nan"), "t" * 90)])
    assert sheet._widths([["x" * 30, "nan", "t" * 90]], 60) == [30, 3, 23]
    assert sheet.as_data() == [{"id": "x" * 30, "n": None, "title": "t" * 90}]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("similar SKU-00005 --store store", "SKU-5"),
        ("similar sku_5 --store store", "SKU-5"),
        ("pairs show pairs.parquet sku-07", "SKU-7"),
        ("similar SKU-5 --store stor", "store"),
        ("catalog show shap", "shop"),
        ("pairs show pair.parquet", "pairs.parquet"),
        ("index embeding --catalog shop --to s", "embedding"),
        ("catalog import export.cvs --to new", "export.csv"),
        ("run shop.yml", "shop.yaml"),
        ("run demmo", "demo"),
        ("plan paper-hmm", "paper-hm"),
    ],
)
def test_did_you_mean(shop: Path, words: str, meant: str) -> None:
    for name in ("shop.yaml", "export.csv"):
        (shop / name).write_text("")
    (shop / "embedding").mkdir()
    error = CliRunner().invoke(app, words.split()).exception
    assert isinstance(error, TgqError | OSError), words
    assert f"did you mean '{meant}'?" in str(error)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tgq cat", "catalog"),
        ("tgq catalog sh", "show"),
        ("tgq embed --mo", "--model"),
        ("tgq run fas", "fashion"),
        ("tgq collab train shop-p", "shop-pinsage"),
        ("tgq bench sm", "small"),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    words = typed.split()
    asks = {"_TGQ_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    program = Path(sys.executable).with_name("tgq")
    done = subprocess.run([program], env={**os.environ, **asks}, capture_output=True, text=True, check=False)
    assert offered in done.stdout.split(), done.stderr


def test_the_page_of_the_rule_names_what_the_tests_hold() -> None:
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for word in (
        "-k",
        "--top",
        "--dim",
        "--model",
        "--store",
        "--catalog",
        "--to",
        "--json",
        "tgq --install-completion",
    ):
        assert f"`{word}" in page, word
    for name, renamed in RENAMED.items():
        assert all(f"| `tgq {name}" in page and f"`{old}" in page for old in renamed), name
