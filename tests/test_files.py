"""Writes are whole or not there at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tgqformer.files import atomic_path, read_json, restore, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "Größe 衫\n")
    assert path.read_text(encoding="utf-8") == "Größe 衫\n" and names(path.parent) == ["file.txt"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_what_fails_leaves_the_old_content_and_no_litter(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]
    folder = tmp_path / "folder"
    with atomic_path(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "a").touch()
    with pytest.raises(RuntimeError), atomic_path(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "b").touch()
        raise RuntimeError
    assert names(folder) == ["a"] and names(tmp_path) == ["file.txt", "folder"]


def test_a_folder_replaces_a_folder(tmp_path):
    for name in ("a", "b"):
        with atomic_path(tmp_path / "folder") as unfinished:
            unfinished.mkdir()
            (unfinished / name).touch()
    assert names(tmp_path / "folder") == ["b"] and names(tmp_path) == ["folder"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_json_keeps_what_it_is_given(tmp_path):
    content = {"name": "衬衫", "numbers": [1, 2.5, None], "deep": {"yes": True}}
    write_json(tmp_path / "file.json", content)
    assert read_json(tmp_path / "file.json") == content
    assert "衬衫" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from tgqformer.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL and path.read_text() == "old" and len(names(tmp_path)) == 2
    assert restore(path) and names(tmp_path) == ["file.txt"] and path.read_text() == "old"


def test_a_folder_caught_between_its_renames_comes_back(tmp_path):
    path = tmp_path / "folder"
    for name in (".folder.11111111.old", ".folder.22222222.tmp", ".folder.lock", ".other.33333333.old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".folder.11111111.old" / "a").touch()
    assert restore(path)
    assert names(path) == ["a"] and names(tmp_path) == [".folder.lock", ".other.33333333.old", "folder"]
    assert restore(path) and names(path) == ["a"]
    assert not restore(tmp_path / "never")


def test_what_is_there_wins_over_what_was(tmp_path):
    for name in ("folder", ".folder.11111111.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name.strip(".")).touch()
    assert restore(tmp_path / "folder")
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == ["folder"]
