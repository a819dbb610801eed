"""An exported model gives the vectors of the model it was made of, without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.importer import import_catalog
from tgqformer.catalog.item import Item
from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.model import export
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders
from tgqformer.model.export import _describe, _quantize, overlap_of
from tgqformer.model.frozen import FrozenPart
from tgqformer.model.onnx import KIND, OnnxEmbedder, Tokens
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import version_of
from tgqformer.pixels import Steps
from tgqformer.stages import mark

Build = Callable[..., ItemEmbedder]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
from tgqformer.catalog.catalog import Catalog
from tgqformer.model.onnx import OnnxEmbedder
vectors = OnnxEmbedder(sys.argv[1]).encode(Catalog.open(sys.argv[2]))
vectors.tofile(sys.argv[3])
"""


@pytest.fixture(scope="module")
def saved(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TGQ-Former with a decoder and a frozen part, saved; tests/service/test_exported.py has one of BERT."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    half_frozen(build).save(folder)
    return folder


def half_frozen(build: Build) -> ItemEmbedder:
    model = build("tgq", lm="qwen")
    model.begin_at(FrozenPart(model.widths, 0.4), 0.5)
    return model


@pytest.fixture(scope="module")
def exported(saved: Path) -> Path:
    to = saved.parent / "exported"
    result = CliRunner().invoke(app, ["export", str(saved), "--onnx", "--to", str(to)])
    assert result.exit_code == 0, result.output
    assert "in float32 vectors of 8 items differ by" in " ".join(result.output.split())
    return to


def test_vectors_are_those_of_the_model_whatever_the_batch(saved: Path, exported: Path, tiny_items: list[Item]) -> None:
    wanted, found = ItemEmbedder.load(saved).encode(tiny_items), OnnxEmbedder(exported)
    for size in (1, 5, 12):
        np.testing.assert_allclose(found.encode(tiny_items, batch_size=size), wanted, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found.encode(tiny_items[:2]), axis=1), 1, atol=1e-5)
    assert found.encode([]).shape == (0, found.dim)
    assert found.version == ItemEmbedder.load(saved).version


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text only", "notellm2"])
def test_other_connectors_embed_as_in_torch(name: str, build: Build, tiny_items: list[Item], tmp_path: Path) -> None:
    model = build(name, lm="qwen", frozen=0)
    export.export_onnx(model, tmp_path / "to", tiny_items, None, int8=False)
    wanted, found = model.encode(tiny_items), OnnxEmbedder(tmp_path / "to")
    for size in (1, 5, 12):
        np.testing.assert_allclose(found.encode(tiny_items, batch_size=size), wanted, atol=1e-4)
    assert wanted.std(0).max() > 1e-2  # the items differ


def test_it_runs_where_torch_cannot_be_imported(
    saved: Path, exported: Path, tiny_catalog: Catalog, tmp_path: Path
) -> None:
    to = tmp_path / "vectors"
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, exported, tiny_catalog.path, to], check=True)
    wanted = ItemEmbedder.load(saved).encode(tiny_catalog)
    np.testing.assert_allclose(np.fromfile(to, "f4").reshape(wanted.shape), wanted, atol=1e-4)


def test_eight_bits_are_smaller_and_nearly_the_same(exported: Path, tiny_items: list[Item], tmp_path: Path) -> None:
    small = tmp_path / "int8"
    shutil.copytree(exported, small)
    _quantize(small)
    mark(small, KIND, content=version_of(small))
    assert (small / "model.onnx").stat().st_size < 0.8 * (exported / "model.onnx").stat().st_size
    wanted, found = OnnxEmbedder(exported).encode(tiny_items), OnnxEmbedder(small).encode(tiny_items)
    assert 0.95 < (wanted * found).sum(1).min() < 1
    assert sorted(path.name for path in small.iterdir()) == sorted(path.name for path in exported.iterdir())


@pytest.mark.slow
def test_eight_bits_where_the_keys_of_a_connector_are_constant(
    build: Build, tiny_items: list[Item], tmp_path: Path
) -> None:
    """A Q-Former's queries attend to each other before they see an item: a product with a constant of four axes."""
    model = build("qformer")
    export.export_onnx(model, tmp_path / "to", tiny_items, None, int8=True)
    assert (model.encode(tiny_items) * OnnxEmbedder(tmp_path / "to").encode(tiny_items)).sum(1).min() > 0.95


def test_a_damaged_or_foreign_folder_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(TgqError, match="no exported model"):
        OnnxEmbedder(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in exported.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    about = read_json(copy / "onnx.json")
    write_json(copy / "onnx.json", about | {"format": 99})
    with pytest.raises(TgqError, match="has format 99"):
        OnnxEmbedder(copy)
    write_json(copy / "onnx.json", [1])
    with pytest.raises(TgqError, match="does not describe an exported model"):
        OnnxEmbedder(copy)
    write_json(copy / "onnx.json", about)
    OnnxEmbedder(copy)
    (copy / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:1000])
    with pytest.raises(TgqError, match="is damaged"):
        OnnxEmbedder(copy)


def test_a_file_that_is_not_the_one_that_was_written_is_refused(exported: Path, tmp_path: Path) -> None:
    """Such as weights with one bit turned, or those of another model: the vectors would look right."""
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    whole = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    with pytest.raises(TgqError, match="its files are not those that were written; export it again"):
        OnnxEmbedder(copy)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text('{"model":')])
def test_a_damaged_tokenizer_is_refused_where_no_note_came_along(
    exported: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (copy / "tgq.json").unlink()
    damage(copy / "text.json")
    with pytest.raises(TgqError, match="is damaged"):
        OnnxEmbedder(copy)


def test_a_picture_that_is_gone_does_not_end_an_export(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("gone.png", "there.png"):
        Image.new("RGB", (20, 24), "red").save(tmp_path / "photos" / name)
    (tmp_path / "shop.csv").write_text("id,title,picture\na,red shoe,gone.png\nb,blue shoe,there.png\n")
    import_catalog(tmp_path / "shop.csv", tmp_path / "catalog", root=tmp_path / "photos")
    (tmp_path / "photos" / "gone.png").unlink()
    words = ["export", str(saved), "--catalog", str(tmp_path / "catalog"), "--to", str(tmp_path / "to")]
    result = CliRunner().invoke(app, words)
    assert result.exception is None, result.exception
    assert [len(item.pictures) for item in export.seen_items(Catalog.open(tmp_path / "catalog"), 500)] == [0, 1]


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    build: Build, tiny_encoders: Encoders, tmp_path: Path
) -> None:
    build("mean", encoders=replace(tiny_encoders, prompt=Prompt(pictures="mean"))).save(tmp_path / "model")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--to", str(tmp_path / "to")])
    assert isinstance(result.exception, TgqError) and "one picture of an item" in str(result.exception)
    result = CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--int8", "--to", str(tmp_path / "to")])
    assert isinstance(result.exception, TgqError) and "--catalog" in str(result.exception)
    assert not (tmp_path / "to").exists()


def test_a_form_that_gives_other_vectors_or_does_not_run_is_refused(
    build: Build, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of another model stands for a conversion that went wrong."""
    model = half_frozen(build)
    model.projection.weight.data = model.projection.weight.data.roll(1, 0)
    monkeypatch.setattr(export, "_trace", lambda *_: shutil.copy(exported / "model.onnx", _[3]))
    with pytest.raises(TgqError, match="nothing is written"):
        export.export_onnx(model, tmp_path / "to", export.made_up_items(), None, int8=False)
    monkeypatch.setattr(Tokens, "__call__", lambda self, texts: (np.zeros((len(texts), 2)), np.ones((len(texts), 2))))
    with pytest.raises(TgqError, match="ONNX Runtime cannot run"):
        export.export_onnx(model, tmp_path / "to", export.made_up_items(), None, int8=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_tokens_are_those_of_the_language_model(kind: str, build: Build, tmp_path: Path) -> None:
    model = build("text only", lm=kind)
    about = _describe(model, tmp_path)
    texts = ["red shirt of acme", "shoe", "unheard words " * 30]
    ids, mask = Tokens(tmp_path / "language.json", **about["language"])(texts)
    wanted, real = model.language._tokenize(texts)
    np.testing.assert_array_equal(mask, real)
    np.testing.assert_array_equal(ids * mask, wanted * real)
    assert mask.sum() > len(texts)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_end_of_a_template_is_read_behind_long_metadata(kind: str, build: Build, tmp_path: Path) -> None:
    model = build("text only", lm=kind)
    prompt = Prompt(("title",), template="a {metadata} red shoe")
    model.encoders = replace(model.encoders, prompt=prompt)
    tokens = Tokens(tmp_path / "language.json", **_describe(model, tmp_path)["language"])
    end = model.language._tokenize(["red shoe"])[0][0, 1:].tolist()
    titles = ["bag of acme", "bag " * 200, "wörd " * 70, "x" * 3000]
    texts = prompt.asked(titles, model.language.fits)
    assert texts[0] == "a bag of acme red shoe" and texts == prompt.asked(titles, tokens.fits)
    for ids, real in zip(*model.language._tokenize(texts), strict=True):
        assert ids[real.bool()][-len(end) :].tolist() == end
    long = Item(title="bag " * 200), Item(title="bag " * 300)
    one, other = model.encode(long)
    np.testing.assert_allclose(one, other, atol=1e-6)
    plainly = replace(model.encoders, prompt=Prompt(("title",), template="a {metadata}"))
    model.encoders = plainly
    assert not np.allclose(model.encode(long)[0], one, atol=1e-4)


def test_overlap_is_the_share_of_neighbours_that_stay() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8)).astype("f4")
    assert overlap_of(vectors, vectors, 3) == 1
    near = overlap_of(vectors, vectors + rng.normal(size=(40, 8)).astype("f4") * 0.3, 3)
    far = overlap_of(vectors, rng.normal(size=(40, 8)).astype("f4"), 3)
    assert far < near < 1


class Sized:
    """An image processor that does what it says, and perhaps more."""

    def __init__(self, more: float = 0.0, **about: object) -> None:
        base = {"do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False}
        self.about, self.more = base | about, more

    def to_dict(self) -> dict[str, object]:
        return self.about

    def __call__(self, images: Image.Image) -> dict[str, list[np.ndarray]]:
        size = self.about["size"]
        if "height" in size:
            sides = size["width"], size["height"]
        else:
            sides = tuple(round(side * size["shortest_edge"] / min(images.size) - 0.5 + 1e-9) for side in images.size)
        values = np.asarray(images.resize(sides, self.about["resample"]), np.float32).transpose(2, 0, 1) / 255
        return {"pixel_values": [values + self.more]}


def test_steps_of_a_processor_are_taken_where_they_are_all_it_does() -> None:
    for size, shape in (({"height": 20, "width": 30}, (3, 20, 30)), ({"shortest_edge": 16}, (3, 16, 24))):
        steps = Steps.of(Sized(size=size))
        assert steps is not None and steps(Image.new("RGB", (60, 40), "red")).shape == shape
        assert Steps.of(Sized(0.1, size=size)) is None
