"""The command line as a whole: help with examples that parse, version, errors without traceback."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doc_commands import COMMANDS, check_command
from typer.testing import CliRunner

from tgqformer import __version__, cli
from tgqformer.cli import app, main
from tgqformer.cli.run import TAKES

SOURCE = Path(__file__).parents[1] / "src/tgqformer"


def examples(help_text: str) -> list[str]:
    """The example commands in a help text: indented, or in backquotes."""
    joined = re.sub(r"\\\n\s*", " ", help_text)
    after = joined[joined.index("Example") :] if "Example" in joined else ""
    return re.findall(r"^\s*(?:.*?`)?(tgq [^`\n]+)`?\s*$", after, re.MULTILINE)


def test_the_commands_that_the_readme_promises_are_there() -> None:
    assert {"demo", "run", "recipes", "embed", "index", "similar", "neighbours", "studio", "noise sheet"} <= set(
        COMMANDS
    )
    assert {"catalog import", "catalog show", "catalog readers", "pairs mine", "pairs simulate"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_of_the_command_that_parses(name: str) -> None:
    shown = examples(COMMANDS[name].help or "")
    assert any(example.startswith(f"tgq {name}") for example in shown), f"tgq {name} --help shows no example"
    for example in shown:
        check_command(shlex.split(example))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_says_what_it_is(name: str) -> None:
    silent = [one.name for one in COMMANDS[name].params if one.name != "help" and not getattr(one, "help", None)]
    assert not silent, f"tgq {name}: no help for {silent}"


def texts(path: Path) -> list[str]:
    """The strings of a Python file, or the whole text of another."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [text]
    found = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return [value for value in found if isinstance(value, str)]


def test_errors_and_pages_name_commands_that_exist() -> None:
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    files = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".html", ".js", ".yaml")]
    named = 0
    for path in files:
        for found in (match for text in texts(path) for match in re.finditer(r"\btgq ([a-z-]+)(?: ([a-z-]+))?", text)):
            first, second = found.groups()
            if first == "is":  # "another tgq is at work"
                continue
            name = f"{first} {second}" if first in groups and second else first
            assert name in COMMANDS or name in groups, f"{path.relative_to(SOURCE)} names {found[0]!r}"
            named += 1
    assert named > 100


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, f"tgqformer {__version__}")


def test_an_installed_command_runs() -> None:
    tgq = Path(sys.executable).with_name("tgq")
    done = subprocess.run([tgq, "recipes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "demo" in done.stdout and "fashion" in done.stdout


@pytest.mark.parametrize(("words", "name"), [(["demo"], "demo"), (["demo", "--quick"], "quick")])
def test_a_demo_says_first_what_it_takes(words: list[str], name: str, tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file stands where the folder should be")
    result = CliRunner().invoke(app, [*words, "--to", str(tmp_path / "demo")])
    assert result.exit_code != 0 and TAKES[name] in " ".join(result.stderr.split())
    readme = " ".join((SOURCE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert TAKES[name].removeprefix("takes ") in readme


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device", "/full/out"), 2, "error: /full/out: No space left on device"),
        (OSError(28, "No space left on device"), 2, "error: the disk is full; make room, and run the same command"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "error: the disk is full; make room"),
        (
            ZeroDivisionError("by zero"),
            1,
            "this should not have happened: ZeroDivisionError: by zero. Please report it, ",
        ),
    ],
)
def test_no_traceback_reaches_a_user(
    error: Exception,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tgqformer.pairs.pairs.Pairs.read", fails)
    monkeypatch.setattr(sys, "argv", ["tgq", "pairs", "show", "x.parquet"])
    with pytest.raises(SystemExit) as left:
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert left.value.code == status and said in told and "Traceback" not in told
    kept = [file.read_text() for file in tmp_path.glob("tgq-*.log")]
    assert len(kept) == (status == 1) and all("ZeroDivisionError: by zero" in text for text in kept)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["similar", "1", "--store", "nowhere"], "nowhere is no store"),
        (["catalog", "import", "nowhere.csv", "--to", "out"], "nowhere.csv"),
        (["catalog", "show", "nowhere"], "nowhere"),
        (["pairs", "mine", "nowhere.csv", "--to", "pairs.parquet"], "nowhere.csv"),
        (["pairs", "show", "nowhere.parquet"], "nowhere.parquet"),
        (
            ["pairs", "mine", "x.csv", "--item", "a", "--item=b", "--to", "p"],
            "--item takes one value, and is given twice",
        ),
        (["noise", "sheet", "nowhere"], "nowhere"),
        (["run", "nowhere.yaml"], "shipped are demo, fashion"),
        (["run", "demo", "--set", "training.stepz=3"], "did you mean 'steps'?"),
        (["run", "demo", "--set", "training.steps=many"], "training.steps"),
        (["embed", "nowhere", "--model", "nowhere", "--to", "out"], "nowhere is not a saved model"),
        (["index", "nowhere", "--catalog", "nowhere", "--to", "store"], "nowhere holds no embeddings"),
        (["neighbours", "nowhere", "--to", "out"], "nowhere holds no embeddings"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_exit_status_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tgq", *words])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == 2
    assert message in re.sub(r"\s*\n", " ", said.err)
    assert "error:" in said.err and "Traceback" not in said.err + said.out
    assert not list(tmp_path.iterdir()), "a command that fails leaves nothing behind"


def test_no_file_is_meant_by_a_word_that_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small-onnx").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    words = ["serve", "store", "--runtime", "onnx", "--model", "model"]
    monkeypatch.setattr(sys, "argv", ["tgq", *words])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert "--onnx" in told and "did you mean" not in told
    (tmp_path / "shop.yaml").write_text("")
    monkeypatch.setattr("tgqformer.service.places.find_places", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["tgq", "serve", "model", "--allow-origin", "shop.example.com"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert "shop.example.com" in told and "did you mean" not in told


@pytest.mark.parametrize("words", [["similar", "1"], ["run"], ["nothing"], ["noise", "sheet", "x", "--too", "y"]])
def test_wrong_usage_is_exit_status_2_too(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_numbers_have_a_least_value() -> None:
    """A negative size is refused when it is read. Prices may be below zero; the rest is checked by its settings."""
    elsewhere = {"min_price", "max_price", "min_support", "cap", "alpha", "max_session", "neighbours k"}
    elsewhere |= {f"pictures fetch {name}" for name in ("rate", "timeout", "pause", "max_mb")}
    for name, command in COMMANDS.items():
        for option in command.params:
            kind = str(getattr(getattr(option, "type_descriptor", None), "annotation", ""))
            if kind in ("<class 'int'>", "<class 'float'>") and not {option.name, f"{name} {option.name}"} & elsewhere:
                assert option.min is not None, f"tgq {name}: {option.name}"  # type: ignore[attr-defined]
    refused = CliRunner().invoke(app, ["embed", "catalog", "--model", "model", "--to", "e", "--batch-size", "-4"])
    assert refused.exit_code == 2 and "--batch-size" in refused.output and not Path("e").exists()


def test_what_is_filled_into_a_suggested_command_is_quoted() -> None:
    calls = [
        call
        for path in Path(cli.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "then"
    ]
    filled = [part for call in calls for part in ast.walk(call) if isinstance(part, ast.FormattedValue)]
    assert len(filled) > 20
    assert not [
        ast.unparse(part.value)
        for part in filled
        if not (isinstance(part.value, ast.Call) and ast.unparse(part.value.func) == "in_shell")
    ]
