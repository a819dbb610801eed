"""One picture from one address: politely, within limits, and from public hosts alone.

Names are resolved here, each address is checked, and the connection goes to the address that was checked: a name that
means another machine a moment later changes nothing. The same holds for every step of a redirect. No proxy, no cookie.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpcore2 as http

from tgqformer.catalog.addresses import address_of, is_public
from tgqformer.catalog.pictures import KINDS, PictureError, check, ending_of
from tgqformer.config import NaturalFloat, Positive, PositiveFloat, settings
from tgqformer.version import __version__

REDIRECTS, PATIENCE, CONNECTIONS = 5, 300.0, 64
"""Steps of a redirect at most; seconds that a server may ask to wait; connections at once to all hosts together."""
_HEAD = 512  # bytes by which a picture is told
_HEADERS: dict[bytes | str, bytes | str] = {
    "user-agent": f"tgqformer/{__version__} (tgq pictures fetch)",
    "accept": "image/avif,image/webp,image/png,image/jpeg,image/gif",
    "accept-encoding": "identity",
}
_LATER = {408, 425, 429, 500, 502, 503, 504}
_MOVED = {301, 302, 303, 307, 308}


@settings
class FetchSettings:
    """How pictures are fetched.

    Args:
        rate: requests a second to one host. at_once: connections to one host. timeout: seconds for one picture.
        tries: of one picture, where another may help. pause: seconds before the second try, doubled before each next.
        max_mb: of a picture. allow_host: hosts that may lie in a private network, by name or number.
    """

    rate: PositiveFloat = 10.0
    at_once: Positive = 4
    timeout: PositiveFloat = 30.0
    tries: Positive = 4
    pause: NaturalFloat = 1.0
    max_mb: PositiveFloat = 20.0
    allow_host: tuple[str, ...] = ()


class FetchError(Exception):
    """Why a picture could not be had: a stable word, and words for people.

    again: whether another try may help. wait: seconds that the server asks to wait; it counts for the whole host.
    """

    def __init__(self, kind: str, reason: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.again, self.wait = kind, reason, again, wait


class Client:
    """Fetches pictures; use it in an `async with` block of one event loop."""

    def __init__(self, how: FetchSettings) -> None:
        self._how = how
        self._free = asyncio.Semaphore(CONNECTIONS)  # so that no time-out counts while a picture waits for a connection
        self._turns: dict[str, _Turns] = defaultdict(lambda: _Turns(1 / how.rate))
        backend = _PublicHosts(frozenset(name.lower() for name in how.allow_host))
        self._pool = http.AsyncConnectionPool(
            ssl.create_default_context(), max_connections=CONNECTIONS, keepalive_expiry=20, network_backend=backend
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def picture(self, address: str) -> tuple[str, bytes]:
        """Return (ending, bytes) of the whole picture at an address. Raise FetchError after the last try."""
        for tried in range(1, self._how.tries + 1):
            try:
                return await self._followed(address)
            except FetchError as error:
                if not error.again:
                    raise
                if tried == self._how.tries:
                    times = f", {tried} times" if tried > 1 else ""
                    raise FetchError(error.kind, error.reason + times) from error
                await self._wait(error, tried)
        raise AssertionError("there is at least one try")

    async def _wait(self, error: FetchError, tried: int) -> None:
        if not error.wait:
            await asyncio.sleep(min(self._how.pause * 2 ** (tried - 1) * (1 + random.random()), PATIENCE))
        elif error.wait > PATIENCE:
            raise FetchError(error.kind, f"{error.reason}, and asks to wait for {error.wait:.0f} s") from error

    async def _followed(self, address: str) -> tuple[str, bytes]:
        seen = [address]
        while True:
            await self._turns[urlsplit(address).netloc].next()
            try:
                found = await self._asked(address)
            except FetchError as error:
                if error.wait is not None and error.wait <= PATIENCE:  # of the host that says so, not the one before
                    self._turns[urlsplit(address).netloc].rest(error.wait)
                raise
            if not isinstance(found, str):
                return await asyncio.to_thread(_checked, found)
            moved = address_of(urljoin(address, found))
            if moved is None:
                raise FetchError("redirect", f"it leads to {found[:200]!r}, which is no address of http or https")
            if moved in seen or len(seen) > REDIRECTS:
                how = "in a circle" if moved in seen else f"more than {REDIRECTS} times"
                raise FetchError("redirect", f"it leads on {how}, at last to {moved[:200]}")
            seen.append(address := moved)

    async def _asked(self, address: str) -> bytes | str:
        """Return the body of an answer, or where it leads to."""
        try:
            async with (
                self._free,
                asyncio.timeout(self._how.timeout),
                self._pool.stream("GET", address, headers=_HEADERS) as answer,
            ):
                headers = {name.lower(): _words(value) for name, value in answer.headers}
                if answer.status in _MOVED and headers.get(b"location"):
                    return headers[b"location"]
                if answer.status != 200:
                    raise _refused(answer.status, headers.get(b"retry-after"))
                return await self._body(answer, headers)
        except TimeoutError as error:
            raise FetchError("timeout", f"it takes more than {self._how.timeout:g} s", again=True) from error
        except http.RemoteProtocolError as error:
            cut = "without sending complete" in str(error) or "incomplete" in str(error)
            words = "the picture is cut off" if cut else f"not an answer of HTTP: {error}"
            raise FetchError("truncated" if cut else "connection", words, again=True) from error
        except (http.NetworkError, http.ProtocolError, http.TimeoutException, OSError) as error:
            raise FetchError("connection", f"no connection: {error or type(error).__name__}", again=True) from error

    async def _body(self, answer: http.Response, headers: dict[bytes, str]) -> bytes:
        most, data, said = int(self._how.max_mb * (1 << 20)), bytearray(), headers.get(b"content-length", "")
        packed = headers.get(b"content-encoding", "").strip().lower()
        if packed not in ("", "identity"):
            raise FetchError("type", f"the server sends it packed ({packed[:40]}), which it was not asked to")
        if said.isdigit() and int(said) > most:
            raise FetchError("too-large", f"{int(said) / (1 << 20):.1f} MB; {self._how.max_mb:g} MB is the limit")
        told = False
        async for part in answer.aiter_stream():
            data += part
            if not told and len(data) >= _HEAD:
                told = bool(_ending(data))
            if len(data) > most:
                raise FetchError("too-large", f"more than {self._how.max_mb:g} MB")
        _ending(data)
        return bytes(data)


def _words(value: bytes) -> str:
    """Return a header as text; bytes that are not UTF-8 escaped, as addresses have them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return re.sub(rb"[\x80-\xff]", lambda found: b"%%%02X" % found[0][0], value).decode("ascii")


def _ending(data: bytearray) -> str:
    ending = ending_of(bytes(data[:_HEAD]))
    if ending is None:
        try:
            check(bytes(data[:_HEAD]))
            why = "a picture of another kind"
        except PictureError as error:
            why = error.reason if error.kind == "unreadable" else "a picture of another kind"
        raise FetchError("type", f"no {KINDS} file: {why}")
    return ending


def _checked(data: bytes) -> tuple[str, bytes]:
    """Return (ending, bytes) of a picture that can be decoded. Raise FetchError; one that is cut off is asked again."""
    try:
        check(data)
    except PictureError as error:
        raise FetchError(error.kind, error.reason, again=error.kind == "truncated") from error
    return _ending(bytearray(data[:_HEAD])), data


def _refused(status: int, after: str | None) -> FetchError:
    wait = _seconds(after) if status in _LATER and after else None
    return FetchError("status", f"the server answers {status}", again=status in _LATER, wait=wait)


def _seconds(after: str) -> float | None:
    """Return the seconds that a header Retry-After means: a number of them, or a day and time."""
    if re.fullmatch(r"\s*[0-9]+\s*", after):
        return float(after)
    try:
        return max(parsedate_to_datetime(after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


class _Turns:
    """The turns of one host: one request after another, so many seconds apart; all wait while it rests."""

    def __init__(self, apart: float) -> None:
        self._apart, self._next, self._one = apart, 0.0, asyncio.Lock()

    async def next(self) -> None:
        """Wait for the next turn."""
        async with self._one:
            while (left := self._next - time.monotonic()) > 0:
                await asyncio.sleep(left)
            self._next = time.monotonic() + self._apart

    def rest(self, seconds: float) -> None:
        """Let no turn come for so many seconds."""
        self._next = max(self._next, time.monotonic() + seconds)


class _PublicHosts(http.AsyncNetworkBackend):
    """Connects to public addresses alone, and to hosts that are allowed by name."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed, self._inner = allowed, http.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[http.SOCKET_OPTION] | None = None,
    ) -> http.AsyncNetworkStream:
        """Resolve a name, check all that it means, and connect to the first that answers.

        Raise FetchError for a host that is, or may be, in a private network.
        """
        failed: Exception = OSError(f"{host} has no address")
        for number in await self._numbers(host, port):
            try:
                return await self._inner.connect_tcp(number, port, timeout, local_address, socket_options)
            except (http.ConnectError, http.ConnectTimeout) as error:
                failed = error
        raise failed

    async def _numbers(self, host: str, port: int) -> list[str]:
        resolve: Callable[..., Awaitable[list[Any]]] = asyncio.get_running_loop().getaddrinfo
        try:
            found = await resolve(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise FetchError("host", f"there is no host {host}: {error}", again=True) from error
        numbers = list(dict.fromkeys(str(one[4][0]) for one in found))
        inside = [number for number in numbers if not is_public(number)]
        if inside and host.lower() not in self._allowed:
            raise FetchError(
                "private", f"{host} is {inside[0]}, which is not public; --allow-host {host} fetches it all the same"
            )
        return numbers

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)
