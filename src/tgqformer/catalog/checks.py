"""What is checked of every item: ids, texts, prices; each finding is a `ImportProblem`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "note"]
Findings = list[tuple[str, str]]
"""What was found in a value, as (kind, words)."""

LIMITS = {"id": 256, "title": 1000, "brand": 200, "category": 200, "attribute": 4000, "attribute name": 100}
"""Longest texts, in characters; a longer one is cut (an id: rejected)."""
MAX_ATTRIBUTES, MAX_PICTURES, MAX_LEVELS = 200, 64, 20

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DOUBLY_ENCODED = re.compile("[ÃÂ][\u0080-\u00bf]|â€[\u0153\u2122\u201c\u00a6\u02dc]")
_NUMBER = re.compile(r"\d[\d., '\u00a0\u202f]*")


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
    "empty": ProblemKind("error", "Rows with an id and nothing else", "An item needs a text or a picture."),
    "picture-missing": ProblemKind("warning", "Missing pictures", "Check the picture folder (--pictures).", True),
    "picture-remote": ProblemKind(
        "warning", "Pictures that are addresses", "Download them to the picture folder first.", True
    ),
    "picture-unreadable": ProblemKind("warning", "Pictures that cannot be read", "Replace the files.", True),
    "picture-truncated": ProblemKind("warning", "Pictures that are cut off", "Copy or download them again.", True),
    "picture-bomb": ProblemKind("warning", "Pictures with too many pixels", "Scale them down.", True),
    "picture-too-large": ProblemKind("warning", "Picture files that are too large", "Scale them down.", True),
    "picture-escapes": ProblemKind(
        "warning", "Paths that leave the picture folder", "Files outside are not read.", True
    ),
    "picture-tiny": ProblemKind("warning", "Pictures of one pixel", "These are placeholders; they were dropped.", True),
    "picture-many": ProblemKind("warning", "Items with many pictures", f"The first {MAX_PICTURES} are kept.", True),
    "no-title": ProblemKind("warning", "Empty titles", "Items without a title are found by their pictures alone."),
    "encoding": ProblemKind("warning", "Wrong encodings", "Look at these texts; save the source as UTF-8."),
    "control": ProblemKind("warning", "Control characters in texts", "They were taken out."),
    "long-text": ProblemKind("warning", "Over-long texts", "They were cut."),
    "price": ProblemKind("warning", "Prices that are not numbers", "The item has no price."),
    "attributes": ProblemKind("warning", "Attributes that could not be kept", "See the reasons."),
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
    text, found = _readable(_as_text(value))
    return text.strip() or None, found


def clean(value: Any, what: str) -> tuple[str | None, Findings]:
    """Return a text with single spaces, without control characters, cut at the limit of `what`; None where empty."""
    text, found = _readable(_as_text(value))
    text = " ".join(text.split())
    limit = LIMITS[what]
    if len(text) > limit:
        found.append(("long-text", f"{what} of {len(text)} characters: cut at {limit}"))
        text = text[:limit].rstrip()
    return text or None, [(kind, f"{what}: {words}" if kind != "long-text" else words) for kind, words in found]


def price_of(value: Any) -> tuple[float | None, Findings]:
    """Return a price from a number or a text like "$1,299.00", "12,50 €" or "10 - 15" (the lower end)."""
    if value is None or value == "":
        return None, []
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        number = _finite(value)
    else:
        text = str(value)
        match = _NUMBER.search(text)
        number = _decimal(match.group()) if match and len(text) <= 60 and "-" not in text[: match.start()] else None
    if number is None or number < 0:
        unknown = isinstance(value, float) and math.isnan(value)
        return None, [] if unknown else [("price", f"not a price: {str(value)[:60]!r}")]
    return number, []


def _finite(value: int | float | Decimal) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _decimal(digits: str) -> float | None:
    """Read digits with separators: the last one is decimal unless three digits follow it or it stands twice."""
    digits = re.sub(r"[ '\u00a0\u202f]", "", digits).rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    if last >= 0:
        mark, behind = digits[last], len(digits) - last - 1
        thousands = digits.count(mark) > 1 or (behind == 3 and mark == "," and "." not in digits[:last])
        head, tail = (digits, "") if thousands else (digits[:last], digits[last + 1 :])
        digits = re.sub("[.,]", "", head) + ("." + tail if tail else "")
    return _finite(Decimal(digits)) if len(digits) <= 40 else None


def _as_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "; ".join(text for text in map(_as_text, value) if text)
    try:
        return str(value)
    except ValueError:  # a whole number of more digits than Python prints
        return ""


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
    """A set of ids that holds 16 bytes an id: recent ones in a set, older ones in sorted arrays of digests."""

    def __init__(self, recent: int = 1 << 18) -> None:
        self._limit = recent
        self._recent: set[bytes] = set()
        self._sorted: list[np.ndarray[Any, Any]] = []

    def add(self, name: str) -> bool:
        """Remember an id; False where it was seen before."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._recent or any(_holds(run, digest) for run in self._sorted):
            return False
        self._recent.add(digest)
        if len(self._recent) >= self._limit:
            self._merge()
        return True

    def _merge(self) -> None:
        run = np.frombuffer(b"".join(sorted(self._recent)), dtype=_DIGEST)
        self._recent = set()
        while self._sorted and len(self._sorted[-1]) <= 2 * len(run):
            run = np.concatenate([self._sorted.pop(), run])
            run.sort(order=("high", "low"))
        self._sorted.append(run)


_DIGEST = np.dtype([("high", ">u8"), ("low", ">u8")])


def _holds(run: np.ndarray[Any, Any], digest: bytes) -> bool:
    one = np.frombuffer(digest, dtype=_DIGEST)[0]
    high = run["high"]
    first, last = np.searchsorted(high, one["high"], "left"), np.searchsorted(high, one["high"], "right")
    return bool((run["low"][first:last] == one["low"]).any())
