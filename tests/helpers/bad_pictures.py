"""A real server of pictures that misbehaves in every way, by the path that is asked for."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO

import numpy as np
from PIL import Image

BAD = {  # path: kind of the failure
    "html": "type",
    "svg": "type",
    "bmp": "type",
    "zip": "type",
    "empty": "type",
    "missing": "status",
    "gone": "status",
    "always500": "status",
    "later": "status",
    "damaged": "unreadable",
    "cut": "truncated",
    "short": "truncated",
    "huge": "too-large",
    "endless": "too-large",
    "never": "timeout",
    "drip": "timeout",
    "drop": "connection",
    "noise": "connection",
    "circle": "redirect",
    "far": "redirect",
    "to-file": "redirect",
    "to-private": "private",
}
GOOD_AFTER_ALL = ("good", "chunked", "until-closed", "500-first", "429-first", "short-first", "moved", "seen")
_ANSWERED = {"html": b"<!doctype html><p>Not here", "svg": b"<svg xmlns='x'/>", "bmp": b"BM" + bytes(90), "empty": b""}


def picture(number: int, kind: str = "JPEG") -> bytes:
    """The picture of a number, unlike all others."""
    buffer = BytesIO()
    shade = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(shade).resize((24, 24), Image.Resampling.NEAREST).save(buffer, kind)
    return buffer.getvalue()


def head(status: str, body: bytes | None, **more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in more.items())]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class BadServer:
    """Answers `/WAY/NUMBER.jpg`; counts what was asked, and when."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.port = 0
        self.most = self._open = 0

    def url(self, way: str, number: int = 0, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{way}/{number}.jpg"

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ")[1].decode()
                self.asked[path] += 1
                self.times.append(time.monotonic())
                if not await self._answer(path, reader, writer):
                    break
        self._open -= 1
        writer.close()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer once; say whether the line stays open."""
        way, number = path.split("/")[1], int(path.split("/")[2].partition(".")[0])
        good, first = picture(number), self.asked[path] == 1
        if way in _ANSWERED or way == "zip":
            writer.write(head("200 OK", _ANSWERED.get(way, b"PK\x03\x04" + bytes(90)), Content_Type="image/jpeg"))
        elif way in ("good", "seen") or (way.endswith("-first") and not first):
            writer.write(head("200 OK", good))
        elif way == "packed":
            writer.write(head("200 OK", gzip.compress(good), Content_Encoding="gzip"))
        elif way in _STATUS:
            status, more = _STATUS[way]
            writer.write(head(status, b"no", **more))
        elif way in _PLACES:
            writer.write(
                head("302 Found", b"", Location=_PLACES[way].format(n=number, next=number + 1, port=self.port))
            )
        elif way == "damaged":
            writer.write(head("200 OK", picture(number, "PNG")[:40] + b"\xff" * 900))
        elif way == "cut":
            writer.write(head("200 OK", good[:-60]))
        elif way in ("short", "short-first"):
            writer.write(head("200 OK", None, Content_Length=str(len(good) + 5000)) + good)
            return False
        elif way == "huge":
            writer.write(head("200 OK", None, Content_Length="9000000000") + good)
            return False
        elif way == "chunked":
            writer.write(
                head("200 OK", None, Transfer_Encoding="chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)
            )
        elif way == "until-closed":
            writer.write(head("200 OK", None, Connection="close") + good)
            return False
        else:
            await self._stray(way, good, reader, writer)
            return False
        await writer.drain()
        return True

    async def _stray(self, way: str, good: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way == "noise":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 4)
        elif way == "endless":
            writer.write(head("200 OK", None, Connection="close") + good)
            while not writer.is_closing():
                writer.write(bytes(1 << 16))
                await writer.drain()
        elif way in ("never", "drip"):
            writer.write(head("200 OK", None, Content_Length="100000") + good[:20] if way == "drip" else b"")
            while not (writer.is_closing() or reader.at_eof()):  # until whoever asks has enough
                writer.write(b"\xff" if way == "drip" else b"")
                await writer.drain()
                await asyncio.sleep(0.05)
        else:
            assert way == "drop", way


_STATUS: dict[str, tuple[str, dict[str, str]]] = {
    "missing": ("404 Not Found", {}),
    "gone": ("410 Gone", {}),
    "always500": ("500 Internal Server Error", {}),
    "500-first": ("500 Internal Server Error", {}),
    "429-first": ("429 Too Many Requests", {"Retry_After": "1"}),
    "later": ("503 Service Unavailable", {"Retry_After": "86400"}),
}
_PLACES = {
    "circle": "/circle/{n}.jpg",
    "far": "/far/{next}.jpg",
    "to-file": "file:///etc/passwd",
    "to-private": "http://127.0.0.2:{port}/good/{n}.jpg",
    "to-429-first": "http://localhost:{port}/429-first/{n}.jpg",
    "to-latin": "/good/{n}.jpg?name=gr\xf6n",
    "moved": "../seen/{n}.jpg",
}


@contextmanager
def bad_server() -> Iterator[BadServer]:
    """Run the server in a thread while the block runs."""
    server, ready, stop = BadServer(), threading.Event(), list[Callable[[], object]]()

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        listening = await asyncio.start_server(server._line, "127.0.0.1", 0, backlog=1000)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield server
    finally:
        stop[0]()
        thread.join(60)
