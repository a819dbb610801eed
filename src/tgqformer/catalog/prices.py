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
_DIGITS |= {ord("٬"): None, ord("·"): "٫", ord("．"): ".", ord("，"): ",", ord("−"): "-"}
_SPACE = "[ '’\u00a0\u2009\u202f]"
_SPACES = re.compile(_SPACE)
_GROUPED = rf"\d{{1,3}}(?:{_SPACE}\d{{3}})+(?!\d)(?:[.,٫]\d*)?"
_NUMBER = re.compile(rf"(?:(?<![A-Za-z.,])[.,]\d+|{_GROUPED}|\d[\d.,٫]*)(?:[eE][+-]?\d+)?")
_SIGN_INSIDE = re.compile(r"(\d+)[€$£₽₹₺₴¥:](\d{2})(?![\d:])")
_NEGATIVE = re.compile(r"\(.*\)|.*[.,]\d\d\s*-")
_COUNT = r"[x×=@]|for|für|pour|por|kg|g|ml|l|pcs|stk\.?|stück|pack"
_NO_PRICE = re.compile(rf"\s*%|{_SPACE}+\d|\s*(?:{_COUNT})(?![^\W\d_]).*\d", re.IGNORECASE)
"""What stands behind a number that is no price: a share, a second number, a unit before the price itself."""
_RANGE = re.compile(r"[\s.,]*(?:[-–—~/;|]|to|bis|à|a|до)")
_TIMES = re.compile(r"\s*(?:(k|tys|mil)|(M|Mio|mln|million)|(lakh)|(crore)|(万|萬))\.?(?![^\W\d_])", re.IGNORECASE)
_POWERS = (10**3, 10**6, 10**5, 10**7, 10**4)
_OF_SIGNS = "USD EUR GBP JPY INR RUB TRY UAH KRW VND ILS THB"
_SIGNS = dict(zip("$€£¥₹₽₺₴₩₫₪฿", _OF_SIGNS.split(), strict=True)) | {"Rp": "IDR"}
_SIGNS |= {"A$": "AUD", "C$": "CAD", "R$": "BRL", "HK$": "HKD", "NT$": "TWD", "S$": "SGD", "US$": "USD", "AU$": "AUD"}
_SIGNS |= {"CA$": "CAD", "NZ$": "NZD", "MX$": "MXN", "zł": "PLN", "Kč": "CZK", "Ft": "HUF", "лв": "BGN", "руб": "RUB"}
_SIGNS |= {"грн": "UAH", "Fr.": "CHF"}
_WHOLE = frozenset("JPY KRW IDR VND CLP ISK HUF PYG UGX XOF XAF".split())  # noqa: SIM905
_THREE = frozenset("KWD BHD OMR TND JOD IQD LYD".split())  # noqa: SIM905
_OTHERS = "CHF SEK NOK DKK PLN CZK RON BGN CAD AUD NZD MXN BRL ARS CNY HKD TWD SGD MYR PHP ZAR AED SAR EGP "
_OTHERS += "COP PEN QAR MAD NGN KES PKR BDT LKR RSD GEL KZT BYN AZN GHS DZD LBP UYU BOB DOP "
_OTHERS += "GTQ CRC MDL MKD ALL AMD UZS TZS ETB MUR"
CODES = frozenset(_SIGNS.values()) | _WHOLE | _THREE | frozenset(_OTHERS.split())
_SIGN = "|".join(map(re.escape, sorted(_SIGNS, key=len, reverse=True)))
_NAMED = rf"(?<![^\W\d_])(?:({'|'.join(sorted(CODES))})|({_SIGN}))(?:(?<=[^\w])|(?![^\W\d_]))"
_CURRENCY = re.compile(_NAMED)
_BEFORE, _BEHIND = re.compile(rf"{_NAMED}\s*$"), re.compile(rf"[\s.,–—-]*{_NAMED}(?!\d)")


@dataclass(frozen=True, slots=True)
class PriceStyle:
    """How the prices of a column are written.

    decimal: the mark before the decimals, `.` or `,`; None where cells disagree, so that `1.299` may be either.
    guessed: the first cell with a mark, where all of these are like `1.299`: the mark is taken to part thousands.
    """

    decimal: str | None = "."
    guessed: str | None = None

    @classmethod
    def of(cls, values: Iterable[Any]) -> PriceStyle:
        """Return the style of a column, from some or all of its cells."""
        votes: Counter[str] = Counter()
        unsure = dict[str, str]()  # marks, each with the first cell that has it
        for value in values:
            if isinstance(value, str) and (found := _number_in(value)) is not None:
                digits, _ = found
                vote = _told_decimal(digits)
                if vote is None:
                    unsure.setdefault(next(mark for mark in digits if mark in ".,"), value)
                elif vote in ".," and "e" not in digits.lower():
                    votes[vote] += 1
        total = votes.total()
        if not total and len(unsure) == 1:
            ((mark, cell),) = unsure.items()
            return cls({".": ",", ",": "."}[mark], cell)
        if not total:
            return cls(None) if unsure else cls()
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
    text = str(value)
    return (_of_text if len(text) <= 60 else _of_text.__wrapped__)(text, style)


@lru_cache(1 << 14)
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
    """Return the price in a text, with its marks but without spaces, and what it is to be multiplied with.

    None where there is none, or where the first number is plainly another: a share, a count, something below 0.
    """
    if len(text) > 60:
        return None
    text = _SIGN_INSIDE.sub(r"\1٫\2", text.translate(_DIGITS))
    match = _NUMBER.search(text)
    if match is None:
        return None
    before, behind = text[: match.start()], text[match.end() :]
    if "-" in before or (behind and (_NO_PRICE.match(behind) or _NEGATIVE.fullmatch(text.strip()))):
        return None
    if any(mark.isdigit() for mark in behind) and _of_later(before, behind):
        return None
    digits = _SPACES.sub("", match.group())
    digits = digits + "0" if digits[-1] in ".," and behind[:1] in tuple("-–—") else digits.rstrip(".,٫")  # 1.299,-
    return (digits, _times(behind)) if digits.strip(".,٫") else None


def _of_later(before: str, behind: str) -> bool:
    """Say whether the currency belongs to a later number, as in "Size 42, €59"."""
    first = _BEHIND.match(behind) or _BEFORE.search(before) or _RANGE.match(behind)
    return first is None and _CURRENCY.search(behind) is not None


def _times(behind: str) -> int:
    found = _TIMES.match(behind)
    return 1 if found is None else next(power for power, word in zip(_POWERS, found.groups(), strict=True) if word)


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
