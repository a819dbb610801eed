"""Texts, ids, prices and columns: what becomes of them, and what is told about it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tgqformer.catalog.checks import KINDS, clean, identify
from tgqformer.catalog.mapping import ColumnMapping, plan_mapping
from tgqformer.catalog.prices import price_of
from tgqformer.errors import TgqError


@pytest.mark.parametrize(
    ("value", "text", "kinds"),
    [
        (None, None, []),
        ("", None, []),
        (float("nan"), None, []),
        ("  Red \n  shirt\t", "Red shirt", []),
        ("größe 漢字 👕", "größe 漢字 👕", []),
        ("bell\x07 null\x00", "bell null", ["control"]),
        ("turned \u202etxt", "turned txt", ["control"]),
        ("lone \ud83d half", "lone \ufffd half", ["encoding"]),
        ("lost \ufffd sign", "lost \ufffd sign", ["encoding"]),
        ("CafÃ© blue", "CafÃ© blue", ["encoding"]),
        (["a", None, "b"], "a; b", []),
        (12.0, "12", []),
        (12.5, "12.5", []),
        (b"caf\xc3\xa9", "café", []),
        ("x" * 1500, "x" * 1000, ["long-text"]),
    ],
)
def test_texts(value: object, text: str | None, kinds: list[str]) -> None:
    cleaned, found = clean(value, "title")
    assert cleaned == text
    assert [kind for kind, _ in found] == kinds


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (7, "7"),
        (7.0, "7"),
        ("0012", "0012"),
        (" a b ", "a b"),
        ("a  b", "a  b"),
        ("a\tb\r\nc", "abc"),
        (None, None),
        ("\x00", None),
        ("", None),
    ],
)
def test_ids(value: object, name: str | None) -> None:
    assert identify(value)[0] == name


@pytest.mark.parametrize(
    ("value", "price"),
    [
        (None, None),
        ("", None),
        (3, 3.0),
        (2.5, 2.5),
        (Decimal("9.99"), 9.99),
        ("$1,299.00", 1299.0),
        ("12,50 €", 12.5),
        ("1.299,00", 1299.0),
        ("1 299,5", 1299.5),
        ("1,299", 1299.0),
        ("1.299.000", 1299000.0),
        ("$10.99 - $25.00", 10.99),
        ("12.", 12.0),
        ("0.999", 0.999),
        (0, 0.0),
    ],
)
def test_prices(value: object, price: float | None) -> None:
    assert (price_of(value)[0], price_of(value)[2]) == (price, None)


@pytest.mark.parametrize(
    "value", ["cheap", -3, "-3.50", float("inf"), True, ".a-section .a-row { }" * 9, "9" * 60, 10**400]
)
def test_what_is_no_price_is_told(value: object) -> None:
    number, _, wrong = price_of(value)
    assert number is None
    assert wrong is not None
    assert wrong.startswith("not a price")
    assert price_of(float("nan")) == (None, None, None)


def test_every_kind_explains_itself() -> None:
    assert all(kind.title and kind.advice.endswith(".") for kind in KINDS.values())


def test_usual_names_are_guessed() -> None:
    columns = [
        "SKU",
        "Product Name",
        "maker",
        "Category",
        "sub_category",
        "Price",
        "image_1",
        "image_2",
        "Colour",
        "stock",
    ]
    assert plan_mapping(columns, None, None) == ColumnMapping(
        id="SKU",
        title="Product Name",
        brand="maker",
        category=("Category", "sub_category"),
        price=("Price",),
        pictures=("image_1", "image_2"),
        attributes=("Colour",),
        availability="stock",
    )


def test_what_is_asked_goes_before_what_is_guessed() -> None:
    columns = ["id", "code", "title", "name", "group"]
    mapping = plan_mapping(columns, None, {"id": "code", "title": "name", "category": "group", "attributes": ["title"]})
    assert (mapping.id, mapping.title, mapping.category, mapping.attributes) == ("code", "name", ("group",), ("title",))
    known = ColumnMapping(id="id", title="title")
    assert plan_mapping(columns, known, {"title": "name"}) == ColumnMapping(id="id", title="name")


def test_wrong_columns_name_the_nearest() -> None:
    with pytest.raises(TgqError, match=r"no column 'titel'; did you mean 'title'\?"):
        plan_mapping(["id", "title"], None, {"title": "titel"})
    with pytest.raises(TgqError, match="no column looks like an id; name it with --id"):
        plan_mapping(["x", "y"], None, None)
    with pytest.raises(TgqError, match="did you mean 'title'"):
        plan_mapping(["id"], None, {"titl": "id"})
    with pytest.raises(TgqError, match="'title' is one column"):
        plan_mapping(["id", "a"], None, {"title": ["id", "a"]})


def test_lines_are_for_people() -> None:
    lines = dict(ColumnMapping(id="a", category=("b", "c"), missing=("NA",)).lines())
    assert (lines["id"], lines["title"], lines["category"], lines["missing values"]) == ("a", "-", "b, c", "NA")
