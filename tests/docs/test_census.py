"""Every command and all code of the pages is run by a test, or stands among what is not run, with a reason."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache

import pytest
from doc_commands import ROOT, Block, blocks
from doc_runs import NOT_RUN, PAGES, begins, is_benchmark, is_run, of_pages


@cache
def calls(name: str) -> list[ast.Call]:
    """The calls of a helper in the tests."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if f"{name}(" in text:
            found += [
                node
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
            ]
    return found


def is_walked(page: str, block: Block) -> bool:
    """Whether a test goes through this block: `walk_page(PAGE, …)` of the page or of the section, and runs its code."""
    for call in calls("walk_page"):
        first, *sections = [one.value for one in call.args if isinstance(one, ast.Constant)]
        without_code = any(word.arg == "code" for word in call.keywords) and block.language == "python"
        if first == page and (not sections or block.section in sections) and not without_code:
            return True
    return False


def named_code(page: str) -> list[str]:
    """The words by which tests name a piece of this page's code: `run_code(ROOT / PAGE, WORDS)`."""
    return [ast.literal_eval(call.args[1]) for call in calls("run_code") if page in ast.unparse(call.args[0])]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_listed(page: str) -> None:
    left = [
        f"{page}:{block.line}: {shlex.join(words)}"
        for of, block, words in of_pages()
        if of == page and is_run(words) and not is_benchmark(words) and not is_walked(page, block)
    ]
    assert not left, "run them, or say in NOT_RUN of tests/helpers/doc_runs.py why not"


@pytest.mark.parametrize("page", PAGES)
def test_every_piece_of_code_is_run(page: str) -> None:
    for block in blocks(ROOT / page):
        if block.language == "python" and not is_walked(page, block):
            assert any(words in block.text for words in named_code(page)), f"{page}:{block.line} is run by no test"


def test_what_is_not_run_is_in_the_pages() -> None:
    everything = [words for _, _, words in of_pages()]
    for start, reason in NOT_RUN.items():
        assert any(begins(words, start) for words in everything), f"no page has a command {start!r} any more"
        assert len(reason.split()) > 1


def test_no_command_hides_in_text() -> None:
    for page in PAGES:
        for block in blocks(ROOT / page):
            if not block.is_shell:
                assert not re.search(r"^(tgq|make|pip|python|curl) ", block.text, re.MULTILINE), f"{page}:{block.line}"
