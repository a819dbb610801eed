"""The content model of a study learns from the training log alone: two real steps on a drawn catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tgqformer.errors import TgqError
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.study.content import LoggedDataset, content_vectors
from tgqformer.experiments.study.log import make_log
from tgqformer.experiments.study.settings import ContentSection, ProtocolSettings
from tgqformer.pairs.splits import ItemSplit
from tgqformer.stages import Stages
from tgqformer.synthetic.shoppers import STUDIO, simulate_sessions

torch.set_num_threads(1)
SMALL = (
    "catalog.items=60", "noise.share=0", "alignment.steps=2", "alignment.batch=8", "training.steps=2",
    "training.warmup=1", "training.visual_steps=0", "training.batch=8", "training.group=4", "training.validate_every=0",
)  # fmt: skip


def test_content_is_trained_on_the_log_once(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    bert = f"hf:{tiny_model('bert')}"
    tiny = f"encoders.vision=hf:{tiny_model('vit')}", f"encoders.text={bert}", f"language.name={bert}"
    recipe = ContentSection("demo", None, (*SMALL, *tiny)).load()
    catalog = Dataset(recipe, tmp_path / "data").catalog
    everything = ItemSplit.by_hash(catalog.ids(), (1.0, 0.0, 0.0), 0)
    shoppers = dataclasses.replace(STUDIO, wants=("colour",), tastes={"kind": 1.0}, sessions_per_item=4.0)
    truth = pq.read_table(tmp_path / "data" / "catalog" / "truth.parquet")
    log = make_log(simulate_sessions(catalog, shoppers, everything, truth=truth), catalog.ids(), ProtocolSettings())
    dataset = LoggedDataset(recipe, tmp_path / "data", log, Stages())
    new = {log.ids[at] for at in np.flatnonzero(log.bucket == 2)}
    assert new and not new & set(dataset.pairs.train.ids()) and set(dataset.pairs.split.part("test")) == new
    vectors = content_vectors(recipe, tmp_path / "data", log, 0, tmp_path / "content" / "seed-0", Stages())
    assert vectors.shape[0] == 60 and np.isfinite(vectors).all()
    again = content_vectors(recipe, tmp_path / "data", log, 0, tmp_path / "content" / "seed-0", Stages())
    assert (again == vectors).all()
    other = dataclasses.replace(log, ids=log.ids[::-1])
    with pytest.raises(TgqError, match="another catalogue"):
        content_vectors(recipe, tmp_path / "data", other, 0, tmp_path / "other", Stages())
