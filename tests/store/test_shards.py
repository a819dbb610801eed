"""Shards: jobs that fill one folder together make what one job makes, whoever is killed and whoever comes twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import ran, refused
from small_shop import draw, save_models

from tgqformer.cluster.work import Shard
from tgqformer.errors import TgqError
from tgqformer.files import is_intact, sealed_path
from tgqformer.store.embeddings import Embeddings

EMBED = "embed {s}/catalog --model {s}/models/seed-1/model --partition-size 5"
NEIGHBOURS = "neighbours {s}/whole -k 3"


@pytest.fixture(scope="module")
def shop(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 24 items, two models, and what one job makes of them."""
    folder = tmp_path_factory.mktemp("shards")
    draw(folder / "catalog")
    save_models(tiny_model("vit"), tiny_model("bert"), folder / "models")
    ran(f"{EMBED.format(s=folder)} --to {folder}/whole")
    ran(f"{NEIGHBOURS.format(s=folder)} --to {folder}/near")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("words", "whole"), [(EMBED, "whole"), (NEIGHBOURS, "near")])
def test_shards_make_the_bytes_of_one_run(words: str, whole: str, shop: Path, tmp_path: Path) -> None:
    words = f"{words.format(s=shop)} --to {tmp_path}/to"
    assert "not finished yet: 3 partitions are missing (0, 2, 3; counted from 0)" in ran(f"{words} --shard 2/3")
    assert "lacks" not in ran(f"{words} --shard 2/3"), "done already"
    assert "is not finished: 3 partitions are missing" in refused(f"{words} --finish")
    assert "1 partition is missing (2; counted" in ran(f"{words} --shard 1/3")
    assert "not finished" not in ran(f"{words} --shard 3/3")
    assert content(tmp_path / "to") == content(shop / whole)
    assert "nothing to do" in ran(f"{words} --finish") and "nothing to do" in ran(words)
    assert content(tmp_path / "to") == content(shop / whole)


def test_what_shards_cannot_be_is_told(shop: Path, tmp_path: Path) -> None:
    embed = f"{EMBED.format(s=shop)} --to {tmp_path}/to"
    for wrong in ("0/3", "4/3"):
        assert "counted from 1; the first of 3 is 1/3" in refused(f"{embed} --shard {wrong}")
    assert "write I/N" in refused(f"{embed} --shard 3")
    assert "--shard and --finish do not go together" in refused(f"{embed} --shard 1/2 --finish")
    assert "none of them may replace it" in refused(f"{embed} --shard 1/2 --overwrite")
    assert "--cores goes with --cluster" in refused(f"{embed} --cores 2")
    near = f"{NEIGHBOURS.format(s=shop)} --to {tmp_path}/to"
    assert "give --parquet and --catalog with --finish" in refused(f"{near} --shard 1/2 --parquet {tmp_path}/p")
    assert not list(tmp_path.iterdir())


def test_shards_of_other_settings_or_another_catalogue_are_refused(shop: Path, tmp_path: Path) -> None:
    embed = f"{EMBED.format(s=shop)} --to {tmp_path}/to"
    ran(f"{embed} --shard 1/2")
    assert "with dim" in refused(f"{embed} --dim 4 --shard 2/2")
    assert "with model_version" in refused(f"{embed.replace('seed-1', 'seed-2')} --shard 2/2")
    (tmp_path / "items.csv").write_text("id,title\na,red shoe\nb,blue shoe\n")
    ran(f"catalog import {tmp_path}/items.csv --to {tmp_path}/catalog")
    changed = f"embed {tmp_path}/catalog --model {shop}/models/seed-1/model --partition-size 5 --to {tmp_path}/to"
    assert "must not be mixed" in refused(f"{changed} --shard 2/2")
    ran(f"{embed} --shard 2/2")
    assert content(tmp_path / "to") == content(shop / "whole")


JOB = """
import os, signal, sys
from tgqformer.cli import main
from tgqformer.store.embeddings import Embeddings
write, dies = Embeddings.write, int(sys.argv.pop(1))
def dying(self, partition, *rest):
    if partition == dies:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, partition, *rest)
Embeddings.write = dying
main()
"""


def job(words: str, dies: int = -1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", JOB, str(dies), *words.split()]
    return subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_shard_goes_on_and_two_of_one_shard_do_no_harm(shop: Path, tmp_path: Path) -> None:
    embed = f"{EMBED.format(s=shop)} --to {tmp_path}/to"
    assert job(f"{embed} --shard 1/2", dies=2).wait() == -signal.SIGKILL
    assert Embeddings.open(tmp_path / "to").missing() == [1, 2, 3, 4]
    foreign = tmp_path / "to" / ".part-00001.arrow.0123456789abcdef.tmp"
    foreign.mkdir()
    (foreign / "part-00001.arrow").write_bytes(b"another machine is writing this")
    both = [job(f"{embed} --shard 2/2") for _ in range(2)]
    again = job(f"{embed} --shard 1/2")
    assert [one.wait() for one in (*both, again)] == [0, 0, 0]
    assert (foreign / "part-00001.arrow").exists(), "what another machine writes is never removed"
    shutil.rmtree(foreign)
    ran(f"{embed} --finish")
    assert content(tmp_path / "to") == content(shop / "whole")


def test_jobs_that_begin_one_folder_at_once_agree_on_it(tmp_path: Path) -> None:
    """Whoever writes the manifest first has begun the folder; who comes with another model is refused."""
    refusals, start = [], threading.Barrier(6)

    def begin(number: int) -> None:
        start.wait()
        try:
            Embeddings.create(tmp_path / "e", dim=3, model_version=f"m{number % 2}", ids_fingerprint="f", count=9)
        except TgqError as error:
            refusals.append((number % 2, str(error)))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begun = Embeddings.open(tmp_path / "e").model_version
    assert [number for number, _ in refusals] == [1 - int(begun[1])] * 3
    assert all("must not be mixed" in words for _, words in refusals)


def test_a_file_that_two_write_at_once_has_its_checksum(tmp_path: Path) -> None:
    """Also where their bits differ: machines round differently."""
    path = tmp_path / "part"

    def write(letter: str) -> None:
        for _ in range(40):
            with sealed_path(path) as unfinished:
                unfinished.write_text(letter * 100)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_intact(path, sealed=True) and sorted(one.name for one in tmp_path.iterdir()) == ["part", "part.crc"]


def test_every_partition_is_of_one_shard() -> None:
    parts = [Shard(number, 4).part(range(11)) for number in range(1, 5)]
    assert sorted(one for part in parts for one in part) == list(range(11))
    assert [len(part) for part in parts] == [3, 3, 3, 2]
    assert str(Shard.parse(" 2/8 ")) == "2/8" and Shard().part([3, 5]) == [3, 5]
