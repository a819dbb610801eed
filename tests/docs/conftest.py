"""What pages take for granted: a small shop, its run, its store, and the demo; made once, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from doc_runs import Terminal
from doc_shop import SERVED, Place, write_shop

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tiny_model: Callable[[str], Path]) -> list[str]:
    """The words that make a run of any recipe one of tiny models and of few steps."""
    bert = f"hf:{tiny_model('bert')}"
    changes = {
        "encoders.vision": f"hf:{tiny_model('vit')}", "encoders.text": bert, "language.name": bert,
        "language.max_tokens": 16, "alignment.steps": 2, "alignment.batch": 8, "training.steps": 2, "training.batch": 8,
        "training.group": 2, "training.warmup": 1, "training.visual_steps": 1, "training.visual_batch": 8,
        "training.validate_every": 0,
        "evaluation.views": "[mixed]", "evaluation.examples": 1, "evaluation.validation_pool": 20, "seeds": "[0]",
        "neighbours": 10,
        "models": "[{name: TGQ-Former, connector: tgq, options: {dim: 16, heads: 2}, share: 1, preset: given}]",
    }  # fmt: skip
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def world(made_once: Callable[[str, Callable[[Path], None]], Path], tiny: list[str]) -> Path:
    """A folder with all that the pages name."""
    return made_once("world", lambda folder: write_world(folder, tiny))


def write_world(folder: Path, tiny: list[str]) -> None:
    write_shop(folder, 48)
    few = ["--set", "catalog.items=48"]
    run = Terminal(more={"run": tiny, "demo": [*tiny, *few]})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "tgq catalog import shop.csv --to catalogs/shop --title name --picture photo --pictures photos",
            "tgq pairs mine clicks.csv --catalog catalogs/shop --to pairs.parquet",
            "tgq init shop.csv clicks.csv",
            "tgq run shop.yaml",
            f"tgq embed catalogs/shop --model runs/shop/{SERVED} --to embeddings",
            f"tgq index embeddings --catalog catalogs/shop --model runs/shop/{SERVED} --to store",
            "tgq neighbours embeddings --to neighbours",
            "tgq demo",
        ):
            run(line.split())


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a function that puts these of the world's files and folders into the empty folder where a page is run."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def put(*names: str) -> Path:
        for name in names:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (world / name).is_dir() else shutil.copy2
            copy(world / name, here / name)
        return here

    return put
