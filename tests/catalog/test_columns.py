"""Rows that are imported by columns: every file is, byte by byte, what single rows give."""

from __future__ import annotations

import gc
import gzip
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.catalog import Catalog, import_catalog
from tgqformer.catalog.checks import SeenIds
from tgqformer.catalog.columns import ByColumns, Plain
from tgqformer.catalog.importer import checked, plan_import
from tgqformer.catalog.item import Item
from tgqformer.catalog.mapping import plan_mapping
from tgqformer.catalog.parts import import_in_parts
from tgqformer.catalog.readers import lines as lines_module
from tgqformer.catalog.readers import table
from tgqformer.catalog.readers.base import Rows, SourceRow, each_row
from tgqformer.catalog.rows import draft_item
from tgqformer.catalog.styles import SourceStyle
from tgqformer.catalog.writer import _canonical
from tgqformer.cluster.work import fill_here
from tgqformer.errors import TgqError

COLORS = ["red", "blue", "Navy Blue", "", "", "grün", "n/a"]
BRANDS = ["Acme", "Møller & Co", "Acme", "", "Brand 7", "unknown", "L'Oréal", "NA"]
PATHS = ["Home > Lamps", "Home > Lamps > Floor", "Shoes", "", "Home>Lamps", "A/B", "Men, Shoes", '["Home", "Beds"]']
PRICES = ["12.50", "3", "1,299.00", "12,50 €", "$5", "", "free", "-3", "EUR 7.10", "0", "-0", "1.299", "10 - 15", "3%"]
PRICES += ["0.00", "12.5", "007", "1.0", "12.345", "1e3", " 4", "5 ", "4,5", "٣", "1234567890123"]
STOCKS = ["in stock", "", "0", "12", "yes", "maybe", "https://schema.org/OutOfStock", "5+"]
DAYS = ["2024-02-29", "", "1700000000", "2023-02-29", "Tue, 14 Nov 2023 22:13:20 GMT", "2024-01-05T10:00:00Z"]
TITLES = ["Red lamp", 'Lamp, 12" wide', "Lampe für Küche", "红色台灯", "A  double space", "Lamp 🙂", "x" * 60]
NASTY = [
    *["", " ", "\t", "-", "null", "N/A", "0", "1.0", "1e+10", "1.5E+12", "'00123", '="00123"', '=""', "nan", "NA", "?"],
    *["<b>bold</b>", "a &amp; b", "&#8364;5", "&amp;lt;b&amp;gt;", "5 < 6", "<", "a\u00a0b", "a\u3000b", "\ufeffx"],
    *["Ã©tÃ©", "â€œquoted", "lost \ufffd", "a\x00b", "a\x07b", "\u202eabc", "a\u200bb", "e\u0301", " lead", "trail "],
    *['say "hi"', "a,b;c|d", "two\nlines", "two\r\nlines", "bare\rreturn", '"', '""', '"a', "{", "[", '{"a": "b"}'],
    *['{"price": 3, "fit": "slim"}', "{'a': 'b'}", '["a", "b"]', "[('a', 'b')]", "x" * 101, "y" * 300, "z" * 1100],
    *["x" * 5000, "&" * 70, "Home > > Lamps", ">", "/", "a/b/c", "a > a", " | ".join("abcdefghijklmnopqrstuvwxyz")],
    *["(not set)", "Unknown", "NULL", "00000000-0000-0000-0000-000000000000", "\u2028", "\x85", "a\x1cb", "\ud7ff"],
]
ODD_NAMES = ["Size", "price", "Stock  level", "soft  wool", "<b>x</b>", "-", "fit", "NA"]


def nasty(seed: int) -> tuple[bytes, dict[str, Any]]:
    """Draw a table of text, mostly plain and here and there as nothing should be; and options of its import."""
    luck = random.Random(seed)
    rate = luck.choice([0.0, 0.002, 0.01, 0.05, 0.3])
    mess = luck.choice([0.01, 0.05, 1.0])
    delimiter = luck.choice([",", ",", ";", "\t", "|"])
    ids = luck.choice(["SKU-{:05d}", "{}", "{}.0", "art/{}", "'{}", "é{}", "{} x", "#{}"])
    number = count()

    def an_id() -> str:
        return ids.format(next(number) if luck.random() > luck.choice([0.0, 0.0, 0.01, rate]) else luck.randrange(60))

    def draw(values: list[str]) -> Any:
        return lambda: luck.choice(values if luck.random() < mess else values[:2])

    stock: dict[str, Any] = {"id": an_id, "title": lambda: f"{luck.choice(TITLES)} {luck.randrange(999)}"}
    stock |= {"brand": draw(BRANDS), "category": draw(luck.choice([PATHS[:4], PATHS])), "category2": draw(PATHS[:4])}
    stock |= {"price": draw(luck.choice([PRICES[:2], PRICES])), "sale_price": draw(["", "2", *PRICES])}
    stock |= {"currency": draw(["EUR", "", "USD", "x"])}
    stock |= {"availability": draw(STOCKS), "item_group_id": draw(["g1", "g2", ""]), "created": draw(DAYS)}
    stock |= {"color": draw(COLORS), "size": draw(["S", "M", "", "{}"]), "note": draw(["a", "b"])}
    stock |= {luck.choice(ODD_NAMES): draw(["1", "2", ""]), "picture": draw(["", "", "gone.jpg", " "])}
    names = ["id", "title", *(name for name in list(stock)[2:] if luck.random() < 0.6)]
    text = delimiter.join(_quoted(name, delimiter, luck) for name in names) + "\n"
    lines = [text.encode()]
    for _ in range(luck.choice([3, 60, 300, 700])):
        cells = [luck.choice(NASTY) if luck.random() < rate / 3 else stock[name]() for name in names]
        line = delimiter.join(_quoted(cell, delimiter, luck) for cell in cells)
        data = line.encode("utf-8", "surrogatepass") + luck.choice([b"\n"] * 9 + [b"\r\n"])
        lines.append(_damaged(data, luck) if luck.random() < rate / 2 else data)
    head = luck.choice([b"", b"", b"\xef\xbb\xbf", b"sep=" + delimiter.encode() + b"\n", b"\n", b"My shop\n\n"])
    tail = luck.choice([b"", b"", b"\n\n", b'x,"open', b"\r", b"only"])
    data = head + b"".join(lines).rstrip(b"\n" if luck.random() < 0.3 else b"") + tail
    if luck.random() < 0.1:
        data = data.replace(b"\r\n", b"\n").replace(b"\n", luck.choice([b"\r", b"\r\n"]))
    return data, _options(luck, names)


def _options(luck: random.Random, names: list[str]) -> dict[str, Any]:
    mapping: dict[str, Any] = {"id": "id"}
    if luck.random() < 0.3:
        chosen = luck.sample(names[2:], min(3, len(names) - 2))
        mapping["attributes"] = list(dict.fromkeys([*chosen, *(name for name in names if name in ODD_NAMES)]))
    if luck.random() < 0.2 and "category" in names:
        mapping["category"] = [name for name in names if name.startswith("category")]
    if luck.random() < 0.2:
        titles = [f"Red lamp {number}" for number in range(0, 999, 9)]
        mapping["missing"] = ["NA", "?", "Acme", "12.50", luck.choice(["1", "0.00"]), *titles]
    if luck.random() < 0.1 and len(names) > 3:
        mapping["title"] = names[3]
    options: dict[str, Any] = {"mapping": mapping, "language": luck.choice(["en", "de"])}
    if luck.random() < 0.15:
        options["limit"] = luck.choice([1, 5, 64, 256, 300])
    if luck.random() < 0.05:
        options["encoding"] = luck.choice(["utf-8", "latin-1", "utf-16"])
    return options


def _quoted(cell: str, delimiter: str, luck: random.Random) -> str:
    must = any(mark in cell for mark in (delimiter, '"', "\n", "\r"))
    if luck.random() < (0.97 if must else 0.08):
        return '"' + cell.replace('"', '""' if luck.random() < 0.95 else '"') + '"'
    return cell


def _damaged(line: bytes, luck: random.Random) -> bytes:
    at = luck.randrange(len(line))
    return luck.choice(
        [
            line[:at] + b'"' + line[at:],
            line[:at] + b"\xe9" + line[at:],
            line[:at] + b"\n" + line[at:],
            line[:at] + b"\r" + line[at:],
            line[:at] + b"\x00" + line[at:],
            line[:at],
            line[:at] + b"\n",
            line[:-1] + b",,;;\t\t||\n",
            line[:-1] + b",extra;extra\textra|extra\n",
            b"\n",
            b" \t\n",
            b",,,;;;\t\t\t|||\n",
            line + line,
            b'"' + line,
        ]
    )


VALUES: dict[str, list[Any]] = {
    "id": [],
    "title": [*TITLES, None, 7, {"en": "Lamp", "de": "Lampe"}, ["a", "b"], "", True, "<b>x</b>"],
    "brand": ["Acme", "Acme", None, "unknown", 1, 1.0, True, {"name": "Acme"}, ["Acme"], "1"],
    "category": [["Home", "Lamps"], "Home > Lamps", [["Home", "Beds"], ["Shoes"]], None, [], ["A", None, 3], {"a": 1}],
    "price": [1, 1.0, 2.5, "3", None, float("nan"), True, "free", -3, {"amount": 2}, 10**400, Decimal("1.50")],
    "sale_price": [1, 0.5, None, "9"],
    "availability": [0, 12, 3.0, True, "in stock", None, "maybe"],
    "created": [1700000000, 1700000000.0, "2024-02-29", None, "2023-02-29", datetime(2024, 2, 29, tzinfo=UTC)],
    "color": ["red", "red", None, 1, 1.0, True, 0.0, -0.0, ["red", "blue"], [], "n/a", b"red", Decimal("1.0")],
    "size": ["S", 1, {"eu": 42, "price": 3}, None, [("a", "b")], 10**30],
    "more": [{"fit": "slim", "deep": [{"key": "a", "value": 2}]}, {"fit": 1}, {}, None, "x", {"fit": {"en": "slim"}}],
    "picture": [None, None, "", "gone.jpg", []],
}


def objects(seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Draw objects, mostly plain and here and there of any kind; and options of their import."""
    luck = random.Random(seed)
    mess = luck.choice([0.0, 0.01, 0.1, 1.0])
    names = ["id", "title", *(name for name in list(VALUES)[2:] if luck.random() < 0.7)]
    rows = []
    for at in range(luck.choice([3, 70, 200, 400])):
        name: Any = luck.choice([f"SKU-{at}", at, float(at), at % 90, None]) if luck.random() < mess else f"SKU-{at}"
        drawn = {one: luck.choice(VALUES[one] if luck.random() < mess else VALUES[one][:2]) for one in names[1:]}
        rows.append({one: value for one, value in ({"id": name} | drawn).items() if luck.random() > mess / 9})
    mapping: dict[str, Any] = {"id": "id"}
    if luck.random() < 0.4:
        mapping["attributes"] = luck.sample(["color", "size", "more.fit", "more"], 2)
        names = [one for one in names if any(one in row for row in rows)]
        mapping["attributes"] = [one for one in mapping["attributes"] if one in names]
    return rows, {"mapping": mapping, "limit": luck.choice([None, 66])}


def files_of(source: Path, to: Path, **options: Any) -> dict[str, bytes] | str:
    """Return the files of a catalogue that is made of a source; or the words of the error."""
    try:
        import_catalog(source, to, name="shop", overwrite=True, **options)
    except TgqError as error:
        return str(error)
    return {file.name: file.read_bytes() for file in sorted(to.iterdir())}


@pytest.fixture
def by_rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that says whether imports go by rows alone from now on; times are none."""
    told = Counter[str]()
    stream = ByColumns.stream

    def columns(self: ByColumns, rows: Rows) -> Any:
        for one in stream(self, rows):
            told[type(one).__name__] += len(one) if hasattr(one, "__len__") else 1
            yield one

    def choose(rows: bool) -> Counter[str]:
        monkeypatch.setattr(ByColumns, "stream", (lambda _, some: each_row(some)) if rows else columns)
        return told

    for module in ("importer", "parts"):
        monkeypatch.setattr(f"tgqformer.catalog.{module}.time", SimpleNamespace(perf_counter=lambda: 0.0))
    return choose


@pytest.mark.parametrize("size", [40, 300, 3000])
def test_lines_many_at_a_time_as_one_by_one(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, together = table._cells, Counter[bool]()

    def counted(*given: Any) -> Any:
        found = cells(*given)
        together[found is not None] += 1
        return found

    for seed in range(60):
        data, options = nasty(seed)
        file = tmp_path / "shop.csv"
        file.write_bytes(data if seed % 5 else gzip.compress(data)[: -(seed % 50) or None])
        monkeypatch.setattr(lines_module, "_BATCH", 1 << 16)
        monkeypatch.setattr(table, "_cells", lambda *_: None)
        alone = list(table.records(file, options.get("encoding"), join_last=seed % 3 == 0))
        monkeypatch.setattr(lines_module, "_BATCH", size)
        monkeypatch.setattr(table, "_cells", counted)
        found = list(table.records(file, options.get("encoding"), join_last=seed % 3 == 0))
        parts = [(one.line, one.cells, one.utf8, one.reason, one.raw) for one in found]
        assert parts == [(one.line, one.cells, one.utf8, one.reason, one.raw) for one in alone]
    assert together[True] > 60 and together[False] > 60


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_by_columns_as_by_rows(first: int, tmp_path: Path, by_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, told = 0, Counter[str]()
    for seed in range(first, first + 10):
        data, options = nasty(seed)
        source = tmp_path / "shop.csv"
        source.write_bytes(data)
        by_rows(True)
        expected = files_of(source, tmp_path / "rows", **options)
        monkeypatch.setattr(table, "_ROWS", (256, 7)[seed % 2])
        told = by_rows(False)
        assert files_of(source, tmp_path / "columns", **options) == expected, f"seed {seed}"
        made += isinstance(expected, dict)
    assert made >= 7
    assert min(told["Plain"], told["SourceRow"]) > 200, "both ways must be gone"


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_objects_by_columns_as_by_rows(first: int, tmp_path: Path, by_rows: Any) -> None:
    """Values that are equal and of other types, objects, lists, what is absent: of Python, so of every reader."""
    made, told = 0, Counter[str]()
    for seed in range(first, first + 10):
        rows, options = objects(seed)
        lines = [json.dumps(row, default=str).encode() for row in rows]
        lines[seed % len(lines)] = lines[seed % len(lines)].replace(b"e", b"\xe9")
        source = tmp_path / "shop.jsonl"
        source.write_bytes(b"\n".join(lines))
        by_rows(True)
        expected = files_of(source, tmp_path / "rows", **options)
        told = by_rows(False)
        assert files_of(source, tmp_path / "columns", **options) == expected, f"seed {seed}"
        made += isinstance(expected, dict)
        given = [SourceRow("shop", at, row) for at, row in enumerate(rows)]
        assert _through(given, ByColumns.stream, rows) == _through(given, lambda _, some: some, rows), f"seed {seed}"
    assert made >= 7
    assert min(told["Plain"], told["SourceRow"]) > 100, "both ways must be gone"


@pytest.mark.parametrize(
    ("prices", "missing"),
    [
        (["12.50", "3", "0.00", "12.5"], ["12.50"]),
        (["12.50", "3", "0.00", "1"], ["1"]),
        (["1,50", "1.299", "12.345.678", "7"], []),
        (["1.299", "5.500", "7"], []),
        ([12.5, -3.0, math.inf, math.nan, 0.0, -0.0, 3, True, None], []),
    ],
)
@pytest.mark.parametrize("more", [{}, {"currency": "EUR"}, {"currency": "x"}, {"sale_price": "0.5"}])
def test_prices_by_columns_as_by_rows(
    prices: list[Any], missing: list[str], more: dict[str, str], tmp_path: Path, by_rows: Any
) -> None:
    rows = [{"id": f"a{at}", "title": f"Lamp {at}", "price": price, **more} for at, price in enumerate(prices * 20)]
    (tmp_path / "shop.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"mapping": {"id": "id", "missing": missing}}
    by_rows(False)
    fast = files_of(tmp_path / "shop.jsonl", tmp_path / "shop", **options)
    by_rows(True)
    assert fast == files_of(tmp_path / "shop.jsonl", tmp_path / "shop", **options)
    assert not isinstance(fast, str)


def _through(given: list[SourceRow], stream: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """Return the items, findings and rejects of rows."""
    mapping = plan_mapping(list(dict.fromkeys(chain.from_iterable(rows))), None, {"id": "id"}, {})
    style = SourceStyle.of(rows, mapping, "en")
    found: list[Any] = []
    for one in stream(ByColumns(mapping, style), iter(given)):
        if isinstance(one, Plain):
            found += [(Item(*(*values[:4], dict(values[4]), *values[5:])), [], None) for values in one.items]
        else:
            draft = draft_item(one, mapping, style)
            found.append((draft.item, draft.found, draft.reject))
    return found


def test_parts_by_columns_as_one_process_by_rows(tmp_path: Path, by_rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges that begin and end inside blocks, with ids that stand twice in one part and in several."""
    monkeypatch.setattr(table, "_ROWS", 16)
    ids = [at % 70 if at % 5 == 0 else 1000 + at for at in range(200)]
    lines = [f"{name},Lamp {name},{('Acme', 'unknown')[at % 40 == 3]}" for at, name in enumerate(ids)]
    source = tmp_path / "shop.csv"
    source.write_text("\n".join(["id,title,brand", *lines[:90], "", "a,b", *lines[90:]]))
    by_rows(True)
    expected = files_of(source, tmp_path / "rows")
    assert isinstance(expected, dict)
    told = by_rows(False)
    import_in_parts(source, tmp_path / "parts", partial(fill_here, shown=False), size=23, name="shop")
    assert told["Plain"] > 130
    for name in ("rejects.jsonl", "warnings.jsonl", "report.json", "report.html"):
        assert (tmp_path / "parts" / name).read_bytes() == expected[name]
    one, several = Catalog.open(tmp_path / "rows"), Catalog.open(tmp_path / "parts")
    assert several.fingerprint == one.fingerprint and list(several.items()) == list(one.items())


@pytest.mark.parametrize("ending", ["csv.gz", "tsv", "txt"])
def test_other_tables_go_by_columns_too(ending: str, tmp_path: Path, by_rows: Any) -> None:
    text = "\n".join(["id\ttitle\tprice", *(f"{at}\tLamp {at}\t{at}.5" for at in range(300))]).encode()
    source = tmp_path / f"shop.{ending}"
    source.write_bytes(gzip.compress(text)[:-20] if ending.endswith("gz") else text)
    by_rows(True)
    expected = files_of(source, tmp_path / "rows")
    told = by_rows(False)
    assert files_of(source, tmp_path / "columns") == expected
    assert told["Plain"] > 200


def test_strict_stops_at_the_same_row(tmp_path: Path, by_rows: Any) -> None:
    lines = [f"{at},Lamp {at}" for at in range(600)]
    lines[300], lines[301] = "7,twice", ",no id"
    source = tmp_path / "shop.csv"
    source.write_text("\n".join(["id,title", *lines]))
    by_rows(True)
    expected = files_of(source, tmp_path / "rows", strict=True)
    by_rows(False)
    assert files_of(source, tmp_path / "columns", strict=True) == expected
    assert "line 302" in expected and not (tmp_path / "columns").exists()


_VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.tuples(st.text()))


@settings(max_examples=60)
@given(st.lists(st.tuples(_VALUES, _VALUES, _VALUES), max_size=5), st.integers(0, 5))
def test_a_fingerprint_is_of_each_item_however_they_come(contents: list[tuple[Any, ...]], cut: int) -> None:
    """The bytes of some items and of the rest are those of all, and all can be read back from them."""
    whole = _canonical(contents)
    assert _canonical(contents[:cut]) + _canonical(contents[cut:]) == whole
    read = json.loads(b"[" + whole.removesuffix(b",") + b"]")
    assert read == [[list(value) if isinstance(value, tuple) else value for value in one] for one in contents]


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 300), max_size=60), max_size=12), st.integers(20, 200))
def test_many_ids_at_once_as_one_by_one(batches: list[list[int]], recent: int) -> None:
    seen, many = set[str](), SeenIds(recent)
    for batch in batches:
        names = [None if name == 7 else str(name) for name in batch]
        fresh = [name is None or (name not in seen and name not in names[:at]) for at, name in enumerate(names)]
        seen.update(name for name in names if name is not None)
        assert many.repeated(names) == [at for at, new in enumerate(fresh) if not new]


@pytest.mark.parametrize(("before", "meanwhile"), [(700, 5000), (9000, 9000), (0, 0)])
def test_garbage_is_looked_for_more_rarely_while_rows_are_read(tmp_path: Path, before: int, meanwhile: int) -> None:
    """A collector that is off, or that rarely looks, stays as it is. In the end all is as before."""
    (tmp_path / "shop.csv").write_text("id,title\n1,Mug\n")
    plan, usual = plan_import(tmp_path / "shop.csv", tmp_path / "shop"), gc.get_threshold()

    def rows() -> Iterator[Any]:
        assert gc.get_threshold()[0] == meanwhile
        yield from ()
        raise TgqError("no more")

    try:
        gc.set_threshold(before)
        with pytest.raises(TgqError, match="no more"):
            list(checked(rows(), plan))
        assert gc.get_threshold() == (before, *usual[1:])
    finally:
        gc.set_threshold(*usual)
