"""Noise: exact masks, severities that mean something, any size, same seed same pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tgqformer.errors import TgqError
from tgqformer.synthetic.noise import NoiseKind, NoisePlan, NoiseSpec, add_noise, moved
from tgqformer.synthetic.noise.foreground import foreground

KINDS: tuple[NoiseKind, ...] = ("poster", "clutter", "distractor")


def product(width: int, height: int, seed: int = 0) -> Image.Image:
    """A coloured blob before a plain, slightly uneven background."""
    rng = np.random.default_rng(seed)
    paper = np.linspace(246, 232, height)[:, None, None] + np.zeros((height, width, 3))
    picture = Image.fromarray(paper.astype(np.uint8))
    box = (width * 0.25, height * 0.2, width * 0.75, height * 0.85)
    ImageDraw.Draw(picture).ellipse(box, fill=tuple(rng.integers(0, 170, 3).tolist()))
    return picture


@pytest.mark.parametrize("kind", KINDS)
def test_outside_the_mask_nothing_changes(kind: NoiseKind) -> None:
    donor = product(90, 70, 1)
    for severity in range(1, 6):
        for seed in range(6):
            picture, spec = product(60, 80, seed), NoiseSpec(kind, severity, seed)
            noised = add_noise(picture, spec, donor)
            under = np.asarray(moved(picture, spec))
            assert noised.mask.any()
            assert noised.picture.size == picture.size
            assert (np.asarray(noised.picture) == under)[~noised.mask].all()


@pytest.mark.parametrize("kind", KINDS)
def test_inside_the_mask_most_changes(kind: NoiseKind) -> None:
    picture, donor = product(224, 224), product(100, 100, 5)
    for severity in (1, 3, 5):
        spec = NoiseSpec(kind, severity, 3)
        noised = add_noise(picture, spec, donor)
        changed = (np.asarray(noised.picture) != np.asarray(moved(picture, spec))).any(2)
        assert changed[noised.mask].mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(60, 80), (224, 224)])
def test_a_higher_severity_covers_more(kind: NoiseKind, size: tuple[int, int]) -> None:
    donor = product(90, 70, 1)
    shares = [
        np.mean(
            [add_noise(product(*size, seed), NoiseSpec(kind, severity, seed), donor).mask.mean() for seed in range(24)]
        )
        for severity in range(1, 6)
    ]
    assert all(low < high for low, high in pairwise(shares)), shares
    assert shares[0] < 0.3 and shares[-1] > 0.2


def test_clutter_leaves_the_product_alone() -> None:
    picture = product(224, 224)
    blob = np.asarray(picture).max(2) < 200
    noised = add_noise(picture, NoiseSpec("clutter", 5, 1))
    assert not (noised.mask & blob).any()
    assert noised.mask[~blob].mean() > 0.9


def test_clutter_keeps_to_the_margin_where_no_background_is_plain() -> None:
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 100, 3)).astype(np.uint8))
    assert foreground(np.asarray(texture)) is None
    mask = add_noise(texture, NoiseSpec("clutter", 5, 1)).mask
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
    assert not mask[40:80, 35:65].any()


def test_the_second_product_is_cut_out_or_framed() -> None:
    picture, donor = product(200, 200), product(200, 200, 7)
    shares = {bool(_is_box(add_noise(picture, NoiseSpec("distractor", 3, seed), donor).mask)) for seed in range(30)}
    assert shares == {True, False}


def _is_box(mask: np.ndarray) -> bool:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return bool(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 160), st.integers(1, 160), st.integers(1, 120),
    st.integers(1, 120), st.integers(0, 2**31 - 1),
)  # fmt: skip
def test_any_size_and_shape(
    kind: NoiseKind, severity: int, width: int, height: int, dw: int, dh: int, seed: int
) -> None:
    picture, spec, donor = product(width, height), NoiseSpec(kind, severity, seed), product(dw, dh, 2)
    noised = add_noise(picture, spec, donor)
    assert noised.picture.size == (width, height) and noised.mask.shape == (height, width)
    assert (np.asarray(noised.picture) == np.asarray(moved(picture, spec)))[~noised.mask].all()


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_sizes(kind: NoiseKind) -> None:
    for size in ((1, 1), (1, 300), (1000, 1000), (700, 3)):
        assert add_noise(product(*size), NoiseSpec(kind, 5, 0), product(40, 40)).picture.size == size


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_spec_draws_the_same_pixels(kind: NoiseKind) -> None:
    one, two, other = (
        np.asarray(add_noise(product(80, 80), NoiseSpec(kind, 4, seed), product(50, 50)).picture) for seed in (9, 9, 10)
    )
    assert (one == two).all()
    assert (one != other).any()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(TgqError, match="second product"):
        add_noise(product(20, 20), NoiseSpec("distractor", 1, 0))
    with pytest.raises(TgqError, match="severity"):
        NoiseSpec("poster", 6, 0)
    for name, value in (("share", 1.5), ("kinds", ()), ("severities", (6,)), ("donors", "none")):
        with pytest.raises(ValueError, match=name):
            NoisePlan(**{name: value})


def test_foreground_fills_what_the_product_encloses() -> None:
    pixels = np.full((60, 60, 3), 250, np.uint8)
    pixels[10:50, 10:50] = (40, 60, 120)
    pixels[25:35, 25:35] = 250
    found = foreground(pixels)
    assert found is not None
    assert found[10:50, 10:50].all()
    assert not found[:8].any() and not found[:, 52:].any()


def test_foreground_ignores_a_soft_shadow() -> None:
    pixels = np.full((100, 100, 3), 240, np.float32)
    pixels[70:90, 15:90] *= np.linspace(1, 0.75, 10).repeat(2)[:, None, None]
    pixels[20:75, 30:70] = (180, 30, 40)
    found = foreground(pixels.astype(np.uint8))
    assert found is not None
    assert found[22:73, 32:68].all()
    assert found[:, :12].sum() == 0 and found.mean() < 0.32
