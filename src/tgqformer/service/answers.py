"""Ids of answers. An id says what was shown, so nothing is written when an answer is given; an event brings it back.

An id is signed with a key of the service's own, so that events of answers that were never given are refused. The same
answer has the same id, so a page may be cached. Where a text or a picture was asked for, a digest of its embedding
stands for the item.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import crc32
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson

from tgqformer.errors import TgqError
from tgqformer.files import atomic_path
from tgqformer.store.rules import Rules
from tgqformer.types import Floats

SEARCH = "\x1f"  # begins the query of a search; an id holds no control characters
SIGN, MARK, KEPT = 8, 4, 1000  # bytes of a signature and of an item's mark; sets of rules that are remembered


@dataclass(frozen=True)
class Shown:
    """What an answer showed: the marks of its items, best first; `rules` is the short name of a set of rules.

    query: the item that it was of, or what `search_of` gave.
    """

    version: str
    rules: str
    query: str
    marks: tuple[int, ...]

    def position(self, item_id: str) -> int | None:
        """Return the place of an item, counted from 1; None where the answer did not hold it."""
        mark = mark_of(item_id)
        return self.marks.index(mark) + 1 if mark in self.marks else None


class Answers:
    """Makes and reads ids; `folder` keeps the key."""

    def __init__(self, folder: Path) -> None:
        self._key = _key(folder / "answers.key")
        self._codes = OrderedDict[Rules, str]()

    def id_of(self, version: str, rules: Rules, query: str, items: Iterable[str]) -> str:
        """Return the id of an answer; some microseconds."""
        marks = b"".join(crc32(item_id.encode()).to_bytes(MARK, "big") for item_id in items)
        words = f"{version} {self.code_of(rules)} {query}".encode()
        body = (len(marks) // MARK).to_bytes(2, "big") + marks + words
        return urlsafe_b64encode(self._signed(body) + body).rstrip(b"=").decode()

    def read(self, answer: str) -> Shown:
        """Return what an id says.

        Raises: TgqError for one that this service did not make.
        """
        try:
            whole = urlsafe_b64decode(answer.encode("ascii") + b"=" * (-len(answer) % 4))
        except ValueError as error:
            raise TgqError("this is no id of an answer; send `answer` as the list gave it") from error
        sign, body = whole[:SIGN], whole[SIGN:]
        if len(body) < 2 or self._signed(body) != sign:
            raise TgqError("this service did not give this answer; send events to the service that gave the list")
        end = 2 + int.from_bytes(body[:2], "big") * MARK
        marks = tuple(int.from_bytes(body[at : at + MARK], "big") for at in range(2, end, MARK))
        version, rules, query = body[end:].decode().split(" ", 2)
        return Shown(version, rules, query, marks)

    def code_of(self, rules: Rules) -> str:
        """Return the short name of a set of rules."""
        code = self._codes.get(rules)
        if code is None:
            code = self._codes[rules] = blake2b(orjson.dumps(asdict(rules)), digest_size=4).hexdigest()
            while len(self._codes) > KEPT:
                self._codes.popitem(last=False)
        return code

    def rules_of(self, code: str) -> str:
        """Return what a set of rules says other than the defaults, as JSON; its name where it is not remembered."""
        for rules, known in list(self._codes.items()):
            if known == code:
                plain, usual = asdict(rules), asdict(Rules())
                return orjson.dumps({name: value for name, value in plain.items() if value != usual[name]}).decode()
        return code

    def _signed(self, body: bytes) -> bytes:
        return blake2b(body, key=self._key, digest_size=SIGN).digest()


def mark_of(item_id: str) -> int:
    """Return the mark by which an answer knows an item."""
    return crc32(item_id.encode())


def search_of(vector: Floats) -> str:
    """Return what stands for the item in an answer to a text or a picture: no item has such an id."""
    return SEARCH + blake2b(np.ascontiguousarray(vector, np.float32).tobytes(), digest_size=8).hexdigest()


def _key(file: Path) -> bytes:
    """Read the key, or make one."""
    if not file.exists():
        with atomic_path(file) as unfinished:
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(os.urandom(32))
    key = file.read_bytes()
    if len(key) != 32:
        raise TgqError(f"{file} is damaged; remove it, and events of answers given before will be refused")
    return key
