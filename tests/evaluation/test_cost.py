"""Costs on layers whose operations are counted by hand."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from tgqformer.errors import TgqError
from tgqformer.evaluation.cost import Cost, count_flops, flops_per_item, on_meta, parameters, throughput


def test_parameters_count_shared_ones_once() -> None:
    first = nn.Linear(3, 4, bias=False)
    module = nn.Sequential(first, nn.Linear(4, 2), first)
    module[1].bias.requires_grad_(False)
    assert parameters(module) == (12 + 8 + 2, 12 + 8)


def test_flops_of_layers_by_hand() -> None:
    linear = on_meta(nn.Linear(8, 16))
    assert count_flops(lambda: linear(torch.zeros(5, 8, device="meta"))) == 2 * 5 * 8 * 16
    convolution = on_meta(nn.Conv2d(3, 4, 3, padding=1))
    assert count_flops(lambda: convolution(torch.zeros(1, 3, 6, 6, device="meta"))) == 2 * 36 * 4 * 27


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fused_attention_is_counted_as_its_two_products(device: str) -> None:
    q, k = torch.zeros(2, 4, 7, 8, device=device), torch.zeros(2, 4, 9, 8, device=device)
    call = lambda: nn.functional.scaled_dot_product_attention(q, k, k)  # noqa: E731
    assert count_flops(call) == 2 * (2 * 2 * 4 * 7 * 9 * 8)


def test_the_copy_on_meta_leaves_the_module_alone() -> None:
    module = nn.Linear(2, 2)
    assert on_meta(module).weight.is_meta
    assert not module.weight.is_meta


def test_flops_per_item_and_their_sum() -> None:
    linear = on_meta(nn.Linear(8, 16))
    batch = torch.zeros(4, 8, device="meta")
    flops = flops_per_item({"vision": lambda: linear(batch), "connector": lambda: None}, items=4)
    assert flops == {"vision": 256.0, "connector": 0.0}
    assert Cost("TGQ-Former", 10, 5, flops).total_flops == 256
    with pytest.raises(TgqError, match="at least one"):
        flops_per_item({}, items=0)


def test_throughput_is_items_over_seconds() -> None:
    assert 200 < throughput(lambda: time.sleep(0.02), 10, repeats=1) <= 500
