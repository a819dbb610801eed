from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tgqformer.errors import TgqError
from tgqformer.store.embeddings import Embeddings, fingerprint_of


def made(path: Path, count: int = 10, dim: int = 3, partition_size: int = 4, version: str = "v1") -> Embeddings:
    return Embeddings.create(
        path, dim=dim, model_version=version, ids_fingerprint="f", count=count, partition_size=partition_size
    )


def fill(embeddings: Embeddings) -> None:
    for number in embeddings.missing():
        start, stop = embeddings.bounds(number)
        rows = np.arange(start, stop, dtype=np.float32)[:, None] + np.arange(embeddings.dim, dtype=np.float32)
        embeddings.write(number, [f"i{i}" for i in range(start, stop)], rows)


def test_what_is_written_is_read_in_catalogue_order_whatever_the_order_of_writing(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e")
    assert embeddings.missing() == [0, 1, 2]
    for number in (2, 0, 1):
        start, stop = embeddings.bounds(number)
        embeddings.write(number, [f"i{i}" for i in range(start, stop)], np.full((stop - start, 3), number, np.float32))
    again = Embeddings.open(tmp_path / "e")
    assert not again.missing() and len(again) == 10 and again.partitions == 3 and again.dim == 3
    assert again.ids() == [f"i{i}" for i in range(10)]
    assert again.vectors().tolist() == [[n] * 3 for n in (0, 0, 0, 0, 1, 1, 1, 1, 2, 2)]
    assert [(part.number, part.start, len(part.ids)) for part in again] == [(0, 0, 4), (1, 4, 4), (2, 8, 2)]


def test_vectors_of_a_partition_are_mapped_not_copied(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e")
    fill(embeddings)
    vectors = embeddings.read(1).vectors
    assert not vectors.flags.writeable and not vectors.flags.owndata and vectors.dtype == np.float32


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e")
    with pytest.raises(TgqError, match="lacks 3 of 3 partitions"):
        embeddings.vectors()
    with pytest.raises(TgqError, match="not written yet"):
        embeddings.read(0)
    with pytest.raises(TgqError, match="no partition 3"):
        embeddings.bounds(3)


def test_an_empty_catalogue_is_complete_at_once(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e", count=0)
    assert not embeddings.missing() and embeddings.ids() == [] and embeddings.vectors().shape == (0, 3)


@pytest.mark.parametrize("change", [{"dim": 4}, {"version": "v2"}, {"count": 11}, {"partition_size": 5}])
def test_other_models_dims_or_catalogues_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    made(tmp_path / "e")
    with pytest.raises(TgqError, match="must not be mixed"):
        made(tmp_path / "e", **change)  # type: ignore[arg-type]


def test_what_is_replaced_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    fill(made(tmp_path / "e"))
    old = Embeddings.open(tmp_path / "e").vectors()
    shape = {"model_version": "v2", "ids_fingerprint": "f", "count": 10, "partition_size": 4, "dim": 2}
    new = Embeddings.create(tmp_path / "e", overwrite=True, **shape)
    new.write(0, ["i0", "i1", "i2", "i3"], np.ones((4, 2), np.float32))
    with pytest.raises(TgqError, match="lacks 2 of 3"):
        new.finish()
    assert np.array_equal(Embeddings.open(tmp_path / "e").vectors(), old)
    again = Embeddings.create(tmp_path / "e", overwrite=True, **shape)  # killed, and called again
    assert again.missing() == [1, 2]
    other = Embeddings.create(tmp_path / "e", overwrite=True, **{**shape, "model_version": "v3"})
    assert other.missing() == [0, 1, 2], "of another model: begun anew"
    fill(other)
    other.finish()
    assert other.path == (tmp_path / "e").resolve() and [path.name for path in tmp_path.iterdir()] == ["e"]
    assert Embeddings.open(tmp_path / "e").model_version == "v3"


def test_a_partition_without_its_checksum_is_told(tmp_path: Path) -> None:
    fill(made(tmp_path / "e"))
    (tmp_path / "e/part-00001.arrow.crc").unlink()
    with pytest.raises(TgqError, match="is damaged"):
        Embeddings.open(tmp_path / "e").read(1)


def test_create_resumes_and_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    fill(made(tmp_path / "e"))
    (tmp_path / "e" / ".part-00001.arrow.deadbeef.tmp").mkdir()
    (tmp_path / "e" / ".part-00001.arrow.deadbeef.tmp" / "part-00001.arrow").write_bytes(b"half")
    (tmp_path / "e" / ".notes.tmp").write_text("of somebody else")
    assert not made(tmp_path / "e").missing()
    assert not list((tmp_path / "e").glob(".part*")) and (tmp_path / "e" / ".notes.tmp").exists()


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b"], np.zeros((2, 3), np.float32), "takes 4 ids"),
        (list("abcd"), np.zeros((4, 2), np.float32), "float32 vectors"),
        (list("abcd"), np.zeros((4, 3), np.float64), "got 4 ids and float64"),
        (list("abca"), np.zeros((4, 3), np.float32), "'a' stands twice"),
        (list("abcd"), np.array([[0.0] * 3, [0, np.nan, 0], [0.0] * 3, [0.0] * 3], np.float32), "'b' is not finite"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, ids: list[str], vectors: np.ndarray, message: str) -> None:
    embeddings = made(tmp_path / "e")
    with pytest.raises(TgqError, match=message):
        embeddings.write(0, ids, vectors)
    assert embeddings.missing() == [0, 1, 2]


def test_an_id_in_two_partitions_is_found(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e", count=2, partition_size=1)
    for number in (0, 1):
        embeddings.write(number, ["same"], np.ones((1, 3), np.float32))
    with pytest.raises(TgqError, match="'same' stands in two partitions"):
        embeddings.ids()


def test_damage_is_reported_with_the_file(tmp_path: Path) -> None:
    embeddings = made(tmp_path / "e")
    fill(embeddings)
    (tmp_path / "e" / "part-00001.arrow").write_bytes(b"not arrow at all")
    with pytest.raises(TgqError, match=r"part-00001\.arrow is damaged"):
        embeddings.read(1)
    (tmp_path / "e" / "part-00000.arrow").write_bytes((tmp_path / "e" / "part-00002.arrow").read_bytes())
    with pytest.raises(TgqError, match=r"part-00000\.arrow is damaged"):
        embeddings.read(0)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TgqError, match="was not made by tgq"):
        made(tmp_path)
    with pytest.raises(TgqError, match=r"no readable manifest\.json"):
        Embeddings.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(TgqError, match="no manifest"):
        Embeddings.open(tmp_path)
    with pytest.raises(TgqError, match="need dim"):
        made(tmp_path / "new", dim=0)


def test_a_future_format_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "e")
    manifest = tmp_path / "e" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(TgqError, match="has format 9"):
        Embeddings.open(tmp_path / "e")


def test_the_fingerprint_hangs_on_every_id_and_its_place() -> None:
    variants = [["a", "bc"], ["ab", "c"], ["bc", "a"], ["a", "bc", ""], []]
    assert len({fingerprint_of(ids) for ids in variants}) == len(variants)
    assert fingerprint_of(iter(["a", "bc"])) == fingerprint_of(["a", "bc"])


WRITER = """
import sys, numpy as np
from pathlib import Path
from tgqformer.store.embeddings import Embeddings
shape = {"dim": 256, "count": 60_000, "partition_size": 1000}
e = Embeddings.create(Path(sys.argv[1]), model_version="v", ids_fingerprint="f", **shape)
print("ready", flush=True)
for n in e.missing():
    start, stop = e.bounds(n)
    rows = np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], 256, axis=1)
    e.write(n, [str(i) for i in range(start, stop)], rows)
"""


def test_a_job_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, luck = tmp_path / "e", random.Random(5)
    written: list[int] = []
    for round_ in range(6):
        job = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert job.stdout is not None and job.stdout.readline() == b"ready\n"
        while round_ % 2 and len(list(path.glob("part-*.arrow"))) == len(written) and job.poll() is None:
            time.sleep(0.001)
        time.sleep(luck.uniform(0.005, 0.06))
        job.kill()
        job.wait()
        job.stdout.close()
        embeddings = Embeddings.open(path)
        there = sorted(set(range(embeddings.partitions)) - set(embeddings.missing()))
        assert set(written) <= set(there)
        for number in set(there) - set(written):
            part = embeddings.read(number)
            assert part.vectors[:, 0].tolist() == list(range(part.start, part.start + 1000))
        written = there
    assert written, "no partition was written between the kills: the test tests nothing"
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, stdout=subprocess.DEVNULL)
    embeddings = Embeddings.open(path)
    assert embeddings.ids() == [str(i) for i in range(60_000)]
    assert np.array_equal(embeddings.vectors()[:, -1], np.arange(60_000, dtype=np.float32))
    assert not list(path.glob(".*"))
