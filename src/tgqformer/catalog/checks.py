"""What is checked of every item, its ids and texts; each finding is an `ImportProblem`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, Literal

import numpy as np

from tgqformer.catalog.values import all_known, as_text, bare_text, is_unknown
from tgqformer.types import Hashes

Severity = Literal["error", "warning", "note"]
Findings = list[tuple[str, str]]
"""What was found in a value, as (kind, words)."""

LIMITS = {
    "id": 256,
    "title": 1000,
    "brand": 200,
    "category": 200,
    "attribute": 4000,
    "attribute name": 100,
    "group": 256,
}
"""Longest texts, in characters; a longer one is cut (an id: rejected)."""
MAX_ATTRIBUTES, MAX_PICTURES, MAX_LEVELS = 200, 64, 20

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]")
_BREAK = re.compile("[\t-\r]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DOUBLY_ENCODED = re.compile("[ÃÂ][\u0080-\u00bf]|â€[\u0153\u2122\u201c\u00a6\u02dc]")
_PLAIN = re.compile(r"[\w.,:/()'+-]+(?: [\w.,:/()'+-]+)*", re.ASCII)  # nothing to clean, and most texts
_SPOILT = re.compile(r"\d([.,]\d+)?[eE]\+\d{2,3}")
_SAID = ("long-text", "unknown-word")
_FEW = 16
"""Fewer ids are looked up one by one."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: how bad it is, and what to tell a person about it."""

    severity: Severity
    title: str
    advice: str
    lossy: bool = False


KINDS: dict[str, ProblemKind] = {
    "bad-row": ProblemKind("error", "Rows that cannot be read", "Mend them in the source and import again."),
    "no-id": ProblemKind("error", "Rows without an id", "Give every row an id, or name the right column with --id."),
    "bad-id": ProblemKind("error", "Ids that are too long", f"An id has at most {LIMITS['id']} characters."),
    "duplicate-id": ProblemKind(
        "error", "Duplicate ids", "The first row of an id is kept. Check that --id names the right column."
    ),
    "spoilt-id": ProblemKind("error", "Ids that were spoilt", "Export the ids as text."),
    "empty": ProblemKind("error", "Rows with an id and nothing else", "An item needs a text or a picture."),
    "picture-missing": ProblemKind("warning", "Missing pictures", "Check the picture folder (--pictures).", True),
    "picture-remote": ProblemKind(
        "warning", "Pictures that are addresses", "Fetch them: tgq pictures fetch, then import again.", True
    ),
    "picture-unreadable": ProblemKind("warning", "Pictures that cannot be read", "Replace the files.", True),
    "picture-truncated": ProblemKind("warning", "Pictures that are cut off", "Copy or download them again.", True),
    "picture-bomb": ProblemKind("warning", "Pictures with too many pixels", "Scale them down.", True),
    "picture-too-large": ProblemKind("warning", "Picture files that are too large", "Scale them down.", True),
    "picture-escapes": ProblemKind(
        "warning", "Paths that leave the picture folder", "Files outside are not read.", True
    ),
    "picture-ambiguous": ProblemKind(
        "warning", "Pictures of which only the name fits", "Keep the folders of the addresses below --pictures.", True
    ),
    "picture-tiny": ProblemKind(
        "warning", "Pictures one pixel wide or high", "These are placeholders; they were dropped.", True
    ),
    "picture-many": ProblemKind("warning", "Items with many pictures", f"The first {MAX_PICTURES} are kept.", True),
    "blank": ProblemKind("warning", "Blank pictures, of one colour throughout", "They say nothing; leave them out."),
    "no-title": ProblemKind("warning", "Empty titles", "Items without a title are found by their pictures alone."),
    "encoding": ProblemKind("warning", "Wrong encodings", "Look at these texts; save the source as UTF-8."),
    "control": ProblemKind("warning", "Control characters in texts", "They were taken out."),
    "long-text": ProblemKind("warning", "Over-long texts", "They were cut."),
    "price": ProblemKind("warning", "Prices that cannot be read", "The item has no price."),
    "offer": ProblemKind(
        "warning", "Stock, days or currencies that cannot be read", "The item has none; name another column."
    ),
    "object": ProblemKind("warning", "Objects where a text is expected", "Name the part by its path: --title name.en."),
    "attributes": ProblemKind("warning", "Attributes that could not be kept", "See the reasons."),
    "html": ProblemKind("note", "HTML in texts", "Entities were decoded, tags taken out."),
    "unknown-word": ProblemKind("note", "Words for not known", "They count as empty; --missing names more."),
    "category-several": ProblemKind("note", "Several categories in one cell", "The first is kept."),
    "inactive": ProblemKind("note", "Products that are not active", "They are kept; take them out of the source."),
    "sold": ProblemKind(
        "note", "Attributes that say how a product is sold", "No model reads them; name a column (--price, …)."
    ),
    "animation": ProblemKind("note", "Animations and files of several pages", "The first frame is used."),
    "cmyk": ProblemKind("note", "CMYK pictures", "Converted to RGB when read; colours may differ from print."),
    "16-bit": ProblemKind("note", "Pictures of 16 bits a channel", "Read as 8 bits."),
    "rotated": ProblemKind("note", "Pictures turned by EXIF", "Turned upright when read."),
    "picture-repeated": ProblemKind("note", "The same picture twice in one item", "Kept once."),
}


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """One finding: its kind (a key of `KINDS`), where it stands, and why."""

    file: str
    line: int
    id: str | None
    kind: str
    reason: str

    @property
    def severity(self) -> Severity:
        """How bad it is: an error rejects the row, a warning keeps the item, a note tells what is converted."""
        return KINDS[self.kind].severity


def identify(value: Any) -> tuple[str | None, Findings]:
    """Return an id as text: whole numbers without ".0", no spaces around, no control characters. None where empty."""
    text, found = _readable(as_text(value) or "")
    text = text.strip()
    if _BREAK.search(text):  # a text has spaces there
        text, found = _BREAK.sub("", text), [*found, ("control", "tabs or line breaks taken out of the id")]
    if text.startswith("'") and text[1:].isdecimal():  # keeps a spreadsheet from reading a number
        text = text[1:]
    return None if not text or is_unknown(text) else text, found


def spoilt_id(value: Any, name: str) -> str | None:
    """Return why an id cannot be meant, or None."""
    if isinstance(value, bool):
        return f"{value} is no id"
    if isinstance(value, str) and _SPOILT.fullmatch(name):
        return f"a spreadsheet turned the id into {name}; export the ids as text"
    return None


def clean(value: Any, what: str, language: str = "en") -> tuple[str | None, Findings]:
    """Return a text with single spaces, without control characters and HTML, cut at the limit of `what`; or None.

    None stands for what is empty, a word for "not known", or an object that is no text.
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value) and len(value) <= LIMITS[what] and not is_unknown(value):
        return value, []
    written = as_text(value, language)
    if written is None:
        return None, [("object", f"{what}: an object, of which a part may be meant: {str(value)[:60]!r}")]
    text, found = _readable(written)
    text, marked = bare_text(text)
    text = " ".join(text.split())
    if marked:
        found.append(("html", f"HTML taken out of {written[:60]!r}"))
    if is_unknown(text):
        return None, [*found, ("unknown-word", f"{what}: {text!r} is taken for not known")]
    limit = LIMITS[what]
    if len(text) > limit:
        found.append(("long-text", f"{what} of {len(text)} characters: cut at {limit}"))
        text = text[:limit].rstrip()
    return text or None, [(kind, words if kind in _SAID else f"{what}: {words}") for kind, words in found]


def plain_texts(texts: Sequence[str], what: str) -> list[bool]:
    """Say which texts `clean` surely returns as they are, with nothing found; a third of its time for many."""
    if max(map(len, texts)) > LIMITS[what] or not all_known(texts):
        return [False] * len(texts)
    return [match is not None for match in map(_PLAIN.fullmatch, texts)]


def _readable(text: str) -> tuple[str, Findings]:
    if text.isascii() and text.isprintable():
        return text, []
    found: Findings = []
    if _SURROGATE.search(text):
        text = _SURROGATE.sub("\ufffd", text)
    if "\ufffd" in text:
        found.append(("encoding", "characters were lost before it came here (\ufffd)"))
    elif _DOUBLY_ENCODED.search(text):
        found.append(("encoding", f"looks encoded twice: {text[:60]!r}"))
    if _CONTROL.search(text):
        text = _CONTROL.sub("", text)
        found.append(("control", "control characters taken out"))
    return text, found


class SeenIds:
    """A set of ids in 20 to 22 bytes an id: recent ones in a set, older ones in sorted runs of digests.

    A table of bits, 16 or more for each id, knows most new ids as new; the others are looked for. Digests are spread
    evenly, so a table of their first bits says where to look: a lookup costs the same at any size.
    """

    def __init__(self, recent: int = 1 << 18) -> None:
        self._limit = recent
        self._recent: set[bytes] = set()
        self._runs: list[_Run] = []
        self._grow(2 * recent)

    def add(self, name: str) -> bool:
        """Remember an id; False where it was seen before."""
        digest = _digest(name)
        _, low = _HALVES.unpack(digest)
        place, bit = (low & self._mask) >> 3, 1 << (low & 7)
        if self._bits[place] & bit and self._holds(digest):
            return False
        self._bits[place] |= bit
        self._recent.add(digest)
        if len(self._recent) >= self._limit:
            self._merge()
        return True

    def repeated(self, names: Sequence[str | None]) -> list[int]:
        """Remember ids in their order; return the places of those that were seen before. None is no id.

        Of many ids it takes half the time of `add`.
        """
        digests = dict.fromkeys(_digest(name) for name in names if name is not None)
        if len(digests) < max(len(names), _FEW):
            return [place for place, name in enumerate(names) if name is not None and not self.add(name)]
        low = np.frombuffer(b"".join(digests), dtype=np.uint64)[1::2] & np.uint64(self._mask)
        places, bits = low >> np.uint64(3), np.uint8(1) << (low & np.uint64(7)).astype(np.uint8)
        table = np.frombuffer(self._bits, dtype=np.uint8)
        every = list(digests)
        again = [at for at in np.flatnonzero(table[places] & bits).tolist() if self._holds(every[at])]
        for at in again:
            del digests[every[at]]
        np.bitwise_or.at(table, places, bits)
        self._recent.update(digests)
        if len(self._recent) >= self._limit:
            self._merge()
        return again

    def _holds(self, digest: bytes) -> bool:
        high, low = _HALVES.unpack(digest)
        return digest in self._recent or any(run.holds(high, low) for run in self._runs)

    def _grow(self, room: int) -> None:
        """Make a table of bits for so many ids, and put those of the runs into it."""
        size = 16 * (1 << (room - 1).bit_length())
        self._room, self._mask, self._bits = size // 16, size - 1, bytearray(size // 8)
        bits = np.frombuffer(self._bits, dtype=np.uint8)
        for run in self._runs:
            places = run.low & np.uint64(self._mask)
            np.bitwise_or.at(bits, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))

    def _merge(self) -> None:
        """Make the recent ids a run, together with the runs that are at most twice as long."""
        high, low = np.frombuffer(b"".join(self._recent), dtype=np.uint64).reshape(-1, 2).T
        self._recent = set()
        while self._runs and len(self._runs[-1]) <= 2 * len(high):
            older = self._runs.pop()
            high, low = np.concatenate([older.high, high]), np.concatenate([older.low, low])
        order = np.argsort(high, kind="stable")
        self._runs.append(_Run(high[order], low[order]))
        if (count := sum(map(len, self._runs)) + self._limit) > self._room:
            self._grow(2 * count)


_HALVES = Struct("=QQ")


def _digest(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class _Run:
    """Digests in the order of their upper halves; two or three share their first bits."""

    def __init__(self, high: Hashes, low: Hashes) -> None:
        self.high, self.low = high, low
        self._shift = 65 - len(high).bit_length()
        edges = np.arange((1 << 64 - self._shift), dtype=np.uint64) << np.uint64(self._shift)
        starts = np.append(np.searchsorted(high, edges), len(high)).astype(np.uint32)
        # Views that give plain numbers: numpy's own cost three times as much to look at.
        self._starts, self._highs, self._lows = starts.data, high.data, low.data

    def __len__(self) -> int:
        return len(self.high)

    def holds(self, high: int, low: int) -> bool:
        place = high >> self._shift
        for at in range(self._starts[place], self._starts[place + 1]):
            if self._highs[at] == high and self._lows[at] == low:
                return True
        return False
