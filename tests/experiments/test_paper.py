"""The shipped recipes of the paper's set-up and of multilingual text: end to end, on miniature files, tiny models."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from doc_commands import ROOT, blocks
from paper_files import ITEMS, article, asin, near, write_amazon_2018, write_amazon_2023, write_hm

from tgqformer.catalog.catalog import Catalog
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result
from tgqformer.experiments.recipe import Recipe, load_recipe
from tgqformer.experiments.run import execute
from tgqformer.pairs.pairs import Pairs
from tgqformer.store import open_store
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.neighbours import Neighbours

FEW = (
    "pairs.train=0.5", "pairs.val=0.1", "pairs.test=0.4", "neighbours=3", "evaluation.validation_pool=8",
    "language.frozen_layers=1", "language.lora_rank=2",
    "training={steps: 2, visual_steps: 1, warmup: 1, batch: 8, visual_batch: 8, group: 4, validate_every: 1}",
)  # fmt: skip
WRITERS = {"2018": write_amazon_2018, "2023": write_amazon_2023, "hm": write_hm}
AROUND = {tuple(sorted((at, other))) for at in range(ITEMS) for other in near(at)}


def changes(tiny_model: Callable[[str], Path], *more: str) -> tuple[str, ...]:
    vision, language = f"joint:hf:{tiny_model('chinese-clip')}", f"hf:{tiny_model('qwen')}"
    return (f"encoders.vision={vision}", f"language.name={language}", *FEW, *more)


def walk(recipe: Recipe, folder: Path) -> Catalog:
    """Run a recipe to its last stage but the report, and look at what each stage left."""
    torch.set_num_threads(1)
    run = execute(recipe, folder, "neighbours")
    catalog = Catalog.open(folder / "catalog")
    for section in recipe.models:
        found = Result.read(run.trial_folder(section, 0) / "result").views["mixed"]
        assert found.values["hit@10"].size > 0
    assert len(Embeddings.open(folder / "embeddings/tgq-former").vectors()) == len(catalog)
    neighbours = Neighbours.open(folder / "neighbours")
    assert len(neighbours) == len(catalog) and len(neighbours.of(catalog.ids()[0])) == recipe.neighbours
    store = open_store(folder / "store")
    assert store.served is not None and store.served.label == "TGQ-Former"
    assert [stats.rows for stats in store.stats()] == [len(catalog)] * len(recipe.models)
    return catalog


def pairs_of(folder: Path, place: Callable[[str], int]) -> set[tuple[int, int]]:
    """All pairs of a run, as places of the items."""
    tables = [Pairs.read(folder / f"pairs/pairs-{part}.parquet").table for part in ("train", "val", "test", "cross")]
    return {tuple(sorted((place(row["a"]), place(row["b"])))) for table in tables for row in table.to_pylist()}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_each_from_the_published_files_to_neighbours(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = "paper-hm" if name == "hm" else f"paper-amazon-{name}"
    WRITERS[name](tmp_path / "data" / (name if name == "hm" else f"amazon-{name}"))
    catalog = walk(load_recipe(recipe, changes(tiny_model)), tmp_path / "run")
    pictures = [len(item.pictures) for item in catalog.items()]
    ids = [article(at) if name == "hm" else asin(at) for at in range(ITEMS)]
    assert sorted(catalog.ids()) == ids and sum(pictures) == ITEMS - (name == "hm")
    assert pairs_of(tmp_path / "run", ids.index) == AROUND


def test_reviews_of_2018_and_a_part_of_the_items(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_amazon_2018(tmp_path / "data/amazon-2018")
    log = "pairs.interactions=data/amazon-2018/Clothing_Shoes_and_Jewelry_5.json.gz"
    recipe = load_recipe("paper-amazon-2018", changes(tiny_model, "pairs.related=null", log, "catalog.items=20"))
    run = execute(recipe, tmp_path / "run", "pairs")
    ids = run.data.catalog.ids()
    assert len(ids) == 20
    places = {int(name[3:]) for name in ids}
    assert pairs_of(tmp_path / "run", lambda name: int(name[3:])) == {pair for pair in AROUND if {*pair} <= places}


@pytest.mark.parametrize("year", ["2018", "2023"])
def test_the_pictures_of_the_page_come_into_the_catalogue(
    year: str, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / f"data/amazon-{year}"
    WRITERS[year](data)
    photos = {file.name: file.read_bytes() for file in (data / "images").iterdir()}
    for name in photos:
        (data / "images" / name).unlink()
    recipe = load_recipe(f"paper-amazon-{year}", changes(tiny_model, "catalog.items=20"))
    catalog = execute(recipe, tmp_path / f"runs/paper-amazon-{year}", "catalog").data.catalog
    assert not any(item.pictures for item in catalog.items())
    asked: list[str] = []

    def opened(address: str, timeout: int) -> BytesIO:
        asked.append(address)
        if len(asked) == 1:
            raise OSError("gone")
        return BytesIO(next(iter(photos.values())))

    monkeypatch.setattr("urllib.request.urlopen", opened)
    (code,) = (block.text for block in blocks(ROOT / "docs/paper.md") if "urlopen" in block.text)
    for _ in range(2):  # a second call fetches what the first did not get, and nothing else
        exec(code.replace("2018", year).replace("ThreadPoolExecutor(16)", "ThreadPoolExecutor(1)"), {})
    assert len(asked) == 21 and len(set(asked)) == 20
    catalog = execute(recipe, tmp_path / f"runs/paper-amazon-{year}", "catalog").data.catalog
    assert all(len(item.pictures) == 1 for item in catalog.items())


def test_items_are_chosen_by_how_often_they_are_in_pairs(tmp_path: Path) -> None:
    shop = "id,title\n" + "".join(f"i{at},Shirt {at}\n" for at in range(6))
    (tmp_path / "shop.csv").write_text(shop)
    (tmp_path / "pairs.csv").write_text("a,b\ni1,i2\ni1,i3\ni1,i4\ni3,i4\nelsewhere,i5\nelsewhere,i3\n")
    (tmp_path / "log.csv").write_text("session,item\n" + "s,i1\n" * 3 + "t,i4\n" * 2 + "u,elsewhere\n" * 9 + "v,i3\n")
    for source, kept in (("pairs", ["i1", "i3", "i4"]), ("interactions", ["i1", "i3", "i4"])):
        file = tmp_path / ("pairs.csv" if source == "pairs" else "log.csv")
        section = {"source": str(tmp_path / "shop.csv"), "items": 3, "chosen_by": "pairs"}
        made = {"name": source, "catalog": section, "pairs": {source: str(file)}, "models": [{"name": "m"}]}
        run = execute(parse(Recipe, made, "here"), tmp_path / source, "catalog")
        assert run.data.catalog.ids() == kept


@pytest.mark.parametrize(
    ("catalog", "pairs", "message"),
    [
        ({"source": "shop.csv"}, {"related": []}, "related names no kind"),
        ({"source": "studio"}, {"related": ["also_buy"]}, "the studio has no lists"),
        ({"source": "shop.csv"}, {"related": ["also_buy"], "pairs": "p.csv"}, "exactly one of"),
        ({"source": "shop.csv", "chosen_by": "pairs"}, {"pairs": "p.csv"}, "takes catalog.items of a shop's files"),
    ],
)
def test_what_cannot_be_is_refused(catalog: dict[str, object], pairs: dict[str, object], message: str) -> None:
    with pytest.raises(TgqError, match=message):
        parse(Recipe, {"name": "x", "catalog": catalog, "pairs": pairs, "models": [{"name": "m"}]}, "here")


def test_a_catalogue_without_lists_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("id,title\ni1,Shirt\n")
    section = {"name": "x", "catalog": {"source": str(tmp_path / "shop.csv")}, "pairs": {"related": ["also_buy"]}}
    with pytest.raises(TgqError, match=r"related\.parquet; an import of a catalogue with co-purchase lists"):
        execute(parse(Recipe, {**section, "models": [{"name": "m"}]}, "here"), tmp_path / "run", "pairs")


@pytest.mark.parametrize("name", ["paper-amazon-2018", "paper-amazon-2023", "paper-hm", "multilingual"])
def test_without_the_models_nothing_is_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nowhere"))
    recipe = load_recipe(name)
    key = "encoders.text" if name == "multilingual" else "encoders.vision"
    with pytest.raises(TgqError, match=rf"{key}: The Hugging Face model .* cannot be read: .*hf download"):
        execute(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_multilingual_text_from_a_table_to_neighbours(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    titles = ("红色 衬衫", "รองเท้า สีฟ้า", "зелёная сумка")
    shop = "".join(f"i{at:02d},{titles[at % 3]} {at}\n" for at in range(ITEMS))
    (tmp_path / "shop.csv").write_text("id,title\n" + shop, encoding="utf-8")
    clicks = [f"s{at}-{other}-{twice},i{one:02d}" for at, other in AROUND for twice in (0, 1) for one in (at, other)]
    (tmp_path / "clicks.csv").write_text("session,item\n" + "\n".join(clicks) + "\n")
    names = ("encoders.vision=hf:" + str(tiny_model("vit")), f"encoders.text=hf:{tiny_model('bert')}")
    language = f"language.name=hf:{tiny_model('bert')}"
    recipe = load_recipe("multilingual", (*names, language, *FEW, "alignment={steps: 2, batch: 8}"))
    catalog = walk(recipe, tmp_path / "run")
    assert {item.title for item in catalog.items()} == {f"{titles[at % 3]} {at}" for at in range(ITEMS)}
