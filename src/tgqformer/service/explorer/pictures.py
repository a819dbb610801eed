"""Pictures for the pages: by item only, always encoded anew, small copies kept in memory up to a limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from io import BytesIO
from typing import Generic, TypeVar

from PIL import Image

T = TypeVar("T")
SIZES = {"small": 320, "large": 960}
"""The longer side of a picture in pixels, by the name that a page asks with; smaller pictures stay as they are."""


class Recent(Generic[T]):
    """The values used last, up to a total weight; safe to use from several threads.

    limit: the most that all values may weigh. weigh: the weight of a value; 1 each by default.
    """

    def __init__(self, limit: int, weigh: Callable[[T], int] = lambda value: 1) -> None:
        self._limit, self._weigh, self._weight = limit, weigh, 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key, made now if it is not kept; two threads may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._weight += self._weigh(value)
            while self._weight > self._limit and len(self._values) > 1:
                self._weight -= self._weigh(self._values.popitem(last=False)[1])
        return value


def jpeg(picture: Image.Image, size: str) -> bytes:
    """Encode a picture as JPEG, no larger than `SIZES[size]`."""
    side = SIZES[size]
    small = picture if max(picture.size) <= side else picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = BytesIO()
    small.save(file, "JPEG", quality=88, optimize=True)
    return file.getvalue()
