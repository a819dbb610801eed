"""Answers that a client keeps and asks about again: a tag of what is in them, and 304 where it is still that.

The answer is made anew for each request, so a tag can never speak for a list that has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

ASK = "no-cache"
"""May be kept, and is to be asked about each time."""


def tag_of(data: bytes) -> str:
    """Return the tag of an answer (ETag), quoted: a digest of its bytes."""
    return f'"{blake2b(data, digest_size=12).hexdigest()}"'


def is_known(tag: str, sent: Iterable[str]) -> bool:
    """Say whether headers If-None-Match name a tag, or any (`*`); a proxy that compresses makes tags weak (`W/`)."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for header in sent for one in header.split(","))
