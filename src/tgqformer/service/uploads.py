"""Uploads: decoded in processes of their own, and no client may keep those busy for long."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextvars import ContextVar
from threading import Lock
from time import monotonic

from PIL.Image import Image

from tgqformer.service.batching import Pool
from tgqformer.service.decoder import Decoders
from tgqformer.service.errors import ApiError, overloaded
from tgqformer.service.settings import ServiceSettings

FREE = 0.1  # seconds of processor time that a picture may cost and count nothing: usual ones take less
LARGE = 1 << 15  # bytes of a body that hardly can be without a picture
CLIENTS = 10_000  # that are remembered; those whose last costly picture is longest ago go first
caller: ContextVar[str] = ContextVar("caller", default="")
"""Who sent the request in work: the digest of a key, or an address."""


class Allowance:
    """Processor time that the costly uploads of each client may take. Thread-safe.

    A client may owe `burst` seconds. Of what it owes, `share` seconds are forgotten each second.
    """

    def __init__(self, burst: float, share: float) -> None:
        self._burst, self._share, self._lock = burst, share, Lock()
        self._owed = OrderedDict[str, tuple[float, float]]()  # client -> seconds owed, and when

    def charge(self, client: str, seconds: float) -> None:
        """Count what a picture took; at most FREE seconds count nothing."""
        if seconds <= FREE:
            return
        with self._lock:
            self._owed[client] = (self._owes(client) + seconds, monotonic())
            self._owed.move_to_end(client)
            if len(self._owed) > CLIENTS:
                self._owed.popitem(last=False)

    def wait(self, client: str) -> float:
        """Return the seconds until a client may send a picture again; 0 where it may now."""
        with self._lock:
            return max(0.0, (self._owes(client) - self._burst) / self._share)

    def _owes(self, client: str) -> float:
        seconds, when = self._owed.get(client, (0.0, 0.0))
        return max(0.0, seconds - self._share * (monotonic() - when))


class Uploads:
    """What decodes the pictures that come in over HTTP, and what is refused before it is read.

    `pool` has the threads that wait for the processes that decode.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.pool = Pool(settings.decodes, settings.decode_queue, "decoding")
        self.allowance = Allowance(settings.upload_burst, settings.upload_share)
        self._decoders = Decoders(settings.decodes, settings.max_pixels, settings.decode_seconds)

    def refusal(self, client: str, size: int) -> ApiError | None:
        """Return why a body of so many bytes is not even read; None where it is."""
        if size < LARGE:
            return None
        if self.pool.full:
            error = overloaded("too many uploads wait")
            error.headers["connection"] = "close"
            return error
        return self._too_costly(client)

    def decode(self, data: bytes, client: str) -> Image:
        """Decode an upload in a process of its own; blocking.

        Raises: PictureError for what is no picture of a kind that is taken, or costs too much.
            ApiError 429 where the client's pictures took too much time already, 503 where the machine is too busy.
        """
        if (refused := self._too_costly(client)) is not None:
            raise refused
        try:
            return self._decoders.decode(data, lambda seconds: self.allowance.charge(client, seconds))
        except TimeoutError as error:
            raise overloaded("no processor has time for an upload") from error

    def close(self) -> None:
        """End threads and processes."""
        self.pool.close()
        self._decoders.close()

    def _too_costly(self, client: str) -> ApiError | None:
        if not (wait := self.allowance.wait(client)):
            return None
        headers = {"retry-after": str(math.ceil(wait)), "connection": "close"}
        hint = "send smaller pictures, or wait for the seconds in Retry-After"
        return ApiError(429, "your pictures took too much processor time", hint, headers)
