"""Catalogues, embeddings, neighbours and stores in an object store: a real S3 server, and a wire to it that fails."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import calls
import obstore
import pytest
from calls import call, ran
from doc_runs import Terminal, walk_page
from gcs_server import gcs_server
from object_server import BUCKET, SECRET, environment, object_server, wire
from obstore.store import S3Store
from small_shop import draw, png, save_models

from tgqformer import objects, packages
from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.objects import Objects, in_shell, object_address, trouble_with
from tgqformer.stages import Digests
from tgqformer.store import approximate
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import Neighbours

EMBED = "embed {c} --model {s}/models/seed-1/model --partition-size 5"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with object_server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(autouse=True)
def keys(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def to(request: pytest.FixtureRequest) -> str:
    """An address of its own for each test."""
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').strip(']')}"


@pytest.fixture(scope="module")
def shop(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 24 items, two models, and what one job makes of them on a disk."""
    folder = tmp_path_factory.mktemp("objects")
    draw(folder / "catalog")
    save_models(tiny_model("vit"), tiny_model("bert"), folder / "models")
    ran(f"{EMBED.format(c=folder / 'catalog', s=folder)} --to {folder}/whole")
    ran(f"neighbours {folder}/whole -k 3 --to {folder}/near")
    return folder


def refused(words: str) -> str:
    told = calls.refused(words)
    assert SECRET not in told
    return told


def below(address: str) -> S3Store:
    prefix = address.removeprefix(f"s3://{BUCKET}").strip("/")
    return S3Store(BUCKET, prefix=prefix or None, client_options={"allow_http": True})


def content(folder: Path | str) -> dict[str, bytes]:
    """What a folder holds, on a disk or in the bucket: names and bytes."""
    if isinstance(folder, Path):
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    store = below(folder)
    names = [str(one["path"]) for page in obstore.list(store) for one in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def sent(folder: Path, address: str) -> None:
    """Copy a folder into the bucket, as any tool does."""
    for name, data in content(folder).items():
        obstore.put(below(address), name, data)


def test_shards_in_a_bucket_make_the_bytes_of_one_run_on_a_disk(shop: Path, to: str, tmp_path: Path) -> None:
    sent(shop / "catalog", f"{to}/catalog")
    embed = f"{EMBED.format(c=f'{to}/catalog', s=shop)} --to {to}/e"
    assert "not finished yet: 3 partitions are missing (0, 2, 3; counted from 0)" in ran(f"{embed} --shard 2/3")
    assert f"{to}/e is not finished: 3 partitions are missing" in refused(f"{embed} --finish")
    ran(f"{embed} --shard 1/3")
    assert f"into {to}/e" in ran(f"{embed} --shard 3/3")
    assert content(f"{to}/e") == content(shop / "whole")
    assert f"{to}/e is finished already" in ran(f"{embed} --finish") and "nothing to do" in ran(embed)
    near = f"neighbours {to}/e -k 3 --to {to}/n"
    ran(f"{near} --shard 1/2")
    assert f"of each of 24 items in {to}/n" in ran(f"{near} --shard 2/2")
    assert content(f"{to}/n") == content(shop / "near")
    assert Neighbours.open(Path(f"{to}/n")).of("sku-0") == Neighbours.open(shop / "near").of("sku-0")
    copied = tmp_path / "copied"
    copied.mkdir()
    for name, data in content(f"{to}/e").items():
        (copied / name).write_bytes(data)
    assert Embeddings.open(copied).ids() == Embeddings.open(Path(f"{to}/e")).ids(), "a copy is a folder like any other"


def test_approximate_neighbours_are_made_by_shards_in_a_bucket(
    shop: Path, to: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "BLOCK", 10)
    sent(shop / "whole", f"{to}/e")
    ran(f"neighbours {shop}/whole -k 3 --approximate --to {tmp_path}/n")
    near = f"neighbours {to}/e -k 3 --approximate --to {to}/n"
    assert "2 partitions are missing (0, 1" in ran(f"{near} --shard 3/3")
    assert "must not be mixed" in refused(f"{near.replace('-k 3', '-k 4')} --shard 1/3")
    assert not content(f"{to}/n")
    ran(f"{near} --shard 1/3")
    small = "from tgqformer.store import approximate; approximate.BLOCK = 10; from tgqformer.cli import main; main()"
    command = [sys.executable, "-c", small, *f"{near} --shard 2/3".split()]
    assert killed(command, f"{to}/n", port, content(tmp_path / "n"), left=6) and content(f"{to}/n")
    with pytest.raises(TgqError, match=r"no readable manifest|lacks 5 of 5 partitions"):
        Neighbours.open(Path(f"{to}/n"))
    assert "its parts stay at s3://" in ran(f"{near} --finish")
    assert content(f"{to}/n") == content(tmp_path / "n")
    assert f"{to}/n is finished already" in ran(near) and f"{to}/n is finished" in ran(f"{near} --shard 1/3")
    assert "with found 'approximate', not 'exact'" in refused(f"neighbours {to}/e -k 3 --to {to}/n")


def test_a_store_for_searches_is_made_in_the_bucket_from_what_lies_there(shop: Path, to: str, tmp_path: Path) -> None:
    sent(shop / "catalog", f"{to}/catalog")
    sent(shop / "whole", f"{to}/e")
    index = f"index {to}/e --catalog {to}/catalog --model {shop}/models/seed-1/model --to {to}/store"
    assert "24 items of" in ran(index)
    ran(f"index {shop}/whole --catalog {shop}/catalog --to {tmp_path}/store")
    query = "similar sku-0 --json --store"
    found = call(f"{query} {to}/store").stdout
    assert "sku-" in found and found == call(f"{query} {tmp_path}/store").stdout
    ran(index)
    assert "v2" in ran(f"store versions {to}/store")
    (tmp_path / "items.csv").write_text("id,title\n" + "".join(f"sku-{n},red shoe {n}\n" for n in range(24)))
    ran(f"catalog import {tmp_path}/items.csv --to {tmp_path}/changed")
    ran(f"sync {tmp_path}/changed --model {shop}/models/seed-1/model --store {to}/store")
    assert "red shoe 7" in ran(f"similar sku-7 --store {to}/store")
    ran(f"store rollback {to}/store")
    assert not any(SECRET.encode() in data for data in content(to).values())


def test_the_commands_of_the_page(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(png("red"))
    (tmp_path / "shop.csv").write_text("id,title,image\na,red shoe,a.png\nb,blue shoe,a.png\n")
    terminal = Terminal(instead={"small": f"{shop}/models/seed-1/model"})
    walk_page("docs/cluster.md", terminal, "An object store")
    assert {name.partition("/")[0] for name in content(f"s3://{BUCKET}")} >= {"embeddings", "neighbours", "store"}
    assert {path.name for path in tmp_path.iterdir()} == {"shop.csv", "photos"}


def test_a_catalogue_whose_pictures_lie_elsewhere_is_refused(shop: Path, to: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    (tmp_path / "items.csv").write_text("id,title,image\na,red shoe,a.png\n")
    ran(f"catalog import {tmp_path}/items.csv --to {tmp_path}/catalog")
    sent(tmp_path / "catalog", to)
    assert "give --pack" in refused(f"catalog import {tmp_path}/items.csv --to {to}/c")
    assert not content(f"{to}/c")
    assert "make it with `tgq catalog import … --pack`" in refused(f"{EMBED.format(c=to, s=shop)} --to {tmp_path}/e")
    assert "is not a catalogue (it has no catalog.json)" in refused(
        f"{EMBED.format(c=f'{to}/no', s=shop)} --to {tmp_path}/e"
    )


def test_an_import_writes_a_catalogue_into_the_bucket(to: str, tmp_path: Path, port: int) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    (tmp_path / "items.csv").write_text("id,title,image\na,red shoe,a.png\nb,blue shoe,\n")
    importing = f"catalog import {tmp_path}/items.csv --pack --to"
    assert f"report: {to}/c/report.html" in ran(f"{importing} {to}/c")
    ran(f"{importing} {tmp_path}/c")
    here, there = Catalog.open(tmp_path / "c"), Catalog.open(Path(f"{to}/c"))
    assert content(f"{to}/c").keys() == content(tmp_path / "c").keys() and here.fingerprint == there.fingerprint
    assert list(here.items()) == list(there.items()) and there.take(["b"]) == here.take(["b"])
    assert "exists already" in refused(f"{importing} {to}/c")
    assert "red shoe" in ran(f"catalog show {to}/c")
    with pytest.raises(TgqError, match="has no item 'c'"):
        there.take(["c"])
    command = [sys.executable, "-c", "from tgqformer.cli import main; main()", *f"{importing} {to}/d".split()]
    assert killed(command, f"{to}/d", port, None, left=2)
    with pytest.raises(TgqError, match="is not a catalogue"):
        Catalog.open(Path(f"{to}/d"))
    obstore.put(below(f"{to}/c"), "items-00000.parquet", b"damaged")
    with pytest.raises(TgqError, match=f"the catalogue is damaged at {to}/c/items-00000.parquet"):
        Catalog.open(Path(f"{to}/c"))


def test_what_is_not_ours_stays_and_nothing_is_ever_removed(
    shop: Path, to: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = EMBED.format(c=shop / "catalog", s=shop)
    obstore.put(below(f"{to}/theirs"), "deep/report.csv", b"theirs")
    with wire(port, lambda method, path: None) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.server_port}")
        assert "was not made by tgq" in refused(f"{embed} --to {to}/theirs")
        assert "was not made by tgq" in refused(f"{embed} --to {to}/theirs --overwrite")
        ran(f"{embed} --to {to}/e")
        assert "holds something else (embeddings, not neighbours)" in refused(f"neighbours {shop}/whole --to {to}/e")
        assert "is what is read, or holds it" in refused(f"neighbours {to}/e --to {to}/e/")
        other = embed.replace("seed-1", "seed-2")
        assert "must not be mixed" in refused(f"{other} --to {to}/e")
        assert "objects are never replaced; choose another address" in refused(f"{other} --to {to}/e --overwrite")
        ran(f"neighbours {to}/e -k 3 --to {to}/n")
        assert "can be written to a disk alone" in refused(f"noise apply {shop}/catalog --view noised --to {to}/a")
        assert "with found 'exact', not 'approximate'" in refused(f"neighbours {to}/e -k 3 --approximate --to {to}/n")
        assert {method for method, _ in line.seen} == {"GET", "HEAD", "PUT"}  # type: ignore[attr-defined]
        assert content(f"{to}/theirs") == {"deep/report.csv": b"theirs"}
        assert content(f"{to}/e") == content(shop / "whole")


@pytest.mark.parametrize("fault", ["503", "cut", "unanswered"])
def test_faults_of_the_network_leave_no_half_and_no_other_bytes(
    fault: str, shop: Path, to: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSES", (0.01,) * 5)
    tried: dict[str, int] = {}

    def faults(method: str, path: str) -> str | None:
        tried[path] = tried.get(path, 0) + 1
        return fault if tried[path] == 1 and (method == "PUT" or fault == "503") else None

    with wire(port, faults) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.server_port}")
        ran(f"{EMBED.format(c=shop / 'catalog', s=shop)} --to {to}")
        assert content(to) == content(shop / "whole")
    assert sum(number > 1 for number in tried.values()) >= 12


JOB = """
import sys
from pathlib import Path
import pyarrow as pa
from tgqformer.store.partitions import PartitionFolder
shape = {"count": 80, "partition_size": 10}
folder = PartitionFolder.create(Path(sys.argv[1]), shape, kind="embeddings", command="embed")
for number in folder.missing():
    folder.write(number, pa.table({"id": [f"{number}-{row}" * 1000 for row in range(10)]}), unreadable={"a": "b"})
folder.finish()
"""


def killed(command: list[str], address: str, port: int, whole: dict[str, bytes] | None, left: int) -> bool:
    """Run a command that is killed while half of its so many-th object is on the way; return whether it was."""
    jobs: list[subprocess.Popen[bytes]] = []

    def faults(method: str, path: str) -> str | None:
        nonlocal left
        left -= method == "PUT"
        if left > 0:
            return None
        jobs[0].kill()
        return "cut"

    with wire(port, faults) as line:
        there = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.server_port}"}
        jobs.append(subprocess.Popen(command, env=there, stdout=subprocess.DEVNULL))
        code = jobs[0].wait()
    assert code in (0, -signal.SIGKILL)
    assert not whole or all(whole[name] == data for name, data in content(address).items()), (
        "no half of an object counts"
    )
    return code != 0


@pytest.mark.slow
def test_a_job_that_is_killed_at_random_moments_goes_on_where_it_was(to: str, port: int, tmp_path: Path) -> None:
    drawn, kills = random.Random(7), 0
    subprocess.run([sys.executable, "-c", JOB, str(tmp_path / "whole")], check=True)
    whole = content(tmp_path / "whole")
    while killed([sys.executable, "-c", JOB, to], to, port, whole, drawn.randint(2, 7)):
        kills += 1
    assert kills >= 3 and content(to) == whole


@pytest.mark.slow
def test_a_shard_of_embeddings_that_is_killed_goes_on(shop: Path, to: str, port: int) -> None:
    words, whole = f"{EMBED.format(c=shop / 'catalog', s=shop)} --to {to} --shard 1/1", content(shop / "whole")
    command = [sys.executable, "-c", "from tgqformer.cli import main; main()", *words.split()]
    assert killed(command, to, port, whole, left=6)
    assert "embedded 19 items" in ran(words) and content(to) == whole


def test_the_first_of_two_writers_wins_and_its_checksum_is_known(to: str) -> None:
    one, two = Objects(to), Objects(to)
    for objects_of, data in ((one, b"one"), (two, b"two")):
        (objects_of.here / "part").write_bytes(data)
        (objects_of.here / "part.crc").write_text(f"{data.hex()}\n")
        objects_of.keep("part")
    assert content(to) == {"part": b"one", "part.crc": b"two".hex().encode() + b"\n" + b"one".hex().encode() + b"\n"}
    assert two.file("part").read_bytes() == b"one" and not two.file("none").exists()


def test_google_holds_the_bytes_of_a_disk(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gcs_server(tmp_path / "key.json") as (held, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        to = "gs://shop-data/folder"
        (tmp_path / "items.csv").write_text("id,title\na,red shoe\nb,blue shoe\n")
        ran(f"catalog import {tmp_path}/items.csv --pack --to {to}/catalog")
        assert Catalog.open(Path(f"{to}/catalog")).ids() == ["a", "b"]
        embed = f"{EMBED.format(c=shop / 'catalog', s=shop)} --to {to}/e"
        ran(f"{embed} --shard 1/2")
        ran(f"{embed} --shard 2/2")
        ran(f"neighbours {to}/e -k 3 --to {to}/n")
        for folder, made in (("e", "whole"), ("n", "near")):
            place = f"shop-data/folder/{folder}/"
            found = {name.removeprefix(place): data for name, (data, _) in held.held.items() if name.startswith(place)}
            assert found == content(shop / made)
        ran(f"index {to}/e --catalog {shop}/catalog --to {to}/store")
        assert "red shirt" in ran(f"similar sku-0 --store {to}/store")
        assert "objects are never replaced" in refused(f"{embed.replace('seed-1', 'seed-2')} --overwrite")
        for data in (b"one", b"two"):  # the second finds the checksum of the first, and adds its own
            own = Objects(f"{to}/part")
            (own.here / "part").write_bytes(data)
            (own.here / "part.crc").write_text(f"{data.hex()}\n")
            assert own.keep("part") == (data == b"one")
        assert held.held["shop-data/folder/part/part.crc"][0] == b"74776f\n6f6e65\n"


def test_large_objects_are_sent_in_parts(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "AT_ONCE", 1000)
    data = random.Random(1).randbytes(9 << 20)
    for sent_data in (data, b"x" * 2000):
        own = Objects(to)
        (own.here / "large").write_bytes(sent_data)
        own.keep("large")
    assert own.file("large").read_bytes() == data and own.start_of("large", 4) == data[:4]


def test_damage_is_found(shop: Path, to: str) -> None:
    sent(shop / "whole", to)
    data = bytearray(content(to)["part-00001.arrow"])
    data[-600] ^= 1
    obstore.put(below(to), "part-00001.arrow", bytes(data))
    with pytest.raises(TgqError, match=f"{to}/part-00001.arrow is damaged"):
        Embeddings.open(Path(to)).ids()
    obstore.delete(below(to), ["part-00001.arrow.crc", "part-00001.arrow"])
    with pytest.raises(TgqError, match="lacks 1 of 5 partitions"):
        Embeddings.open(Path(to)).ids()


def test_what_reads_disks_alone_says_so(to: str, tmp_path: Path) -> None:
    for words in ("--neighbours", "--catalog"):
        assert f"a service reads {to}/n from a disk alone" in refused(f"serve {tmp_path} {words} {to}/n")
    with pytest.raises(TgqError, match=f"a run reads {to}/c from a disk alone"):
        Digests().of(Path(f"{to}/c"))


def test_what_is_fetched_goes_with_who_fetched_it(
    shop: Path, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(shop / "whole", to)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    embeddings = Embeddings.open(Path(to))
    vectors = embeddings.read(0).vectors
    [folder] = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0, "nobody else may look"
    embeddings = None  # type: ignore[assignment]
    gc.collect()
    assert not list(tmp_path.iterdir()) and vectors.shape[0] == 5, "what is mapped stays readable"


def test_what_is_wrong_with_a_store_is_told(shop: Path, to: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PATIENCE", {"max_retries": 1})
    embed = f"{EMBED.format(c=shop / 'catalog', s=shop)} --to"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongsecret")
    told = refused(f"{embed} {to}")
    assert f"{to} refuses these keys (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID" in told
    assert "wrongsecret" not in told
    index = f"index {shop}/whole --catalog {shop}/catalog --to {to}/store"
    for words in (index, f"similar sku-0 --store {to}/store"):
        assert f"{to}/store refuses these keys (SignatureDoesNotMatch)" in refused(words)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert "is no store; make one with `tgq index`" in refused(f"similar sku-0 --store {to}/store")
    assert "refuses these keys (AccessDenied)" in refused(f"{embed} s3://another-bucket/e")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert f"{to} cannot be reached: nobody answers at http://127.0.0.1:9;" in refused(f"{embed} {to}")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "set AWS_ALLOW_HTTP=true" in refused(f"{embed} {to}")
    missing = "404 Not Found: <Code>NoSuchBucket</Code>"
    assert trouble_with("s3://b/e", missing) == "there is no bucket 'b' for s3://b/e; make it, or check the address"
    no_keys = trouble_with("s3://b/e", "Error performing PUT http://169.254.169.254/latest/api/token")
    assert no_keys == trouble_with(
        "s3://b/e", "Generic { Failed to get AWS credentials: ProviderError(StatusCode(403)) }"
    )
    assert no_keys == "no keys to s3://b/e were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ill = trouble_with("s3://b/e", "Server returned non-2xx status code: 500 Internal Server Error: ")
    assert ill == "s3://b/e answers with an error (500 Internal Server Error); call the same again later"
    busy = "after 2 retries, retry_timeout: 180s - Server returned non-2xx status code: 503 Service Unavailable: "
    assert "answers with an error (503 Service Unavailable)" in str(trouble_with("s3://b/e", busy))


def test_what_brings_addresses_is_named(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[objects\]'"):
        Embeddings.open(Path(to))


def test_addresses() -> None:
    assert object_address("s3:/b/c") == object_address(Path("s3://b/c/")) == "s3://b/c"
    assert object_address("C:/data") is object_address("a/b:c") is None
    assert in_shell(Path("s3://b/c d")) == "'s3://b/c d'" and in_shell(Path("a b")) == "'a b'"
    assert in_shell("postgresql://u@/d?host=/tmp") == "'postgresql://u@/d?host=/tmp'"
    for address in ("s3://key:secret@b/c", "s3://b/c?sig=1"):
        with pytest.raises(TgqError, match="no keys stand in an address") as caught:
            object_address(address)
        assert "secret" not in str(caught.value)
    with pytest.raises(TgqError, match="known are s3://, gs://, az://"):
        object_address("hdfs://b/c")


def test_a_store_that_goes_away_in_the_middle_is_told(
    shop: Path, to: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, similar = f"index {shop}/whole --catalog {shop}/catalog --to {to}/store", f"similar sku-0 --store {to}/store"
    ran(index)

    def told(words: str, left: int, fault: str) -> str:
        """Refuse a command whose store fails after so many requests."""
        asked = count()
        with wire(port, lambda method, path: fault if next(asked) >= left else None) as line:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.server_port}")
            return refused(words)

    for words, left in ((similar, 6), (index, 9), (index, 30)):
        assert "cannot be reached: nobody answers" in told(words, left, "unanswered")
        assert "answers with an error (503 Service Unavailable)" in told(words, left, "503")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    assert "red shirt" in ran(similar), "what was there stays"
