"""What a page shows: its fenced blocks, and whether a shell command in them is one that there is."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from tgqformer.cli import app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OTHER = {"docker", "hf", "kaggle", "source", "unzip"}  # programs whose options are not ours to check


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """All commands that do something, by their whole name."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
    for name, one in (inner or {}).items():
        yield from leaves(one, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("" for none), its text, the line where it starts, the heading above it."""

    language: str
    text: str
    line: int
    section: str = ""

    @property
    def is_shell(self) -> bool:
        return self.language in ("sh", "bash")

    def commands(self) -> list[list[str]]:
        """The commands of a shell block, one list of words each; comments are dropped."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in line.split(" && ")]
        return [words for words in (shlex.split(part, comments=True) for part in parts) if words]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1, _section(text[: found.start()]))
        for found in FENCE.finditer(text)
    ]


def _section(above: str) -> str:
    """The last heading before a place, below that of the page; code is no heading."""
    return "".join(re.findall(r"^##+ (.+)$", FENCE.sub("", above), re.MULTILINE)[-1:])


def run_code(page: Path, naming: str) -> dict[str, Any]:
    """Run the one Python block of a page that holds this word; return the names that it made."""
    (code,) = (block.text for block in blocks(page) if block.language == "python" and naming in block.text)
    made: dict[str, Any] = {}
    exec(compile(code, str(page), "exec"), made)
    return made


def check_command(words: list[str]) -> None:
    """Fail if a command, an option, a value of a choice, a make target, an extra or a script does not exist."""
    program, *rest = words
    if program == "tgq":
        check_tgq(rest)
    elif program == "make":
        check_make(rest)
    elif program == "pip" or program.endswith("/pip"):
        check_pip(rest)
    elif program.startswith("python"):
        check_python(rest)
    else:
        assert program in OTHER or (ROOT / program).is_file(), f"unknown program {program!r}"


def check_tgq(words: list[str]) -> None:
    """Let the command line's own parser read the words; it refuses what it does not know."""
    command, path = typer.main.get_command(app), []
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"tgq {' '.join(path)} has no command {words[0]!r}"
        command, path, words = command.commands[words[0]], [*path, words[0]], words[1:]
    if hasattr(command, "commands"):
        known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
        assert set(words) <= known, f"tgq {' '.join(path)}: {words}"
    elif "--help" not in words:
        command.make_context(" ".join(["tgq", *path]), list(words))


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for word in words:
        assert "=" in word or word in targets, f"the Makefile has no target {word!r}"


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert words[0] == "install"
    for word in words[1:]:
        for extra in re.findall(r"\[(.*?)\]", word):
            assert set(extra.split(",")) <= set(extras), f"pyproject.toml has not all extras of {word!r}"


def check_python(words: list[str]) -> None:
    """A script exists and its source names the options; `-m venv` and the like are taken as they are."""
    if words[0].startswith("-"):
        return
    script = ROOT / words[0]
    assert script.is_file(), f"there is no script {words[0]}"
    source = script.read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("-")):
        assert f'"{option}"' in source, f"{words[0]} has no option {option}"
