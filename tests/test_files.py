"""Writes are whole or not there at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, exchange, read_json, restore, write_json, write_text
from tgqformer.stages import NOTE, atomic_folder, make_way, mark, note_of


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


def made(path: Path, name: str, **options: bool) -> None:
    with atomic_folder(path, "sample", **options) as unfinished:
        (unfinished / name).touch()


def test_a_folder_carries_our_note_and_is_replaced_only_when_asked(tmp_path):
    folder = tmp_path / "deep" / "folder"
    made(folder, "a")
    assert names(folder) == ["a", NOTE] and note_of(folder) == {"kind": "sample"}
    with pytest.raises(TgqError, match=r"exists already.*--overwrite"):
        made(folder, "b")
    assert names(folder) == ["a", NOTE]
    made(folder, "b", overwrite=True)
    assert names(folder) == ["b", NOTE] and names(folder.parent) == ["folder"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    made(tmp_path / "folder", "a")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder", "sample", overwrite=True) as unfinished:
        (unfinished / "b").touch()
        raise RuntimeError
    assert names(tmp_path / "folder") == ["a", NOTE] and names(tmp_path) == ["folder"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_ours_is_never_replaced(tmp_path, overwrite):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").touch()
    with pytest.raises(TgqError, match="was not made by tgq"):
        made(folder, "a", overwrite=overwrite)
    mark(folder, "something")
    with pytest.raises(TgqError, match="something else"):
        made(folder, "a", overwrite=overwrite)
    with pytest.raises(TgqError, match="is a file"):
        made(folder / "holiday.jpg", "a", overwrite=overwrite)
    assert names(folder) == ["holiday.jpg", NOTE] and names(tmp_path) == ["photos"]


def test_what_comes_meanwhile_is_not_replaced_either(tmp_path):
    with pytest.raises(TgqError, match="not made by tgq"), atomic_folder(tmp_path / "new", "sample") as unfinished:
        (unfinished / "ours").touch()
        write_text(tmp_path / "new" / "theirs", "theirs")
    assert names(tmp_path) == ["new"] and names(tmp_path / "new") == ["theirs"]


def test_an_empty_folder_and_one_with_our_note_alone_are_free(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    mark(tmp_path / "begun", "sample", done=False)
    for name in ("empty", "begun"):
        made(tmp_path / name, "a")
        assert names(tmp_path / name) == ["a", NOTE]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    made(tmp_path / "real", "a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made(tmp_path / "link", "b", overwrite=True)
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "real") == ["b", NOTE]


@pytest.mark.parametrize("source", ["to", "to/inside/file", "to/../to"])
def test_sources_are_not_written_over(tmp_path, source):
    (tmp_path / "to" / "inside").mkdir(parents=True)
    mark(tmp_path / "to", "sample")
    with pytest.raises(TgqError, match="is what is read, or holds it"):
        make_way(tmp_path / "to", "sample", overwrite=True, sources=[None, tmp_path / source])


def test_an_object_store_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/embeddings", "gs://bucket/e"):
        with pytest.raises(TgqError, match=f"{address} is the address of an object store; the page can be"):
            make_way(Path(address), "page", resumable=True)
    with pytest.raises(TgqError, match="known are s3://, gs://, az://"):
        make_way(Path("memory://e"), "page")
    make_way(Path("C:/data"), "embeddings")
    assert names(tmp_path) == []


def test_a_file_is_not_written_over_a_folder_nor_silently_over_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TgqError, match="--overwrite"):
        make_way(tmp_path / "file", "page", file=True)
    make_way(tmp_path / "file", "page", file=True, overwrite=True)
    with pytest.raises(TgqError, match="is a folder"):
        make_way(tmp_path, "page", file=True, overwrite=True)


def test_files_and_the_folders_that_name_them_are_synced(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file.txt", "x")
    assert synced[0].endswith(".tmp/file.txt") and synced[1:] == [str(tmp_path)]
    synced.clear()
    made(tmp_path / "folder", "a")
    inside = [name.rsplit("/", 1)[-1] for name in synced]
    assert {"a", NOTE} <= set(inside) and synced[-1] == str(tmp_path)
    assert inside[-2].startswith(".folder.") and inside[-2].endswith(".tmp")


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


def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).write_text("x")
    if not exchange(one, other):
        pytest.skip("this file system cannot exchange names")
    assert (names(one), names(other)) == (["other"], ["one"])
    assert not exchange(one, tmp_path / "nowhere") and names(one) == ["other"]
    with atomic_folder(tmp_path / "made", "thing") as folder:
        (folder / "a").write_text("old")
    moved, real = list[Path](), Path.replace

    def replace(self: Path, to: Path) -> Path:
        moved.extend([self] if self.is_dir() else [])
        return real(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    with atomic_folder(tmp_path / "made", "thing", overwrite=True) as folder:
        (folder / "b").write_text("new")
    assert (tmp_path / "made/b").read_text() == "new" and not (tmp_path / "made/a").exists()
    assert moved == [], "there was a moment without the folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "one", "other"]


WRITER = """
import sys
from pathlib import Path
from tgqformer.files import atomic_path
with atomic_path(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")
def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None and job.stdout.readline() == "ready\n"
        [unfinished] = tmp_path.iterdir()
        (tmp_path / ".a[1].txt.notes.tmp").mkdir()
        write_text(path, "one")
        assert (unfinished / path.name).read_text() == "half", "its writer lives"
        job.kill()
        job.wait()
        write_text(path, "two")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".a[1].txt.notes.tmp", "a[1].txt"]
    assert path.read_text() == "two"
