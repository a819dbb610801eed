"""Memory that stays flat: what the libraries below have freed goes back to the system.

Measured under writes and searches: the allocator that Arrow brings along (mimalloc) keeps what threads of LanceDB
freed, and the C library keeps free pages in an arena for every few threads.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import pyarrow as pa


def use_system_memory() -> None:
    """Let Arrow take its memory from the C library, so that `give_back` reaches what it freed."""
    pa.set_memory_pool(pa.system_memory_pool())


def give_back() -> bool:
    """Give free pages back to the system; return whether that is known to do something. Some milliseconds."""
    trim = _trim()
    return trim is not None and bool(trim(0))


def _trim() -> Callable[[int], int] | None:
    """Find `malloc_trim` of the GNU C library; other systems have no such call."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
