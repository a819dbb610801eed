"""Presets, runs and the command line: train, evaluate, embed, search."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.cli import app
from tgqformer.collaborative.data import SplitSettings, read_split
from tgqformer.collaborative.evaluate import evaluate
from tgqformer.collaborative.models import make_recommender
from tgqformer.collaborative.run import Content, evaluate_run, for_cosine, item_vectors, train_run
from tgqformer.collaborative.settings import OPTIONS, Preset, load_preset, shipped_presets
from tgqformer.config import parse, write
from tgqformer.errors import TgqError
from tgqformer.pairs.pairs import Pairs
from tgqformer.store.build import Build, build_store
from tgqformer.store.embeddings import Embeddings, fingerprint_of

DATA = Path(__file__).parents[3] / "shared/data"
QUICK = ("training.epochs=6", "training.batch=64", "training.lr=0.02", "evaluation.k=5")


def tgq(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("name", shipped_presets())
def test_every_shipped_preset_is_one(name: str, tmp_path: Path) -> None:
    preset = load_preset(name)
    assert preset.name == name and isinstance(preset.model_options(), OPTIONS[preset.model])
    write(preset.whole(), tmp_path / "again.yaml")
    again = load_preset(str(tmp_path / "again.yaml"))
    assert again == preset.whole() and again.model_options() == preset.model_options()
    assert shipped_presets()[name].read_text().startswith("# ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epoch=3", "did you mean 'epochs'"),
        ("options.layerz=3", "did you mean 'layers'"),
        ("options.layers=many", "options: layers: .*integer.*'many'"),
        ("model=lightgnc", "did you mean 'lightgcn'"),
        ("evaluation.protocol=leave-one-out", r"needs split\.kind"),
        ("training.patience=3", r"split\.valid"),
        ("options=3", "options: input should be"),
        ("epochs", "section.key=value"),
        ("name.x=3", "'name' is not a section"),
        ("seed=-1", "seed: input should be greater than or equal to 0, found -1"),
    ],
)
def test_a_wrong_key_or_value_is_named(change: str, message: str) -> None:
    with pytest.raises(TgqError, match=message):
        load_preset("gowalla-lightgcn", (change,))


def test_a_preset_that_is_not_there_or_no_yaml_is_said(tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="did you mean 'shop-lightgcn'"):
        load_preset("lightgcn")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(TgqError, match="not YAML"):
        load_preset(str(tmp_path / "bad.yaml"))
    with pytest.raises(TgqError, match="section of keys"):
        parse(Preset, [1], "here")


@pytest.mark.parametrize("model", OPTIONS)
def test_every_model_learns_what_the_users_of_a_group_like(model: str, log: Path, tmp_path: Path) -> None:
    name = {"sasrec": "shop-sasrec", "lightgcn": "shop-lightgcn", "pinsage": "shop-pinsage"}.get(
        model, f"gowalla-{model}"
    )
    changes = [*QUICK, "seed=1"]
    if name.startswith("gowalla"):
        changes.append("split={kind: random, valid: 0.1}")
    changes += {
        "pinsage": ["options.hard_from=5", "options.hard_to=12", "options.negatives=20"],
        "sasrec": ["options.length=6", "options.dropout=0.0", "training.epochs=15"],
    }.get(model, [])
    metrics = train_run(load_preset(name, tuple(changes)), tmp_path / "run", data=log, shown=False)
    split = part_of(log, load_preset(name, tuple(changes)).split)
    popular = evaluate(make_recommender(load_preset("gowalla-popularity"), split), split,
                       load_preset(name, tuple(changes)).evaluation)  # fmt: skip
    figure = "full_hit@5" if model == "sasrec" else "recall@5"
    if model == "popularity":
        assert metrics[figure] == popular[figure]
    else:
        assert metrics[figure] > 1.5 * popular[figure]
    assert evaluate_run(tmp_path / "run", shown=False) == metrics
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == metrics


def part_of(log: Path, settings: SplitSettings):
    return read_split(log, settings)


def test_the_whole_way_from_a_log_to_neighbours(log: Path, tmp_path: Path) -> None:
    run, words = tmp_path / "run", [word for change in QUICK for word in ("--set", change)]
    said = tgq("collab", "train", "shop-lightgcn", "--log", str(log), "--to", str(run), *words)
    assert re.search(r"recall@5 +0\.\d{4}", said) and f"run in {run}" in " ".join(said.split())
    assert said in tgq("collab", "evaluate", str(run))
    assert "36 items of 64 dimensions" in tgq("collab", "embed", str(run), "--to", str(tmp_path / "vectors"))
    tgq("neighbours", str(tmp_path / "vectors"), "--to", str(tmp_path / "near"), "-k", "5",
        "--parquet", str(tmp_path / "near.parquet"))  # fmt: skip
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "near.parquet").to_pydict()
    group = {item: int(item[1:]) // 12 for item in table["id"]}
    near = [
        group[item] == group[other] for item, row in zip(table["id"], table["neighbours"], strict=True) for other in row
    ]
    assert np.mean(near) > 0.95
    assert "shop-pinsage" in tgq("collab", "presets")


def test_a_log_is_read_by_the_options_of_the_log_reader(log: Path, tmp_path: Path) -> None:
    lines = log.read_text().splitlines()
    odd = ["who;no;thing;what"] + [line.replace(",", ";1;", 1).rsplit(",", 1)[0] + ";buy" for line in lines[1:]]
    odd += ["u0;2;i35;look", "u1;2;i34;look"]
    (tmp_path / "odd.csv").write_text("\n".join(odd) + "\n")
    words = [word for change in QUICK for word in ("--set", change)]
    place = ["--log", str(tmp_path / "odd.csv"), "--to", str(tmp_path / "run")]
    train = ["collab", "train", "shop-lightgcn", *place, *words]
    with pytest.raises(TgqError, match="no column looks like the session; name it with --session"):
        tgq(*train)
    said = tgq(*train, "--session", "who", "--session", "no", "--item", "thing", "--where", "what=buy")
    kept = load_preset(str(tmp_path / "run/preset.yaml")).log
    assert (kept.session, kept.item, kept.where) == (("who", "no"), "thing", {"what": ("buy",)})
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert sum(about["interactions"].values()) == len(lines) - 1 and about["users"] == 60
    assert said in tgq("collab", "evaluate", str(tmp_path / "run"))


def test_a_catalogue_gives_order_and_zeros_and_can_be_indexed(log: Path, tmp_path: Path) -> None:
    train_run(load_preset("shop-lightgcn", QUICK), tmp_path / "run", data=log, shown=False)
    with CatalogWriter(tmp_path / "catalog", name="shop", pack=True) as writer:
        for item in ("new", "i3", "i1"):
            writer.add(Item(id=item, title=item))
    said = tgq("collab", "embed", str(tmp_path / "run"), "--catalog", str(tmp_path / "catalog"), "--to",
               str(tmp_path / "vectors"))  # fmt: skip
    assert "1 item of the catalogue without interactions" in said
    opened, found = Embeddings.open(tmp_path / "vectors"), item_vectors(tmp_path / "run")
    assert opened.ids() == ["new", "i3", "i1"] == Catalog.open(tmp_path / "catalog").ids()
    assert not opened.vectors()[0].any()
    assert (opened.vectors()[2] == found.vectors[found.ids.index("i1")]).all()
    tgq("index", str(tmp_path / "vectors"), "--catalog", str(tmp_path / "catalog"), "--to", str(tmp_path / "store"))
    assert "i1" in tgq("similar", "i3", "--store", str(tmp_path / "store"), "-k", "1")
    with pytest.raises(TgqError, match=r"the first 8 of the 64 dimensions .* do not stand for the whole"):
        build_store(opened, Catalog.open(tmp_path / "catalog"), tmp_path / "cut", Build(truncate_dim=8))


def test_one_more_dimension_makes_cosines_order_as_dot_products() -> None:
    rng = np.random.default_rng(0)
    items, users = rng.normal(size=(50, 6)).astype(np.float32) * rng.uniform(0.1, 3, (50, 1)), rng.normal(size=(9, 6))
    longer = for_cosine(items.astype(np.float32))
    assert longer.shape == (50, 7)
    cosines = users @ longer[:, :6].T / np.linalg.norm(longer, axis=1)
    assert (np.argsort(-cosines) == np.argsort(-(users @ items.T))).all()


def write_content(path: Path, ids: list[str]) -> Path:
    made = Embeddings.create(path, dim=8, model_version="m", ids_fingerprint=fingerprint_of(ids), count=len(ids))
    center = np.random.default_rng(1).normal(size=(3, 8))
    vectors = np.stack([center[int(item[1:]) // 12] for item in ids])
    made.write(0, ids, (vectors + 0.1 * np.random.default_rng(0).normal(size=vectors.shape)).astype(np.float32))
    return path


def test_pinsage_embeds_items_that_only_content_knows(log: Path, tmp_path: Path) -> None:
    ids = [f"i{i}" for i in range(36)]
    lines = [line for line in log.read_text().splitlines() if not re.search(",i(0|12|24),", line)]
    log.write_text("\n".join(lines) + "\n")
    content = write_content(tmp_path / "content", ids)
    words = [word for change in (*QUICK, "options.hard_from=5", "options.hard_to=12") for word in ("--set", change)]
    run = str(tmp_path / "run")
    said = tgq("collab", "train", "shop-pinsage", "--log", str(log), "--features", str(content), "--to", run, *words)
    assert said in tgq("collab", "evaluate", run)  # and more, of similar items
    found = item_vectors(tmp_path / "run")
    assert found.score == "cosine" and set(found.ids) == set(ids)
    near = found.vectors @ found.vectors[found.ids.index("i12")]
    best = [found.ids[i] for i in np.argsort(-near)[1:8]]
    assert np.mean([int(item[1:]) // 12 == 1 for item in best]) > 0.8
    with pytest.raises(TgqError, match="with content features"):
        train_run(
            load_preset("shop-pinsage", (*QUICK, "options.hard_from=5", "options.hard_to=12")), Path(run), data=log
        )
    other = Content(ids, np.ones((36, 8), np.float32))
    with pytest.raises(TgqError, match="other content"):
        evaluate_run(tmp_path / "run", content=other)
    strangers = Content(["x", "y"], np.ones((2, 3), np.float32), "elsewhere")
    with pytest.raises(TgqError, match="know none"):
        train_run(load_preset("shop-pinsage"), tmp_path / "other", data=log, content=strangers)
    with pytest.raises(TgqError, match="takes no content features"):
        train_run(
            load_preset("games-item-knn"),
            tmp_path / "third",
            data=log,
            content=Content(ids, np.ones((36, 2), np.float32)),
        )


def test_pairs_that_changed_are_not_taken_for_those_that_were_trained_on(log: Path, tmp_path: Path) -> None:
    few = (*QUICK, "training.epochs=1", "options.neighbours=3")
    pairs = [Pairs.of(["i1", "i2"], ["i3", second]) for second in ("i4", "i5")]
    run, preset = tmp_path / "run", load_preset("shop-pinsage", few)
    made = train_run(preset, run, data=log, pairs=pairs[0], shown=False)
    assert train_run(preset, run, data=log, pairs=pairs[0], shown=False) == made
    for other in (pairs[1], None):
        with pytest.raises(TgqError, match="was trained with other --pairs, or without"):
            train_run(preset, run, data=log, pairs=other)
    assert evaluate_run(run, shown=False) == made


def test_a_run_is_not_mixed_with_another(log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_run(load_preset("shop-lightgcn", QUICK), run, data=log, shown=False)
    with pytest.raises(TgqError, match="options"):
        train_run(load_preset("shop-lightgcn", (*QUICK, "options.layers=1")), run, data=log)
    longer = train_run(load_preset("shop-lightgcn", (*QUICK, "training.epochs=7")), run, data=log, shown=False)
    assert longer["users"] and len((run / "log.jsonl").read_text().splitlines()) == 7
    with pytest.raises(TgqError, match=r"has trained 7 epochs already, and training\.epochs is 6"):
        train_run(load_preset("shop-lightgcn", QUICK), run, data=log)
    log.write_text(log.read_text() + "u0,i35,1700000099\n")
    with pytest.raises(TgqError, match="other data"):
        evaluate_run(run)


def test_what_is_missing_or_damaged_is_said(log: Path, tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="holds no run"):
        item_vectors(tmp_path)
    with pytest.raises(TgqError, match="--log"):
        train_run(load_preset("shop-lightgcn"), tmp_path / "run")
    train_run(load_preset("games-item-knn", ("evaluation.k=5",)), tmp_path / "counts", data=log, shown=False)
    with pytest.raises(TgqError, match="counts pairs"):
        item_vectors(tmp_path / "counts")
    with pytest.raises(TgqError, match="cannot be used here"):
        tgq("collab", "train", "shop-lightgcn", "--log", str(log), "--device", "mars", "--to", str(tmp_path / "x"))
    run = tmp_path / "run"
    train_run(load_preset("shop-lightgcn", QUICK), run, data=log, shown=False)
    (run / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(TgqError, match="does not fit"):
        evaluate_run(run)
    (run / "weights.safetensors").unlink()
    with pytest.raises(TgqError, match="not finished"):
        evaluate_run(run)
    (run / "vectors.safetensors").write_bytes(b"broken")
    with pytest.raises(TgqError, match="damaged"):
        item_vectors(run)
    (run / "vectors.safetensors").unlink()
    (run / "metrics.json").unlink()
    with pytest.raises(TgqError, match="not finished"):
        item_vectors(run)


def test_features_must_be_finite(log: Path) -> None:
    split = read_split(log, SplitSettings())
    with pytest.raises(TgqError, match="one finite row"):
        make_recommender(load_preset("shop-pinsage"), split, features=np.full((split.items, 2), np.nan, np.float32))


def densest(lines: list[str], items: int) -> str:
    """Lines `user item` of the items that stand most often."""
    counts = Counter(line.split()[1] for line in lines)
    kept = {item for item, _ in counts.most_common(items)}
    return "".join(line + "\n" for line in lines if line.split()[1] in kept)


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data are not beside the project")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gowalla-lightgcn", "training.epochs=5 training.lr=0.03 options.layers=2"),
        ("gowalla-lightgcn-softmax", "training.epochs=10 training.batch=100"),
        ("gowalla-ngcf-softmax", "training.epochs=20 training.batch=100 training.lr=0.05 options.widths=[32]"),
    ],
)
def test_a_reduced_run_on_gowalla_beats_popularity(name: str, changes: str, tmp_path: Path) -> None:
    """The first 300 users: the way of the whole run, small."""
    for part in ("train.txt", "test.txt"):
        lines = (DATA / "gowalla" / part).read_text().splitlines()[:300]
        (tmp_path / part).write_text("\n".join(lines) + "\n")
    preset = load_preset(name, (*changes.split(), "options.dim=32"))
    found = train_run(preset, tmp_path / "run", data=tmp_path, shown=False)
    popular = train_run(load_preset("gowalla-popularity"), tmp_path / "popular", data=tmp_path, shown=False)
    assert found["recall@20"] > 1.2 * popular["recall@20"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data are not beside the project")
def test_a_reduced_run_on_games_finds_more_than_luck(tmp_path: Path) -> None:
    """Of 60,000 interactions those with the 300 most frequent items; by luck the sampled figure is 0.10."""
    lines = (DATA / "games/Video.txt").read_text().splitlines()[:60_000]
    (tmp_path / "log.txt").write_text(densest(lines, 300))
    changes = ("training.epochs=4", "training.lr=0.005", "options.length=8", "options.dropout=0.2", "options.dim=32")
    found = train_run(load_preset("games-sasrec", changes), tmp_path / "run", data=tmp_path / "log.txt", shown=False)
    assert found["hit@10"] > 0.2 and found["full_hit@10"] > 2 * 10 / 300


def test_pinsage_trains_on_mined_pairs_by_command(log: Path, tmp_path: Path) -> None:
    Pairs.of(["i0", "i1", "i2", "elsewhere"], ["i3", "i4", "i5", "i6"]).write(tmp_path / "pairs.parquet")
    words = [word for change in (*QUICK, "options.hard_from=5", "options.hard_to=12") for word in ("--set", change)]
    command = ["collab", "train", "shop-pinsage", "--log", str(log), "--pairs", str(tmp_path / "pairs.parquet")]
    tgq(*command, "--to", str(tmp_path / "run"), *words)
    assert len(item_vectors(tmp_path / "run").ids) == 36
    with pytest.raises(TgqError, match="takes no pairs"):
        train_run(load_preset("shop-lightgcn"), tmp_path / "x", data=log, pairs=Pairs.of(["i0"], ["i1"]), shown=False)
