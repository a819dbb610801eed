"""Mining by several: the rows of one process, whoever mines which items, and whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calls import ran, refused

from tgqformer.pairs.parts import beside_of

SETTINGS = ("", "--weighting pmi", "--weighting swing", "--window session --min-support 1", "--cap 3")
KILLED = """
import os, signal
from tgqformer.cli import main
from tgqformer.pairs import parts

write, written = parts.write_arrow, []

def dying(path, table):
    write(path, table)
    written.append(path)
    if len(written) == 2:  # partitions
        os.kill(os.getpid(), signal.SIGKILL)

parts.write_arrow = dying
main()
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """4,000 clicks of 300 visitors on 200 items."""
    luck = np.random.default_rng(0)
    visitor, item = luck.integers(300, size=4000), (luck.integers(200, size=4000) * luck.random(4000)).astype(int)
    columns = {"session": [f"v{one}" for one in visitor], "item": [f"i{one}" for one in item]}
    pq.write_table(
        pa.table({**columns, "time": 1_600_000_000 + luck.integers(10**6, size=4000)}), tmp_path / "clicks.parquet"
    )
    return tmp_path / "clicks.parquet"


@pytest.mark.parametrize("settings", SETTINGS)
def test_shards_mine_what_one_process_does(settings: str, log: Path) -> None:
    whole, parts = log.with_name("whole.parquet"), log.with_name("parts.parquet")
    mine = f"pairs mine {log} {settings} --to"
    ran(f"{mine} {whole}")
    for shard in ("2/3", "3/3", "2/3"):
        assert "partitions are missing" in ran(f"{mine} {parts} --partition-size 7 --shard {shard}")
    assert "partitions are missing" in refused(f"{mine} {parts} --partition-size 7 --finish")
    assert not parts.exists()
    ran(f"{mine} {parts} --partition-size 7 --shard 1/3")
    assert pq.read_table(parts).equals(pq.read_table(whole)) and pq.read_metadata(parts).num_rows > 5
    assert not beside_of(parts).exists()
    kept = parts.read_bytes()
    for late in ("--shard 1/3", "--finish"):
        assert "finished already, of this log: nothing to do" in ran(f"{mine} {parts} --partition-size 7 {late}")
    assert "is not of these parts" in refused(f"{mine} {parts} --partition-size 8 --shard 1/3")
    assert "is not of these parts" in refused(f"{mine} {whole} --partition-size 7 --shard 1/3")
    assert parts.read_bytes() == kept and not beside_of(parts).exists() and not beside_of(whole).exists()


def test_a_killed_job_goes_on_without_its_log(log: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    ran(f"pairs mine {log} --to {whole}")
    words = f"pairs mine {log} --partition-size 20 --to {parts}"
    (tmp_path / "job.py").write_text(KILLED)
    job = [sys.executable, str(tmp_path / "job.py"), *f"{words} --shard 1/2".split()]
    assert subprocess.run(job, capture_output=True, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    kept = {one.name: one.stat().st_mtime_ns for one in beside_of(parts).glob("part-*.arrow")}
    assert len(kept) == 2
    ran(f"{words} --shard 1/2")
    assert {one: (beside_of(parts) / one).stat().st_mtime_ns for one in kept} == kept
    ran(f"{words} --shard 2/2")
    assert pq.read_table(parts).equals(pq.read_table(whole))


def test_what_is_not_the_same_work_is_refused(log: Path, tmp_path: Path) -> None:
    to = tmp_path / "pairs.parquet"
    mine = f"pairs mine {log} --to {to}"
    assert refused(f"{mine} --finish").endswith("mine it with --shard first")
    ran(f"{mine} --partition-size 20 --shard 1/2")
    for other in ("--cap 3 --partition-size 20", "--partition-size 21", "--window session --partition-size 20"):
        assert "begun of another log, or with other settings" in refused(f"{mine} {other} --shard 2/2")
    [part, *_] = sorted(beside_of(to).glob("part-*.arrow"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert part.name in refused(f"{mine} --partition-size 20 --shard 2/2") and not to.exists()
    part.unlink()
    ran(f"{mine} --partition-size 20 --shard 1/2")
    assert pq.read_metadata(to).num_rows
    assert "is not of these parts" in refused(f"{mine} --shard 1/2")
    assert "--partition-size goes with" in refused(f"pairs mine {log} --to {tmp_path}/o --partition-size 5")
    assert "lists pairs" in refused(f"pairs mine {to} --to {tmp_path}/o.parquet --shard 1/2")
