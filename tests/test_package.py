"""The package as a whole: what importing it costs, what it never imports, and the order of its stages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/tgqformer"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "transformers", "lancedb", "lance", "matplotlib", "scipy", "peft", "accelerate")
SHARED = {"errors", "types", "files", "progress", "version", "parallel", "packages", "pixels"}

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules["torchvision"] = None  # importing it now fails, whether it is installed or not
import tgqformer
names = [module.name for module in pkgutil.walk_packages(tgqformer.__path__, "tgqformer.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""

HELP_OF_ALL = """
import sys
import typer
from typer.testing import CliRunner
from tgqformer.cli import app

def walk(command, words):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, (words, result.output)
    for name, inner in getattr(command, "commands", {}).items():
        walk(inner, [*words, name])

walk(typer.main.get_command(app), [])
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            names += [f"tgqformer.{alias.name}" for alias in node.names] if module == "tgqformer" else [module]
    return names


def top_imports(path: Path, modules: Container[str]) -> set[str]:
    """Which of `modules` a file imports when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = (ast.FunctionDef, ast.AsyncFunctionDef)
    apart = [node for node in ast.walk(tree) if isinstance(node, later) or is_for_types(node)]
    inside = {inner for node in apart for inner in ast.walk(node)}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in inside:
            whole = [f"{node.module}.{one.name}" for one in node.names]
            names |= {name if name in modules else str(node.module) for name in whole}
    return {name for name in names if name in modules}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def stage_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def stages() -> list[str]:
    """The stages in the order of the table in docs/architecture.md."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| folder |") : page.index("\n\n", page.index("| folder |"))]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name.removesuffix(".py") for cell in cells for name in re.findall(r"`(\w+(?:\.py)?)/?`", cell)]


def test_every_module_imports_where_torchvision_is_forbidden() -> None:
    assert int(run(IMPORT_ALL)) >= 80


def test_no_file_names_torchvision() -> None:
    files = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    guilty = [str(path) for path in files for name in imports(path) if name.split(".")[0] == "torchvision"]
    assert not guilty


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run(
        "import sys, tgqformer; print(*(name for name in sys.argv[1:] if name in sys.modules))", *HEAVY, "numpy"
    )
    assert loaded == ""


def test_help_of_every_command_imports_nothing_heavy() -> None:
    assert run(HELP_OF_ALL, *HEAVY) == ""


def test_public_names_are_there_when_asked() -> None:
    import tgqformer

    assert {name: getattr(tgqformer, name).__name__ for name in tgqformer.__all__ if name != "__version__"} == {
        name: name for name in tgqformer.__all__ if name != "__version__"
    }
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tgqformer.Nothing


def test_table_of_stages_names_every_folder_and_module() -> None:
    there = {stage_of(path) for path in SOURCE.rglob("*.py")} - SHARED - {"__init__", "__main__"}
    assert sorted(stages()) == sorted(there)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_stage_imports_only_stages_above_it(path: Path) -> None:
    order, own = stages(), stage_of(path)
    if own in SHARED | {"__init__"}:
        above = {"version", "errors"} if own != "__init__" else {*order, *SHARED}
    else:
        above = {*SHARED, *order[: order.index(own) + 1]}
    seen = {name.split(".")[1] for name in imports(path) if name.startswith("tgqformer.")}
    assert seen <= above, f"{path} imports {sorted(seen - above)}, which stand below it or are no stage"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports in functions and for type checkers alone do not count: they happen later or never."""
    names = {".".join(("tgqformer", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: top_imports(path, names) for name, path in names.items()}
    while graph:
        free = {name for name, needed in graph.items() if not needed & graph.keys() - {name}}
        assert free, f"these, or some of them, import each other: {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


DATA_STAGES = ("catalog", "pairs", "synthetic")


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_data_stages_load_no_torch(stage: str) -> None:
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in (SOURCE / stage).rglob("*.py")]
    assert run(f"import sys, {', '.join(names)}; print(*(name for name in ['torch'] if name in sys.modules))") == ""


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_data_stages_know_no_torch(stage: str) -> None:
    files = list((SOURCE / stage).rglob("*.py"))
    guilty = [str(path) for path in files for name in imports(path) if name.split(".")[0] in ("torch", "transformers")]
    assert files and not guilty


def test_types_of_arrays_come_from_one_module() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = re.findall(r"\bNDArray\b|numpy\.typing|(?:: |-> |\||\[)np\.ndarray\b", text)
        assert not own or path == SOURCE / "types.py", f"{path}: types of arrays come from tgqformer.types, not {own}"


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[Path]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    assert len(places) > 100 and not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_files_and_bodies_of_functions_fit_on_a_page() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 425, f"{path}: about 400 lines are the most"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                assert (body[-1].end_lineno or 0) - body[0].lineno < 60, f"{path}: {node.name}"


def test_no_pickle_and_no_torch_load() -> None:
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not {"pickle", "joblib", "dill"} & {name.split(".")[0] for name in imports(path)}, path
        assert "torch.load" not in calls or "weights_only=True" in path.read_text(encoding="utf-8"), path
