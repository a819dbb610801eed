"""From files to pairs by the command: nothing usable is an error that says why, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tgqformer.catalog import CatalogWriter, Item
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.pairs.columns import LogSettings
from tgqformer.pairs.mining import MiningSettings
from tgqformer.pairs.pairs import Pairs
from tgqformer.pairs.source import read_periods, read_source


def catalog(folder: Path, *ids: str) -> Path:
    with CatalogWriter(folder / "shop", name="shop", pack=False) as writer:
        for name in ids:
            writer.add(Item(name, title=name))
    return folder / "shop"


def log(folder: Path, *items: str, header: str = "user,item") -> Path:
    lines = [f"{user},{item}" for user in "uvw" for item in items]
    (folder / "log.csv").write_text(header + "\n" + "\n".join(lines) + "\n")
    return folder / "log.csv"


def mine(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["pairs", "mine", *map(str, words)])
    if isinstance(result.exception, TgqError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        (("7", "8"), ("007", "008"), "zeros at the front: '7' here, '007' there"),
        (("SKU-7", "SKU-8"), ("7", "8"), "before the last separator: 'SKU-7' here, '7' there"),
        (("gid://shop/Product/7", "gid://shop/Product/8"), ("7", "8"), "before the last separator"),
        (("7", "8"), ("7.0", "8.0"), "a .0 at the end: '7' here, '7.0' there"),
        (("AB7", "AB8"), ("ab7", "ab8"), "capitals: 'AB7' here, 'ab7' there"),
        (("7-XL", "8-XL"), ("7", "8"), "behind the first separator: '7-XL' here, '7' there"),
        (("p7", "p8"), ("7", "8"), "letters before the number"),
        (("x", "y"), ("7", "8"), "'x', 'y'; the catalogue: '7', '8'. Check the column of the item"),
    ],
)
def test_no_item_in_common_is_an_error_that_shows_both_sides(
    tmp_path: Path, here: tuple[str, ...], there: tuple[str, ...], words: str
) -> None:
    to = tmp_path / "pairs.parquet"
    with pytest.raises(TgqError, match=r"no item of log\.csv is in the catalogue") as error:
        mine(log(tmp_path, *here), "--catalog", catalog(tmp_path, *there), "--to", to)
    assert words in str(error.value)
    assert not to.exists()


def test_a_share_too_small_to_be_meant_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [f"{n:04d}" for n in range(200)]
    source = log(tmp_path, "0001", "0002", *(str(n) for n in range(3, 200)))
    pairs = read_source(source, ids=known)
    assert pairs.ids() == ["0001", "0002"]
    said = " ".join(capsys.readouterr().err.split())
    assert "only 2 of the 199 items of log.csv are in the catalogue (200)" in said
    assert "zeros at the front: '3' here, '0003' there (197 would match)" in said


def test_a_session_that_holds_a_great_share_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"0,{n}" for n in range(20)] + [f"{user},{item}" for user in "1234" for item in "78"]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(lines))
    read_source(tmp_path / "log.csv")
    said = " ".join(capsys.readouterr().err.split())
    assert "the session '0' holds 20 of 28 rows; where it stands for visitors who are not known, leave it" in said
    read_source(tmp_path / "log.csv", log=LogSettings(missing=("0",)))
    assert "holds 20" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["u,a", "v,b"], "none of its 2 sessions ('u', 'v' …) holds two items; check --session"),
        (["u,a", "u,b"], "1 pair in one session or more, the most frequent in 1, and --min-support asks for 2"),
    ],
)
def test_no_pair_is_an_error(tmp_path: Path, lines: list[str], words: str) -> None:
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(lines))
    with pytest.raises(TgqError) as error:
        mine(tmp_path / "log.csv", "--to", tmp_path / "pairs.parquet")
    assert words in str(error.value)
    assert not (tmp_path / "pairs.parquet").exists()


def test_periods_need_times_and_pairs(tmp_path: Path) -> None:
    plain = LogSettings(), MiningSettings(min_support=1)
    with pytest.raises(TgqError, match="no times"):
        read_periods(log(tmp_path, "a", "b"), ["a", "b"], (0.5, 0, 0.5), *plain)
    path = tmp_path / "timed.csv"
    path.write_text("user,item,time\n" + "".join(f"u{at},{'ab'[at % 2]},{1_700_000_000 + at}\n" for at in range(8)))
    with pytest.raises(TgqError, match=r"the period for train of .*timed.csv, 4 of 8 interactions, gives no pair"):
        read_periods(path, ["a", "b"], (0.5, 0, 0.5), *plain)
    (tmp_path / "list.csv").write_text("item_1,item_2\na,b\n")
    with pytest.raises(TgqError, match="only a log of interactions can be split by time"):
        read_periods(tmp_path / "list.csv", ["a", "b"], (0.5, 0, 0.5), *plain)


def test_clicks_too_far_apart(tmp_path: Path) -> None:
    lines = [f"{user},{item},{time}" for user in "uv" for item, time in (("a", "20240105"), ("b", "20240301"))]
    (tmp_path / "log.csv").write_text("user,item,date\n" + "\n".join(lines))
    with pytest.raises(TgqError, match="none so near to each other"):
        mine(tmp_path / "log.csv", "--window", "7d", "--to", tmp_path / "pairs.parquet")
    assert "1 pair of" in mine(tmp_path / "log.csv", "--window", "60d", "--to", tmp_path / "pairs.parquet")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "item_1;item_2\n1;2\n3;2\n"), ("list.tsv", "Item A\tItem B\tWeight\n1\t2\t1\n3\t2\t1\n"),
        ("list.jsonl", '{"product_id": 1, "related_product_id": 2}\n{"product_id": 3, "related_product_id": 2}\n'),
    ],
)  # fmt: skip
def test_lists_of_pairs_in_any_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert "a list of pairs" in mine(tmp_path / name, "--to", tmp_path / "pairs.parquet")
    table = Pairs.read(tmp_path / "pairs.parquet").table.to_pylist()
    assert [(row["a"], row["b"], row["weight"]) for row in table] == [("1", "2", 1.0), ("2", "3", 1.0)]


def test_lists_of_pairs_are_held_against_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TgqError, match="zeros at the front"):
        mine(tmp_path / "list.csv", "--catalog", catalog(tmp_path, "01", "02"), "--to", tmp_path / "p.parquet")
    with pytest.raises(TgqError, match="of which both items are in the catalogue"):
        read_source(tmp_path / "list.csv", ids=["1", "3"])
    with pytest.raises(TgqError, match="has no kinds of relations"):
        mine(tmp_path / "list.csv", "--kind", "buy", "--to", tmp_path / "p.parquet")


@pytest.mark.parametrize("asked", ["window=5", "min-support=3", "before=2020-01-01", "cap=9", "alpha=2"])
def test_what_a_list_of_pairs_cannot_heed_is_refused(tmp_path: Path, asked: str) -> None:
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    name, value = asked.split("=")
    words = ["--weighting", "swing"] if name == "alpha" else []
    with pytest.raises(TgqError, match=f"lists pairs, .* so --{name if not words else 'weighting'} says nothing"):
        mine(tmp_path / "list.csv", f"--{name}", value, *words, "--to", tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


def test_a_window_of_the_whole_session(tmp_path: Path) -> None:
    source = log(tmp_path, "a", *map(str, range(30)), "b")
    for words, count in ((["session"], 496), (["1"], 31)):
        to = tmp_path / f"{count}.parquet"
        assert f"{count} pairs" in mine(source, "--window", *words, "--to", to)
    with pytest.raises(TgqError, match="alpha is of the weighting swing"):
        mine(source, "--alpha", "2", "--to", tmp_path / "p.parquet")


def test_show_of_another_file_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pairs", "show", str(log(tmp_path, "a"))])
    assert isinstance(result.exception, TgqError)
    assert "is not a file of pairs (Parquet with a and b); `tgq pairs mine" in str(result.exception)
