"""Each benchmark that a page names starts, measures something small, and prints it; figures of these mean nothing."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from doc_commands import ROOT
from doc_runs import PAGES, is_benchmark, is_run, of_pages
from doc_shop import Place, write_fashion
from scripts import load_script

from tgqformer.catalog import import_catalog
from tgqformer.store import cells, lance

SMALLER: dict[str, str] = {
    "clicks": "--runs 2 --visitors 900",
    "embed": "--items 4 --repeats 1",
    "follow": "--items 300 --dim 8 -k 5",
    "growth": "--sizes 300 600",
    "imports": "--turns 1 --other HERE/src --file shared/items-00.parquet",
    "live": "--items 2000 --dim 16 --queries 3",
    "neighbours": "--items 2500 --dim 16 -k 5 --rounds 1",
    "rule_costs": "",
    "same_picture": "--sample 5 --copies 2",
    "search": "--items 600 --dim 16 --queries 3 -k 5 --store lance",
    "steps": "--repeats 1",
    "truncate": "--widths 4 8",
}
"""What is added to the words of each script: the last value of an option counts."""
BENCHMARKS = {shlex.join(words): is_run(words) for _, _, words in of_pages() if is_benchmark(words)}
COMMANDS = sorted(command for command, run in BENCHMARKS.items() if run)
IN_TEXT = {
    command
    for page in PAGES
    for command in re.findall(r"`(python benchmarks/[^`]+)`", (ROOT / page).read_text("utf-8"))
}
LONG = sorted(IN_TEXT | BENCHMARKS.keys() - set(COMMANDS))
"""What takes too long for a test: commands in running text, and those that `NOT_RUN` lists."""


def made_smaller(module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what no option sets: of several cases one is measured; `growth` measures here, without a warm-up."""
    if name == "steps":
        few: dict[str, Any] = {"LANGUAGES": {"MiniLM": module.LANGUAGES["MiniLM"]}, "CONNECTORS": {"MLP": "mlp"}}
        for key, value in (few | dict.fromkeys(("PAIRS", "ALONE", "EMBEDDED"), 4)).items():
            monkeypatch.setattr(module, key, value)
    elif name == "neighbours":
        monkeypatch.setattr(cells, "MOST", 1.0)  # so few vectors lie in no cells
    elif name == "growth":

        def apart(step: str, size: int) -> tuple[float, float]:
            with tempfile.TemporaryDirectory() as folder:
                module.STEPS[step].ready(size, Path(folder))
                module.STEPS[step].run(size, Path(folder))
            return 1.0, 0.0

        monkeypatch.setattr(module, "apart", apart)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_measures(
    command: str,
    place: Place,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = place("demo")
    fashion = write_fashion(here / "shared", 30)
    import_catalog(fashion, "catalogs/fashion")
    words = shlex.split(command)[1:]
    name = Path(words[0]).stem
    more = shlex.split(SMALLER[name].replace("HERE", str(ROOT)))
    if name == "truncate":
        more += [*tiny, "--set", "catalog.items=48"]
    monkeypatch.setattr(lance, "INDEX_FROM", lance.INDEX_FROM)  # some set it
    module = load_script(name, monkeypatch)
    made_smaller(module, name, monkeypatch)
    monkeypatch.setattr(sys, "argv", [*words, *more])
    module.main()
    assert any(letter.isdigit() for letter in capsys.readouterr().out)


@pytest.mark.parametrize("command", LONG)
def test_a_long_benchmark_knows_its_words(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def then_stop(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        read(self, *args, **kwargs)
        raise InterruptedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", then_stop)
    words = shlex.split(command)[1:]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(InterruptedError):
        load_script(Path(words[0]).stem, monkeypatch).main()
