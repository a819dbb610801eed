from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tgqformer.encoders.frozen import (
    fingerprint_of,
    read_config,
    resolve_device,
    resolve_precision,
)
from tgqformer.errors import TgqError
from tgqformer.pixels import letterbox


def test_letterbox_keeps_the_whole_picture_in_the_middle_of_white():
    out = np.array(letterbox(Image.new("RGB", (60, 80), (200, 0, 0)), 224))
    assert out.shape == (224, 224, 3)
    assert (out[:, 28:196] == (200, 0, 0)).all()  # 60 x 80 becomes 168 x 224
    assert (out[:, :28] == 255).all() and (out[:, 196:] == 255).all()


def test_letterbox_without_size_pads_and_does_not_resize():
    out = np.array(letterbox(Image.new("RGB", (3, 7), (1, 2, 3))))
    assert out.shape == (7, 7, 3) and (out == (1, 2, 3)).all(axis=-1).sum() == 21


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (224, 224)])
def test_letterbox_takes_every_shape(size: tuple[int, int]):
    assert letterbox(Image.new("RGB", size), 224).size == (224, 224)


def test_transparent_becomes_white_and_grey_becomes_rgb():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert letterbox(clear, 4).getpixel((1, 1)) == (255, 255, 255)
    assert letterbox(Image.new("L", (4, 4), 7), 4).getpixel((1, 1)) == (7, 7, 7)


def test_fingerprint_changes_with_weights_names_types_and_config_only():
    state = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    base = fingerprint_of({"x": 1, "y": 2}, state)
    assert base == fingerprint_of({"y": 2, "x": 1}, dict(reversed(state.items()))) and len(base) == 32
    others = [
        fingerprint_of({"x": 1, "y": 3}, state),
        fingerprint_of({"x": 1, "y": 2}, {**state, "a": torch.arange(4.0) + 1}),
        fingerprint_of({"x": 1, "y": 2}, {**state, "b": torch.ones(4)}),
        fingerprint_of({"x": 1, "y": 2}, {**state, "a": torch.arange(4.0).bfloat16()}),
    ]
    assert len({base, *others}) == 5


def test_precision_and_device():
    cpu = resolve_device("cpu")
    assert resolve_precision("float32", cpu) is torch.float32
    assert resolve_precision("bfloat16", cpu) is torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)


def test_a_folder_without_encoder_is_named(tmp_path):
    with pytest.raises(TgqError, match="holds no saved encoder"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TgqError, match="names no encoder type"):
        read_config(tmp_path)
