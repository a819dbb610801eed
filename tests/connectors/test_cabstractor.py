"""The C-Abstractor: its block against the RegNet of `transformers`, and what the pooling keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import RegNetConfig
from transformers.models.regnet.modeling_regnet import RegNetYLayer

from tgqformer.connectors import ConnectorInput, ConnectorWidths
from tgqformer.connectors.cabstractor import Bottleneck, CAbstractor, ChannelNorm

WIDTHS = ConnectorWidths(visual=24, vector=6, metadata=10, grid=(4, 4))


def some_inputs(visual: torch.Tensor) -> ConnectorInput:
    batch = len(visual)
    return ConnectorInput(
        visual, torch.zeros(batch, 6), torch.ones(batch, dtype=torch.bool),
        torch.zeros(batch, 2, 10), torch.ones(batch, 2, dtype=torch.bool),
    )  # fmt: skip


@pytest.mark.parametrize(("channels_in", "channels"), [(24, 16), (16, 16)])
def test_the_block_is_a_regnet_block_with_layer_norm_and_silu(channels_in: int, channels: int) -> None:
    torch.manual_seed(0)
    theirs = RegNetYLayer(RegNetConfig(groups_width=1, hidden_act="silu"), channels_in, channels)
    ours = Bottleneck(channels_in, channels)
    one, two, squeeze, three = theirs.layer
    squeeze.attention[1] = nn.SiLU()  # Honeybee takes one activation throughout
    shortcut = theirs.shortcut
    for own, layer in ((ours.conv_1, one), (ours.conv_2, two), (ours.conv_3, three)):
        assert own.weight.shape == layer.convolution.weight.shape
        own.weight.data = layer.convolution.weight.data
    for own, layer in ((ours.norm_1, one), (ours.norm_2, two), (ours.norm_3, three)):
        layer.normalization = own  # theirs normalises over the batch
    for own, layer in ((ours.attention.squeeze, squeeze.attention[0]), (ours.attention.excite, squeeze.attention[2])):
        own.load_state_dict(layer.state_dict())
    if channels_in != channels:
        assert isinstance(ours.shortcut, nn.Sequential)
        ours.shortcut[0].load_state_dict(shortcut.convolution.state_dict())
        shortcut.normalization = ours.shortcut[1]
    x = torch.randn(2, channels_in, 4, 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_norm_is_over_channels_place_by_place() -> None:
    x = torch.randn(2, 8, 3, 3)
    found = ChannelNorm(8)(x)
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, :, 1, 2], nn.functional.layer_norm(x[:, :, 1, 2], (8,)))


def test_a_token_knows_its_cell_best() -> None:
    """Squeeze-and-excitation lets all places meet, weakly; a change in one cell shows most in that cell's token."""
    torch.manual_seed(0)
    model = CAbstractor(WIDTHS, tokens=4, dim=16, blocks=1).eval()
    visual = torch.randn(1, 16, 24)
    changed = visual.clone()
    changed[:, 0] += 3  # the corner: cell 0 of 2 x 2
    moved = (model(some_inputs(changed)).tokens - model(some_inputs(visual)).tokens).norm(dim=-1)[0]
    assert moved.argmax() == 0


def test_every_token_where_no_budget_is_set() -> None:
    model = CAbstractor(WIDTHS, tokens=None, dim=16, blocks=2)
    assert model(some_inputs(torch.randn(2, 16, 24))).tokens.shape == (2, 16, 16)
