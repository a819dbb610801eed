"""Attention inside the noise and gate statistics, on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tgqformer.errors import TgqError
from tgqformer.evaluation.attention import gate_statistics, noise_shares


def test_noise_share_per_stream() -> None:
    masks = np.array([[[1.0, 0.0], [0.0, 0.0]]] * 2)
    maps = torch.zeros(2, 1, 3, 4)
    maps[:, :, 0, 0] = 1  # the anchored query looks only at the noise
    maps[:, :, 1:, :] = 0.25  # the exploratory ones look everywhere
    shares = noise_shares(maps, masks, {"anchored": slice(0, 1), "exploratory": slice(1, None)})
    assert shares["anchored"].mean == 1
    assert shares["exploratory"].mean == shares["exploratory"].uniform_mean == 0.25


def test_items_without_noise_or_without_picture_do_not_count() -> None:
    masks = np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    maps = np.full((3, 2, 1, 2), 0.5)
    maps[2] = 0
    share = noise_shares(maps, masks, {"all": slice(None)})["all"]
    assert np.isnan(share.per_item).tolist() == [False, True, True]
    assert (share.mean, share.uniform_mean) == (0.5, 0.5)
    none = noise_shares(maps[1:2], masks[1:2], {"all": slice(None)})["all"]
    assert math.isnan(none.mean)
    assert math.isnan(none.uniform_mean)


def test_attention_on_real_tokens_only_is_made_to_sum_to_one() -> None:
    maps = np.array([[[[0.3, 0.1, 0.0]]]])
    share = noise_shares(maps, np.array([[[1.0, 0.0, 0.0]]]), {"all": slice(None)})["all"]
    assert share.mean == pytest.approx(0.75)


def test_gate_statistics_tell_a_fixed_scale_from_an_answer() -> None:
    fixed = torch.tensor([[-0.5, 0.5]] * 4)
    answering = np.array([[-0.5, -0.5], [0.5, 0.5]] * 2)
    scale, answer = gate_statistics({"anchored": fixed, "exploratory": answering})
    assert (scale.mean, scale.over_channels, scale.over_items) == (1, 0.5, 0)
    assert (answer.mean, answer.over_channels, answer.over_items) == (1, 0, 0.5)


def test_bad_shapes_are_explained() -> None:
    with pytest.raises(TgqError, match="do not fit"):
        noise_shares(np.zeros((1, 1, 1, 5)), np.zeros((1, 2, 2)), {})
    with pytest.raises(TgqError, match="items, channels"):
        gate_statistics({"anchored": np.zeros(3)})
