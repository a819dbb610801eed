"""The Perceiver resampler against `transformers`' `Idefics2PerceiverResampler` with equal weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peer_weights import load_idefics2
from transformers.models.idefics2.configuration_idefics2 import Idefics2PerceiverConfig
from transformers.models.idefics2.modeling_idefics2 import Idefics2PerceiverResampler

from tgqformer.connectors import ConnectorInput, ConnectorWidths
from tgqformer.connectors.resampler import PerceiverResampler, balanced

B, P, K = 3, 12, 5
WIDTHS = ConnectorWidths(visual=32, vector=6, metadata=10, grid=(3, 4))
PLAIN = {"dim": 32, "value_path": False, "prior": False}


def pair(
    depth: int, heads: int, head_dim: int, key_heads: int
) -> tuple[PerceiverResampler, Idefics2PerceiverResampler]:
    torch.manual_seed(0)
    config = Idefics2PerceiverConfig(
        hidden_size=32, resampler_n_latents=K, resampler_depth=depth, resampler_n_heads=heads,
        resampler_head_dim=head_dim, num_key_value_heads=key_heads, attn_implementation="eager",
    )  # fmt: skip
    peer = Idefics2PerceiverResampler(config).eval()
    for weight in peer.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    ours = PerceiverResampler(
        WIDTHS,
        tokens=K,
        blocks=depth,
        heads=heads,
        head_dim=head_dim,
        key_heads=key_heads,
        **PLAIN,  # type: ignore[arg-type]
    )
    load_idefics2(ours, peer)
    ours.project.weight.data, ours.project.bias.data = torch.eye(32), torch.zeros(32)
    return ours.eval(), peer


def some_inputs() -> ConnectorInput:
    torch.manual_seed(1)
    return ConnectorInput(
        torch.randn(B, P, 32), torch.zeros(B, 6), torch.ones(B, dtype=torch.bool),
        torch.zeros(B, 2, 10), torch.ones(B, 2, dtype=torch.bool), torch.randn(B, P),
    )  # fmt: skip


@pytest.mark.parametrize(("depth", "heads", "head_dim", "key_heads"), [(1, 4, 8, 4), (3, 4, 12, 2), (2, 4, 6, 1)])
def test_same_outputs_as_idefics2(depth: int, heads: int, head_dim: int, key_heads: int) -> None:
    ours, peer = pair(depth, heads, head_dim, key_heads)
    inputs = some_inputs()
    with torch.no_grad():
        expected = peer(context=inputs.visual, attention_mask=torch.ones(B, P, dtype=torch.long))
        found = ours(inputs)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)


def test_a_bias_moves_attention_among_the_places_only() -> None:
    torch.manual_seed(0)
    bias = torch.randn(2, 3, P)
    moved = balanced(bias, P)
    torch.testing.assert_close(moved.exp().sum(-1), torch.full((2, 3), float(P)))  # as P zeros weigh
    torch.testing.assert_close(moved.softmax(-1), bias.softmax(-1))
    torch.testing.assert_close(balanced(torch.zeros(1, P), P), torch.zeros(1, P))
    model = PerceiverResampler(WIDTHS, tokens=K, value_path=False, prior=False, agreement_bias=True, dim=32)
    flat = replace(some_inputs(), agreement_map=torch.zeros(B, P))
    plain = PerceiverResampler(WIDTHS, tokens=K, value_path=False, prior=False, dim=32)
    plain.load_state_dict({name: w for name, w in model.state_dict().items() if "agreement" not in name})
    torch.testing.assert_close(model(flat).tokens, plain(flat).tokens)
    raised = replace(flat, agreement_map=torch.full((B, P), 7.0))  # everywhere alike: nothing is told
    torch.testing.assert_close(model(raised).tokens, plain(flat).tokens, rtol=1e-4, atol=1e-5)


def test_weights_of_another_shape_of_model_are_refused() -> None:
    _, peer = pair(2, 4, 8, 4)
    with pytest.raises(ValueError, match="theirs has 5 latents, ours 4"):
        load_idefics2(PerceiverResampler(WIDTHS, tokens=4, blocks=2, **PLAIN), peer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="theirs has 2 layers, ours 1 blocks"):
        load_idefics2(PerceiverResampler(WIDTHS, tokens=K, blocks=1, **PLAIN), peer)  # type: ignore[arg-type]
