"""A small shop for the tests of the service: two tiny models, a catalogue, a store, and a real server."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.encoders.alignment import Alignment
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import make_encoders
from tgqformer.model.language import LoRA, make_language
from tgqformer.model.prompt import Prompt
from tgqformer.service.app import make_app
from tgqformer.service.places import Places, find_places
from tgqformer.service.server import listen, make_server
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import Site, open_site
from tgqformer.store import make_store
from tgqformer.store.base import Store, StoreRow
from tgqformer.store.content import SEEN, row_of
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.ledger import Version, VersionSpec
from tgqformer.store.neighbours import build_neighbours

torch.set_num_threads(1)
COLORS = ("red", "blue", "green", "orange", "purple", "black")
KINDS = ("shirt", "shoe", "bag")
ITEMS = 24
WAIT = 120.0  # seconds; a busy machine is slow


def eventually(true: Callable[[], object]) -> None:
    """Wait until something is true; fail where it does not become so."""
    until = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < until, "it did not become so"
        time.sleep(0.02)


def png(color: str, size: tuple[int, int] = (24, 24), kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def packed(data: bytes) -> Picture:
    return Picture(Picture.digest_of(data), None, data)


def shop_items() -> list[Item]:
    """Items sku-0 ... sku-23; every color and kind, number 5 without picture."""
    return [
        Item(
            f"sku-{n}", f"{COLORS[n % 6]} {KINDS[n % 3]}", ("acme", "bolt")[n % 2], ("All", KINDS[n % 3]),
            {"size": str(n)}, 10.0 + n, () if n == 5 else (packed(png(COLORS[n % 6], (20 + n, 24))),),
        )
        for n in range(ITEMS)
    ]  # fmt: skip


@cache
def loaded(model: Path) -> ItemEmbedder:
    return ItemEmbedder.load(model)


@cache
def rows_of(model: Path) -> list[StoreRow]:
    """The items as a model embeds them."""
    embedder, items = loaded(model), shop_items()
    assert embedder.encoders is not None
    vectors = embedder.encode(items)
    return [row_of(item, vector, embedder.encoders.prompt) for item, vector in zip(items, vectors, strict=True)]


class Shop:
    """A run's folder with two models, a catalogue, a store and neighbours; made anew for a test by `copy`."""

    def __init__(self, folder: Path, models: tuple[Path, Path]) -> None:
        self.folder, self.models = folder, models
        self.catalog = Catalog.open(folder / "catalog")
        self.items = list(self.catalog.items())

    @property
    def store(self) -> Store:
        return make_store(self.folder / "store")

    def model(self, which: int) -> ItemEmbedder:
        return loaded(self.models[which])

    def rows(self, which: int) -> list[StoreRow]:
        return rows_of(self.models[which])

    def create(self, which: int, *, serve: bool = True) -> Version:
        """Build a version of a model in the store."""
        model, store = self.model(which), self.store
        spec = VersionSpec(
            model.version, model.dim, label=f"model {which}", model=str(self.models[which]),
            catalog=str(self.folder / "catalog"),
        )  # fmt: skip
        version = store.create(spec, self.rows(which))
        return store.serve(version.name) if serve else version

    def neighbours(self, which: int, k: int = 20, *, told: bool = True) -> Path:
        """Precompute the neighbours of a model; without `told` they do not say what they were made from."""
        ids, rows = [item.id for item in self.items], self.rows(which)
        at, model = self.folder / f"embeddings-{which}", self.model(which)
        table = Embeddings.create(
            at, dim=model.dim, model_version=model.version, ids_fingerprint=fingerprint_of(ids), count=len(ids)
        )
        contents = [row.content[:SEEN] for row in rows] if told else None
        table.write(0, ids, np.stack([row.vector for row in rows]).astype(np.float32), contents)
        to = self.folder / f"neighbours-{which}"
        build_neighbours(table, to, k, show_progress_bar=False)
        return to

    def places(self, **given: Any) -> Places:
        found = find_places(str(self.folder), **given)
        return replace(found, models=(*found.models, *self.models))


def save_models(vision: Path, text: Path, folder: Path) -> tuple[Path, Path]:
    """Save two models with different weights."""
    exact = {"precision": "float32", "device": "cpu", "levels": [1]}
    encoders = make_encoders(f"hf:{vision}", f"hf:{text}", Prompt(), exact)

    def saved(seed: int) -> Path:
        torch.manual_seed(seed)
        language = make_language(f"hf:{text}", lora=LoRA(rank=2), frozen_layers=1)
        alignment = Alignment(encoders.widths.visual, encoders.widths.metadata)
        model = ItemEmbedder(
            "tgq", {"dim": 8, "heads": 2}, encoders.widths, language, alignment=alignment, encoders=encoders
        )
        with torch.no_grad():
            for weight in model.trainable().values():
                weight.add_(torch.randn_like(weight) * 0.1)
        model.save(folder / f"seed-{seed}" / "model")
        return folder / f"seed-{seed}" / "model"

    return saved(1), saved(2)


def draw(folder: Path) -> Path:
    """Write the catalogue."""
    with CatalogWriter(folder, name="shop", pack=True) as writer:
        for item in shop_items():
            writer.add(item)
    return folder


def make_shop(folder: Path, drawn: Path, models: tuple[Path, Path]) -> Shop:
    """Make a run's folder whose store serves model 0, with its neighbours."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("name: shop\n")
    shutil.copytree(drawn, folder / "catalog")
    shop = Shop(folder, models)
    shop.create(0)
    shop.neighbours(0)
    return shop


FAST = ServiceSettings(explorer=False, refresh=0.05, timeout=60.0, threads=2)


class Client:
    """A keep-alive connection; answers as (status, headers, body), JSON decoded."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = HTTPConnection("127.0.0.1", port, timeout=WAIT)

    def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        content, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        is_json = method != "HEAD" and found.get("content-type") == "application/json"
        return answer.status, found, json.loads(content) if is_json else content

    def get(self, path: str) -> Any:
        status, _, body = self("GET", path)
        assert status == 200, (status, body)
        return body

    def form(self, method: str, path: str, picture: bytes | None = None, **fields: str) -> tuple[int, Any]:
        body, kind = multipart(fields, picture)
        status, _, answer = self(method, path, body, {"content-type": kind})
        return status, answer


def multipart(fields: dict[str, str], picture: bytes | None = None, name: str = "p.png") -> tuple[bytes, str]:
    """Write a form by hand."""
    parts = [
        f'--XX\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if picture is not None:
        head = f'--XX\r\ncontent-disposition: form-data; name="picture"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + picture + b"\r\n")
    return b"".join(parts) + b"--XX--\r\n", "multipart/form-data; boundary=XX"


class Running:
    """A server in a thread of this process."""

    def __init__(self, site: Site, settings: ServiceSettings) -> None:
        self.site, self.app = site, make_app(site, settings)
        self.server = make_server(self.app, settings)
        self._socket = listen("127.0.0.1", 0)
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        until = time.monotonic() + WAIT
        while not self.server.started:
            assert time.monotonic() < until and self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self._socket.close()

    def client(self) -> Client:
        return Client(self.port)


@contextmanager
def serving(shop: Shop, settings: ServiceSettings = FAST, **given: Any) -> Iterator[Running]:
    """Serve a shop over a real socket while the block runs."""
    with Running(open_site(shop.places(**given), settings), settings) as running:
        yield running


def exchange(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send raw bytes and read until the server closes or falls silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as line:
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        found = b""
        try:
            while chunk := line.recv(65536):
                found += chunk
                if b"\r\n\r\n" in found and found.endswith(b"}"):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return found
