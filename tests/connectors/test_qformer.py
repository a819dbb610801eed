"""Our Q-Former against `transformers.Blip2QFormerModel` with equal weights."""

from __future__ import annotations

import pytest
import torch
from peer_weights import load_blip2
from torch import Tensor
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from tgqformer.connectors import ConnectorInput, ConnectorWidths
from tgqformer.connectors.qformer import QFormer

WIDTHS = ConnectorWidths(visual=24, vector=6, metadata=10, grid=(3, 4))
PLAIN = {"dim": 32, "heads": 4, "hidden": 48, "value_path": False, "prior": False}


def pair(queries: int = 5, layers: int = 4, every: int = 2) -> tuple[QFormer, Blip2QFormerModel]:
    torch.manual_seed(0)
    config = Blip2QFormerConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=48,
        encoder_hidden_size=24, cross_attention_frequency=every, attn_implementation="eager",
    )  # fmt: skip
    peer = Blip2QFormerModel(config).eval()
    for weight in peer.parameters():  # fresh biases are zeros, fresh norms ones: they would hide mistakes
        weight.data += 0.1 * torch.randn_like(weight)
    ours = QFormer(WIDTHS, tokens=queries, blocks=layers, cross_every=every, **PLAIN)  # type: ignore[arg-type]
    load_blip2(ours, peer)
    return ours.eval(), peer


def run_peer(peer: Blip2QFormerModel, ours: QFormer, visual: Tensor) -> tuple[Tensor, Tensor]:
    """Output and the attention of the last layer that looks at the tokens."""
    seen: list[Tensor] = []
    last = [layer for layer in peer.encoder.layer if layer.has_cross_attention][-1]
    hook = last.crossattention.attention.register_forward_hook(lambda *args: seen.append(args[-1][1]))
    queries = ours.queries.expand(len(visual), -1, -1)
    found = peer(query_embeds=queries, encoder_hidden_states=visual)[0]
    hook.remove()
    return found, seen[-1]


@pytest.mark.parametrize(("queries", "every"), [(2, 1), (5, 2), (5, 3), (20, 2)])
@pytest.mark.parametrize("gradient", [False, True])
def test_same_outputs_and_attention_as_blip2(queries: int, every: int, gradient: bool) -> None:
    ours, peer = pair(queries, every=every)
    visual = torch.randn(6, 12, 24)
    with torch.set_grad_enabled(gradient):
        expected, expected_weights = run_peer(peer, ours, visual)
        tokens, weights = ours.attend(visual)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
    assert weights is not None
    torch.testing.assert_close(weights, expected_weights, rtol=1e-4, atol=1e-5)


def test_same_gradients_as_blip2() -> None:
    ours, peer = pair()
    visual = torch.randn(3, 12, 24, requires_grad=True)
    run_peer(peer, ours, visual)[0].sin().sum().backward()
    expected, visual.grad = visual.grad, None
    ours.attend(visual)[0].sin().sum().backward()
    torch.testing.assert_close(visual.grad, expected, rtol=1e-3, atol=1e-5)
    for index in (0, 2):
        own, other = ours.blocks[index].cross_attention, peer.encoder.layer[index].crossattention.attention
        for name in ("query", "key", "value"):
            torch.testing.assert_close(
                getattr(own, name).weight.grad, getattr(other, name).weight.grad, rtol=1e-3, atol=1e-5
            )


def test_weights_of_another_shape_of_model_are_refused() -> None:
    _, peer = pair()
    with pytest.raises(ValueError, match="theirs has 4 layers, ours 3 blocks"):
        load_blip2(QFormer(WIDTHS, blocks=3, cross_every=2, **PLAIN), peer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="set cross_every"):
        load_blip2(QFormer(WIDTHS, blocks=4, cross_every=1, **PLAIN), peer)  # type: ignore[arg-type]


def inputs(visual: Tensor) -> ConnectorInput:
    batch = len(visual)
    return ConnectorInput(
        visual, torch.zeros(batch, 6), torch.ones(batch, dtype=torch.bool),
        torch.zeros(batch, 2, 10), torch.ones(batch, 2, dtype=torch.bool),
    )  # fmt: skip


def test_value_path_and_prior_start_the_queries_in_their_cells() -> None:
    torch.manual_seed(0)
    model = QFormer(WIDTHS, tokens=2, dim=16, heads=2, blocks=1)
    found = model(inputs(0.01 * torch.randn(3, 12, 24)))  # faint tokens: the prior alone decides
    assert found.tokens.shape == (3, 2, 16)
    attention = found.attention["query"]
    assert attention.shape == (3, 2, 2, 12)
    cells = torch.tensor([[0, 1], [2, 3]])  # 2 queries on 3 x 4 tokens: left and right half
    columns = attention.unflatten(-1, (3, 4)).sum(-2)
    for query in (0, 1):
        assert columns[:, :, query, cells[query]].sum(-1).min() > 0.8


def test_every_item_is_read_by_itself() -> None:
    torch.manual_seed(0)
    model = QFormer(WIDTHS, tokens=4, dim=16, heads=2, blocks=2).eval()
    visual = torch.randn(5, 12, 24)
    together = model(inputs(visual)).tokens
    for index in range(5):
        torch.testing.assert_close(model(inputs(visual[index : index + 1])).tokens[0], together[index])
