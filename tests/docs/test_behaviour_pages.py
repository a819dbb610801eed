"""Pages about what people do with items: each preset that they name is trained for an epoch, on a small log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from doc_runs import Terminal, walk_page
from doc_shop import Place

from tgqformer.store.embeddings import Embeddings

FEW = ["--set", "training.epochs=1", "--set", "training.batch=64", "--set", "evaluation.k=5"]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(more={"collab train": FEW}, instead={"cuda": "cpu"})


@pytest.fixture
def published(place: Place) -> Path:
    """The sets that the presets of papers are trained on, small: ../shared/data as the pages name it."""
    here, draw = place(), random.Random(0)
    data = here.parent / "shared/data"
    (data / "gowalla").mkdir(parents=True)
    (data / "games").mkdir()
    users = [draw.sample(range(30), 9) for _ in range(40)]
    for name, part in (("train.txt", slice(0, 7)), ("test.txt", slice(7, 9))):
        lines = [" ".join(map(str, (user, *items[part]))) for user, items in enumerate(users)]
        (data / "gowalla" / name).write_text("\n".join(lines) + "\n")
    rows = [f"{user + 1} {item + 1}" for user, items in enumerate(users) for item in items]
    (data / "games/Video.txt").write_text("\n".join(rows) + "\n")
    return here


def test_from_a_log_to_neighbours(place: Place, terminal: Terminal) -> None:
    place("clicks.csv", "pairs.parquet", "catalogs/shop")
    walk_page("docs/collaborative.md", terminal)
    assert len(Embeddings.open(Path("behaviour")).ids()) == 48 and Path("runs/behaviour/report.html").is_file()


def test_presets_of_graphs_on_a_published_split(published: Path, terminal: Terminal) -> None:
    walk_page("docs/collaborative/lightgcn.md", terminal)
    walk_page("docs/collaborative/ngcf.md", terminal)
    walk_page("docs/collaborative/sasrec.md", terminal)
    made = {path.parent.name for path in Path("runs").glob("*/metrics.json")}
    assert made == {"gowalla-softmax", "gowalla-lightgcn", "gowalla-ngcf-softmax", "gowalla-ngcf", "games-sasrec"}
