"""An import by several: the catalogue and the report of one process, whoever imports what, and whoever is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from calls import ran, refused
from doc_shop import write_fashion
from paper_files import write_amazon_2018
from PIL import Image

from tgqformer.catalog import Catalog, ImportReport, import_catalog
from tgqformer.catalog.parts import MADE_OF, ImportWork, beside_of, import_in_parts
from tgqformer.cluster.work import Shard, fill_here

ROWS = 60
KILLED = """
import os, signal
from tgqformer.catalog.sink import Sink
from tgqformer.cli import main

taken, take = [], Sink.take

def dying(self, draft):
    rows = take(self, draft)
    taken.append(draft)
    if len(taken) == 17:  # in the middle of the third part
        os.kill(os.getpid(), signal.SIGKILL)
    return rows

Sink.take = dying
main()
"""


def photo(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def write_csv(folder: Path) -> Path:
    """A table with ids that stand twice, near and far, rows that are refused, and pictures that are not there."""
    lines = ["sku,name,brand,category,price,photo,material"]
    for at in range(ROWS):
        photo(folder / f"photos/{at}.jpg", at % 50)
        name = {7: "1", 8: "7", 33: "2", 34: "12", 50: "12", 59: ""}.get(at, str(at))
        shown = "gone.jpg" if at % 11 == 5 else f"{at}.jpg"
        price = "free" if at % 13 == 0 else f"{at}.50"
        said = "" if at == 12 else f"Thing {at}"
        row = f"{name},{said},Acme,Clothes > Kind {at % 3},{price},{shown},wool {at % 4}"
        lines.append("12,,,,,gone.jpg," if at == 12 else row)
    lines[21] = '20,"broken'
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")
    return folder / "shop.csv"


def write_amazon(folder: Path) -> Path:
    write_amazon_2018(folder)
    return folder / "meta_Clothing_Shoes_and_Jewelry.json.gz"


def write_parquet(folder: Path) -> Path:
    return write_fashion(folder / "fashion", 40)


SOURCES: dict[str, tuple[Callable[[Path], Path], str, int]] = {
    "files": (write_csv, "--pictures HERE/photos", 7),
    "packed": (write_csv, "--pictures HERE/photos --pack", 8),
    "limited": (write_csv, "--pictures HERE/photos --limit 40 --attribute material", 9),
    "one part": (write_csv, "--pictures HERE/photos", 1000),
    "lists of others": (write_amazon, "--reader amazon-2018", 5),
    "bytes": (write_parquet, "", 6),
}


def seen(catalog: Path) -> dict[str, Any]:
    """All of a catalogue but how long it took, how it is cut into files, and the row groups of the co-purchases."""
    found: dict[str, Any] = {one.name: one.read_bytes() for one in catalog.glob("*.jsonl")}
    about = json.loads((catalog / "catalog.json").read_text())
    found["about"] = {name: value for name, value in about.items() if name not in ("partitions", "check", MADE_OF)}
    found["items"] = list(Catalog.open(catalog).items())
    found["report"] = json.loads((catalog / "report.json").read_text()) | {"seconds": 0}
    found["page"] = re.sub(r"[\d.]+ s\b", "", (catalog / "report.html").read_text())
    related = catalog / "related.parquet"
    found["related"] = pq.read_table(related).to_pylist() if related.exists() else []
    found["names"] = {one.name for one in catalog.iterdir() if not one.name.startswith("items-")}
    return found


@pytest.mark.parametrize("kind", SOURCES)
def test_shards_import_what_one_process_does(kind: str, tmp_path: Path) -> None:
    write, words, size = SOURCES[kind]
    source = write(tmp_path)
    words = words.replace("HERE", str(tmp_path))
    ran(f"catalog import {source} {words} --name shop --to {tmp_path}/whole")
    parts = tmp_path / "parts"
    said = f"catalog import {source} --name shop {words} --partition-size {size} --to {parts}"
    if size < 1000:
        for shard in ("2/3", "3/3", "2/3"):
            assert "partitions are missing" in ran(f"{said} --shard {shard}")
        assert "partitions are missing" in refused(f"{said} --finish")
        assert not parts.exists()
    ran(f"{said} --shard 1/3")
    whole = seen(tmp_path / "whole")
    assert seen(parts) == whole and len(whole["items"]) > 20
    assert not beside_of(parts).exists()
    if write is write_csv:
        kinds = [json.loads(line)["kind"] for line in whole["rejects.jsonl"].splitlines()]
        assert kinds.count("duplicate-id") >= 3 and "empty" in kinds


def test_a_killed_job_goes_on(tmp_path: Path) -> None:
    source, parts = write_csv(tmp_path), tmp_path / "parts"
    ran(f"catalog import {source} --pictures {tmp_path}/photos --name shop --to {tmp_path}/whole")
    words = f"catalog import {source} --pictures {tmp_path}/photos --name shop --partition-size 6 --to {parts}"
    (tmp_path / "job.py").write_text(KILLED)
    job = [sys.executable, str(tmp_path / "job.py"), *f"{words} --shard 1/2".split()]
    assert subprocess.run(job, capture_output=True, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    kept = {one.name: one.stat().st_mtime_ns for one in beside_of(parts).glob("part-*")}
    assert len(kept) == 2
    ran(f"{words} --shard 2/2")
    assert "partitions are missing" in refused(f"{words} --finish")
    ran(f"{words} --shard 1/2")
    assert seen(parts) == seen(tmp_path / "whole")


def test_jobs_that_end_at_once_make_one_catalogue(tmp_path: Path) -> None:
    source = write_csv(tmp_path)
    words = f"catalog import {source} --pictures {tmp_path}/photos --to {tmp_path}/parts --partition-size 6 --shard"
    script = "from tgqformer.cli import main; main()"
    jobs = [
        subprocess.Popen([sys.executable, "-c", script, *f"{words} {number}/3".split()], stderr=subprocess.PIPE)
        for number in (1, 2, 3, 3)
    ]
    told = [job.communicate()[1].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4, told
    import_catalog(source, tmp_path / "whole", root=tmp_path / "photos", name="parts")
    assert seen(tmp_path / "parts") == seen(tmp_path / "whole")
    assert not beside_of(tmp_path / "parts").exists()


def test_a_job_that_begins_when_all_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, to, begin = write_csv(tmp_path), tmp_path / "parts", ImportWork.begin
    others = [partial(fill_here, shard=Shard(number, 2), shown=False) for number in (1, 2)]

    def late(*words: Any, **options: Any) -> ImportWork:
        """The others begin and end between the moment when this job looked and that when it begins."""
        monkeypatch.setattr(ImportWork, "begin", begin)
        made = [import_in_parts(source, to, other, size=20, pack=True, root=tmp_path / "photos") for other in others]
        assert made[0] == [1] and isinstance(made[1], ImportReport)
        return begin(*words, **options)

    monkeypatch.setattr(ImportWork, "begin", late)
    assert import_in_parts(source, to, others[0], size=20, pack=True, root=tmp_path / "photos") == []
    assert len(Catalog.open(to)) > 20 and not beside_of(to).exists()


def test_shards_fill_an_empty_folder(tmp_path: Path) -> None:
    """It is free, so none of them takes it for a finished catalogue."""
    source, to = write_csv(tmp_path), tmp_path / "parts"
    to.mkdir()
    words = f"catalog import {source} --pictures {tmp_path}/photos --to {to} --partition-size 40 --shard"
    assert "1 partition is missing" in ran(f"{words} 1/2") and beside_of(to).exists()
    ran(f"{words} 2/2")
    assert len(Catalog.open(to)) > 20 and not beside_of(to).exists()


def test_what_is_not_the_same_work_is_refused(tmp_path: Path) -> None:
    source, to = write_csv(tmp_path), tmp_path / "parts"
    words = f"catalog import {source} --pictures {tmp_path}/photos --to {to}"
    assert refused(f"{words} --finish").endswith("import it with --shard first")
    ran(f"{words} --partition-size 20 --shard 1/2")
    for other in ("--partition-size 21", "--partition-size 20 --pack", "--partition-size 20 --title brand"):
        assert "begun of another source, or with other settings" in refused(f"{words} {other} --shard 2/2")
    assert "none of them may replace it" in refused(f"{words} --shard 2/2 --overwrite")
    assert "--partition-size goes with" in refused(f"catalog import {source} --to {tmp_path}/o --partition-size 5")
    assert "do not go together" in refused(f"{words} --shard 1/2 --finish")
    [part] = beside_of(to).glob("part-00000/items-00000.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    assert "part-00000 cannot be used" in refused(f"{words} --partition-size 20 --shard 2/2") and not to.exists()
    shutil.rmtree(part.parent)
    ran(f"{words} --partition-size 20 --shard 1/2")
    assert len(Catalog.open(to)) > 20
    kept = {file: file.stat().st_mtime_ns for file in to.iterdir()}
    for late in ("--shard 1/2", "--shard 2/2", "--finish"):
        assert "finished already, of this source: nothing to do" in ran(f"{words} --partition-size 20 {late}")
    for changed in ("--partition-size 21", "--partition-size 20 --pack"):
        assert "not of these parts; shards replace none" in refused(f"{words} {changed} --shard 2/2")
    assert kept == {file: file.stat().st_mtime_ns for file in to.iterdir()} and not beside_of(to).exists()
    other = words.replace(str(to), f"{to}-2")
    ran(f"{other} --partition-size 20 --shard 1/2")
    with source.open("a") as file:
        file.write("99,One more,Acme,Clothes,1,,wool\n")
    assert "begun of another source" in refused(f"{other} --partition-size 20 --shard 2/2")
    assert "not of these parts" in refused(f"{words} --partition-size 20 --shard 2/2")


def test_what_one_process_refuses_several_do(tmp_path: Path) -> None:
    source = write_csv(tmp_path)
    words = f"catalog import {source} --to {tmp_path}/out --partition-size 20"
    assert "nothing was written" in refused(f"{words} --pictures {tmp_path}/photos --strict --shard 1/1")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    shutil.rmtree(beside_of(tmp_path / "out"))
    assert "pictures was found" in refused(f"{words} --pictures {tmp_path}/empty --shard 1/1")
    assert not (tmp_path / "out").exists()
