"""Cross-attention in its two orders, masked softmax, portions of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tgqformer.connectors import attention
from tgqformer.connectors.attention import CrossAttention, QFormerBlock, SelfAttention, ValuePath, dense, masked_softmax

B, Q, P, D, DC, HEADS = 5, 3, 7, 8, 6, 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def both_orders(layer: CrossAttention, folds: bool, *tensors: Tensor | None) -> list[Tensor]:
    """Outputs and all gradients of one order."""
    layer.zero_grad()
    inputs = [None if x is None else x.detach().clone().requires_grad_(x.is_floating_point()) for x in tensors]
    layer._folding_pays = lambda *sizes, shared: folds  # type: ignore[method-assign]
    pooled, weights = layer(*inputs)
    (pooled.sin().sum() + weights.square().sum()).backward()
    found = [pooled, weights] + [x.grad for x in inputs if x is not None and x.grad is not None]
    return found + [p.grad for p in layer.parameters() if p.grad is not None]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias_shape", [None, (1, HEADS, Q, P), (B, HEADS, 1, P), (B, HEADS, Q, P)])
@pytest.mark.parametrize("portion", [1, 2, B])
def test_folded_and_direct_orders_agree(
    monkeypatch: pytest.MonkeyPatch, shared: bool, masked: bool, bias_shape: tuple[int, ...] | None, portion: int
) -> None:
    monkeypatch.setattr(attention, "CACHE", portion * HEADS * Q * DC * 4)
    layer = CrossAttention(D, DC, HEADS)
    mask = torch.rand(B, P) > 0.4 if masked else None
    if mask is not None:
        mask[1] = False
    bias = None if bias_shape is None else torch.randn(bias_shape)
    tensors = (torch.randn(1 if shared else B, Q, D), torch.randn(B, P, DC), mask, bias)
    folded, direct = both_orders(layer, True, *tensors), both_orders(layer, False, *tensors)
    assert len(folded) == len(direct) >= 2 + 2 + 5
    for one, other in zip(folded, direct, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_values_of_another_width_are_pooled() -> None:
    layer = CrossAttention(D, DC, HEADS, value_dim=11)
    tensors = (torch.randn(B, Q, D), torch.randn(B, P, DC), None, None, torch.randn(B, P, 11))
    for one, other in zip(both_orders(layer, True, *tensors), both_orders(layer, False, *tensors), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_cross_attention_is_torch_attention() -> None:
    layer = CrossAttention(D, DC, HEADS)
    queries, context = torch.randn(B, Q, D), torch.randn(B, P, DC)
    q, k, v = (
        x.view(B, -1, HEADS, D // HEADS).transpose(1, 2)
        for x in (layer.query(queries), layer.key(context), layer.value(context))
    )
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(queries, context)[0], expected)


def test_the_cheaper_order_is_taken() -> None:
    assert CrossAttention(256, 496, 4)._folding_pays(queries=4, tokens=49, shared=False)
    assert not CrossAttention(64, 64, 8)._folding_pays(queries=49, tokens=49, shared=True)
    blip2 = CrossAttention(768, 768, 12)
    assert blip2._folding_pays(queries=32, tokens=196, shared=True)
    assert not blip2._folding_pays(queries=32, tokens=196, shared=False)


def test_item_without_real_token_gets_zeros_and_harmless_gradients() -> None:
    for folds in (True, False):
        layer = CrossAttention(D, DC, HEADS)
        mask = torch.ones(B, P, dtype=torch.bool)
        mask[2] = False
        pooled, weights, *gradients = both_orders(layer, folds, torch.randn(B, Q, D), torch.randn(B, P, DC), mask)
        assert not pooled[2].any() and not weights[2].any()
        assert pooled[0].any()
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_an_empty_batch_passes() -> None:
    pooled, weights = CrossAttention(D, DC, HEADS)(torch.randn(1, Q, D), torch.randn(0, P, DC))
    assert pooled.shape == (0, Q, D) and weights.shape == (0, HEADS, Q, P)


def test_gradient_check_in_double_precision() -> None:
    layer = CrossAttention(4, 3, 2).double()
    queries, context = (torch.randn(2, n, w, dtype=torch.float64, requires_grad=True) for n, w in ((2, 4), (9, 3)))
    assert torch.autograd.gradcheck(lambda q, c: layer(q, c)[0], (queries, context))


def test_the_bias_of_the_key_moves_nothing_and_is_not_trained() -> None:
    layer = CrossAttention(D, DC, HEADS)
    assert {n for n, p in layer.named_parameters() if not p.requires_grad} == {"key.bias"}
    queries, context = torch.randn(B, Q, D), torch.randn(B, P, DC)
    before = layer(queries, context)[0]
    layer.key.bias.data.copy_(torch.randn(D))
    for folds in (True, False):
        torch.testing.assert_close(both_orders(layer, folds, queries, context)[0], before)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_masked_softmax_is_a_softmax_over_the_real_places(rows: int, places: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, places, generator=generator)
    mask = torch.rand(rows, places, generator=generator) > 0.5
    found = masked_softmax(logits, mask)
    for row in range(rows):
        expected = torch.zeros(places)
        expected[mask[row]] = logits[row][mask[row]].softmax(0)
        torch.testing.assert_close(found[row], expected)


def test_masked_softmax_with_nothing_real() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    weights = masked_softmax(logits, torch.zeros(2, 3, dtype=torch.bool))
    weights.sum().backward()
    assert not weights.any()
    assert logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("module", [CrossAttention, SelfAttention])
def test_heads_must_divide_the_width(module: type) -> None:
    arguments = (10, 6, 3) if module is CrossAttention else (10, 3)
    with pytest.raises(ValueError, match="3 heads do not divide a width of 10"):
        module(*arguments)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_dense_is_the_same_with_and_without_gradient_and_counts_its_flops(activation: str) -> None:
    layer, x = torch.nn.Linear(6, 4), torch.randn(2, 3, 6)
    expected = F.gelu(layer(x)) if activation == "gelu" else layer(x)
    torch.testing.assert_close(dense(layer, x, activation), expected)  # type: ignore[arg-type]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        torch.testing.assert_close(dense(layer, x, activation), expected)  # type: ignore[arg-type]
    assert counter.get_total_flops() == 2 * 6 * 6 * 4
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert dense(layer, x).dtype == torch.bfloat16


def test_queries_that_do_not_see_each_other_do_not_change_each_other() -> None:
    layer = SelfAttention(D, HEADS)
    x = torch.randn(B, 3, D)
    seen = torch.tensor([[True, False, False], [False, True, True], [False, True, True]])
    changed = x.clone()
    changed[:, 1:] = torch.randn(B, 2, D)
    torch.testing.assert_close(layer(x, seen)[:, 0], layer(changed, seen)[:, 0])
    assert not torch.allclose(layer(x, seen)[:, 2], layer(changed, seen)[:, 2])


def test_a_block_without_cross_attention_ignores_the_tokens() -> None:
    block = QFormerBlock(D, DC, HEADS, hidden=16, cross=False)
    queries = torch.randn(B, Q, D)
    one, weights = block(queries, torch.randn(B, P, DC))
    assert weights is None
    torch.testing.assert_close(one, block(queries, torch.randn(B, P, DC))[0])


def test_value_path_pools_where_the_bias_points() -> None:
    path = ValuePath(D, DC, HEADS)
    context, bias = torch.randn(B, P, DC), torch.full((1, 1, 1, P), -1e4)
    bias[..., 4] = 0
    queries = torch.randn(B, Q, D)
    found, weights = path(queries, context, bias)
    torch.testing.assert_close(weights[..., 4], torch.ones(B, HEADS, Q))
    expected = path.attention.value(path.mlp(context[:, 4]))
    torch.testing.assert_close(found, queries + expected[:, None])
