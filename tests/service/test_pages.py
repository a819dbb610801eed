"""`tgq serve` and `tgq keys` as commands; the commands of docs/service.md are run in tests/docs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doc_commands import ROOT
from small_shop import WAIT, Client, Shop, serving
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.service.places import find_places
from tgqformer.store.neighbours import Neighbours


def test_the_page_names_every_limit_as_it_is() -> None:
    page = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    pages = ["serve", "--help"], ["store", "report", "--help"]
    shown = "".join(CliRunner().invoke(app, words, env={"COLUMNS": "200"}).output for words in pages)
    for option in re.findall(r"`(--[a-z-]+)", page):
        assert option in shown or option == "--read-only", option


def test_keys_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = CliRunner().invoke(app, ["keys", "new", "front", "--keys", str(file), "--read-only"])
    key = made.stdout.split()[0]
    assert made.exit_code == 0 and key.startswith("tgq_") and len(key) > 40 and key not in file.read_text()
    listed = CliRunner().invoke(app, ["keys", "list", "--keys", str(file)]).stdout
    assert listed.splitlines()[-1].split()[:2] == ["front", "read"]
    assert CliRunner().invoke(app, ["keys", "remove", "front", "--keys", str(file)]).exit_code == 0
    assert CliRunner().invoke(app, ["keys", "list", "--keys", str(file)]).stdout == "nothing to list\n"


def test_what_is_missing_is_said(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("name: begun\n")
    for where, words in ((tmp_path / "begun", "the run is not finished"), (tmp_path, "holds no store")):
        with pytest.raises(TgqError, match=words):
            find_places(str(where))
    with pytest.raises(TgqError, match="no folder"):
        find_places(str(shop.folder), models=[tmp_path / "nowhere"])
    for words in (["serve", str(tmp_path)], ["serve", str(shop.folder), "--log-level", "loud"]):
        assert isinstance(CliRunner().invoke(app, words).exception, TgqError)


def test_a_run_and_its_store_are_the_same_place(shop: Shop) -> None:
    run, store = find_places(str(shop.folder)), find_places(str(shop.folder / "store"))
    assert run == store
    assert run.catalog == shop.folder / "catalog" and run.state == shop.folder / "service"
    assert [path.name for path in run.neighbours] == ["neighbours-0"]
    url = find_places("postgresql://user@host/db")
    assert url.store == "postgresql://user@host/db" and not url.models


def test_lists_joined_with_clicks_are_answered(shop: Shop, tmp_path: Path) -> None:
    shop.neighbours(0)
    clicks = ["session,item,time"]  # sku-n is looked at with sku-(23 - n), of another colour
    clicks += [
        f"s{n},sku-{item},{at}"
        for n in range(240)
        for at, item in enumerate((n % 12, 23 - n % 12), 1_700_000_000 + 2 * n)
    ]
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    words = ["collab", "join", str(shop.folder / "embeddings-0"), "--log", str(tmp_path / "clicks.csv")]
    made = CliRunner().invoke(app, [*words, "-k", "5", "--to", str(tmp_path / "joined")])
    assert made.exit_code == 0, made.output
    lists = Neighbours.open(tmp_path / "joined" / "neighbours")
    with serving(shop, neighbours=[lists.path]) as running:
        for name in ("sku-3", "sku-20"):
            answer = running.client().get(f"/items/{name}/similar?k=5")
            assert answer["source"] == "precomputed"
            found = [(one["id"], one["score"]) for one in answer["results"]]
            assert found == [(near, pytest.approx(score, abs=1e-4)) for near, score in lists.of(name)]
            assert found[0][0] == f"sku-{23 - int(name[4:])}"


def test_the_command_serves_and_ends_in_order(shop: Shop) -> None:
    tgq = Path(sys.executable).with_name("tgq")
    words = [tgq, "serve", shop.folder, "--port", "0", "--no-explorer", "--model", shop.models[0]]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"on http://127\.0\.0\.1:(\d+)", line):
            break
    else:
        pytest.fail("".join(lines))
    ask = _patiently(int(found[1]))
    assert ask.get("/items/sku-1/similar?k=3")["source"] == "precomputed"
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
    assert '"message":"request"' in process.stderr.read()


def _patiently(port: int) -> Client:
    until = time.monotonic() + WAIT
    while True:
        try:
            ask = Client(port)
            ask.get("/healthz")
        except ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            return ask
