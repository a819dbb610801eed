"""Call `tgq` in this process, and hold it to what was expected."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from tgqformer.cli import app
from tgqformer.errors import TgqError


def call(words: str) -> Result:
    return CliRunner().invoke(app, words.split())


def ran(words: str) -> str:
    """Run a command that must succeed; return what it printed, in one line."""
    result = call(words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return " ".join(result.output.split())


def refused(words: str) -> str:
    """Run a command that must be refused; return the words of the refusal."""
    result = call(words)
    assert isinstance(result.exception, TgqError), (result.output, result.exception)
    return str(result.exception)
