"""Honest about health, and closed where it must be: lost stores, key files, host names, passwords, terminals, links."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest
from small_shop import FAST, Client, Shop, eventually, png, serving

from tgqformer.catalog.pictures import PictureError, resolve
from tgqformer.cli import _refuse_passwords
from tgqformer.errors import TgqError
from tgqformer.progress import Terminal
from tgqformer.service.guard import host_of, is_address
from tgqformer.service.keys import Keyring, new_key, remove_key
from tgqformer.service.server import OPEN_TO_ALL, _is_loopback
from tgqformer.service.site import open_site
from tgqformer.store import base
from tgqformer.store.postgres import _without_password


def test_a_store_that_is_gone_is_told_and_not_made_anew(shop: Shop) -> None:
    with serving(shop) as running:
        ask = running.client()
        assert ask("GET", "/readyz")[0] == 200
        (shop.folder / "store").rename(shop.folder / "elsewhere")
        status, headers, body = ask("GET", "/readyz")
        assert (status, headers["retry-after"]) == (503, "1") and "gone" in body["error"] and body["hint"]
        status, body = ask.form("PUT", "/items/new-1", title="red hat")
        assert status == 503 and "reached" in body["error"]
        for method, path in (
            ("DELETE", "/items/sku-1"),
            ("GET", "/items/sku-1"),
            ("GET", "/items/sku-1/similar?metadata=1"),
        ):
            status, _, body = ask(method, path)
            assert status == 503 and ("gone" in body["error"] or "reached" in body["error"]) and body["hint"]
        assert not (shop.folder / "store").exists() and ask.get("/healthz") == {"status": "ok"}
        eventually(lambda: running.site._lost is not None)
        (shop.folder / "elsewhere").rename(shop.folder / "store")
        assert ask("GET", "/readyz")[0] == 200
        assert ask.form("PUT", "/items/new-1", title="red hat")[0] == 200
        assert ask("GET", "/readyz")[0] == 200


def test_a_store_that_is_read_only_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(shop) as running:
        real = os.access

        def access(path: Path, mode: int) -> bool:
            return real(path, mode) and not (mode == os.W_OK and "tables" in str(path))

        monkeypatch.setattr(base.os, "access", access)
        status, _, body = running.client()("GET", "/readyz")
        assert status == 503 and "read-only" in body["error"]
        monkeypatch.setattr(base.os, "access", real)
        assert running.client()("GET", "/readyz")[0] == 200

        def read_only(*_: object, **__: object) -> int:
            raise PermissionError(30, "Read-only file system", "/secret")

        running.site.served.table.upsert = read_only  # type: ignore[method-assign]
        status, body = running.client().form("PUT", "/items/new-1", title="red hat")
        assert status == 503 and "read-only" in body["error"] and "secret" not in str(body)


def test_a_second_service_on_one_state_is_refused(shop: Shop) -> None:
    with serving(shop), pytest.raises(TgqError, match=r"another service uses .* --state"):
        open_site(shop.places(), FAST)
    with serving(shop) as running:
        assert running.client()("GET", "/readyz")[0] == 200


def test_keys_hold_at_once_whatever_the_store_does(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, other = new_key(file, "front", "read"), new_key(file, "back", "write")
    with serving(shop, replace(FAST, keys=file, refresh=1000.0)) as running:

        def status(one: str) -> int:
            return running.client()("GET", "/items/sku-1", None, {"x-api-key": one})[0]

        assert status(key) == status(other) == 200
        remove_key(file, "front")
        assert (status(key), status(other)) == (401, 200)
        good = file.read_text()
        file.write_text('{"keys": [')
        assert (status(other), status(key)) == (503, 503) and running.client()("GET", "/healthz")[0] == 200
        file.unlink()
        assert status(other) == 503
        file.write_text(good)
        assert (status(other), status(key)) == (200, 401)


def test_a_file_of_keys_that_lost_its_rights_closes_the_door() -> None:
    folder = Path(mkdtemp())  # in which everybody may look, unlike in that of the tests
    folder.chmod(0o755)
    file = folder / "keys.json"
    key = new_key(file, "front", "read")
    keyring = Keyring(file)
    root = os.geteuid() == 0
    file.chmod(0o644)
    try:
        if root:
            os.seteuid(65_534)
        assert keyring.scope_of(key) == "read"
        if root:
            os.seteuid(0)
        file.chmod(0o000)
        if root:
            os.seteuid(65_534)
        with pytest.raises(TgqError, match="no readable file of keys"):
            keyring.scope_of(key)
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_names_of_hosts(shop: Shop) -> None:
    def ask(client: Client, host: str) -> int:
        return client("GET", "/items/sku-1/similar", None, {"host": host})[0]

    with serving(shop) as running:
        for host, wanted in {
            "localhost": 200, "LOCALHOST:8000": 200, "127.0.0.1:80": 200, "[::1]:8000": 200, "10.1.2.3": 200,
            "evil.example.com": 421, "evil.example.com:8000": 421, "localhost.evil.example.com": 421, "": 421,
        }.items():  # fmt: skip
            assert ask(running.client(), host) == wanted, host
    with serving(shop, replace(FAST, hosts=("localhost", "shop.example.com"))) as running:
        assert [ask(running.client(), name) for name in ("shop.example.com:80", "evil.example.com")] == [200, 421]
    with serving(shop, replace(FAST, hosts=("*",))) as running:
        assert ask(running.client(), "any.example.com") == 200
    assert host_of("[2001:db8::1]:80") == "2001:db8::1" and is_address("2001:db8::1") and not is_address("a.b")


def test_a_service_open_to_all_warns() -> None:
    assert [_is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [_is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "shop")] == [False] * 4
    assert "no keys" in OPEN_TO_ALL and "--keys" in OPEN_TO_ALL


def test_passwords_are_neither_shown_nor_taken_from_a_command() -> None:
    for url in ("postgresql://me:secret@db/x", "postgresql://me:se/cr@et#1@db.shop/x?schema=a", "postgres://me:@@db/x"):
        shown = _without_password(url)
        assert "se" not in shown.replace("schema", "") and "me@db" in shown, shown
        with pytest.raises(TgqError, match="PGPASSWORD"):
            _refuse_passwords(["serve", url])
    with pytest.raises(TgqError, match="PGPASSWORD"):
        _refuse_passwords(["serve", "postgresql://db/x?user=me&password=secret"])
    _refuse_passwords(["serve", "postgresql://me@db.shop:5432/x?schema=shop"])
    _refuse_passwords(["serve", "postgresql://me:@db.shop:5432/x?password=&schema=shop"])  # an empty one is none


def test_control_characters_are_shown_not_sent() -> None:
    sink = io.StringIO()
    Terminal(file=sink, force_terminal=False, width=200).print(
        "title \x1b[31mred\x1b[0m \x9b2J \u202eabc", markup=False
    )
    assert sink.getvalue() == "title \\x1b[31mred\\x1b[0m \\x9b2J \\u202eabc\n"


def test_links_out_of_the_picture_folder_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "pictures", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "secret.png").write_bytes(png("red"))
    (root / "own.png").write_bytes(png("red"))
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "inside.png").symlink_to(root / "own.png")
    (tmp_path / "to-root").symlink_to(root)
    for name in ("link.png", "folder/secret.png"):
        with pytest.raises(PictureError, match="leads out of the picture folder") as refused:
            resolve(name, root)
        assert refused.value.kind == "escapes"
    for base_folder in (root, tmp_path / "to-root"):
        assert resolve("inside.png", base_folder).read_bytes() == resolve("own.png", base_folder).read_bytes()
    assert resolve("none.png", root) == root / "none.png"  # what is not there is told when it is read
