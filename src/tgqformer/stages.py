"""Stages that leave a note of what they were made from: what is done is not done again, what changed is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tgqformer.files import read_json, write_json
from tgqformer.progress import console


def begin(what: str, folder: Path, inputs: dict[str, Any], *, resumable: bool = False) -> bool:
    """Say whether a stage must run. What was made from other inputs is removed; a resumable stage goes on.

    Args:
        what: name of the stage, for people. folder: what it makes. inputs: all that decides its content.
        resumable: whether a stage that was killed can go on in its folder.
    """
    started, plain = folder.with_name(f".{folder.name}.started.json"), _plain(inputs)
    if is_done(folder, inputs):
        console.print(f"[dim]{what}: done already[/]")
        return False
    console.print(f"[bold]{what}[/]")
    if not (resumable and started.exists() and read_json(started) == plain):
        shutil.rmtree(folder, ignore_errors=True)
    if resumable:
        write_json(started, plain)
    return True


def is_done(folder: Path, inputs: dict[str, Any]) -> bool:
    """Say whether a stage was made from these inputs, without a word."""
    done = folder / "stage.json"
    return done.exists() and bool(read_json(done) == _plain(inputs))


def end(folder: Path, inputs: dict[str, Any]) -> None:
    """Note that a stage is done."""
    write_json(folder / "stage.json", _plain(inputs))


def _plain(inputs: dict[str, Any]) -> Any:
    """As JSON gives it back: tuples as lists."""
    return json.loads(json.dumps(inputs))
