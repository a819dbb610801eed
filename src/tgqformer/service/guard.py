"""What every request passes: keys, limits on size, number and time, a request id, the log line and the counters."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_address

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tgqformer.errors import TgqError
from tgqformer.service.errors import RETRY, ApiError, overloaded, response_of
from tgqformer.service.keys import Keyring, key_in
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.shortcut import Shortcut
from tgqformer.service.telemetry import Telemetry, request_id
from tgqformer.service.uploads import Uploads, caller

log = logging.getLogger("tgqformer.service")
ALWAYS = frozenset({"/healthz", "/readyz"})  # answered without a key, and under any load
MOMENT = 1.0  # seconds before the sender of a large body is refused
WRITES = frozenset({"PUT", "DELETE"})
LOGIN = {"www-authenticate": 'Basic realm="tgqformer: any name, the key as password", charset="UTF-8"'}


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        shortcut: Shortcut,
        settings: ServiceSettings,
        telemetry: Telemetry,
        keyring: Keyring | None,
        uploads: Uploads,
    ) -> None:
        self._app, self._shortcut, self._settings, self._telemetry = app, shortcut, settings, telemetry
        self._keyring, self._uploads = keyring, uploads
        self._in_work = 0
        telemetry.in_work.set_function(lambda: self._in_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _keep_quoted(scope)
        call = _Call(send, os.urandom(8).hex(), self._leave)
        scope["request_id"] = call.id
        request_id.set(call.id)
        caller.set((scope["client"] or ("",))[0])
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server sends no body then
        started = time.perf_counter()
        try:
            always = scope["path"] in ALWAYS
            refusal = None if always else self._refusal(scope) or await self._held(scope)
            if refusal is None and await self._shortcut(asked, call.send):
                return
            if refusal is None and not always and not _has_body(scope):
                refusal = self._take(call)
            if refusal is not None:
                await response_of(refusal)(scope, receive, call.send)
            else:
                ending = _Ending.of(scope) if _has_body(scope) else None
                body = _Body(receive, self._settings, lambda: self._take(call), ending)
                await self._answer(asked, body, call)
        finally:
            self._leave(call)
            route = getattr(asked.get("route"), "path", "unmatched")
            self._telemetry.answered(
                _known(scope["method"]), route, call.status, time.perf_counter() - started, call.id
            )

    async def _answer(self, scope: Scope, body: _Body, call: _Call) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout) as call.limit:
                await self._app(scope, body.receive, call.send)
        except TimeoutError:
            if call.status != 500:  # not ours: an answer that has begun has no limit
                raise
            status = 504 if scope["method"] in WRITES else 503  # a write may have been carried out, or be so yet
            error = ApiError(
                status, f"it took more than {self._settings.timeout:g} seconds", "send less, or later", RETRY
            )
            await response_of(error)(scope, body.receive, call.send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        """Return why a request is not worked on at all; None where it is."""
        return self._of_other_host(scope) or self._without_key(scope) or self._too_large(scope)

    def _of_other_host(self, scope: Scope) -> ApiError | None:
        """Refuse a name that is not ours: a page of a stranger may have it point to this machine (DNS rebinding)."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"localhost")
        name = host_of(host.decode("latin-1"))
        if "*" in self._settings.hosts or name in self._settings.hosts or is_address(name):
            return None
        return ApiError(421, "this service is not known by that host name", "start it with --allow-host NAME")

    def _take(self, call: _Call) -> ApiError | None:
        """Count a request as in work once it is here wholly, so that slow senders take no place from others.

        What the shortcut answers needs no place: it is done before the next request is looked at.
        """
        if call.counted:
            return None
        if self._in_work >= self._settings.concurrency:
            return overloaded(f"{self._settings.concurrency} are in work")
        call.counted = True
        self._in_work += 1
        return None

    def _leave(self, call: _Call) -> None:
        """Count a request no more, so that clients that are slow to read take no place from others."""
        self._in_work -= call.counted
        call.counted = False

    def _without_key(self, scope: Scope) -> ApiError | None:
        writes = scope["method"] in WRITES
        if self._keyring is None or (self._settings.open_reads and not writes):
            return None
        key = key_in(scope["headers"])
        try:
            allowed = None if key is None else self._keyring.scope_of(key)
        except TgqError as error:
            log.error("nobody is let in: %s", error)
            return ApiError(503, "the keys of the service cannot be read", "try again later; the log says why", RETRY)
        if key is None or allowed is None:
            what = "an API key is needed" if key is None else "the API key is not known"
            return ApiError(401, what, "send the header `Authorization: Bearer KEY`", LOGIN)
        caller.set(sha256(key.encode()).hexdigest())
        if writes and allowed != "write":
            return ApiError(403, "this API key may only read", "use a key made without --read-only")
        return None

    def _too_large(self, scope: Scope) -> ApiError | None:
        return _too_large(self._settings.max_body_bytes) if _length(scope) > self._settings.max_body_bytes else None

    async def _held(self, scope: Scope) -> ApiError | None:
        """Return why a large body is not read. It is said after a moment: who comes again at once costs little then."""
        refusal = self._uploads.refusal(caller.get(), _length(scope))
        if refusal is not None:
            await asyncio.sleep(MOMENT)
        return refusal


class BodyRefused(HTTPException):
    """A body that grew too large or came too slowly. FastAPI lets this kind of error pass through its parsing."""

    def __init__(self, problem: ApiError) -> None:
        super().__init__(problem.status, problem.error, problem.headers)
        self.problem = problem


class _Ending:
    """Looks for the closing boundary of a form. The parser does not: it would pass over the last field without it."""

    def __init__(self, boundary: bytes) -> None:
        self._mark, self._last, self.seen = b"\r\n--" + boundary + b"--", b"\r\n", False

    @classmethod
    def of(cls, scope: Scope) -> _Ending | None:
        """Make one for a form in parts; None for another body, or where no boundary is named."""
        header = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        kind, options = parse_options_header(header)
        boundary = options.get(b"boundary")
        return cls(boundary) if kind == b"multipart/form-data" and boundary else None

    def take(self, part: bytes) -> None:
        """Look through the next part of the body."""
        if not self.seen:
            seen = self._last + part
            self.seen, self._last = self._mark in seen, seen[-len(self._mark) :]


class _Body:
    """A request's body, counted while it streams in: a length that was announced is not believed.

    `whole` is called when all of it is here; what it returns refuses the request. `ending` is that of a form.
    """

    def __init__(
        self,
        receive: Receive,
        settings: ServiceSettings,
        whole: Callable[[], ApiError | None],
        ending: _Ending | None,
    ) -> None:
        self._receive, self._settings, self._whole, self._ending = receive, settings, whole, ending
        self._read, self._complete = 0, False
        self._until = time.monotonic() + settings.body_seconds

    async def receive(self) -> Message:
        if self._complete:  # now it waits for the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            raise BodyRefused(_too_slow(self._settings.body_seconds)) from error
        part = message.get("body", b"")
        self._read += len(part)
        if self._read > self._settings.max_body_bytes:
            raise BodyRefused(_too_large(self._settings.max_body_bytes))
        if self._ending is not None:
            self._ending.take(part)
        if not message.get("more_body", False):
            self._complete = True
            if message["type"] == "http.request" and (refusal := self._unended() or self._whole()) is not None:
                raise BodyRefused(refusal)
        return message

    def _unended(self) -> ApiError | None:
        if self._ending is None or self._ending.seen or not self._read:
            return None
        return ApiError(
            400, "the form ends without its closing boundary", "send all of it, with the boundary of its header"
        )


class _Call:
    """What is known of an answer: its status (500 until it starts), and the request's id, which goes into its head.

    Its time, `limit`, counts until the answer starts, and so does its place; `leave` gives that back.
    """

    def __init__(self, send: Send, request_id: str, leave: Callable[[_Call], None]) -> None:
        self._send, self._leave, self.id, self.status, self.counted = send, leave, request_id, 500, False
        self.limit: asyncio.Timeout | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(b"x-request-id", self.id.encode()), (b"x-content-type-options", b"nosniff")]
            message["headers"] = [*message["headers"], *own]
            self._leave(self)
            if self.limit is not None and not self.limit.expired():
                self.limit.reschedule(None)
        await self._send(message)


def _too_large(limit: int) -> ApiError:
    hint = f"send at most {limit / (1 << 20):.3g} MB; a smaller picture serves as well"
    return ApiError(413, "the request is too large", hint, {"connection": "close"})


def _too_slow(seconds: float) -> ApiError:
    headers = {"connection": "close", **RETRY}
    return ApiError(408, f"the request did not arrive within {seconds:g} s", "send less, or faster", headers)


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port, in small letters."""
    name, _, port = header.strip().lower().rpartition(":")
    return (name if port.isdigit() else header.strip().lower()).strip("[]").rstrip(".")


def is_address(name: str) -> bool:
    """Say whether a name is an IP address: no name server had a say in it."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _length(scope: Scope) -> int:
    """Return how many bytes of a body are announced; 0 where nothing is."""
    size = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(size[:20]) if size.isdigit() else 0


def _has_body(scope: Scope) -> bool:
    """Say whether a body follows that a route will read."""
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return False
    heads = dict(scope["headers"])
    return b"transfer-encoding" in heads or heads.get(b"content-length", b"0") != b"0"


def _keep_quoted(scope: Scope) -> None:
    """Route by the path as it was sent: a slash that belongs to an id stays percent-encoded."""
    raw = scope.get("raw_path")
    if raw and b"%" in raw:
        scope["path"] = raw.decode("latin-1")


def _known(method: str) -> str:
    """A method for the counters; made-up ones are counted as one."""
    return method if method in {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"} else "other"
