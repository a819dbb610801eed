"""Commands that write: none replaces what it did not make, or anything without --overwrite; sources are safe."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_shop import draw, save_models
from typer.testing import CliRunner, Result

from tgqformer.catalog.catalog import Catalog
from tgqformer.cli import app
from tgqformer.collaborative.blend import Blend
from tgqformer.errors import TgqError
from tgqformer.model.version import version_of
from tgqformer.stages import NOTE, mark, note_of
from tgqformer.store import open_store
from tgqformer.store.embeddings import Embeddings
from tgqformer.synthetic.studio import draw_studio

CLICKS = "session,item,time\n" + "".join(f"s{n // 3},sku-{n % 7},{1_700_000_000 + n}\n" for n in range(60))

# What each command is given; {s} is the folder of sources. The kind of folder it makes is its name for people.
FOLDERS = {
    "import": ("catalogue", "catalog import {s}/items.csv"),
    "noise": ("catalogue", "noise apply {s}/catalog --view noised"),
    "studio": ("catalogue", "studio --items 2"),
    "simulate": ("pairs", "pairs simulate {s}/studio --shoppers studio"),
    "embed": ("embeddings", "embed {s}/catalog --model {s}/models/seed-1/model"),
    "neighbours": ("neighbours", "neighbours {s}/embeddings -k 3"),
    "index": ("store", "index {s}/embeddings --catalog {s}/catalog"),
    "join": ("joined embeddings", "collab join {s}/embeddings --log {s}/clicks.csv"),
}
FILES = {
    "mine": "pairs mine {s}/clicks.csv --to",
    "sheet": "noise sheet {s}/catalog --items 1 --to",
    "html": "similar sku-1 --store {s}/store --html",
    "parquet": "neighbours {s}/embeddings -k 3 --to {t}/neighbours --parquet",
}
AT_ONCE = ("import", "noise", "studio", "simulate")  # commands that make their folder at once
BY_PARTS = ("embed", "neighbours")  # and those that go on where they were


@pytest.fixture(scope="module")
def sources(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "items.csv").write_text("id,title\na,red shoe\nb,blue shoe\n")
    (folder / "clicks.csv").write_text(CLICKS)
    (folder / "clicks.parquet").write_text("as if it were one")
    draw(folder / "catalog")
    draw_studio(folder / "studio", items=40, shown=False, workers=1)
    save_models(tiny_model("vit"), tiny_model("bert"), folder / "models")
    ran(f"embed {folder}/catalog --model {folder}/models/seed-1/model --to {folder}/embeddings")
    ran(f"index {folder}/embeddings --catalog {folder}/catalog --to {folder}/store")
    return folder


def call(words: str) -> Result:
    return CliRunner().invoke(app, words.split())


def ran(words: str) -> str:
    result = call(words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


def refused(words: str, why: str, changed: Path) -> None:
    """Expect an error that says why, and that nothing below `changed` is another than before."""
    before = seen(changed)
    result = call(words)
    assert isinstance(result.exception, TgqError) and why in str(result.exception), (result.output, result.exception)
    assert seen(changed) == before


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """The inode and the time of change of everything in a folder."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("overwrite", ["", " --overwrite"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_a_stranger_is_left_alone(name: str, overwrite: str, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "thesis.txt").write_text("three years of work")
    words = FOLDERS[name][1].format(s=sources) + f" --to {tmp_path / 'to'}"
    if name != "index":
        words += overwrite
    refused(words, "was not made by tgq", tmp_path)
    mark(tmp_path / "to", "something")
    refused(words, "holds something else (something, not", tmp_path)
    assert (tmp_path / "to" / "thesis.txt").read_text() == "three years of work"


@pytest.mark.parametrize("name", AT_ONCE)
def test_our_own_folder_is_replaced_when_asked(name: str, sources: Path, tmp_path: Path) -> None:
    kind, words = FOLDERS[name]
    words = words.format(s=sources) + f" --to {tmp_path / 'to'}"
    ran(words)
    assert note_of(tmp_path / "to") == {"kind": kind}
    (tmp_path / "to" / "mine.txt").touch()
    refused(words, "--overwrite", tmp_path)
    ran(f"{words} --overwrite")
    assert not (tmp_path / "to" / "mine.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["to"]


@pytest.mark.parametrize("name", BY_PARTS)
def test_a_job_goes_on_and_a_finished_one_changes_nothing(name: str, sources: Path, tmp_path: Path) -> None:
    kind, words = FOLDERS[name]
    words = words.format(s=sources) + f" --to {tmp_path / 'to'}"
    ran(words)
    before = seen(tmp_path)
    assert "nothing to do" in ran(words).replace("\n", " ") and "nothing to do" in ran(f"{words} --overwrite")
    assert seen(tmp_path) == before and note_of(tmp_path / "to") == {"kind": kind}
    (tmp_path / "to" / "part-00000.arrow").unlink()  # as if killed before
    assert "nothing to do" not in ran(words)
    assert (tmp_path / "to" / "part-00000.arrow").exists()


def test_a_job_of_other_inputs_is_refused_or_replaced(sources: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    embed = f"embed {sources}/catalog --model {sources}/models/seed-%d/model --to {to}"
    ran(embed % 1)
    refused(embed % 2, "with model_version", tmp_path)
    refused(embed % 1 + " --dim 4", "with dim", tmp_path)
    ran(embed % 2 + " --overwrite")
    assert Embeddings.open(to).model_version == version_of(sources / "models/seed-2/model")
    neighbours = f"neighbours {to} --to {tmp_path / 'n'}"
    ran(f"{neighbours} -k 3")
    refused(f"{neighbours} -k 4", "with k 3, not 4", tmp_path)
    assert "4 neighbours" in ran(f"{neighbours} -k 4 --overwrite")


def test_the_same_ids_with_another_title_are_another_catalogue(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\na,red shoe\nb,blue shoe\n")
    catalog = f"catalog import {tmp_path / 'items.csv'} --to {tmp_path / 'c'}"
    embed = f"embed {tmp_path / 'c'} --model {sources}/models/seed-1/model --to {tmp_path / 'e'}"
    ran(catalog)
    ran(embed)
    first = Embeddings.open(tmp_path / "e").vectors()
    (tmp_path / "items.csv").write_text("id,title\na,green bag\nb,blue shoe\n")
    ran(f"{catalog} --overwrite")
    refused(embed, "of other catalog", tmp_path)
    ran(f"{embed} --overwrite")
    second = Embeddings.open(tmp_path / "e").vectors()
    assert not np.allclose(first[0], second[0]) and np.allclose(first[1], second[1], atol=1e-6)


def test_an_index_adds_a_version_to_a_store_of_ours(sources: Path, tmp_path: Path) -> None:
    words = FOLDERS["index"][1].format(s=sources) + f" --to {tmp_path / 'to'}"
    ran(words)
    ran(words)
    assert [version.name for version in open_store(tmp_path / "to").versions()] == ["v1", "v2"]
    assert note_of(tmp_path / "to") == {"kind": "store"}


def test_joined_embeddings_are_replaced_when_asked(sources: Path, tmp_path: Path) -> None:
    Blend(("content",), {0: np.ones(5, np.float32)}).write(tmp_path / "blend.json")
    words = FOLDERS["join"][1].format(s=sources) + f" --blend {tmp_path / 'blend.json'} --to {tmp_path / 'to'} -k 3"
    ran(words)
    refused(words, "--overwrite", tmp_path)
    ran(f"{words} --overwrite")
    assert {"blend.json", "embeddings", "neighbours", NOTE} == {path.name for path in (tmp_path / "to").iterdir()}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_replaced_when_asked(name: str, sources: Path, tmp_path: Path) -> None:
    words = FILES[name].format(s=sources, t=tmp_path) + f" {tmp_path / 'file'}"
    (tmp_path / "file").write_text("notes of somebody")
    refused(words, "file exists already", tmp_path)
    ran(f"{words} --overwrite")
    assert b"notes of somebody" not in (tmp_path / "file").read_bytes()
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    refused(f"{words} --overwrite", "is a folder; name a file", tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        "catalog import {s}/items.csv --to {s}",
        "catalog import {s}/items.csv --to {s}/items.csv",
        "noise apply {s}/catalog --to {s}/catalog",
        "pairs simulate {s}/studio --shoppers studio --to {s}",
        "pairs mine {s}/clicks.parquet --to {s}/clicks.parquet",
        "embed {s}/catalog --model {s}/models/seed-1/model --to {s}/catalog",
        "embed {s}/catalog --model {s}/models/seed-1/model --to {s}/models",
        "neighbours {s}/embeddings --to {s}/embeddings",
        "neighbours {s}/embeddings --to {s}/new --parquet {s}/new",
        "collab join {s}/embeddings --log {s}/clicks.csv --to {s}/embeddings",
    ],
)
def test_a_target_that_is_or_holds_a_source_is_refused(words: str, sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shop"
    shutil.copytree(sources, copy)
    refused(words.format(s=copy) + " --overwrite", "is what is read, or holds it", tmp_path)
    assert len(Catalog.open(copy / "catalog"))


@pytest.mark.parametrize(
    "words",
    [
        "neighbours {s}/embeddings -k 3 --to {t}/neighbours --parquet {s}/embeddings/own.parquet --overwrite",
        "similar sku-1 --store {s}/store --html {s}/store/own.html --overwrite",
        "noise sheet {s}/catalog --items 1 --to {s}/catalog/own.png --overwrite",
    ],
)
def test_no_file_of_a_source_is_replaced(words: str, sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shop"
    shutil.copytree(sources, copy)
    for own in ("embeddings/own.parquet", "store/own.html", "catalog/own.png"):
        (copy / own).touch()
    refused(words.format(s=copy, t=tmp_path), "which is read", copy)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("pairs mine {s}/clicks.csv --to", "pairs.csv"),
        ("noise sheet {s}/catalog --items 1 --to", "noise.html"),
        ("similar sku-1 --store {s}/store --html", "page.PNG"),
        ("neighbours {s}/embeddings -k 3 --to {t}/neighbours --parquet", "table.jsonl"),
        ("catalog duplicates {s}/catalog --html", "page.csv"),
        ("catalog duplicates {s}/catalog --csv", "table.parquet"),
        ("store report {s}/store --export-log", "log.csv"),
        ("store report {s}/store --html", "page.md"),
        ("collab join {s}/embeddings --log {s}/clicks.csv --to {t}/joined --parquet", "lists.html"),
        ("init {s}/items.csv {s}/clicks.csv --to", "shop.json"),
    ],
)
def test_a_file_named_as_of_another_format_is_refused(words: str, name: str, sources: Path, tmp_path: Path) -> None:
    refused(words.format(s=sources, t=tmp_path) + f" {tmp_path / name}", "is written as", tmp_path)
