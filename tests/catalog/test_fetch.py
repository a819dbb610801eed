"""Pictures by address: from a server that misbehaves in every way, politely, from public hosts alone, and resumable."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bad_pictures import BAD, GOOD_AFTER_ALL, BadServer, bad_server, picture
from doc_commands import COMMANDS
from reading import put
from typer.testing import CliRunner

from tgqformer.catalog import Catalog, import_catalog
from tgqformer.catalog.addresses import address_of, fetched_file, fetched_name, is_public
from tgqformer.catalog.fetch.client import Client, FetchError, FetchSettings, _seconds
from tgqformer.catalog.fetch.job import SILENT, FetchReport, fetch_pictures
from tgqformer.catalog.importer import addresses_of
from tgqformer.cli import app
from tgqformer.errors import TgqError

QUICK = FetchSettings(rate=10_000, at_once=8, timeout=20, tries=3, pause=0.01, max_mb=0.25, allow_host=("127.0.0.1",))
BOTH = ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def server() -> Iterator[BadServer]:
    with bad_server() as running:
        yield running


def fetch(to: Path, *addresses: str, how: FetchSettings = QUICK) -> FetchReport:
    return fetch_pictures([(f"item{n}", [address]) for n, address in enumerate(addresses)], to, how)


def files(folder: Path) -> Counter[bytes]:
    return Counter(file.read_bytes() for file in folder.glob("??/*") if not file.name.startswith("."))


def test_every_way_to_misbehave_is_told_and_every_good_picture_is_there_once(server: BadServer, tmp_path: Path) -> None:
    how = FetchSettings(**{**vars(QUICK), "timeout": 1.5, "tries": 2})
    slow = {way for way, kind in BAD.items() if kind == "timeout"}
    bad = {server.url(way, 10): kind for way, kind in BAD.items()}
    good = {server.url(way, 100 + n): 100 + n for n, way in enumerate(GOOD_AFTER_ALL)}
    first = fetch(tmp_path / "to", *(url for url in bad if url.split("/")[3] in slow), how=how)
    assert {one.kind for one in first.failures} == {"timeout"} and len(first.failures) == len(slow)
    report = fetch(tmp_path / "to", *(url for url in bad if url.split("/")[3] not in slow), *good)
    found = {one.address: one.kind for one in [*first.failures, *report.failures]}
    assert found == bad
    assert files(tmp_path / "to") == Counter(map(picture, good.values()))
    assert (report.fetched, report.there, report.addresses) == (len(good), 0, len(good) + len(bad) - len(slow))
    reasons = {one.address.split("/")[3]: one.reason for one in report.failures}
    assert (
        "HTML" in reasons["html"] and "JPEG, PNG, WebP, AVIF or GIF" in reasons["bmp"] and "404" in reasons["missing"]
    )
    assert "86400 s" in reasons["later"] and "circle" in reasons["circle"] and "127.0.0.2" in reasons["to-private"]
    with (tmp_path / "to/failures.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert {row["address"]: row["kind"] for row in told} == {one.address: one.kind for one in report.failures}
    assert all(row["items"].startswith('["item') and row["reason"] for row in told)


def test_ids_in_the_table_of_failures_may_hold_any_character(server: BadServer, tmp_path: Path) -> None:
    address, ids = server.url("missing", 1), ["red shoe", "a, b", 'Größe "40"']
    fetch_pictures([(name, [address]) for name in ids], tmp_path / "to", QUICK)
    with (tmp_path / "to/failures.csv").open(newline="", encoding="utf-8") as file:
        assert [json.loads(row["items"]) for row in csv.DictReader(file)] == [ids]


def test_what_may_help_is_tried_again_and_what_cannot_is_not(server: BadServer, tmp_path: Path) -> None:
    ways = {"always500": 3, "short": 3, "cut": 3, "drop": 3, "missing": 1, "html": 1, "huge": 1, "later": 1}
    fetch(tmp_path / "to", *(server.url(way, 21) for way in ways))
    assert {way: server.asked[f"/{way}/21.jpg"] for way in ways} == ways


def test_a_host_is_asked_at_its_rate_and_by_few_lines(tmp_path: Path) -> None:
    how = FetchSettings(**{**vars(QUICK), "rate": 40.0, "at_once": 2})
    with bad_server() as server:
        began = time.monotonic()
        assert fetch(tmp_path / "to", *(server.url("good", n) for n in range(20)), how=how).fetched == 20
        assert time.monotonic() - began >= 19 / 40 and server.most <= 2
        began = time.monotonic()
        fetch(tmp_path / "to", server.url("429-first", 500), how=how)
        assert time.monotonic() - began >= 1  # what Retry-After asks for
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/a.jpg"
        [failure] = fetch(tmp_path / "to", gone).failures
    assert failure.kind == "connection" and "3 times" in failure.reason


PRIVATE = (
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 192.0.2.7 "
    "::1 :: fe80::1 fe80::1%eth0 fc00::1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 "
    "64:ff9b::a9fe:a9fe 2002:7f00:1:: 2002:a00:1::1 ::127.0.0.1 2001:db8::1 64:ff9b:1::1"
)


@pytest.mark.parametrize("number", PRIVATE.split())
def test_what_is_not_public(number: str) -> None:
    assert not is_public(number)


def test_what_is_public() -> None:
    public = ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::")
    assert all(map(is_public, public))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_hosts_are_refused_however_they_are_written(server: BadServer, tmp_path: Path, host: str) -> None:
    how = FetchSettings(**{**vars(QUICK), "allow_host": ()})
    before = sum(server.asked.values())
    [failure] = fetch(tmp_path / "to", server.url("good", 7, host), how=how).failures
    assert failure.kind in ("private", "host") and sum(server.asked.values()) == before
    assert failure.kind == "private" or host in ("0x7f.1", "[::1]", "[::ffff:127.0.0.1]"), failure


def test_a_name_that_means_another_machine_a_moment_later(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer of the resolver is checked and used; were it asked again, it would say something private."""
    answers, connected = [["93.184.215.14"], ["127.0.0.1"]], list[str]()

    async def resolve(self: object, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in found]

    async def connect(self: object, host: str, *_: object, **__: object) -> None:
        connected.append(host)
        raise OSError("no network in tests")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", connect)

    async def ask(address: str) -> str:
        async with Client(FetchSettings(tries=1)) as client:
            with pytest.raises(FetchError) as told:
                await client.picture(address)
            return told.value.kind

    assert asyncio.run(ask("http://rebind.test/a.jpg")) == "connection" and connected == ["93.184.215.14"]
    assert asyncio.run(ask("http://rebind.test/a.jpg")) == "private" and connected == ["93.184.215.14"]
    answers[:] = [["8.8.8.8", "10.0.0.1"]]  # one of several is private
    assert asyncio.run(ask("http://both.test/a.jpg")) == "private" and connected == ["93.184.215.14"]


def test_addresses_have_one_form() -> None:
    assert address_of(" //CDN.shop.test/a b.jpg#top ") == "https://cdn.shop.test/a%20b.jpg"
    assert address_of("HTTP://Shop.test:8080/Ä.jpg?v=1&w=ü") == "http://shop.test:8080/%C3%84.jpg?v=1&w=%C3%BC"
    assert address_of("http://müller.test/a%20b.jpg") == "http://xn--mller-kva.test/a%20b.jpg"
    assert address_of("http://[2001:db8::1]:80/a.jpg") == "http://[2001:db8::1]:80/a.jpg"
    for wrong in ("ftp://a.test/b.jpg", "http:///b.jpg", "http://me:pw@a.test/b.jpg", "http://a.test:x/b", "file:///b"):
        assert address_of(wrong) is None
    assert address_of("http://exa mple.test/b.jpg") is None


def test_names_do_not_collide_and_fit_every_disk() -> None:
    long = "x" * 3000
    addresses = [f"https://{host}/1/{name}" for host in ("a.test", "b.test") for name in ("A.jpg", "a.jpg", "a", long)]
    addresses += [f"https://a.test/img.php?id={n}" for n in range(2000)]
    names = [fetched_name(address) for address in addresses]
    assert len({name.lower() for name in names}) == len(addresses)
    assert all(len(name) < 80 and name.isascii() and name.islower() for name in names)


def test_help_shows_the_defaults_of_the_settings() -> None:
    command = COMMANDS["pictures fetch"]
    shown = {one.name: one.show_default for one in command.params if isinstance(one.show_default, str)}
    assert shown == {name: f"{getattr(FetchSettings(), name):g}" for name in shown} and len(shown) == 6


def test_retry_after_is_seconds_or_a_time() -> None:
    assert (
        _seconds("120") == 120
        and _seconds("soon") is None
        and _seconds("²") is None
        and _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    )


def test_one_picture_for_one_address_whoever_names_it(server: BadServer, tmp_path: Path) -> None:
    url = server.url("good", 77)
    shared = [("a", [url, url]), ("b", [url.replace("http", "HTTP"), "ftp://s.test/x.jpg"])]
    report = fetch_pictures(shared, tmp_path / "to", QUICK)
    assert (report.fetched, report.there, server.asked["/good/77.jpg"]) == (1, 1, 1)
    assert [(one.kind, one.items) for one in report.failures] == [("address", ("b",))]
    again = fetch_pictures(shared, tmp_path / "to", QUICK)
    assert (again.fetched, again.there, server.asked["/good/77.jpg"]) == (0, 2, 1)


def test_a_failure_is_told_of_each_item_that_names_the_picture(server: BadServer, tmp_path: Path) -> None:
    url = server.url("missing", 78)
    shared = [("a", [url]), ("b", [f"{url}#v2"]), ("c", [server.url("good", 78)])]
    report = fetch_pictures(shared, tmp_path / "to", QUICK)
    assert (report.fetched, report.there, server.asked["/missing/78.jpg"]) == (1, 0, 1)
    assert [(one.address, one.items) for one in report.failures] == [(url, ("a",)), (f"{url}#v2", ("b",))]


def test_a_host_that_answers_nothing_is_not_asked_for_all_of_its_pictures(server: BadServer, tmp_path: Path) -> None:
    dead = [server.url("drop", n) for n in range(200, 200 + SILENT + 30)]
    how = replace(QUICK, tries=1, at_once=1, allow_host=BOTH)
    report = fetch(tmp_path / "to", *dead, server.url("good", 79, host="localhost"), how=how)
    kinds = Counter(one.kind for one in report.failures)
    assert (report.fetched, kinds) == (1, {"connection": SILENT, "silent": 30})
    between = [
        url for n, url in enumerate(dead) for url in ((url, server.url("missing", n)) if n % 15 == 14 else (url,))
    ]
    report = fetch(tmp_path / "between", *between, how=how)  # it does answer, now and then
    assert Counter(one.kind for one in report.failures) == {"connection": len(dead), "status": 3}


def test_the_host_that_asks_to_wait_is_the_one_that_rests(server: BadServer, tmp_path: Path) -> None:
    """Not the one that led there."""

    async def waited() -> tuple[float, float]:
        async with Client(replace(QUICK, allow_host=BOTH)) as client:
            led = asyncio.create_task(client.picture(server.url("to-429-first", 80)))
            while not server.asked["/429-first/80.jpg"]:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await client.picture(server.url("good", 81))
            first = time.monotonic()
            await client.picture(server.url("good", 82, host="localhost"))
            await led
            return first - began, time.monotonic() - first

    here, there = asyncio.run(waited())
    assert here < there


def test_a_redirect_in_latin_1_and_an_answer_that_is_packed(server: BadServer, tmp_path: Path) -> None:
    report = fetch(tmp_path / "to", server.url("to-latin", 82), server.url("packed", 83))
    assert report.fetched == 1 and server.asked["/good/82.jpg?name=gr%F6n"] == 1
    assert [(one.kind, "packed (gzip)" in one.reason) for one in report.failures] == [("type", True)]


def test_import_fetch_import(server: BadServer, tmp_path: Path) -> None:
    """More items than the importer looks at before it gives up on pictures that are not there."""
    lines = [f"{n},Tee {n},{server.url('good', n % 30)}" for n in range(1200)]
    shop = put(tmp_path / "shop.csv", "\n".join(["id,title,image_link", *lines, f"x,,{server.url('missing', 1)}\n"]))
    report = import_catalog(shop, tmp_path / "before")
    assert (report.items, report.rejected, report.pictures) == (1200, 1, 0)  # x has nothing but its picture
    assert len(list(addresses_of(tmp_path / "before"))) == len(list(addresses_of(shop))) == 1201
    words = [
        "pictures",
        "fetch",
        str(tmp_path / "before"),
        "--to",
        str(tmp_path / "photos"),
        "--allow-host",
        "127.0.0.1",
    ]
    done = CliRunner().invoke(app, [*words, "--rate", "10000"])
    assert done.exit_code == 0 and "31 addresses: 30 pictures fetched, 0 were there, 1 failed" in done.output
    report = import_catalog(shop, tmp_path / "after", root=tmp_path / "photos")
    assert (report.items, report.pictures, report.problems["picture-remote"]) == (1200, 1200, 1)
    item = Catalog.open(tmp_path / "after").take(["31"])[0]
    assert item.pictures[0].path == fetched_file(server.url("good", 1), tmp_path / "photos")
    assert json.loads((tmp_path / "after/addresses.jsonl").read_text())["id"] == "x"


def test_what_is_refused(server: BadServer, tmp_path: Path) -> None:
    put(tmp_path / "mine/cat.jpg", b"x")
    with pytest.raises(TgqError, match="not made by tgq"):
        fetch(tmp_path / "mine", server.url("good", 1))
    assert (tmp_path / "mine/cat.jpg").read_bytes() == b"x"
    local = put(tmp_path / "shop.csv", "id,title,image\n1,Tee,a.jpg\n")
    with pytest.raises(TgqError, match="nothing to fetch"):
        fetch_pictures(addresses_of(local), tmp_path / "to", QUICK)
    import_catalog(put(tmp_path / "b.csv", "id,title\n1,Tee\n"), tmp_path / "catalog")
    for words, status, said in (
        ([str(tmp_path / "catalog"), "--reader", "csv"], 1, "say nothing"),
        ([str(tmp_path / "catalog"), "--rate", "0"], 1, "rate"),
    ):
        done = CliRunner().invoke(app, ["pictures", "fetch", *words, "--to", str(tmp_path / "to")])
        assert done.exit_code == status and said in str(done.exception)
    lost = put(tmp_path / "lost.csv", f"id,title,image\n1,Tee,{server.url('missing', 2)}\n")
    words = [str(lost), "--to", str(tmp_path / "lost"), "--allow-host", "127.0.0.1"]
    assert "none of the 1 pictures" in str(CliRunner().invoke(app, ["pictures", "fetch", *words]).exception)


def test_no_room_on_the_disk_ends_the_job_and_the_next_goes_on(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", name)

    urls = [server.url("good", n) for n in range(600, 620)]
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("tgqformer.catalog.fetch.job._Job._write", full)
        fetch(tmp_path / "to", *urls)
    assert fetch(tmp_path / "to", *urls).fetched == 20 and len(files(tmp_path / "to")) == 20


def test_killed_and_started_again_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    with bad_server() as server:
        numbers = range(120)
        rows = [f"{n},Tee,{server.url('missing' if n % 10 == 9 else 'good', n)}" for n in numbers]
        shop = put(tmp_path / "shop.csv", "\n".join(["id,title,image_link", *rows, ""]))
        to = tmp_path / "photos"
        words = [sys.executable, "-c", "from tgqformer.cli import main; main()", "pictures", "fetch", str(shop)]
        words += ["--to", str(to), "--allow-host", "127.0.0.1", "--rate"]
        killed = [stopped(words, lambda part=part: sum(server.asked.values()) >= part) for part in (20, 60)]
        done = subprocess.run([*words, "1000"], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert "12 failed" in done.stdout and not list(to.glob("??/.*")) and not (to / ".failures.jsonl").exists()
        assert files(to) == Counter(picture(n) for n in numbers if n % 10 != 9)
        assert len((to / "failures.csv").read_text().splitlines()) == 13
        if all(killed):  # what a killed job had in work is asked for twice, and nothing else
            assert sum(server.asked.values()) <= 120 + 2 * 4


def stopped(words: list[str], enough: Callable[[], bool]) -> bool:
    """Start a slow job, kill it when it has done enough; say whether that was before its end."""
    process = subprocess.Popen([*words, "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while process.poll() is None and not enough() and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    return process.wait() == -signal.SIGKILL
