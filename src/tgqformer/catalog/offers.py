"""How an item is sold, as shops write it: stock by words and numbers, days, currencies."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tgqformer.catalog.prices import CODES, currency_of
from tgqformer.catalog.values import as_text, is_unknown

AVAILABILITY = ("in_stock", "out_of_stock", "preorder", "backorder")
_FURTHER = """
AFN ANG AOA AWG BAM BBD BIF BMD BND BSD BTN BWP BZD CDF CUP CVE DJF ERN FJD FKP GIP GMD GNF GYD HNL HTG IRR JMD KGS KHR
KMF KPW KYD LAK LRD LSL MGA MMK MNT MOP MRU MVR MWK MZN NAD NIO NPR PAB PGK RWF SBD SCR SDG SHP SLE SOS SRD SSP STN SVC
SYP SZL TJS TMT TOP TTD VED VES VUV WST XCD XCG XPF YER ZMW ZWG BYR CUC HRK LTL MRO SLL STD VEF ZMK ZWL
"""  # the last ten were given up since 2012: exports still have them
CURRENCIES = CODES | frozenset(_FURTHER.split())
"""The codes of ISO 4217. A price names only some of them (`CODES`): TOP and the like are words, too."""
_WORDS = {
    "in_stock": "instock available yes y true limitedavailability instoreonly onlineonly lowstock limited onstock",
    "out_of_stock": "outofstock soldout no n false discontinued unavailable notavailable outstock reserved",
    "preorder": "preorder presale comingsoon",
    "backorder": "backorder onbackorder backordered availablefororder notify",
}
_MEANS = {word: name for name, words in _WORDS.items() for word in words.split()}
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?\+?")
_DAY = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ,].*)?")
_EPOCHS = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e3))  # seconds, milliseconds


def availability_of(value: Any) -> tuple[str | None, str | None]:
    """Return (one of AVAILABILITY, what is wrong) of a word, an address of schema.org, yes or no, or a number in stock.

    Empty cells say nothing, and nothing is wrong with them.
    """
    if isinstance(value, (bool, int, float)) and value == value:
        return ("in_stock" if value > 0 else "out_of_stock"), None
    text = (as_text(value) or "").strip()
    if not text or is_unknown(text):
        return None, None
    if _NUMBER.fullmatch(text):
        return ("in_stock" if float(text.rstrip("+").replace(",", ".")) > 0 else "out_of_stock"), None
    word = re.sub(r"[\W_]", "", text.rstrip("/").rpartition("/")[2].lower())
    return (_MEANS[word], None) if word in _MEANS else (None, f"not a stock: {text[:60]!r}")


def day_of(value: Any) -> tuple[str | None, str | None]:
    """Return (a day such as 2024-02-29, what is wrong) of a date, seconds or milliseconds since 1970, or RFC 822."""
    if isinstance(value, date):  # of Parquet; a datetime is one, too
        return value.isoformat()[:10], None
    text = (as_text(value) or "").strip()
    if not text or is_unknown(text):
        return None, None
    try:
        if found := _DAY.fullmatch(text):
            return date(int(found[1]), int(found[2]), int(found[3])).isoformat(), None
        if re.fullmatch(r"\d{9,13}(\.\d+)?", text):
            scale = next(by for low, high, by in _EPOCHS if low <= float(text) < high)
            return datetime.fromtimestamp(float(text) / scale, UTC).date().isoformat(), None
        return parsedate_to_datetime(text).date().isoformat(), None
    except (ValueError, StopIteration, OverflowError, TypeError):
        return None, f"not a day: {text[:60]!r}; write 2024-02-29"


def currency_code(value: Any) -> tuple[str | None, str | None]:
    """Return (the code of a currency, what is wrong) of a cell that names one."""
    text = (as_text(value) or "").strip()
    if not text or is_unknown(text):
        return None, None
    code = text.upper() if text.upper() in CURRENCIES else currency_of(text)
    return (
        (None, f"not a currency: {text[:20]!r}; write a code of ISO 4217, such as EUR")
        if code is None
        else (code, None)
    )
