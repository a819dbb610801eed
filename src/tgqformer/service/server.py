"""The HTTP server: uvicorn with limits on a request's head, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections import OrderedDict
from dataclasses import replace
from ipaddress import ip_address
from types import FrameType
from typing import ClassVar

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tgqformer.errors import TgqError
from tgqformer.progress import console
from tgqformer.service.app import make_app
from tgqformer.service.guard import is_address
from tgqformer.service.memory import use_system_memory
from tgqformer.service.places import Places
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import open_site
from tgqformer.service.telemetry import log_to_stderr

BACKLOG = 2048
SWITCH = 0.0005  # seconds that a thread may go on when another waits: answers wait for several turns
KEEP_ALIVE = 30  # seconds that a connection may be silent between requests
LAST = 5  # seconds after those for the requests in work; then the process ends
OPEN_TO_ALL = "EVERYBODY who reaches this machine may put and delete items: there are no keys. Give --keys FILE."
TOO_LONG = "The request line and headers are too long, or came too slowly."
WAITING = 100  # requests of one connection that may wait for the answer before them
TOO_MANY = "Too many requests at once on one connection; wait for answers in between."


def run(places: Places, settings: ServiceSettings, host: str, port: int, log_level: str = "info") -> None:
    """Serve until SIGTERM or SIGINT; blocking.

    Raises: TgqError where the port is taken, or something to serve is missing.
    """
    log_to_stderr(log_level)
    settings = replace(settings, connections=connections_for(settings.connections))
    with listen(host, port) as address:
        use_system_memory()
        if places.runtime == "torch":
            import torch

            torch.set_num_threads(1)  # batches are spread over threads already
        sys.setswitchinterval(SWITCH)
        site = open_site(places, settings)
        app = make_app(site, settings)
        shown = f"[{host}]" if ":" in host else host
        if settings.keys is None and not _is_loopback(host):
            console.print(OPEN_TO_ALL, style="bold red", highlight=False)
            logging.getLogger("tgqformer.service").warning(OPEN_TO_ALL)
        console.print(f"serving {site.store.where} on http://{shown}:{address.getsockname()[1]}", highlight=False)
        for number in (signal.SIGTERM, signal.SIGINT):  # while it serves, uvicorn has its own
            signal.signal(number, lambda *_: None)  # after that, the end is orderly
        gc.collect()
        gc.freeze()  # else full collections walk all that the libraries made: 0.3 s in which nobody is answered
        make_server(app, settings).run(sockets=[address])


def make_server(app: FastAPI, settings: ServiceSettings) -> uvicorn.Server:
    """Make a server; on SIGTERM or SIGINT it takes no more requests and finishes those in work."""
    config = uvicorn.Config(
        app,
        http=limited_http(settings),
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.timeout) + 5,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that ends within its grace after a signal, whatever is stuck: what was acknowledged is on disk."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            grace = (self.config.timeout_graceful_shutdown or 0) + LAST
            last = threading.Timer(grace, _end_now)
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)


def _end_now() -> None:
    logging.getLogger("tgqformer.service").error("something did not end in time; the process ends now")
    os._exit(1)


def connections_for(wanted: int) -> int:
    """Let this process open more files, if it may; return how many connections it may have: half of the files."""
    if sys.platform == "win32":
        return wanted
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in limits)
    if soft < 2 * wanted and soft < hard:
        soft = min(2 * wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    return max(1, min(wanted, soft // 2))


def listen(host: str, port: int) -> socket.socket:
    """Bind the address, so that a taken port is told before models are loaded; port 0 takes a free one.

    Raises: TgqError where that is not possible.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        raise TgqError(f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port") from error


def limited_http(settings: ServiceSettings) -> type[asyncio.Protocol]:
    """Make uvicorn's protocol with these limits on a request's head, on those that wait, and on slow readers."""

    class LimitedHttp(_LimitedHttp):
        head_bytes, head_seconds, most = settings.head_bytes, settings.head_seconds, settings.connections
        body_seconds = settings.body_seconds
        opened: ClassVar = OrderedDict[_LimitedHttp, None]()

    return LimitedHttp


class _LimitedHttp(HttpToolsProtocol):
    head_bytes: int
    head_seconds: float
    body_seconds: float  # until a client has read what waits for it
    most: int  # connections
    opened: ClassVar[OrderedDict[_LimitedHttp, None]]  # the one that was busy last stands at the end
    _received = 0  # bytes of a head that is not complete
    _headers = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _asked: tuple[RequestResponseCycle, ...] = ()  # requests without their whole answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.opened[self] = None
        if len(self.opened) > self.most:
            self._close_an_idle_one()
        self._timer = self.loop.call_later(self.head_seconds, self._refuse)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._is_read()
        self.opened.pop(self, None)
        for cycle in self._asked:  # uvicorn tells the last one alone
            cycle.disconnected = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._received += len(data)
            if self._received > self.head_bytes:
                self._refuse()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= WAITING:
            raise httptools.HttpParserError(TOO_MANY)
        super().on_message_begin()
        self._in_head, self._headers = True, 0
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._refuse)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._headers += len(name) + len(value)
        if self._headers > self.head_bytes:
            raise httptools.HttpParserError(TOO_LONG)

    def on_headers_complete(self) -> None:
        self._in_head, self._received = False, 0
        self.opened.move_to_end(self)
        self._disarm()
        super().on_headers_complete()
        self._asked = (*(one for one in self._asked if not one.response_complete), self.cycle)

    @property
    def _is_idle(self) -> bool:
        return self._in_head or self.cycle is None or self.cycle.response_complete

    def _close_an_idle_one(self) -> None:
        """Make room: close the connection that is idle for longest, or this one where all are busy."""
        victim = next((one for one in self.opened if one is not self and one._is_idle), self)
        self.opened.pop(victim)
        victim.transport.close()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(TOO_LONG)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
