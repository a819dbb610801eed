"""What reaches a terminal: a title, an id or a path never steers it."""

from __future__ import annotations

import json
import logging
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.progress import Terminal, progress, shown
from tgqformer.service.keys import new_key
from tgqformer.service.telemetry import JsonLines
from tgqformer.store import make_store
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import VersionSpec

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"
SENT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a catalogue, pairs, a log and a store, of items whose ids, titles and brands are hostile."""
    with CatalogWriter(tmp_path / "c\x1b[31m", name="shop", pack=True) as writer:
        for n in range(4):
            writer.add(Item(f"i{n}{EVIL}", f"title {EVIL}", f"brand {EVIL}", ("All", f"kind {EVIL}"), {"a": EVIL}, 1.0))
    store = make_store(str(tmp_path / "store"))
    rows = [StoreRow(f"i{n}{EVIL}", np.eye(4, dtype=np.float32)[n], EVIL, EVIL, (EVIL,)) for n in range(4)]
    store.serve(store.create(VersionSpec("m", 4, label=EVIL), rows).name)
    lines = [f"s{n},i{n % 4}{EVIL},{n}\ns{n},i{(n + 1) % 4}{EVIL},{n + 1}" for n in range(40)]
    (tmp_path / "log.csv").write_text("session,item,time\n" + "\n".join(lines) + "\n")
    new_key(tmp_path / "keys.json", "front", "read")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (["catalog", "show", "{s}/c\x1b[31m"], True),
        (["catalog", "show", "{s}/c\x1b[31m", f"i1{EVIL}"], True),
        (["catalog", "show", "{s}/c\x1b[31m", f"nothing{EVIL}"], True),
        (["similar", f"i1{EVIL}", "--store", "{s}/store"], True),
        (["similar", f"nothing{EVIL}", "--store", "{s}/store"], True),
        (["store", "versions", "{s}/store"], True),
        (["store", "serve", "{s}/store", EVIL], True),
        (["pairs", "mine", "{s}/log.csv", "--to", "{s}/p\x1b[31m", "--min-count", "1"], False),
        (["pairs", "mine", "{s}/nothing\x1b[31m.csv", "--to", "{s}/p"], True),
        (["keys", "remove", EVIL, "--keys", "{s}/keys.json"], True),
        (["index", "{s}/nothing\x1b[31m", "--catalog", "{s}/c", "--to", "{s}/other"], True),
    ],
)
def test_no_command_sends_what_a_title_an_id_or_a_path_holds(shop: Path, words: list[str], shows: bool) -> None:
    words = [word.replace("{s}", str(shop)) for word in words]
    result = CliRunner().invoke(app, words)
    printed = StringIO()
    if result.exception is not None and not isinstance(result.exception, SystemExit):  # as `main` prints it
        Terminal(file=printed, width=400).print(str(result.exception), markup=False)
    said = result.output + result.stderr + printed.getvalue()
    assert not SENT.search(said), repr(said)
    assert not shows or "\\x1b" in said, said


def test_everything_that_the_console_renders_is_spelt_out() -> None:
    sink = StringIO()
    terminal = Terminal(file=sink, width=200)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(Text(EVIL))
    table.add_row(EVIL)
    terminal.print(table, Text(EVIL), EVIL)
    terminal.log(EVIL)
    assert not SENT.search(sink.getvalue()) and sink.getvalue().count("\\x1b]0;owned") >= 6
    with progress(EVIL, 3) as bar:
        bar.note(EVIL)
    assert shown("a\x1bb\n\udcff") == "a\\x1bb\n\\udcff"


def test_logs_hold_none() -> None:
    record = logging.LogRecord("tgqformer.service", logging.ERROR, "", 0, "%s", (EVIL,), None)
    line = JsonLines().format(record)
    assert not SENT.search(line) and "\\x9b31m" in json.loads(line)["message"]
