"""What the benchmarks of the service share: tiny models, a synthetic store, a server process, a lean HTTP client."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import make_encoders
from tgqformer.model.prompt import Prompt
from tgqformer.store import make_store
from tgqformer.store.base import StoreRow
from tgqformer.store.ledger import Version, VersionSpec
from tgqformer.store.partitions import matrix_column

DIM, K = 512, 100
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "green", "shirt", "shoe", "bag", "acme")
CATEGORIES = ("shirt", "shoe", "bag", "hat", "coat", "belt", "sock", "scarf")


def tiny_models(folder: Path, count: int, dim: int = DIM) -> list[Path]:
    """Save `count` models with different weights over tiny random encoders: the service's own work stands out."""
    vision, text = _tiny_encoders(folder / "encoders")
    exact = {"precision": "float32", "device": "cpu", "levels": [1]}
    encoders = make_encoders(f"hf:{vision}", f"hf:{text}", Prompt(), exact)
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        model = ItemEmbedder("mlp", {"dim": 8}, encoders.widths, None, encoders=encoders, dim=dim)
        with torch.no_grad():
            for weight in model.trainable().values():
                weight.add_(torch.randn_like(weight) * 0.1)
        model.save(folder / f"model-{seed}")
        found.append(folder / f"model-{seed}")
    return found


def _tiny_encoders(folder: Path) -> tuple[Path, Path]:
    from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    hidden = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ViTModel(ViTConfig(**hidden, image_size=24, patch_size=8)).save_pretrained(folder / "vision")
    ViTImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder / "vision")
    BertModel(BertConfig(**hidden, vocab_size=len(WORDS), max_position_embeddings=40)).save_pretrained(folder / "text")
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder / "text")
    return folder / "vision", folder / "text"


def item_id(n: int) -> str:
    """Ids as shops have them."""
    return f"item-{n:07d}"


def rows(count: int, dim: int = DIM, seed: int = 0) -> Iterator[StoreRow]:
    """Stream synthetic rows: vectors in clusters, eight categories, a price."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(8, count // 200), dim), dtype=np.float32)
    for start in range(0, count, 4096):
        size = min(4096, count - start)
        vectors = centres[rng.integers(0, len(centres), size)] + rng.standard_normal((size, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for n, vector in enumerate(vectors, start):
            category = ("all", CATEGORIES[n % 8])
            yield StoreRow(
                item_id(n), vector, f"red {category[1]} {n}", "acme", category, float(n % 100), content=f"c{n}"
            )


def add_version(store_path: Path, model: Path, count: int, dim: int = DIM, *, serve: bool, seed: int = 0) -> Version:
    """Build a version of synthetic rows beside the others."""
    version, store = ItemEmbedder.load(model).version, make_store(store_path)
    spec = VersionSpec(version, dim, label=model.name, model=str(model))
    made = store.create(spec, rows(count, dim, seed))
    return store.serve(made.name) if serve else made


def write_neighbours(folder: Path, model_version: str, count: int, k: int = K, seed: int = 0) -> None:
    """Write a table of neighbours with made-up numbers: looking them up costs the same as for true ones."""
    import pyarrow as pa

    from tgqformer.store.embeddings import fingerprint_of
    from tgqformer.store.neighbours import NeighboursManifest, start_folder

    ids, rng = [item_id(n) for n in range(count)], np.random.default_rng(seed)
    manifest = NeighboursManifest(k, model_version, fingerprint_of(ids), count, 4096, "")
    table = start_folder(folder, manifest, ids, pa.nulls(count, pa.string()))
    for number in table.missing():
        start, stop = table.bounds(number)
        positions = rng.integers(0, count, (stop - start, k), dtype=np.int32)
        scores = -np.sort(-rng.random((stop - start, k), dtype=np.float32), axis=1)
        table.write(number, pa.table({"position": matrix_column(positions), "score": matrix_column(scores)}))


class Process:
    """A server in a process of its own; `port` is read from what it prints."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as sink:
            begun = sink.tell()
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink)
        self.port = self._find_port(begun)

    @classmethod
    def serve(cls, store: Path, log: Path, *options: str) -> Process:
        """Start `tgq serve` on a free port."""
        tgq = str(Path(sys.executable).with_name("tgq"))
        return cls([tgq, "serve", str(store), "--port", "0", "--no-explorer", *options], log)

    def memory(self) -> float:
        """Memory of its own, in MB: what is mapped from files is not counted."""
        seen = psutil.Process(self.process.pid).memory_info()
        return (seen.rss - seen.shared) / (1 << 20)

    def stop(self) -> int:
        """End it in order; give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(60)

    def _find_port(self, begun: int) -> int:
        for _ in range(1800):
            text = self.log.read_bytes()[begun:].decode()
            if (found := re.search(r"on http://127\.0\.0\.1:(\d+)", text)) and self._answers(int(found[1])):
                return int(found[1])
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}:\n{text}")
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{text}")

    def _answers(self, port: int) -> bool:
        try:
            return asyncio.run(_once(port))[0] == 200
        except OSError:
            return False


async def _once(port: int) -> tuple[int, bytes]:
    line = await Line.open(port)
    try:
        return await line.ask(request("GET", "/healthz"))
    finally:
        line.close()


class Line(asyncio.Protocol):
    """One keep-alive connection, as lean as Python allows, so that the server is what is measured."""

    def __init__(self) -> None:
        self._buffer, self._answer = b"", None

    @classmethod
    async def open(cls, port: int) -> Line:
        """Connect."""
        return (await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port))[1]

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Send a request and give (status, body)."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, body = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length and self._answer is not None and not self._answer.done():
            self._buffer = b""
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


def request(method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
    """Write a request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    if body:
        head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def form(method: str, path: str, picture: bytes | None = None, **fields: str) -> bytes:
    """Write a request with a form."""
    parts = [f'--XX\r\ncontent-disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    if picture is not None:
        head = b'--XX\r\ncontent-disposition: form-data; name="picture"; filename="p.jpg"\r\n\r\n'
        parts.append(head + picture + b"\r\n")
    return request(method, path, b"".join(parts) + b"--XX--\r\n", "multipart/form-data; boundary=XX")


@dataclass
class Tally:
    """What a load did: seconds of every answer, statuses, and what was wrong."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    wall: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.seconds.append(seconds)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall

    def quantile(self, q: float) -> float:
        """Milliseconds."""
        return float(np.quantile(self.seconds, q) * 1000)


async def closed_loop(port: int, lines: int, seconds: float, make: Callable[[], bytes]) -> Tally:
    """Keep `lines` connections busy: each asks again as soon as it is answered."""
    tally, opened = Tally(), [await Line.open(port) for _ in range(lines)]
    begun = time.perf_counter()

    async def work(line: Line) -> None:
        while (now := time.perf_counter()) - begun < seconds:
            status, _ = await line.ask(make())
            tally.add(status, time.perf_counter() - now)

    await asyncio.gather(*map(work, opened))
    tally.wall = time.perf_counter() - begun
    for line in opened:
        line.close()
    return tally


def bare(size: int) -> None:
    """Run a FastAPI application with one route that gives a constant body, on the same server settings."""
    import uvicorn
    from fastapi import FastAPI, Response

    from tgqformer.service.server import listen

    app, body = FastAPI(), b"x" * size

    @app.get("/items/{name}/similar")
    async def constant(name: str) -> Response:
        return Response(body, media_type="application/json")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    with listen("127.0.0.1", 0) as address:
        print(f"bare on http://127.0.0.1:{address.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, http="httptools", loop="uvloop", access_log=False, log_config=None, ws="none")
        uvicorn.Server(config).run(sockets=[address])


def random_ids(count: int, seed: int = 0) -> Callable[[], int]:
    """Give a function that gives the next random item."""
    chosen = itertools.cycle(np.random.default_rng(seed).integers(0, count, 100_000).tolist())
    return lambda: next(chosen)


def decoded(body: bytes) -> Any:
    """Read JSON."""
    return json.loads(body)


def environment() -> str:
    """The machine, in a few words."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__" and sys.argv[1:2] == ["bare"]:
    bare(int(sys.argv[2]))
