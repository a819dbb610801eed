"""The page of the paper's set-up: its commands, on miniature files in their published layout and with tiny models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from doc_runs import Terminal, walk_page
from doc_shop import Place
from hub_server import Repo, client_of_a_hub
from paper_files import write_amazon_2018, write_hm

from tgqformer.catalog import Catalog

FEW = {
    "pairs.train": 0.5, "pairs.val": 0.1, "pairs.test": 0.4, "neighbours": 3, "evaluation.validation_pool": 8,
    "language.frozen_layers": 1, "language.lora_rank": 2, "catalog.items": 20,
    "training": "{steps: 2, visual_steps: 1, warmup: 1, batch: 8, visual_batch: 8, group: 4, validate_every: 1}",
}  # fmt: skip


@pytest.fixture
def terminal(tiny_model: Callable[[str], Path]) -> Terminal:
    vision, language = f"joint:hf:{tiny_model('chinese-clip')}", f"hf:{tiny_model('qwen')}"
    changes = FEW | {"encoders.vision": vision, "language.name": language}
    return Terminal(more={"run": [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]})


@pytest.mark.slow
def test_a_model_becomes_a_folder(
    place: Place, terminal: Terminal, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place()
    repo = Repo(private=False)
    repo.commit("main", {path.name: path.read_bytes() for path in tiny_model("chinese-clip").iterdir()})
    with client_of_a_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.repos["OFA-Sys/chinese-clip-vit-base-patch16"] = repo
        walk_page("docs/paper.md", terminal, "The models")
    made = {path.name for path in Path("models/chinese-clip").iterdir()}
    assert {"model.safetensors", "preprocessor_config.json", "tokenizer_config.json"} <= made


def test_hm(place: Place, terminal: Terminal) -> None:
    write_hm(place() / "data/hm")
    walk_page("docs/paper.md", terminal, "H&M")
    assert Path("runs/paper-hm/report.html").is_file()


@pytest.mark.slow
def test_amazon(place: Place, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    here = place()
    write_amazon_2018(here / "data/amazon-2018")
    photo = next((here / "data/amazon-2018/images").iterdir()).read_bytes()
    shutil.rmtree(here / "data/amazon-2018/images")
    monkeypatch.setattr("urllib.request.urlopen", lambda address, timeout: BytesIO(photo))
    walk_page("docs/paper.md", terminal, "Amazon, Clothing, Shoes and Jewelry")
    for run in ("paper-amazon-2018", "reviews-2018"):
        assert all(len(item.pictures) == 1 for item in Catalog.open(f"runs/{run}/catalog").items())
        assert Path("runs", run, "report.html").is_file()
