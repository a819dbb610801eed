"""A small server that speaks Google Cloud Storage as it is documented: objects with generations, in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DATE = "Sat, 28 Nov 2026 12:00:00 GMT"


class Objects:
    """Bytes and generations by name of an object, `bucket/folder/name`."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, int]] = {}
        self.asked: list[str] = []
        self.generations, self.lock = count(1000), Lock()

    def put(self, name: str, data: bytes, match: str | None) -> int | None:
        """Write an object if its generation is `match` (0: none stands there); return the new one."""
        with self.lock:
            if match is not None and int(match) != (self.held[name][1] if name in self.held else 0):
                return None
            self.held[name] = data, next(self.generations)
            return self.held[name][1]

    def listed(self, bucket: str, prefix: str, delimiter: str) -> str:
        """List the objects of a bucket as Google's XML does."""
        objects, folders = [], set()
        for name, (data, _) in sorted(self.held.items()):
            key = name.removeprefix(f"{bucket}/")
            if key == name or not key.startswith(prefix):
                continue
            head, mark, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if mark:
                folders.add(prefix + head + mark)
                continue
            about = f"<LastModified>2026-11-28T12:00:00.000Z</LastModified><ETag>{etag(data)}</ETag>"
            objects.append(f"<Contents><Key>{escape(key)}</Key>{about}<Size>{len(data)}</Size></Contents>")
        common = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
        return f"<ListBucketResult><Name>{bucket}</Name>{''.join(objects)}{common}</ListBucketResult>"


def etag(data: bytes) -> str:
    """Return the tag of these bytes."""
    return f'"{md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def gcs_server(keys: Path) -> Iterator[tuple[Objects, dict[str, str]]]:
    """Run the server; give its objects and the variables with which it is asked. keys: a file to write a key to."""
    objects = Objects()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, data: bytes = b"", **headers: object) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Length": len(data), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            made = objects.put(self._name(), data, self.headers.get("x-goog-if-generation-match"))
            if made is None:
                self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            else:
                self._answer(200, ETag=etag(data), x_goog_generation=made)

        def do_GET(self) -> None:
            name, asked = self._name(), parse_qs(urlsplit(self.path).query)
            if "list-type" in asked:
                told = (asked.get(one, [""])[0] for one in ("prefix", "delimiter"))
                self._answer(200, objects.listed(name, *told).encode(), Content_Type="application/xml")
            elif name not in objects.held:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                data, generation = objects.held[name]
                about = {"ETag": etag(data), "x_goog_generation": generation, "Last_Modified": DATE}
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if part is None:
                    self._answer(200, data, **about)
                    return
                some = data[int(part[1]) : int(part[2]) + 1]
                where = f"bytes {part[1]}-{int(part[1]) + len(some) - 1}/{len(data)}"
                self._answer(206, some, Content_Range=where, **about)

        def do_HEAD(self) -> None:
            name = self._name()
            if name not in objects.held:
                self._answer(404)
                return
            data, generation = objects.held[name]
            self.send_response_only(200)
            about = {"Content-Length": len(data), "ETag": etag(data), "Last-Modified": DATE}
            for header, value in {**about, "x-goog-generation": generation}.items():
                self.send_header(header, str(value))
            self.end_headers()

        def _name(self) -> str:
            objects.asked.append(f"{self.command} {self.path}")
            return unquote(urlsplit(self.path).path.strip("/"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    where = f"http://127.0.0.1:{server.server_port}"
    account = {"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True}
    keys.write_text(json.dumps({**account, "gcs_base_url": where}))
    try:
        yield objects, {"GOOGLE_SERVICE_ACCOUNT": str(keys)}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
