"""Connectors without queries, and making a connector by its name."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from tgqformer.connectors import ConnectorInput, ConnectorWidths, make_connector
from tgqformer.connectors.linear import LinearProjector
from tgqformer.connectors.mean import MeanPool
from tgqformer.connectors.mlp import MLPProjector
from tgqformer.connectors.none import NoConnector

WIDTHS = ConnectorWidths(visual=24, vector=6, metadata=10, grid=(2, 4))


def some_inputs(batch: int = 3) -> ConnectorInput:
    torch.manual_seed(0)
    return ConnectorInput(
        torch.randn(batch, 8, 24), torch.randn(batch, 6), torch.ones(batch, dtype=torch.bool),
        torch.randn(batch, 5, 10), torch.ones(batch, 5, dtype=torch.bool),
        torch.randn(batch, 8), torch.rand(batch),
    )  # fmt: skip


def test_same_outputs_as_llava() -> None:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=24, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=16, num_attention_heads=2),
        vision_feature_layer=-2,
    )
    theirs, ours = LlavaMultiModalProjector(config), MLPProjector(WIDTHS, dim=16, tokens=None)
    ours.load_state_dict(theirs.state_dict())
    given = some_inputs()
    assert ours.tokens == 8
    torch.testing.assert_close(ours(given).tokens, theirs(given.visual))


def test_mlp_pools_over_the_cells_of_the_grid() -> None:
    model, given = MLPProjector(WIDTHS, dim=16, tokens=2), some_inputs()
    maps = given.visual.unflatten(1, (2, 4))  # 2 cells on 2 x 4 tokens: left and right half
    halves = torch.stack([maps[:, :, :2].mean((1, 2)), maps[:, :, 2:].mean((1, 2))], 1)
    expected = model.linear_2(torch.nn.functional.gelu(model.linear_1(halves)))
    torch.testing.assert_close(model(given).tokens, expected)


def test_one_token_is_the_mean_pool() -> None:
    model, given = MLPProjector(WIDTHS, dim=16, tokens=1), some_inputs()
    mean = given.visual.mean(1, keepdim=True)
    torch.testing.assert_close(
        model(given).tokens, model.linear_2(torch.nn.functional.gelu(model.linear_1(mean))), rtol=1e-4, atol=1e-5
    )


def test_none_gives_no_token() -> None:
    assert NoConnector(WIDTHS)(some_inputs()).tokens.shape == (3, 0, 1)


def test_mean_pool_is_the_mean_of_each_cell_and_learns_nothing() -> None:
    model, given = MeanPool(WIDTHS, tokens=2), some_inputs()
    maps = given.visual.unflatten(1, (2, 4))
    halves = torch.stack([maps[:, :, :2].mean((1, 2)), maps[:, :, 2:].mean((1, 2))], 1)
    torch.testing.assert_close(model(given).tokens, halves)
    assert (model.tokens, model.width, list(model.parameters())) == (2, 24, [])


def test_linear_projects_what_is_pooled() -> None:
    model, given = LinearProjector(WIDTHS, tokens=1, dim=16), some_inputs()
    expected = model.linear(given.visual.mean(1, keepdim=True))
    torch.testing.assert_close(model(given).tokens, expected, rtol=1e-4, atol=1e-5)
    whole = LinearProjector(WIDTHS, tokens=None, dim=16)
    torch.testing.assert_close(whole(given).tokens, whole.linear(given.visual))


def test_the_value_path_of_the_mlp_pools_behind_the_non_linear_layer() -> None:
    model, given = MLPProjector(WIDTHS, tokens=1, dim=16, value_path=True), some_inputs()
    inner = torch.nn.functional.gelu(model.linear_1(given.visual)).mean(1, keepdim=True)
    torch.testing.assert_close(model(given).tokens, model.linear_2(inner), rtol=1e-4, atol=1e-5)


def test_options_reach_the_connector() -> None:
    assert make_connector("qformer", WIDTHS, {"tokens": 6, "dim": 32}).tokens == 6
