"""Pages are run as they stand: commands and code, in the working folder, with a service that really answers."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doc_commands import ROOT, Block, blocks
from small_shop import WAIT, Client, Running, multipart
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.service.places import Places
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import open_site

_FILES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "packages/*/README.md")
PAGES = [str(path.relative_to(ROOT)) for files in _FILES for path in sorted(ROOT.glob(files))]


NOT_RUN = {
    "docker": "needs a daemon of Docker; tests/test_release.py reads Dockerfile and compose.yaml",
    "hf": "asks the network for weights, or for an account",
    "kaggle": "asks the network for data, under its owner's terms",
    "unzip": "opens what kaggle fetched",
    "make install": "makes the environment in which the tests run",
    "make lint types": "is a step of the tests' workflow",
    "make slow": "is this",
    "make test": "is this",
    "pip install": "asks the package index; tests/test_release.py runs the base without its extras",
    "python benchmarks/faults_bits.py": "runs in tests/store/test_bits.py, part by part",
    "python benchmarks/faults_disk.py": "mounts a disk in a file, as root",
    "python benchmarks/faults_hostile.py": "holds times to a bar; tests/service/test_hostile.py sends the same",
    "python benchmarks/faults_kill.py": "kills jobs for minutes; the tests of each job kill it",
    "python benchmarks/faults_nodes.py": "runs in tests/cluster/test_ray.py, part by part",
    "python benchmarks/faults_power.py": "mounts a disk in a file, as root",
    "python benchmarks/faults_store.py": "kills writers for minutes; tests/store/test_kills.py runs its upserts",
    "python benchmarks/fetch.py": "waits for slow servers by the clock; tests/catalog/test_fetch.py kills the same job",
    "python benchmarks/load.py": "puts a service under load, and holds its memory to a bar",
    "python benchmarks/rules.py": "puts three services under load",
    "python benchmarks/mining.py": "needs DuckDB, which the environment of the tests lacks",
    "source": "sets the shell up",
    "tgq --install-completion": "changes the shell of who runs it",
}
"""The starts of those commands of the pages that no test runs, and why."""


def of_pages() -> Iterator[tuple[str, Block, list[str]]]:
    for page in PAGES:
        for block in blocks(ROOT / page):
            if block.is_shell:
                for words in block.commands():
                    yield page, block, words


def is_run(words: Sequence[str]) -> bool:
    """Whether a command is to be run by a test; benchmarks are, in tests/docs/test_benchmarks.py."""
    return not any(begins(words, start) for start in NOT_RUN)


def begins(words: Sequence[str], start: str) -> bool:
    first = shlex.split(start)
    return list(words[: len(first)]) == first


def is_benchmark(words: Sequence[str]) -> bool:
    return words[0] == "python" and words[1].startswith("benchmarks/")


def shown(page: str, *sections: str) -> Iterator[Block]:
    """The blocks of a page, or of these sections of it (by their headings)."""
    of_page = blocks(ROOT / page)
    assert set(sections) <= {block.section for block in of_page}, f"{page} has not all sections of {sections}"
    return (block for block in of_page if not sections or block.section in sections)


def walk_page(
    page: str,
    run: Callable[[list[str]], object],
    *sections: str,
    code: bool = True,
    names: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Go through a page, or sections of it, from top to bottom: run every command and all Python, write every YAML.

    Args:
        page: its path from the root. run: runs a command, as a list of words. sections: headings.
        code: whether the Python is run, too; a test of its own does where not.

    Returns the names that the code made.
    """
    made = {} if names is None else names
    for block in shown(page, *sections):
        if block.is_shell:
            for words in block.commands():
                if is_run(words) and not is_benchmark(words):
                    run(words)
        elif block.language == "python" and code:
            exec(compile(block.text, f"{page}:{block.line}", "exec"), made)
        elif block.language == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block.text)):
            Path(name[1]).write_text(block.text, encoding="utf-8")
    return made


class Terminal:
    """Runs commands in the working folder: ours in this process, `curl` against what `tgq serve` served last.

    Args:
        more: words that are added to commands of ours that begin so (`{"run": ["--set", "seeds=[0]"]}`).
        instead: words that stand for others.
    """

    def __init__(
        self, *, more: Mapping[str, Sequence[str]] | None = None, instead: Mapping[str, str] | None = None
    ) -> None:
        self.more, self.instead, self.ran = dict(more or {}), dict(instead or {}), list[str]()
        self.said = ""
        self._running: Running | None = None
        self._known: dict[str, str] = {}  # what stands for words of the page's data

    def __call__(self, words: list[str]) -> None:
        words = [self.instead.get(word, word) for word in words]
        getattr(self, f"_{words[0]}")(words[1:])
        self.ran.append(" ".join(words))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _tgq(self, words: list[str]) -> None:
        more = self.more.get(max((start for start in self.more if begins(words, start)), key=len, default=""), ())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tgqformer.service.server.run", self._serve)
            result = CliRunner().invoke(app, [*words, *more])
        if result.exception is not None and result.exit_code:
            raise AssertionError(f"tgq {shlex.join([*words, *more])}: {result.output}") from result.exception
        self.said = result.output
        if words[:2] == ["keys", "new"]:
            self._known["tgq_the_key"] = result.stdout.split()[0]

    def _mkdir(self, words: list[str]) -> None:
        assert words[0] == "-p"
        Path(words[1]).mkdir(parents=True, exist_ok=True)

    def _python(self, words: list[str]) -> None:
        """Run a script of the working folder, in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", words)
            runpy.run_path(words[0], run_name="__main__")

    def _make(self, words: list[str]) -> None:
        """Do what the Makefile says, but for making the environment."""
        made = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", *words]
        lines = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        for line in lines:
            program, *rest = shlex.split(line)
            assert program == ".venv/bin/tgq", line
            self._tgq([self.instead.get(word, word) for word in rest])

    def _serve(self, places: Places, settings: ServiceSettings, host: str, port: int, log_level: str) -> None:
        """Serve on a free port until another place is served or the page ends; in the place of `server.run`."""
        self._stop()
        settings = replace(settings, timeout=WAIT)  # a busy machine is slow
        self._running = Running(open_site(places, settings), settings)
        self._running.__enter__()
        status, _, answer = self._running.client()("GET", "/readyz")
        assert status == 200, answer

    def ask(self) -> Client:
        """Return a client of what is served."""
        assert self._running is not None, "nothing is served"
        return self._running.client()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
        self._running = None

    def _curl(self, words: list[str]) -> None:
        status, answer = curl(self.ask(), words, self._known)
        assert status == 200, (words, answer)
        if isinstance(answer, dict) and answer.get("results"):
            self._known |= {"THE-ID": answer.get("answer", ""), "studio-00117": answer["results"][0]["id"]}


def curl(ask: Client, words: list[str], known: Mapping[str, str]) -> tuple[int, Any]:
    """Do what a curl command says; it knows what the pages use. known: what stands for words of data and headers."""
    method, fields, picture, headers, path, body = "", {}, None, {}, "", None

    def told(text: str) -> str:
        for word, value in known.items():
            text = text.replace(word, value)
        return text

    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name.lower()] = told(value)
        elif word == "-d":
            body = told(next(rest)).encode()
        elif word == "-F":
            name, _, value = next(rest).partition("=")
            if value.startswith("@"):
                picture = Path(value[1:]).read_bytes()
            else:
                fields[name] = value
        else:
            path = word.removeprefix("http://").removeprefix("localhost:8000")
    assert path.startswith("/"), words
    if fields or picture:
        body, headers["content-type"] = multipart(fields, picture)
    status, _, answer = ask(method or ("POST" if body else "GET"), path, body, headers)
    return status, answer
