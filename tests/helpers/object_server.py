"""A real object store on this machine (SeaweedFS speaks S3), and a wire to it that fails when it is told to."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import obstore
from obstore.store import S3Store

BUCKET, KEY, SECRET = "shop-data", "AKIDFORTESTS", "secretfortests"
_ADMIN, _ADMIN_SECRET = "AKIDFORADMIN", "secretforadmin"
_ROLES = ("master", "volume", "filer", "s3")
Faults = Callable[[str, str], str | None]
"""Says, by method and path of a request, what goes wrong: `503`, `cut` in the middle, `unanswered`; None: nothing."""


def environment(port: int, secret: str = SECRET) -> dict[str, str]:
    """Return the variables with which anything here speaks to such a store."""
    endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, **endpoint}


@contextmanager
def object_server(folder: Path) -> Iterator[int]:
    """Run a store with an empty bucket; gives its port. Its port may be taken meanwhile: then it takes others."""
    for _ in range(5):
        ports = _free_ports()
        server = _started(folder, ports)
        try:
            if _ready(server, ports["s3"]):
                yield ports["s3"]
                return
        finally:
            server.kill()
            server.wait()
    raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])


def _free_ports() -> dict[str, int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * len(_ROLES))]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return dict(zip([*_ROLES, *(f"{role}.port.grpc" for role in _ROLES)], found, strict=True))


def _started(folder: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    data = folder / str(ports["s3"])
    data.mkdir()
    allowed = [f"{action}:{BUCKET}" for action in ("Read", "Write", "List", "Tagging")]
    people = [("shop", KEY, SECRET, allowed), ("admin", _ADMIN, _ADMIN_SECRET, ["Admin"])]
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
        for name, key, secret, actions in people
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    listens = [f"-{name}={port}" if "." in name else f"-{name}.port={port}" for name, port in ports.items()]
    sockets = [f"-{role}.localSocket={data}/{role}.sock" for role in ("filer", "s3")]
    quiet = ["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
    room = ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=1MiB"]
    where = [f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}"]
    command = [str(Path(sys.executable).with_name("weed")), "server", *where, *listens, *sockets, *quiet, *room]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def _ready(server: subprocess.Popen[bytes], port: int) -> bool:
    """Make the bucket, as soon as the server lets us; return whether it did before it ended."""
    admin = S3Store(
        BUCKET,
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=_ADMIN,
        secret_access_key=_ADMIN_SECRET,
        client_options={"allow_http": True},
    )
    end = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < end:
        make = urllib.request.Request(obstore.sign(admin, "PUT", "", timedelta(hours=1)), method="PUT", data=b"")
        try:
            with urllib.request.urlopen(make, timeout=60):
                obstore.put(admin, "ready", b"yes")
                obstore.delete(admin, "ready")
                return True
        except (OSError, obstore.exceptions.BaseError):  # not yet
            time.sleep(0.2)
    return False


@contextmanager
def wire(port: int, faults: Faults) -> Iterator[ThreadingHTTPServer]:
    """Stand between a client and the server at a port; `server_port` is where, `seen` what came by."""

    class Wire(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            server: Any = self.server
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.seen.append((self.command, self.path))
            fault = faults(self.command, self.path)
            if fault == "503":
                self.send_error(503, "Slow Down")
                return
            asked = port, self.command, self.path, dict(self.headers), body
            if fault == "cut":
                _half(*asked)
            else:
                status, headers, content = _asked(*asked)
            if fault in ("cut", "unanswered"):
                self.close_connection = True
                self.connection.close()
                return
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if self.command != "HEAD" and not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # cut, as asked
                super().finish()

    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Wire, f"do_{method}", Wire._pass)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Wire)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _asked(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheaders(), content


def _half(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
    """Send a request as far as the middle of its body, and go."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode() + body[: len(body) // 2])
