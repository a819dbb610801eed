"""Prices as shops write them: what a comma and a point mean is told by the column, not by one cell."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

_FOREIGN = "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹０１２３４５６７８９"
_DIGITS: dict[int, str | None] = {ord(mark): str(place % 10) for place, mark in enumerate(_FOREIGN)}
_DIGITS |= {ord("٬"): None, ord("·"): "٫"}
_SPACES = re.compile(r"[ '’\u00a0\u2009\u202f]")
_NUMBER = re.compile(r"(?:(?<![A-Za-z.,])[.,]\d+|\d[\d.,٫ '’\u00a0\u2009\u202f]*)(?:[eE][+-]?\d+)?")
_SIGN_INSIDE = re.compile(r"(\d+)[€$£₽₹₺₴¥](\d{2})(?!\d)")
_THOUSAND = re.compile(r"\s*[kK](?![A-Za-z])")
_OF_SIGNS = "USD EUR GBP JPY INR RUB TRY UAH KRW VND ILS THB"
_SIGNS = dict(zip("$€£¥₹₽₺₴₩₫₪฿", _OF_SIGNS.split(), strict=True)) | {"Rp": "IDR"}
_DOLLARS = {"A$": "AUD", "C$": "CAD", "R$": "BRL", "HK$": "HKD", "NT$": "TWD", "S$": "SGD"}
_SIGNS = _DOLLARS | _SIGNS
_WHOLE = frozenset("JPY KRW IDR VND CLP ISK HUF PYG UGX XOF XAF".split())  # noqa: SIM905
_THREE = frozenset("KWD BHD OMR TND JOD IQD LYD".split())  # noqa: SIM905
_OTHERS = "CHF SEK NOK DKK PLN CZK RON BGN CAD AUD NZD MXN BRL ARS CNY HKD TWD SGD MYR PHP ZAR AED SAR EGP"
CODES = frozenset(_SIGNS.values()) | _WHOLE | _THREE | frozenset(_OTHERS.split())
_CURRENCY = re.compile(rf"(?<![A-Za-z])({'|'.join(sorted(CODES))})(?![A-Za-z])|({'|'.join(map(re.escape, _SIGNS))})")


@dataclass(frozen=True, slots=True)
class PriceStyle:
    """How the prices of a column are written.

    decimal: the mark before the decimals, `.` or `,`; None where cells disagree, so that `1.299` may be either.
    guessed: the column holds nothing but cells like `1.299`, which are then taken for thousands.
    """

    decimal: str | None = "."
    guessed: bool = False

    @classmethod
    def of(cls, values: Iterable[Any]) -> PriceStyle:
        """Return the style of a column, from some or all of its cells."""
        votes: Counter[str] = Counter()
        unsure = ""
        for value in values:
            if isinstance(value, str) and (found := _number_in(value)) is not None:
                digits, _ = found
                vote = _told_decimal(digits)
                if vote is None:
                    unsure = unsure or next(mark for mark in digits if mark in ".,")
                elif vote in ".," and "e" not in digits.lower():
                    votes[vote] += 1
        total = votes.total()
        if not total:
            return cls({".": ",", ",": "."}.get(unsure, "."), bool(unsure))
        best, count = votes.most_common(1)[0]
        return cls(best if count >= 0.6 * total else None)


def price_of(value: Any, style: PriceStyle = PriceStyle()) -> tuple[float | None, str | None, str | None]:
    """Return (price, currency, what is wrong) of a number or a text like "$1,299.00", "12,50 €" or "10 - 15".

    Of a range the lower end is taken. Empty cells have no price, and nothing is wrong with them.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None, None, None
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        number = _finite(value)
        good = number is not None and number >= 0
        return (number, None, None) if good else (None, None, f"not a price: {str(value)[:60]!r}")
    return _of_text(str(value), style)


@lru_cache(4096)
def _of_text(text: str, style: PriceStyle) -> tuple[float | None, str | None, str | None]:
    found = _number_in(text)
    if found is None:
        return None, None, f"not a price: {text[:60]!r}"
    digits, times = found
    currency = currency_of(text)
    decimal = _told_decimal(digits) or _by_currency(digits, currency) or style.decimal
    if decimal is None:
        return None, currency, f"may be thousands or decimals: {text[:60]!r}"
    number = _with_decimal(digits, decimal)
    return (None, currency, f"not a price: {text[:60]!r}") if number is None else (number * times, currency, None)


def currency_of(text: str) -> str | None:
    """Return the code of the currency that a text names, or None."""
    match = _CURRENCY.search(text)
    return None if match is None else match[1] or _SIGNS[match[2]]


def _number_in(text: str) -> tuple[str, int] | None:
    """Return the first number of a text, with its marks but without spaces, and what it is to be multiplied with."""
    if len(text) > 60:
        return None
    text = _SIGN_INSIDE.sub(r"\1٫\2", text.translate(_DIGITS))
    match = _NUMBER.search(text)
    if match is None or "-" in text[: match.start()]:
        return None
    digits = _SPACES.sub("", match.group()).rstrip(".,٫")
    return (digits, 1000 if _THOUSAND.match(text, match.end()) else 1) if digits.strip(".,٫") else None


def _told_decimal(digits: str) -> str | None:
    """Return the decimal mark that a number shows by itself; `x` where it has no mark, None where it may be either."""
    if "٫" in digits:
        return "٫"
    marks = [mark for mark in digits if mark in ".,"]
    if not marks:
        return "x"
    if "e" in digits.lower():
        return "."
    if len(set(marks)) == 2:
        return marks[-1]
    if len(marks) > 1:
        return "," if marks[0] == "." else "."
    head, _, tail = digits.partition(marks[0])
    return marks[0] if len(tail) != 3 or not head.strip("0") or len(head) > 3 else None


def _by_currency(digits: str, currency: str | None) -> str | None:
    mark = next(mark for mark in digits if mark in ".,")
    if currency in _WHOLE:
        return "," if mark == "." else "."
    return mark if currency in _THREE else None


def _with_decimal(digits: str, decimal: str) -> float | None:
    kept = "".join("." if mark == decimal else mark for mark in digits if mark == decimal or mark not in ".,")
    return _finite(kept) if len(kept) <= 40 and kept.count(".") <= 1 else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None
