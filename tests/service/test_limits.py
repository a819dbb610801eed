"""Limits: keys, sizes, numbers, time, heads; an orderly end; logs without payloads."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from errno import ENOSPC
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
import pytest
from PIL import Image
from small_shop import FAST, WAIT, Client, Running, Shop, eventually, exchange, make_shop, multipart, png, serving

from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.service.keys import Keyring, new_key, read_keys, remove_key
from tgqformer.service.server import listen
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.telemetry import JsonLines


def test_keys(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    write, read = new_key(file, "importer", "write"), new_key(file, "front", "read")
    assert write not in file.read_text() and file.stat().st_mode & 0o077 == 0
    settings = replace(FAST, keys=file)
    with serving(shop, settings) as running:
        ask = running.client()

        def status(method: str, path: str, **headers: str) -> int:
            body, kind = multipart({"title": "red shoe"}) if method in ("PUT", "POST") else (None, "")
            return ask(method, path, body, {"content-type": kind, **headers})[0]

        bearer = {name: {"authorization": f"Bearer {key}"} for name, key in (("w", write), ("r", read))}
        assert status("GET", "/healthz") == status("GET", "/readyz") == 200
        for path in ("/items/sku-1", "/metrics", "/openapi.json", "/nowhere"):
            assert status("GET", path) == 401
        assert status("GET", "/items/sku-1", authorization="Bearer tgq_wrong") == 401
        assert status("GET", "/items/sku-1", authorization="Basic !!!") == 401
        assert status("GET", "/items/sku-1", **bearer["r"]) == 200
        assert status("GET", "/items/sku-1", **{"x-api-key": read}) == 200
        password = base64.b64encode(f"me:{read}".encode()).decode()
        assert status("GET", "/items/sku-1", authorization=f"Basic {password}") == 200
        assert status("POST", "/search", **bearer["r"]) == 200
        assert status("PUT", "/items/new", **bearer["r"]) == status("DELETE", "/items/sku-1", **bearer["r"]) == 403
        assert status("PUT", "/items/new", **bearer["w"]) == 200
        _, headers, body = ask("GET", "/items/sku-1")
        assert headers["www-authenticate"].startswith("Basic") and body["hint"]
        remove_key(file, "front")
        until = time.monotonic() + WAIT
        while status("GET", "/items/sku-1", **bearer["r"]) != 401:
            assert time.monotonic() < until
    with serving(shop, replace(settings, open_reads=True)) as running:
        ask = running.client()
        assert status("GET", "/items/sku-1") == status("POST", "/search") == 200
        assert status("PUT", "/items/new") == status("DELETE", "/items/sku-1") == 401


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with pytest.raises(TgqError, match="tgq keys new"):
        Keyring(file)
    new_key(file, "a", "read")
    with pytest.raises(TgqError, match="has a key 'a' already"):
        new_key(file, "a", "write")
    for name in ("", " "):
        with pytest.raises(TgqError, match="a key needs a name"):
            new_key(file, name, "read")
    with pytest.raises(TgqError, match="it has a"):
        remove_key(file, "b")
    ring = Keyring(file)
    assert ring.scope_of("tgq_no") is None and not ring.reload()
    assert [key.name for key in read_keys(file)] == ["a"]
    file.write_text('{"keys": [{"name": "a", "digest": "", "scope": "root", "created": ""}]}')
    with pytest.raises(TgqError, match="neither read nor write"):
        read_keys(file)
    file.write_text("[]")
    with pytest.raises(TgqError, match="no readable file of keys"):
        read_keys(file)


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    file, names = tmp_path / "keys.json", [f"key-{n}" for n in range(24)]
    with ThreadPoolExecutor(4) as made:
        list(made.map(lambda name: new_key(file, name, "read"), names))
        assert sorted(key.name for key in read_keys(file)) == sorted(names)
        list(made.map(lambda name: remove_key(file, name), names[1:]))
    assert [key.name for key in read_keys(file)] == names[:1]


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> object:
    """A server with small limits."""
    shop = make_shop(tmp_path_factory.mktemp("tight") / "run", drawn, models)
    limits = replace(FAST, max_body_bytes=100_000, max_pixels=10_000, head_bytes=8192, head_seconds=3.0)
    with serving(shop, limits) as running:
        yield running


def test_a_body_that_is_too_large(tight: Running) -> None:
    status, headers, body = Client(tight.port)("POST", "/search", b"x" * 100_001)
    assert (status, headers["connection"]) == (413, "close") and "too large" in body["error"]
    form, kind = multipart({}, b"x" * 200_000)
    head = (
        f"POST /search HTTP/1.1\r\nhost: [::1]\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    )
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (form[i : i + 9000] for i in range(0, len(form), 9000))]
    assert b" 413 " in exchange(tight.port, head, *chunks, b"0\r\n\r\n").split(b"\r\n")[0]
    lying = f"POST /search HTTP/1.1\r\nhost: [::1]\r\ncontent-type: {kind}\r\ncontent-length: 50\r\n\r\n".encode()
    assert b" 4" in exchange(tight.port, lying, form[:60]).split(b"\r\n")[0]


def test_a_temporary_disk_that_is_full(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")  # more than is kept in memory

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device", "/secret")

    with serving(shop) as running:
        monkeypatch.setattr(SpooledTemporaryFile, "rollover", full)
        status, body = running.client().form("POST", "/search", file.getvalue())
        assert status == 503 and "disk" in body["error"] and "secret" not in str(body)
        monkeypatch.undo()
        assert running.client().form("POST", "/search", file.getvalue())[0] == 200


def test_pictures_beyond_the_limits(tight: Running) -> None:
    ask = tight.client()
    status, body = ask.form("POST", "/search", png("red", (101, 100)))
    assert status == 413 and "million is the limit" in body["error"] and "smaller" in body["hint"]
    status, body = ask.form("POST", "/search", png("red", (100, 100))[:-30])
    assert status == 422 and "cut off" in body["error"] and "whole file" in body["hint"]
    status, body = ask.form("POST", "/search", b"no picture")
    assert status == 422 and "cannot be read" in body["error"] and "JPEG" in body["hint"]
    assert ask.form("POST", "/search", png("red", (100, 100)))[0] == 200


def test_a_request_that_takes_too_long(shop: Shop) -> None:
    form, kind = multipart({"title": "slow"})
    head = f"HTTP/1.1\r\nhost: [::1]\r\ncontent-type: {kind}\r\ncontent-length: {len(form)}\r\n\r\n"
    with serving(shop, replace(FAST, timeout=1.0)) as running:
        read = exchange(running.port, f"POST /search {head}".encode(), form[:10])
        write = exchange(running.port, f"PUT /items/slow {head}".encode(), form[:10])
    assert b" 503 " in read.split(b"\r\n")[0] and b"retry-after" in read
    assert b" 504 " in write.split(b"\r\n")[0] and b"retry-after" in write


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /healthz HTTP/1.1\r\nhost: [::1]\r\nx-long: " + b"a" * 20_000 + b"\r\n\r\n",),
        (b"GET /healthz HTTP/1.1\r\nhost: [::1]\r\nx-long: ", *[b"a" * 3000] * 5),
        (b"GET /" + b"a" * 20_000,),
        (b"GET /healthz HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(2000)) + b"\r\n",),
        (b"GET /healthz HTTP/1.1\r\nhost:",),
        (b"",),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",),
        (b"GET \xff\xfe HTTP/1.1\r\nhost: [::1]\r\n\r\n",),
    ],
    ids=["header", "streamed header", "path", "many headers", "slow header", "silence", "tls", "bytes"],
)
def test_heads_beyond_the_limits(tight: Running, parts: tuple[bytes, ...]) -> None:
    answer = exchange(tight.port, *parts, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 400 ") and Client(tight.port).get("/healthz")


def test_too_many_at_once(shop: Shop) -> None:
    with serving(shop, replace(FAST, concurrency=2)) as running:
        held = threading.Event()
        slow = running.site.served.table.search
        running.site.served.table.search = lambda *a, **k: (held.wait(WAIT), slow(*a, **k))[1]  # type: ignore[method-assign]
        codes: list[int] = []

        def search() -> None:
            codes.append(running.client().form("POST", "/search", title="red shoe")[0])

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        in_work = running.site.telemetry.in_work
        eventually(lambda: in_work.collect()[0].samples[0].value == 2)
        ask = running.client()
        answer = ask("GET", "/items/sku-1/similar?exact=true")
        assert answer[0] == 503
        assert answer[1]["retry-after"] == "1" and "too many" in answer[2]["error"]
        assert ask.get("/healthz") == {"status": "ok"}
        assert ask("GET", "/items/sku-1/similar")[2]["source"] == "precomputed"  # it takes no place from others
        held.set()
        for thread in threads:
            thread.join(WAIT)
        assert codes == [200, 200]
        assert ask("GET", "/items/sku-1/similar")[0] == 200


def test_queues_that_are_full(shop: Shop) -> None:
    with serving(shop, replace(FAST, threads=1, waiting=1, batch_queue=1, batch=1)) as running:
        codes: list[int] = []
        table, held = running.site.served.table, threading.Event()
        slow = table.search
        table.search = lambda *a, **k: (held.wait(WAIT), slow(*a, **k))[1]  # type: ignore[method-assign]

        def search() -> None:
            codes.append(running.client().form("POST", "/search", png("red"), title="red shoe")[0])

        threads = [threading.Thread(target=search) for _ in range(16)]
        for thread in threads:
            thread.start()
        eventually(lambda: 503 in codes)
        held.set()
        for thread in threads:
            thread.join(WAIT)
        assert set(codes) <= {200, 503} and 200 in codes and 503 in codes
        assert running.client().form("POST", "/search", png("red"))[0] == 200


def test_what_is_in_work_is_finished_at_the_end(shop: Shop) -> None:
    running = Running(open_site_of(shop), FAST)
    with running:
        table, held = running.site.served.table, threading.Event()
        upsert = table.upsert
        table.upsert = lambda *a, **k: (held.wait(WAIT), upsert(*a, **k))[1]  # type: ignore[method-assign]
        found: list[int] = []
        put = threading.Thread(
            target=lambda: found.append(running.client().form("PUT", "/items/last", title="red shoe")[0])
        )
        put.start()
        eventually(running.site.writer._lock.locked)
        running.server.should_exit = True
        time.sleep(0.2)
        held.set()
        put.join(WAIT)
        assert found == [200]
    assert [row.id for row in shop.store.table().get(["last"])] == ["last"]


def open_site_of(shop: Shop) -> object:
    from tgqformer.service.site import open_site

    return open_site(shop.places(), FAST)


def test_requests_are_batched_for_the_model(shop: Shop) -> None:
    with serving(shop, replace(FAST, batch=8, batch_wait=30.0)) as running:
        threads = [
            threading.Thread(target=lambda: running.client().form("POST", "/embed", title="red shoe")) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        lines = running.client().get("/metrics").decode().splitlines()
        assert "tgq_embedding_batch_sum 8.0" in lines
        assert float(next(line for line in lines if line.startswith("tgq_embedding_batch_count")).split()[1]) < 8


def test_logs_hold_no_payload(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tgqformer.service"), serving(shop) as running:
        assert running.client().form("PUT", "/items/secret-id", title="secret title")[0] == 200
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    put = next(line for line in lines if line["message"] == "request")
    assert (put["method"], put["route"], put["status"]) == ("PUT", "/items/{item_id}", 200)
    assert put["ms"] > 0 and len(put["id"]) == 16 and "secret" not in json.dumps(lines)


def test_an_address_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(TgqError, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_limits_that_let_nothing_through_are_refused() -> None:
    for name, value in (
        ("timeout", 0),
        ("timeout", float("nan")),
        ("batch", 0),
        ("max_k", 501),
        ("keyz", None),
        ("open_reads", True),
        ("hosts", ["https://similar.example.com"]),
        ("hosts", ["similar.example.com:8000"]),
        ("hosts", ["*.example.com"]),
    ):
        with pytest.raises(TgqError, match=f"the service: .*{name}"):
            parse(ServiceSettings, {name: value}, "the service")
