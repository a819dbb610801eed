"""The plan of a run: figures that were worked out by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.cli.options import amount
from tgqformer.errors import TgqError
from tgqformer.experiments.plan import FROZEN_LAYERS, MACHINES, TEXT, Need, pictures_of, plan, text_of, tower_of
from tgqformer.experiments.recipe import load_recipe
from tgqformer.experiments.scale import Extent, Rent, Rented, flops_of, scale

QWEN = "hf:Qwen/Qwen3-Embedding-0.6B"
CLIP = "joint:hf:OFA-Sys/chinese-clip-vit-base-patch16"


def needs(name: str, *changes: str, gpu: str = "h100", items: int = 100_000, clicks: int = 0) -> dict[str, Need]:
    found = plan(load_recipe(name, changes, deep=False), MACHINES[gpu], items=items, clicks=clicks, cores=10)
    return {need.stage: need for need in found}


def test_operations_of_the_papers_models() -> None:
    tower, text = tower_of(CLIP)
    # 12 layers of 4 x 768² + 2 x 768 x 3,072 weights, 197 tokens, attention, and the patches' own layer.
    assert tower.flops == 12 * (2 * 7_077_888 * 197 + 4 * 197**2 * 768) + 2 * 196 * 768 * 768 == 35_126_120_448
    assert (tower.places, tower.width) == (196, 768) and text is not None and text.weights == 7_077_888
    # Queries are 16 x 128 = 2,048 wide, keys 8 x 128; three matrices of 1,024 x 3,072.
    qwen = text_of(QWEN)
    assert qwen.weights == 2 * 1024 * (2048 + 1024) + 3 * 1024 * 3072 == 15_728_640
    assert qwen.flops(64) == 28 * (2 * 15_728_640 * 64 + 4 * 64**2 * 2048) == 57_310_969_856
    assert qwen.parameters == pytest.approx(0.596e9, rel=0.01)  # what its card says


def test_stages_of_the_papers_setup_on_one_card() -> None:
    found = needs("paper-amazon-2018")
    # 35.1 GFLOPs at 296.7 TFLOP/s are 8,447 pictures a second: the 980 that were measured decide. Texts in float32:
    # 12 x (2 x 7,077,888 x 64 + 4 x 64² x 768) = 11.02 GFLOPs at 20.1 TFLOP/s.
    assert found["features"].seconds == pytest.approx(100_000 * (136 / 133_323 + 11.0226e9 / 20.1e12), rel=1e-3)
    # 196 x 768 visual numbers and a vector, 64 x 768 of the text, 64 x 1,024 of the language model, two bytes each.
    assert found["features"].disk == 100_000 * 2 * (196 * 768 + 768 + 64 * (768 + 1024))
    # 256 items of 68 tokens, forward and back: 31.21 TFLOPs, 0.1052 s; 400 steps of the connector at 0.0666 s.
    assert found["training TGQ-Former"].seconds == pytest.approx(
        4000 * 31.2091e12 / 296.7e12 + 400 * 56.6 / 850, rel=1e-3
    )
    weights = 4 * (28 * 15_728_640 + 151_669 * 1024) + 2 * 28 * 15_728_640
    assert found["training TGQ-Former"].memory == weights + 256 * 68 * 28 * (34 * 1024 + 5 * 16 * 68)
    assert found["import"].seconds == pytest.approx(100_000 / 366 / 2)  # two threads read, however many cores
    # One query against 100,000 x 1,280 numbers, when 134,000 x 512 take 2.3 ms.
    assert found["neighbours"].seconds == pytest.approx(100_000 * 2.3e-3 * 100_000 * 1280 / (134_000 * 512))
    assert "training frozen" not in found


def test_clicks_seeds_and_a_processor() -> None:
    assert needs("paper-hm", clicks=30_000_000)["pairs"].seconds == pytest.approx(86)
    one, three = (needs("paper-hm", f"seeds={seeds}")["training TGQ-Former"].seconds for seeds in ("[0]", "[0, 1, 2]"))
    assert three == pytest.approx(3 * one)
    cpu = needs("multilingual", "serve=train", gpu="cpu")["training TGQ-Former"]
    # 4 of 12 layers of 1,769,472 weights learn: 256 x 4 x (2 x 1,769,472 x 68 + 4 x 68² x 384) at 0.08 TFLOP/s.
    step = 256 * 4 * (2 * 1_769_472 * 68 + 4 * 68**2 * 384) / 0.08e12
    assert cpu.seconds == pytest.approx(700 * step + 400 * 0.43)
    assert "as long again" in cpu.how
    quick = needs("quick", gpu="cpu", items=400)
    assert quick["evaluation, embeddings, store"].seconds > 1  # a pretrained model is measured, too
    assert quick["features"].memory == pytest.approx(2.24e9, rel=0.05)  # as measured
    served = needs("multilingual", gpu="cpu")["training TGQ-Former"]
    assert served.seconds == pytest.approx(2 * cpu.seconds) and "once more on all pairs" in served.how


@pytest.mark.parametrize(
    ("name", "changes", "pictures"),
    [
        ("paper-hm", (), 1.0),
        ("demo", (), 2.0),  # the mixed view shows pictures of the two others
        ("demo", ("evaluation.views=[mixed, collage]",), 2.5),  # half clean, all noised for the alignment, all collages
        ("multilingual", (), 2.0),
    ],
)
def test_how_many_pictures_are_encoded(name: str, changes: tuple[str, ...], pictures: float) -> None:
    assert pictures_of(load_recipe(name, changes, deep=False)) == pictures


def test_packaged_sizes_are_those_of_the_files() -> None:
    from tgqformer.encoders.minilm import packaged_folder
    from tgqformer.model.language import PACKAGED

    assert text_of(f"hf:{packaged_folder()}") == text_of("minilm")
    assert {name: frozen for name, (_, frozen) in PACKAGED.items() if frozen} == FROZEN_LAYERS
    assert set(PACKAGED) <= set(TEXT)


def test_a_model_in_a_folder_and_one_that_is_not_known(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    assert text_of(f"hf:{tmp_path}").weights == 4 * 64 + 2 * 8 * 16
    with pytest.raises(TgqError, match=r"fetch it and name its folder.*did you mean 'hf:Qwen/Qwen3-Embedding-0.6B'"):
        text_of("hf:Qwen/Qwen3-Embedding-0.6b")


def test_the_command_shows_the_arithmetic() -> None:
    told = CliRunner().invoke(app, ["plan", "paper-hm", "--items", "105542", "--clicks", "31788324", "--gpu", "l4"])
    assert told.exit_code == 0
    for words in ("105,542 pictures of 35.1 GFLOPs", "x 61.0 GFLOPs = 31.2 TFLOPs", "30% is assumed", "all: "):
        assert words in " ".join(told.output.split())
    big = CliRunner().invoke(app, ["plan", "paper-hm", "--items", "9", "--gpu", "l4", "--set", "training.batch=256"])
    assert "more than the 24 GB of one l4: lower training.batch" in " ".join(big.output.split())
    for words, message in ((["paper-hm"], "say with --items"), (["demo", "--gpu", "h1000"], "did you mean 'h100'")):
        failed = CliRunner().invoke(app, ["plan", *words])
        assert isinstance(failed.exception, TgqError) and message in str(failed.exception)


def stages(card: str, items: int, clicks: int = 0, **rent: float) -> dict[str, Rented]:
    return {one.stage: one for one in scale(Extent.of(items, clicks, MACHINES[card]), Rent(**rent))}  # type: ignore[arg-type]


def test_a_catalogue_of_any_size_on_gpus() -> None:
    found = stages("h100", 100_000_000, 10**9, cores=16, gpu=3.0)
    assert list(found) == ["import", "mine", "cache", "train", "embed", "neighbours", "index", "serve"]
    # 35.1 of the picture, 11.0 of its text, 61.0 of the language model: GFLOPs. 107 at 296.7 TFLOP/s are 0.36 ms: the
    # 980 pictures a second that were measured decide, 28.3 hours, so two machines stay within a day.
    assert flops_of(Extent.of(1, 0, MACHINES["h100"])) == pytest.approx(107.2e9, rel=1e-3)
    embed = found["embed"]
    assert embed.machines == 2 and embed.hours == pytest.approx(100e6 * 136 / 133_323 / 3600 / 2)
    assert embed.dollars == pytest.approx(2 * embed.hours * (3.0 + 16 * 0.05))
    assert embed.disk == 100e6 * 1280 * 4 and "measured on an H200" in embed.how
    # What training draws is cached, not the whole catalogue; what training takes does not depend on its size.
    assert found["cache"].disk == 4000 * 256 * 531_968 and found["train"].hours == stages("h100", 10**7)["train"].hours
    assert found["serve"].memory == 100e6 * (1280 * 4.125 + 240 + 200) + 2e9 and found["serve"].hours == 730


def test_a_slow_gpu_is_bound_by_operations_and_a_processor_by_what_was_measured_on_one() -> None:
    slow, cpu = stages("l4", 10**6)["embed"], stages("cpu", 10**6, cores=4)
    assert slow.hours == pytest.approx(10**6 * 107.2e9 / (0.3 * 121e12) / 3600, rel=1e-3)
    assert "30% of the peak: assumed" in slow.how and "benchmarks/embed.py" not in slow.how
    assert cpu["embed"].hours * cpu["embed"].machines == pytest.approx(10**6 * 21.1e-3 / 4 / 3600)
    assert "benchmarks/embed.py" in cpu["embed"].how and "GPU" not in cpu["train"].how
    small = stages("cpu", 500)
    assert small["cache"].disk == pytest.approx(500 / 64_000 * cpu["cache"].disk)


def test_what_cannot_be_shared_out_says_that_it_takes_longer() -> None:
    one, many = (stages("h100", 10**8, 10**11, within=hours) for hours in (10_000.0, 1.0))
    assert "longer" not in one["import"].how and one["embed"].machines == one["neighbours"].machines == 1
    assert many["mine"].machines == 1 and "longer than 1 hours: not cut into partitions" in many["mine"].how
    assert many["import"].machines == 397 and many["import"].hours > 1 == one["import"].machines
    assert re.search(r"longer than 1 hours: 1\.\d hours of it no machine saves", many["import"].how)
    day = stages("h100", 10**8, within=24)["import"]
    assert day.machines == 2 and one["import"].hours / 2 < day.hours < 24 and "longer" not in day.how
    assert re.search(r"made by one machine; .*: 10\.\d hours of it no machine saves", many["neighbours"].how)
    assert many["embed"].machines == 29 and many["embed"].hours <= 1
    assert many["embed"].dollars == pytest.approx(one["embed"].dollars)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100e6", 10**8),
        ("1b", 10**9),
        ("10M", 10**7),
        ("1.5k", 1500),
        ("31,788,324", 31_788_324),
        ("1_000", 1000),
        ("0", 0),
    ],
)
def test_numbers_as_people_write_them(text: str, number: int) -> None:
    assert amount(text) == number


@pytest.mark.parametrize("text", ["ten", "1.5", "-5", "", "1e400", "nan", "inf", "1,00", "10MM", "1e-3", "0x10"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(TgqError, match="is no whole number; write it as 250000, 100e6, 10M or 1b"):
        amount(text)


def test_a_plan_without_a_recipe_and_what_it_refuses() -> None:
    told = CliRunner().invoke(
        app, ["plan", "--items", "100e6", "--clicks", "1e9", "--gpu", "h100"], env={"COLUMNS": "80"}
    )
    assert told.exit_code == 0
    for words in (
        "100,000,000 items, 1,000,000,000 clicks",
        "$3 an hour of a GPU",
        "(assumed)",
        "- mine: 1,000,000,000",
    ):
        assert words in " ".join(told.output.split())
    priced = ["plan", "--items", "1M", "--gpu-price", "2", "--core-price", "0.1"]
    rows = json.loads(CliRunner().invoke(app, [*priced, "--json"]).stdout)
    assert [row["stage"] for row in rows][-1] == "serve" and rows[-1]["dollars"] == pytest.approx(730 * 8 * 0.1)
    assert "8 GB (assumed)" not in CliRunner().invoke(app, priced).output
    for words, message in (
        (["--items", "1M", "--gpu", "h1000"], "did you mean 'h100'"),
        (["--items", "many"], "'many' is no whole number"),
        (["--items", "0"], "at least one item"),
        ([], "say with --items"),
        (["--items", "5", "--set", "a=1"], "name the recipe"),
        (["paper-hm", "--items", "5", "--within", "3"], "--within is for a plan without a recipe"),
    ):
        failed = CliRunner().invoke(app, ["plan", *words])
        assert isinstance(failed.exception, TgqError) and message in str(failed.exception), words


@pytest.mark.parametrize("items", ["1M", "10M", "100M"])
def test_the_page_shows_what_the_command_prints(items: str) -> None:
    page = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    words = ["plan", "--items", items, "--clicks", "1b", "--gpu", "h100", "--cores", "16"]
    assert " ".join(["tgq", *words]) in page
    lines = [line.rstrip() for line in CliRunner().invoke(app, words, env={"COLUMNS": "80"}).stdout.splitlines()]
    table = next(at for at, line in enumerate(lines) if "───" in line) - 1
    assert "\n".join(lines[table:]) in page
    if items == "100M":
        assert len(lines[:table]) > 8 and "\n".join(lines[:table]) in page
