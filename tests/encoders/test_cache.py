from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

from tgqformer.encoders import cache as cache_module
from tgqformer.encoders import parts
from tgqformer.encoders.cache import TextCache, VisualCache
from tgqformer.errors import TgqError


def picture(i: int) -> Image.Image:
    return Image.new("RGB", (2, 2), (i % 256, i // 256 % 256, 7))


def jobs(count: int):
    return [(f"p{i}", lambda i=i: picture(i)) for i in range(count)]


def test_gather_gives_what_encode_gives(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    assert cache.fill(jobs(50), batch_size=8, partition=16, shown=False) == 50 == len(cache)
    order = [49, 0, 17, 17, 3]
    got = cache.gather(cache.rows([f"p{i}" for i in order]))
    expected = small_vision.encode(torch.stack([small_vision.preprocess(picture(i)) for i in order]))
    assert got.tokens.dtype is torch.float16 and got.tokens.shape == (5, 4, 3)
    assert torch.equal(got.tokens.float(), expected.tokens) and torch.equal(got.vector.float(), expected.vector)
    assert len(list((tmp_path / "small-1").glob("part-*"))) == 4


def test_no_picture_gives_row_minus_one_and_zeros(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    cache.fill(jobs(3), shown=False)
    rows = cache.rows([None, "p2", None])
    assert rows.dtype == np.int64 and rows[0] == rows[2] == -1
    got = cache.gather(rows)
    assert (got.tokens[0] == 0).all() and (got.vector[2] == 0).all() and (got.tokens[1] != 0).any()
    assert cache.gather(cache.rows([None])).tokens.shape == (1, 4, 3)
    assert cache.gather(cache.rows([])).tokens.shape == (0, 4, 3)


def test_every_key_is_encoded_once(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    doubled = jobs(20) + jobs(20) + jobs(25)
    assert cache.fill(doubled, batch_size=4, partition=4, shown=False) == 25
    assert cache.fill(iter(doubled), shown=False) == 0
    assert sum(small_vision.batches) == 25
    assert VisualCache(tmp_path, small_vision).fill(jobs(26), shown=False) == 1


def test_a_key_that_was_never_filled_is_named(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    cache.fill(jobs(2), shown=False)
    with pytest.raises(TgqError, match=r"2 of 3 keys.*'x'.*fill the cache"):
        cache.rows(["p0", "x", None, "y"])


def test_another_fingerprint_is_another_cache(tmp_path, make_small_vision):
    VisualCache(tmp_path, make_small_vision("a")).fill(jobs(2), shown=False)
    assert len(VisualCache(tmp_path, make_small_vision("b"))) == 0
    assert len(VisualCache(tmp_path, make_small_vision("a"))) == 2


@pytest.mark.parametrize("raised", [OSError("truncated"), ValueError("bad"), SyntaxError("png"), TgqError("odd")])
def test_an_unreadable_picture_is_named_and_what_was_before_is_kept(tmp_path, small_vision, raised):
    def load():
        raise raised

    cache = VisualCache(tmp_path, small_vision)
    with pytest.raises(TgqError, match=f"key broken cannot be read: {raised}"):
        cache.fill([*jobs(10), ("broken", load), *jobs(500)], batch_size=5, shown=False)
    assert len(cache) == 10
    assert cache.fill(jobs(12), shown=False) == 2


def test_a_real_damaged_file_is_named(tmp_path, small_vision):
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(TgqError, match="key half"):
        VisualCache(tmp_path, small_vision).fill([("half", lambda: Image.open(path))], shown=False)


def test_values_beyond_float16_are_clamped_and_nan_is_refused(tmp_path, make_small_vision):
    large = VisualCache(tmp_path, make_small_vision("large", scale=1e6))
    large.fill(jobs(3), shown=False)
    got = large.gather(large.rows(["p2"]))
    assert got.tokens.isfinite().all() and float(got.tokens.max()) == 65504.0
    with pytest.raises(TgqError, match="NaN"):
        VisualCache(tmp_path, make_small_vision("nan", scale=float("nan"))).fill(jobs(1), shown=False)


def test_decoding_runs_ahead_of_the_encoder_but_not_far(tmp_path, small_vision):
    opened, ahead, lock = [], [], threading.Lock()

    def job(i: int):
        def load():
            with lock:
                opened.append(i)
            return picture(i)

        return f"p{i}", load

    encode = small_vision.encode

    def slow_encode(pixels):
        time.sleep(0.02)
        ahead.append(len(opened) - sum(small_vision.batches))
        return encode(pixels)

    small_vision.encode = slow_encode
    VisualCache(tmp_path, small_vision).fill((job(i) for i in range(200)), batch_size=5, shown=False)
    assert max(ahead) <= 5 + 2 * 5 + 2 and max(ahead) > 5


KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    import torch
    from PIL import Image
    from tgqformer.encoders import VisualFeatures
    from tgqformer.encoders.cache import VisualCache

    class Encoder:
        name, fingerprint, grid, width, vector_width = "small", "small-1", (2, 2), 3, 3
        seen = 0
        def preprocess(self, picture):
            return torch.zeros(3, 2, 2, dtype=torch.uint8)
        def encode(self, pixels):
            self.seen += len(pixels)
            if self.seen > 70:
                os.kill(os.getpid(), signal.SIGKILL)
            return VisualFeatures(torch.ones(len(pixels), 4, 3), torch.ones(len(pixels), 3))

    jobs = ((f"p{i}", lambda: Image.new("RGB", (2, 2))) for i in range(200))
    VisualCache(Path(sys.argv[1]), Encoder()).fill(jobs, batch_size=10, partition=20, shown=False)
"""


def test_a_killed_job_leaves_whole_partitions_and_starts_again_where_it_was(tmp_path, small_vision):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    cache = VisualCache(tmp_path, small_vision)
    kept = len(cache)
    assert kept in (20, 40, 60)  # whole partitions of 20; of the 70 rows encoded, the last were in memory or in threads
    assert cache.fill(jobs(200), batch_size=10, shown=False) == 200 - kept
    rows = cache.rows([f"p{i}" for i in range(200)])
    assert sorted(rows) == list(range(200)) and len(cache.gather(rows).tokens) == 200


def test_leftovers_of_killed_writers_are_ignored_and_swept_when_old(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    old, young = (tmp_path / "small-1" / f".part-{i}.safetensors.aa.tmp" for i in range(2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.fill(jobs(1), shown=False)
    assert not old.exists() and young.exists() and len(cache) == 1


@pytest.mark.parametrize("damage", [b"", b"\x09", b"\xff" * 40])
def test_a_damaged_partition_is_named(tmp_path, small_vision, damage):
    VisualCache(tmp_path, small_vision).fill(jobs(3), shown=False)
    (path,) = (tmp_path / "small-1").glob("part-*")
    path.write_bytes(damage)
    with pytest.raises(TgqError, match="is damaged"):
        VisualCache(tmp_path, small_vision)


def test_a_shortened_partition_is_named(tmp_path, small_vision):
    VisualCache(tmp_path, small_vision).fill(jobs(30), shown=False)
    (path,) = (tmp_path / "small-1").glob("part-*")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TgqError, match="delete it"):
        VisualCache(tmp_path, small_vision)


def test_checksums_as_an_earlier_version_wrote_them_are_held_too(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    cache.fill(jobs(3), shown=False)
    (path,) = (tmp_path / "small-1").glob("part-*")
    held = load_file(path)
    for wrong in (0, 1):
        sums = {name: f"{crc32(array.tobytes()) + wrong:08x}" for name, array in held.items()}
        save_file(held, path, sums)
        if wrong:
            with pytest.raises(TgqError, match="the checksum of its keys does not fit"):
                VisualCache(tmp_path, small_vision)
        else:
            assert len(VisualCache(tmp_path, small_vision).rows(["p0", "p2"])) == 2


def test_readers_see_what_a_writer_adds_and_old_rows_stay(tmp_path, small_vision, make_small_vision):
    reader = VisualCache(tmp_path, make_small_vision())
    writer = VisualCache(tmp_path, small_vision)
    writer.fill(jobs(5), shown=False)
    before = reader.rows(["p4", "p0"])
    writer.fill(jobs(9), shown=False)
    assert len(reader.rows([f"p{i}" for i in range(9)])) == 9
    assert (reader.rows(["p4", "p0"]) == before).all()


def test_many_readers_at_once(tmp_path, small_vision, monkeypatch):
    monkeypatch.setattr(parts, "MOST_OPEN", 3)
    monkeypatch.setattr(parts, "MOST_RESIDENT", 500)
    cache = VisualCache(tmp_path, small_vision)
    cache.fill(jobs(120), batch_size=10, partition=10, shown=False)
    expected = cache.gather(cache.rows([f"p{i}" for i in range(120)])).tokens

    def read(seed: int) -> bool:
        order = np.random.default_rng(seed).integers(0, 120, 40)
        return torch.equal(cache.gather(cache.rows([f"p{i}" for i in order])).tokens, expected[order])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(40)))


def test_a_row_that_does_not_exist_is_an_error(tmp_path, small_vision):
    cache = VisualCache(tmp_path, small_vision)
    cache.fill(jobs(3), shown=False)
    with pytest.raises(IndexError, match="row 3 of a cache with 3 rows"):
        cache.gather(np.array([3]))


TEXTS = ["red shirt", "", "b", "a much longer title than the others", "naïve 衬衫"]


def test_texts_are_ragged_and_padded_as_they_are_gathered(tmp_path, small_text):
    cache = TextCache(tmp_path, small_text)
    assert cache.fill(TEXTS + TEXTS, batch_size=2, partition=3, shown=False) == 5
    assert sorted(small_text.texts) == sorted(TEXTS)
    got = cache.gather(cache.rows([TEXTS[4], None, TEXTS[1], TEXTS[0]]))
    expected = small_text.encode([TEXTS[4], "", "", TEXTS[0]])
    assert torch.equal(got.mask, expected.mask) and got.tokens.shape == (4, 9, 2)
    assert torch.equal(got.tokens, expected.tokens.half()) and torch.equal(got.vector, expected.vector.half())


def test_texts_without_any_token_still_have_one_place(tmp_path, small_text):
    cache = TextCache(tmp_path, small_text)
    assert cache.gather(cache.rows([None, None])).tokens.shape == (2, 1, 2)
    cache.fill([""], shown=False)
    got = TextCache(tmp_path, small_text).gather(cache.rows(["", None]))
    assert got.tokens.shape == (2, 1, 2) and not got.mask.any() and (got.vector == 0).all()


def test_texts_restart_and_name_what_is_missing(tmp_path, small_text):
    TextCache(tmp_path, small_text).fill(TEXTS[:2], shown=False)
    again = TextCache(tmp_path, small_text)
    assert again.fill(TEXTS, shown=False) == 3
    with pytest.raises(TgqError, match=r"1 of 1 keys.*text cache.*'unseen'"):
        again.rows(["unseen"])


def test_memory_stays_bounded_while_filling(tmp_path, make_small_vision):
    """144 MB of tokens pass through; what is resident grows by a few partitions of 6 MB, and not with the rows."""
    psutil = pytest.importorskip("psutil")

    class Wide(make_small_vision):
        grid, width = (2, 2), 1500

        def encode(self, pixels):
            return cache_module.VisualFeatures(torch.ones(len(pixels), 4, 1500), torch.ones(len(pixels), 3))

    blank = Image.new("RGB", (2, 2))
    cache, process, peaks = VisualCache(tmp_path, Wide()), psutil.Process(), []
    cache.fill(((f"w{i}", lambda: blank) for i in range(500)), partition=500, batch_size=250, shown=False)
    start = process.memory_info().rss

    def stream():
        for i in range(12_000):
            if i % 1000 == 0:
                peaks.append(process.memory_info().rss - start)
            yield f"p{i}", lambda: blank

    cache.fill(stream(), partition=500, batch_size=250, shown=False)
    assert len(cache) == 12_500 and max(peaks) < 100 * 2**20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=8), st.data())
def test_the_index_finds_every_key_of_every_run(batches, data):
    """Keys are drawn so that first halves collide often; -1 for what was never added."""
    index, truth = parts.KeyIndex(), {}
    for batch in batches:
        keys = np.array([(n // 8, n) for n in batch], dtype=np.uint64).reshape(-1, 2)
        index.add(keys, np.array(batch, dtype=np.int64) * 10)
        truth.update({n: n * 10 for n in batch})
    asked = data.draw(st.lists(st.integers(0, 80), max_size=40))
    found = index.find(np.array([(n // 8, n) for n in asked], dtype=np.uint64).reshape(-1, 2))
    assert found.tolist() == [truth.get(n, -1) for n in asked]
    assert len(index) == sum(map(len, batches))
