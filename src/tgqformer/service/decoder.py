"""Uploads are decoded in processes of their own, with limits on time and memory: no picture stops the service.

The service asks, a worker answers, both in frames over pipes: a head of fixed size, then bytes. The worker is this
module, run as a program.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore
from typing import BinaryIO

from PIL import Image

from tgqformer.catalog.pictures import KINDS, PictureError, decode, ending_of

NICE = 10  # where a search wants the same processor, that gets ten times as much, and an upload still goes on
_ASK = struct.Struct(">QQQ")  # bytes that follow, most pixels, seconds of processor time
_ANSWER = struct.Struct(
    ">cdQII"
)  # P for a picture or E for an error, seconds it took, bytes that follow, width, height
_BAND = 1 << 18  # pixels that are taken in at once
_BYTES_A_PIXEL, _SPARE = 32, 256 << 20  # of memory beside what the worker has when it starts
_PATIENCE, _LEAST = 4, 20.0  # times as much by the clock as of processor time, and seconds at least: a busy machine


class Decoders:
    """Up to `count` workers, started when they are needed; each decodes one picture at a time. Thread-safe.

    Args:
        max_pixels: of a picture. seconds: of processor time for one.
    """

    def __init__(self, count: int, max_pixels: int, seconds: int) -> None:
        self._max_pixels, self._seconds = max_pixels, seconds
        self._free, self._idle = BoundedSemaphore(count), SimpleQueue[_Worker]()

    def decode(self, data: bytes, spent: Callable[[float], None] = lambda seconds: None) -> Image.Image:
        """Decode an upload to RGB, and tell `spent` the seconds of processor time that it took; blocking.

        Raises: PictureError for what is no picture of a kind that is taken, has too many pixels, or costs too much.
            TimeoutError where the machine is too busy to decode it in time.
        """
        if ending_of(data) is None:
            raise PictureError("unreadable", f"it is no {KINDS} file")
        with self._free:
            worker = self._taken()
            try:
                found = worker.decode(data, self._max_pixels, self._seconds, spent)
            except PictureError:
                self._idle.put(worker)
                raise
            except TimeoutError:  # an OSError, but no fault of the picture
                worker.end()
                raise
            except (OSError, EOFError) as error:  # it was ended by its limits
                worker.end()
                spent(self._seconds)
                raise PictureError(
                    "bomb", f"it takes more than {self._seconds} s to decode, or too much memory"
                ) from error
            except BaseException:
                worker.end()
                raise
            self._idle.put(worker)
            return found

    def close(self) -> None:
        """End the workers that have nothing to do."""
        try:
            while True:
                self._idle.get_nowait().end()
        except Empty:
            return

    def _taken(self) -> _Worker:
        try:
            return self._idle.get_nowait()
        except Empty:
            return _Worker()


class _Worker:
    """The service's end of a worker."""

    def __init__(self) -> None:
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **alone},
            process_group=0,  # of the same session: Linux weighs priorities within a session only
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)

    def decode(self, data: bytes, max_pixels: int, seconds: int, spent: Callable[[float], None]) -> Image.Image:
        until = time.monotonic() + max(_PATIENCE * seconds, _LEAST)
        left = memoryview(_ASK.pack(len(data), max_pixels, seconds) + data)
        while left:
            _wait(self._to, select.POLLOUT, until)
            left = left[os.write(self._to, left[: 1 << 16]) :]
        kind, took, size, width, height = _ANSWER.unpack(self._read(_ANSWER.size, until))
        spent(took)
        if kind == b"P":
            return self._picture(width, height, until)
        word, _, reason = self._read(size, until).decode().partition("\n")
        raise PictureError(word, reason)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _picture(self, width: int, height: int, until: float) -> Image.Image:
        """Take in a picture a band at a time, so that no other thread waits long for this one."""
        found, rows = Image.new("RGB", (width, height), None), max(1, _BAND // width)
        for top in range(0, height, rows):
            band = min(rows, height - top)
            part = Image.frombytes("RGB", (width, band), self._read(3 * width * band, until))
            found.paste(part, (0, top))
        return found

    def _read(self, size: int, until: float) -> bytearray:
        found = bytearray(size)
        view, at = memoryview(found), 0
        while at < size:
            _wait(self._from, select.POLLIN, until)
            count = os.readv(self._from, [view[at:]])
            if not count:
                raise EOFError
            at += count
        return found


def _wait(file: int, event: int, until: float) -> None:
    """Wait until a file can be used; its number may be too large for `select.select`. Raise TimeoutError."""
    asked = select.poll()
    asked.register(file, event)
    if not asked.poll(1000 * max(0.0, until - time.monotonic())):
        raise TimeoutError


def work(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one picture after another until the service closes its end. Others go first."""
    if sys.platform != "win32":
        os.nice(NICE)
    base = _limit_memory(0, 0)
    while len(head := source.read(_ASK.size)) == _ASK.size:
        size, max_pixels, seconds = _ASK.unpack(head)
        data, began = source.read(size), time.process_time()
        base = _limit_memory(base, max_pixels)
        _limit_time(seconds)
        try:
            picture = decode(data, max_pixels)
            body, kind, (width, height) = picture.tobytes(), b"P", picture.size
        except PictureError as error:
            body, kind, width, height = f"{error.kind}\n{error.reason}".encode(), b"E", 0, 0
        sink.write(_ANSWER.pack(kind, time.process_time() - began, len(body), width, height))
        sink.write(body)
        sink.flush()


def _limit_memory(base: int, max_pixels: int) -> int:
    """Limit the memory of this process to what it has, and what a picture may take; return what it had at first."""
    if sys.platform != "linux":
        return 0
    import resource

    if not base:
        with open("/proc/self/statm") as source:  # noqa: PTH123
            return int(source.read().split()[0]) * resource.getpagesize()
    limit = base + _SPARE + _BYTES_A_PIXEL * max_pixels
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return base


def _limit_time(seconds: int) -> None:
    """Let the system end this process once it has used so many seconds of processor time more."""
    if sys.platform == "win32":
        return
    import resource

    limit = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    work(sys.stdin.buffer, sys.stdout.buffer)
