"""A process that has only what `pip install 'tgqformer[serve-onnx,store]'` brings, and the service in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from doc_commands import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALONE = """
import sys

hidden = set(sys.argv.pop(1).split(","))


class Found:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)


for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
    del sys.modules[name]
sys.meta_path[:] = [Found(finder) for finder in sys.meta_path if hasattr(finder, "find_spec")]
"""
PORT = re.compile(r"serving .* on http://127\.0\.0\.1:(\d+)")


def modules_of(*extras: str) -> set[str]:
    """Return the modules of all packages that an install with these extras brings, as pip would follow them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = project["optional-dependencies"]
    asked = [Requirement(line) for line in (*project["dependencies"], *(one for extra in extras for one in own[extra]))]
    brought = set[str]()
    while asked:
        one = asked.pop()
        name = canonicalize_name(one.name)
        if name in brought or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        brought.add(name)
        try:
            lines = [*map(Requirement, requires(name) or ())]
        except PackageNotFoundError:  # for another system or version of Python
            continue
        asked += [
            line for line in lines
            if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))
        ]  # fmt: skip
    whose = packages_distributions()
    return {"tgqformer", *(module for module, owners in whose.items() if {*map(canonicalize_name, owners)} & brought)}


def alone(code: str, *words: str, extras: tuple[str, ...]) -> list[str]:
    """Return the command that runs code where no other package that is installed here can be found."""
    hidden = packages_distributions().keys() - modules_of(*extras)
    return [sys.executable, "-c", ALONE + code, ",".join(sorted(hidden)), *words]


@contextmanager
def served_alone(log: Path, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run `tgq serve` with these words in such a process; yield its port and itself. What it says goes to `log`."""
    code = "from tgqformer.cli import main\nsys.argv[1:1] = ['serve']\nmain()"
    command = alone(code, *words, "--port", "0", extras=("serve-onnx", "store"))
    with log.open("wb") as sink, subprocess.Popen(command, stderr=sink) as process:
        try:
            yield port_in(log, process), process
        finally:
            process.kill()


def port_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the service says where it listens; fail where it ends before."""
    while True:
        said = " ".join(log.read_text(errors="replace").split())
        if found := PORT.search(said):
            return int(found[1])
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(said[-3000:])
