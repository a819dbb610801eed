"""The plan of a run: figures that were worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.experiments.plan import FROZEN_LAYERS, MACHINES, TEXT, Need, pictures_of, plan, text_of, tower_of
from tgqformer.experiments.recipe import load_recipe

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
    assert found["import"].seconds == pytest.approx(100_000 / 366 / 10)
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
    assert needs("quick", gpu="cpu", items=400)["features"].memory == pytest.approx(2.24e9, rel=0.05)  # as measured
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
