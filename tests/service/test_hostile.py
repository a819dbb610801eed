"""Hostile and slow clients: pictures that cost too much, bodies that drip, connections that say nothing."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hostile import scans
from PIL import Image, features
from small_shop import FAST, WAIT, Running, Shop, eventually, exchange, make_shop, multipart, png, serving

from tgqformer.catalog.pictures import PictureError, decode, ending_of
from tgqformer.service import decoder, uploads
from tgqformer.service.decoder import Decoders
from tgqformer.service.uploads import Allowance

TEXT = b"P3\n" + b"# nothing\n" * 50_000 + b"1 1 255\n1 2 3\n"


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1, 1_000_000, 2)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF"])
def test_kinds_that_are_taken(decoders: Decoders, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = png("red", (30, 20), kind)
    found = decoders.decode(data)
    assert found.size == (30, 20) and found.tobytes() == decode(data).tobytes()


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "JPEG2000", "ICO"])
def test_kinds_that_are_not(decoders: Decoders, kind: str) -> None:
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow writes no JPEG 2000")
    with pytest.raises(PictureError, match="no JPEG, PNG, WebP, AVIF or GIF"):
        decoders.decode(png("red", (30, 20), kind))
    assert ending_of(TEXT) is None and ending_of(b"") is None


def test_a_picture_that_is_damaged_or_too_large_leaves_the_worker(decoders: Decoders) -> None:
    with pytest.raises(PictureError, match="million is the limit") as bomb:
        decoders.decode(png("red", (1001, 1000)))
    with pytest.raises(PictureError) as cut:
        decoders.decode(png("red", (300, 200), "JPEG")[:-200])
    assert (bomb.value.kind, cut.value.kind) == ("bomb", "truncated")
    assert decoders.decode(png("blue")).getpixel((0, 0)) == (0, 0, 255)


SLOW = """
import sys
from tgqformer.service import decoder
def slow(data, max_pixels):
    if len(data) % 2:
        while True: pass
    if len(data) % 4 == 2:
        return bytearray(40 << 30)
    return real(data, max_pixels)
real, decoder.decode = decoder.decode, slow
decoder.work(sys.stdin.buffer, sys.stdout.buffer)
"""


def test_a_picture_that_costs_too_much_ends_its_worker_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(decoder.subprocess, "Popen", lambda command, **rest: real([sys.executable, "-c", SLOW], **rest))
    monkeypatch.setattr(decoder, "_LEAST", 300.0)  # by the clock: this machine may be busy
    decoders, good = Decoders(1, 1_000_000, 1), png("red")
    by = {size: good + bytes((size - len(good)) % 4) for size in range(4)}  # Pillow passes over what follows the end
    for size in (1, 2):
        with pytest.raises(PictureError, match=r"too much memory|more than 1 s"):
            decoders.decode(by[size])
    assert decoders.decode(by[0]).size == (24, 24)
    decoders.close()


def test_pictures_of_other_kinds_are_422(shop: Shop) -> None:
    with serving(shop) as running:
        status, body = running.client().form("POST", "/search", TEXT)
        assert status == 422 and "AVIF" in body["hint"]
        status, body = running.client().form("PUT", "/items/new", png("red", kind="BMP"))
        assert status == 422 and running.client()("GET", "/items/new")[0] == 404


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> Iterator[Running]:
    """A server that takes two requests and twelve connections at once."""
    shop = make_shop(tmp_path_factory.mktemp("few") / "run", drawn, models)
    with serving(shop, replace(FAST, concurrency=2, connections=12, body_seconds=5.0)) as running:
        yield running


def dripping(port: int) -> socket.socket:
    form, kind = multipart({"title": "slow"})
    head = f"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(form)}\r\n\r\n"
    line = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    line.sendall(head.encode() + form[:10])
    return line


def test_bodies_that_drip_take_no_place_from_others_and_end(few: Running) -> None:
    lines = [dripping(few.port) for _ in range(6)]
    assert few.client()("GET", "/items/sku-1/similar")[0] == 200
    assert few.client().form("POST", "/search", title="red shoe")[0] == 200
    for line in lines:
        assert line.recv(1000).startswith(b"HTTP/1.1 408 ")
        line.close()


def test_clients_that_do_not_read_take_no_place_from_others_and_are_cut_off(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Each asks for megabytes, more than the system keeps for it."""
    with serving(shop, replace(FAST, concurrency=2, timeout=3.0, body_seconds=1.0)) as running:
        lines = []
        for _ in range(4):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.connect(("127.0.0.1", running.port))
            line.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 90)
            lines.append(line)
        ask, until = running.client(), time.monotonic() + 1.5
        while time.monotonic() < until:
            assert ask("GET", "/items/sku-1/similar")[0] == 200
        eventually(lambda: len(running.server.server_state.connections) <= 1)  # that of `ask`
        for line in lines:
            line.close()
        assert running.site.telemetry.in_work.collect()[0].samples[0].value == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_connection_that_asks_for_too_much_at_once_is_refused(shop: Shop) -> None:
    asked = b"GET /items/sku-1/similar HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with serving(shop) as running, socket.create_connection(("127.0.0.1", running.port), timeout=WAIT) as line:
        line.sendall(asked * 60)
        found = b""
        while found.count(b"HTTP/1.1 200 ") < 60:
            found += line.recv(65536)
        assert b" 400 " in exchange(running.port, asked * 400)
        assert running.client()("GET", "/items/sku-1/similar")[0] == 200


def test_uploads_are_decoded_while_many_files_are_open(shop: Shop) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2200:
        pytest.skip("this process may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2200), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open("rb"))
        with serving(shop) as running:
            assert running.client().form("POST", "/embed", png("red"))[0] == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_there_are_no_more_connections_than_files_may_be_open() -> None:
    script = """
import resource
from tgqformer.service.server import connections_for
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 600))
print(connections_for(4096), connections_for(10), connections_for(200))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["300 10 200", "(600, 600)"]


def test_connections_that_say_nothing_are_closed_for_others(few: Running) -> None:
    lines = [socket.create_connection(("127.0.0.1", few.port), timeout=WAIT) for _ in range(40)]
    assert few.client()("GET", "/items/sku-1/similar")[0] == 200
    assert lines[0].recv(10) == b"", "the oldest was closed to make room"
    for line in lines:
        line.close()


STUCK = """
import sys, threading, time
from tgqformer.service import server
from tgqformer.service.app import make_app
server.LAST = 1
class Config: timeout_graceful_shutdown = 1
made = server._Server.__new__(server._Server)
made.config, made.should_exit, made.force_exit, made._captured_signals = Config, False, False, []
import signal
signal.signal(signal.SIGTERM, made.handle_exit)
threading.Thread(target=threading.Event().wait).start()  # stuck for ever, and not a daemon
print("ready", flush=True)
while not made.should_exit:
    time.sleep(0.05)
"""


def test_sigterm_ends_the_process_whatever_is_stuck() -> None:
    job = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None and job.stdout.readline() == "ready\n"
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(WAIT) == 1
    job.stdout.close()


def test_where_others_take_the_processor_it_is_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(decoder.subprocess, "Popen", lambda command, **rest: real([sys.executable, "-c", SLOW], **rest))
    monkeypatch.setattr(decoder, "_LEAST", 0.0)
    monkeypatch.setattr(decoder, "_PATIENCE", 0)
    with pytest.raises(TimeoutError):
        Decoders(1, 1_000_000, 1).decode(png("red"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_are_of_our_session_so_that_their_priority_counts(decoders: Decoders) -> None:
    decoders.decode(png("red"))
    worker = decoders._idle.get()
    assert os.getsid(worker._process.pid) == os.getsid(0) and os.getpgid(worker._process.pid) == worker._process.pid
    assert os.getpriority(os.PRIO_PROCESS, worker._process.pid) >= decoder.NICE
    decoders._idle.put(worker)


def test_a_photo_of_many_pixels_is_still_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_LEAST", 300.0)
    file = BytesIO()
    Image.effect_noise((2000, 1500), 40).convert("RGB").save(file, "JPEG", quality=90)
    decoders, found = Decoders(2, 24_000_000, 5), list[tuple[int, int]]()
    threads = [threading.Thread(target=lambda: found.append(decoders.decode(file.getvalue()).size)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    decoders.close()
    assert found == [(2000, 1500)] * 3


def test_what_a_client_owes_is_forgotten_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(uploads, "monotonic", lambda: now[0])
    allowance = Allowance(burst=2.0, share=0.5)
    allowance.charge("a", uploads.FREE)
    allowance.charge("a", 2.0)
    assert (allowance.wait("a"), allowance.wait("b")) == (0.0, 0.0)
    allowance.charge("a", 3.0)
    assert allowance.wait("a") == 6.0  # 3 seconds too many, of which half a second goes in each
    now[0] = 5.0
    assert allowance.wait("a") == 1.0 and allowance.wait("b") == 0.0
    now[0] = 20.0
    assert allowance.wait("a") == 0.0


def test_no_more_clients_are_remembered_than_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CLIENTS", 3)
    allowance = Allowance(burst=1.0, share=1e-9)
    for client in "abcad":
        allowance.charge(client, 1.0)
    allowance.charge("c", 0.5)
    allowance.charge("b", 0.5)
    assert [allowance.wait(client) > 0 for client in "abc"] == [False, False, True], "b and a were forgotten"


def test_a_client_whose_pictures_cost_too_much_is_refused_and_its_texts_are_not(shop: Shop) -> None:
    costly, strict = scans(60, (3000, 2000)), replace(FAST, max_pixels=6_000_000, upload_burst=1e-9, upload_share=1e-3)
    with serving(shop, strict) as running:
        ask = running.client()
        assert ask.form("POST", "/embed", png("red"))[0] == 200 and ask.form("POST", "/embed", png("red"))[0] == 200
        assert ask.form("POST", "/embed", costly)[0] == 200
        form, kind = multipart({}, png("red"))
        status, headers, body = running.client()("POST", "/embed", form, {"content-type": kind})
        assert (status, headers["connection"]) == (429, "close") and "too much processor time" in body["error"]
        assert int(headers["retry-after"]) >= uploads.FREE / 1e-3
        head = f"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-length: {uploads.LARGE}\r\n\r\n"
        assert exchange(running.port, head.encode()).startswith(b"HTTP/1.1 429 "), "no byte of the body was asked for"
        assert running.client().form("POST", "/embed", None, title="a red lamp")[0] == 200
