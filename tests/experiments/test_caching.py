"""`tgq cache`: jobs that fill the token cache of a run together make what one process makes, and a training uses it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import ran, refused
from doc_runs import Terminal, walk_page
from tiny_recipe import write_pictured

CACHE = "cache {s}/shop.yaml --to {to} --partition-size 7"
RUN = "run {s}/shop.yaml --to {to}"


@pytest.fixture(scope="module")
def shop(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a run of it up to its pairs, and the same with the cache that one process filled."""
    folder = tmp_path_factory.mktemp("cached")
    write_pictured(folder, tiny_model)
    ran(f"{RUN.format(s=folder, to=folder / 'pairs')} --until pairs")
    shutil.copytree(folder / "pairs", folder / "whole")
    ran(CACHE.format(s=folder, to=folder / "whole"))
    return folder


@pytest.fixture
def run(shop: Path, tmp_path: Path) -> Path:
    """A run whose cache is empty."""
    return Path(shutil.copytree(shop / "pairs", tmp_path / "run"))


def content(run: Path) -> dict[str, bytes]:
    cache = run / "cache"
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_shards_make_the_bytes_of_one_process_and_a_run_uses_them(shop: Path, run: Path) -> None:
    words = CACHE.format(s=shop, to=run)
    assert "not finished yet: " in ran(f"{words} --shard 2/3")
    assert "encoded 0 pictures and texts" in ran(f"{words} --shard 2/3"), "done already"
    assert "is not finished: " in refused(f"{words} --finish")
    ran(f"{words} --shard 1/3")
    assert "not finished" not in ran(f"{words} --shard 3/3")
    assert content(run) == content(shop / "whole") and len(content(run)) > 12
    assert "nothing to do" in ran(f"{words} --finish") and "nothing to do" in ran(words)
    before = {name for name in content(run) if name != "tgq.json"}
    ran(f"{RUN.format(s=shop, to=run)} --until train")
    assert {name for name in content(run) if name != "tgq.json"} == before, "nothing was encoded again"


def test_a_run_by_itself_fills_the_same(shop: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other")
    ran(f"{RUN.format(s=shop, to=run)} --until features")
    ran(f"cache {shop}/shop.yaml --to {tmp_path / 'other'}")
    ours, other = content(run), content(tmp_path / "other")
    assert ours.pop("tgq.json") != other.pop("tgq.json") and ours == other


JOB = """
import os, signal, sys
from tgqformer.cli import main
from tgqformer.encoders.parts import PartFolder
write, left = PartFolder.write, [int(sys.argv.pop(1))]
def dying(self, keys, arrays):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    write(self, keys, arrays)
PartFolder.write = dying
main()
"""


def job(words: str, dies: int = -1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", JOB, str(dies), *words.split()]
    return subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def test_the_end_of_what_nobody_began_is_refused_and_leaves_nothing(shop: Path, run: Path) -> None:
    words = CACHE.format(s=shop, to=run)
    before = content(run)
    assert "nothing was begun in" in refused(f"{words} --finish")
    assert content(run) == before
    ran(f"{words} --shard 1/2")
    assert "with another --partition-size" in refused(words.replace("size 7", "size 9") + " --finish")
    ran(f"{words} --shard 2/2")
    assert "nothing to do" in ran(f"{words} --finish")


@pytest.mark.slow
def test_killed_jobs_go_on_and_two_of_one_shard_do_no_harm(shop: Path, run: Path) -> None:
    words = CACHE.format(s=shop, to=run)
    assert job(f"{words} --shard 1/2", dies=2).wait() == -signal.SIGKILL
    foreign = next((run / "cache/visual").iterdir()) / ".part-0.safetensors.0123456789abcdef.tmp"
    foreign.mkdir()
    (foreign / "part-0.safetensors").write_bytes(b"another machine is writing this")
    both = [job(f"{words} --shard 2/2") for _ in range(2)]
    ran(f"{words} --shard 1/2")
    assert [one.wait() for one in both] == [0, 0]
    assert (foreign / "part-0.safetensors").exists(), "what another machine writes is never removed"
    shutil.rmtree(foreign)
    ran(f"{words} --finish")
    assert content(run) == content(shop / "whole")


def test_what_must_not_be_mixed_is_refused(shop: Path, run: Path, tmp_path: Path) -> None:
    words = CACHE.format(s=shop, to=run)
    ran(f"{words} --shard 1/2")
    assert "shards of two must not be mixed" in refused(f"{words} --shard 2/2 --set prompt.fields=[title]")
    other = f"{words} --shard 2/2 --set catalog.items=20"
    assert "made of other files or settings; let one process make it first" in refused(other)
    ran(f"{RUN.format(s=shop, to=run)} --set catalog.items=20 --until pairs")
    assert "shards of two must not be mixed" in refused(other)
    ran(f"{words} --set catalog.items=20")  # alone it takes the place of what was begun
    assert not list((run / "cache").glob("filling-*"))


def test_a_later_filling_adds_what_is_new_alone(shop: Path, run: Path) -> None:
    words, fewer = CACHE.format(s=shop, to=run), "--set catalog.items=20"
    ran(f"{RUN.format(s=shop, to=run)} {fewer} --until pairs")
    ran(f"{words} {fewer}")
    before = content(run)
    ran(f"{RUN.format(s=shop, to=run)} --until pairs")
    ran(f"{words} --shard 1/2")
    ran(f"{words} --shard 2/2")
    after = content(run)
    assert all(after[name] == data for name, data in before.items()) and len(after) > len(before)
    ran(f"{RUN.format(s=shop, to=run)} --until train")


def test_what_cannot_be_is_told(shop: Path, run: Path, tmp_path: Path) -> None:
    words = CACHE.format(s=shop, to=run)
    assert "s3://shop/run is the address of an object store" in refused(f"cache {shop}/shop.yaml --to s3://shop/run")
    assert "--gpus goes with --cluster" in refused(f"{words} --gpus 1")
    assert "--shard and --finish do not go together" in refused(f"{words} --shard 1/2 --finish")
    missing = refused(CACHE.format(s=shop, to=tmp_path / "nothing"))
    assert "let one process make it first: `tgq run RECIPE --to" in missing and not (tmp_path / "nothing").exists()


def test_the_commands_of_the_page(
    shop: Path, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictured(tmp_path, tiny_model)
    terminal = Terminal(instead={"1/8": "1/1"}, more={"run": ["--until", "train"], "run shop.yaml --until": []})
    walk_page("docs/cluster.md", terminal, "The token cache of a run")
    assert list((tmp_path / "runs/shop/models").glob("*/seed-0/model"))


def test_a_template_that_leaves_no_place_for_metadata_is_refused(shop: Path, run: Path) -> None:
    words = f"{CACHE.format(s=shop, to=run)} --set prompt.template=a{{metadata}}{'-a' * 99}"
    assert "prompt.template alone is longer than language.max_tokens" in refused(words)
