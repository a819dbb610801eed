"""What is made again, what is never touched, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tgqformer.errors import TgqError
from tgqformer.stages import Digests, Stage, Stages, check_ours, claim, make_way, mark, note_of, only_one, undo_of


def stage(folder: Path, inputs: object, made: list[str], **more: object) -> Stage:
    def make() -> None:
        made.append(folder.name)
        (folder / f"{len(made)}.txt").write_text("made")

    return Stage(folder.name, folder, "thing", inputs, make, **more)  # type: ignore[arg-type]


def test_a_stage_is_made_once_and_again_when_inputs_or_format_change(tmp_path: Path) -> None:
    made: list[str] = []
    for inputs, more in (({"a": (1, 2)}, {}), ({"a": [1, 2]}, {}), ({"a": [1, 3]}, {}), ({"a": [1, 3]}, {"format": 2})):
        Stages().run(stage(tmp_path / "s", inputs, made, **more))
    assert len(made) == 3
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["3.txt", "tgq.json"]


def test_a_stage_is_asked_once_and_says_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []
    stages = Stages()
    for _ in range(3):
        stages.run(stage(tmp_path / "first", 1, made))
    assert capfd.readouterr().err.count("first: made in") == 1
    again = Stages()
    for _ in range(3):
        again.run(stage(tmp_path / "first", 1, made))
    assert capfd.readouterr().err.strip() == "first: reused" and made == ["first"]


def test_what_a_killed_stage_left_stays_only_where_the_stage_can_go_on(tmp_path: Path) -> None:
    made: list[str] = []
    for keep, inputs, left in (
        ("nothing", 1, False),
        ("same inputs", 1, True),
        ("same inputs", 2, False),
        ("all", 2, True),
    ):
        folder = tmp_path / f"{keep}-{inputs}"
        folder.mkdir()
        mark(folder, "thing", inputs=1, format=1, done=False)
        (folder / "half.txt").write_text("half")
        Stages().run(stage(folder, inputs, made, keep=keep))
        assert (folder / "half.txt").exists() == left, (keep, inputs)


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    folder, made = tmp_path / "catalog", list[str]()
    folder.mkdir()
    (folder / "mine.txt").write_text("of a person")
    with pytest.raises(TgqError, match="was not made by tgq"):
        Stages().run(stage(folder, 1, made))
    mark(folder, "another thing")
    with pytest.raises(TgqError, match="another thing, not thing"):
        Stages().run(stage(folder, 1, made))
    assert (folder / "mine.txt").read_text() == "of a person" and not made


def test_a_folder_whose_note_was_being_written_when_its_job_was_killed_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / ".tgq.json.0123456789abcdef.tmp").mkdir(parents=True)
    check_ours(folder, "neighbours")
    claim(folder, "run", "shop")
    assert note_of(folder) == {"kind": "run", "name": "shop"}
    (folder / "tgq.json").unlink()
    (folder / ".other.json.0123456789abcdef.tmp").mkdir()
    with pytest.raises(TgqError, match="was not made by tgq"):
        check_ours(folder, "neighbours")


def test_a_stage_whose_output_was_removed_is_made_again(tmp_path: Path) -> None:
    made: list[str] = []
    page = tmp_path / "report.html"
    page.write_text("page")
    Stages().run(stage(tmp_path / "s", 1, made, outputs=(page,)))
    Stages().run(stage(tmp_path / "s", 1, made, outputs=(page,)))
    page.unlink()
    Stages().run(stage(tmp_path / "s", 1, made, outputs=(page,)))
    assert len(made) == 2


def test_a_digest_follows_content_and_names_not_times(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    (shop / "pictures").mkdir(parents=True)
    (shop / "items.csv").write_text("id\n1\n")
    (shop / "pictures" / "a.jpg").write_bytes(b"one")
    memory = tmp_path / "digests.json"
    first = Digests(memory).of(shop)
    os.utime(shop / "items.csv", ns=(1, 1))
    assert Digests(memory).of(shop) == first
    (shop / ".hidden").write_text("x")
    (shop / "run").mkdir()
    mark(shop / "run", "run")
    (shop / "run" / "store.bin").write_text("ours")
    assert Digests(memory).of(shop) == first
    assert Digests(memory).of(shop, lambda file: file.suffix == ".jpg") != first
    (shop / "pictures" / "a.jpg").rename(shop / "pictures" / "b.jpg")
    renamed = Digests(memory).of(shop)
    assert renamed != first
    (shop / "pictures" / "b.jpg").write_bytes(b"two")
    assert Digests(memory).of(shop) not in (first, renamed)
    with pytest.raises(TgqError, match="there is no file"):
        Digests().of(tmp_path / "nothing")


def test_content_that_changed_under_the_same_size_and_time_needs_recheck(tmp_path: Path) -> None:
    file, memory = tmp_path / "log.csv", tmp_path / "digests.json"
    file.write_text("a,b")
    os.utime(file, ns=(5, 5))
    first = Digests(memory).of(file)
    file.write_text("a,c")
    os.utime(file, ns=(5, 5))
    assert Digests(memory).of(file) == first
    assert Digests(memory, recheck=True).of(file) != first
    assert Digests(memory).of(file) != first  # and from then on it is known


def test_a_folder_is_claimed_by_one_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim(folder, "run", "shop")
    claim(folder, "run", "shop")
    with pytest.raises(TgqError, match=r"holds the run 'shop', not 'other'.*--overwrite"):
        claim(folder, "run", "other")
    claim(folder, "run", "other", overwrite=True)
    assert note_of(folder) == {"kind": "run", "name": "other"}
    with pytest.raises(TgqError, match="run, not bench"):
        claim(folder, "bench", "other", overwrite=True)
    own = tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_text("x")
    with pytest.raises(TgqError, match="was not made by tgq"):
        claim(own, "run", "shop", overwrite=True)


def test_one_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(TgqError, match="another tgq is at work"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    source = tmp_path / "catalog"
    source.mkdir()
    mark(source, "catalogue")
    for to in (source, tmp_path):
        with pytest.raises(TgqError, match="is what is read, or holds it"):
            make_way(to, "catalogue", overwrite=True, sources=[source])
    (source / "items.parquet").write_text("x")
    with pytest.raises(TgqError, match=r"exists already.*--overwrite"):
        make_way(source, "catalogue")
    make_way(source, "catalogue", overwrite=True)
    shutil.rmtree(source)
    make_way(source, "catalogue")
    check_ours(source, "catalogue")


@pytest.mark.parametrize("kind", ["new", "empty", "working folder", "link"])
def test_an_undo_takes_what_was_made_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "of" / "run"
    if kind != "new":
        folder.mkdir(parents=True)
    if kind == "working folder":
        monkeypatch.chdir(folder)
        folder = Path()
    if kind == "link":
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    before = sorted(tmp_path.rglob("*"))
    undo = undo_of(folder)
    claim(folder, "run", "shop")
    (folder / "catalog").mkdir()
    (folder / "catalog" / "items").write_text("x")
    undo()
    assert sorted(tmp_path.rglob("*")) == before
    undo()  # nothing is left to remove: no error


def test_an_undo_leaves_a_folder_that_held_something(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("of a person")
    undo_of(tmp_path)()
    assert (tmp_path / "own.txt").exists()
