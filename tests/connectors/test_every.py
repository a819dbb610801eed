"""What every connector promises: K tokens, whatever is missing, every item by itself, a gradient for every weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgqformer.connectors import CONNECTORS, TOKENS, ConnectorInput, ConnectorWidths, make_connector
from tgqformer.connectors.bias import shared_bias

B, P, T = 4, 12, 5
WIDTHS = ConnectorWidths(visual=20, vector=6, metadata=10, grid=(3, 4))
WITH_TOKENS = sorted(set(CONNECTORS) - {"none", "frozen"})
WITH_QUERIES = ["notellm2", "qformer", "resampler", "text-qformer", "tgq"]
SMALL: dict[str, dict[str, Any]] = {"none": {}, "frozen": {}, "mean": {}, "linear": {"dim": 16}, "mlp": {"dim": 16},
                                    "c-abstractor": {"dim": 16, "blocks": 1}}  # fmt: skip


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return make_connector(name, WIDTHS, {**SMALL.get(name, {"dim": 16, "heads": 2}), **options}).eval()


def some_inputs(seed: int = 1) -> ConnectorInput:
    g = torch.Generator().manual_seed(seed)
    return ConnectorInput(
        visual=torch.randn(B, P, 20, generator=g),
        vector=torch.randn(B, 6, generator=g),
        has_picture=torch.ones(B, dtype=torch.bool),
        metadata=torch.randn(B, T, 10, generator=g),
        metadata_mask=torch.arange(T)[None] < torch.tensor([[5], [3], [1], [0]]),
        agreement_map=torch.randn(B, P, generator=g),
        agreement=torch.rand(B, generator=g),
    )


def nothing_at_all() -> ConnectorInput:
    """Neither picture nor text, as the model hands them over."""
    whole = some_inputs()
    none = torch.zeros(B, dtype=torch.bool)
    return replace(
        whole, visual=torch.zeros_like(whole.visual), vector=torch.zeros_like(whole.vector), has_picture=none,
        metadata_mask=torch.zeros_like(whole.metadata_mask), agreement_map=torch.zeros(B, P), agreement=torch.zeros(B),
    )  # fmt: skip


def rows(inputs: ConnectorInput, which: slice) -> ConnectorInput:
    return ConnectorInput(**{name: value[which] for name, value in vars(inputs).items() if value is not None})


@pytest.mark.parametrize("name", WITH_TOKENS)
@pytest.mark.parametrize("tokens", [None, 1, 2, 5, 8, 16, 32])
def test_one_option_sets_the_token_budget(name: str, tokens: int | None) -> None:
    model = make(name, **({} if tokens is None else {"tokens": tokens}))
    assert model.tokens == (TOKENS if tokens is None else tokens)
    found = model(some_inputs())
    assert found.tokens.shape == (B, model.tokens, model.width)
    assert found.tokens.isfinite().all() and isinstance(model.guided, bool)
    assert sum(weights.shape[2] for weights in found.attention.values()) in (0, model.tokens)
    for weights in found.attention.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_missing_pictures_and_texts_give_finite_tokens(name: str) -> None:
    model = make(name)
    assert model(nothing_at_all()).tokens.isfinite().all()
    without_map = replace(some_inputs(), agreement_map=None, agreement=None)
    assert model(without_map).tokens.isfinite().all()


@pytest.mark.parametrize("name", sorted(CONNECTORS))
@given(seed=st.integers(0, 2**20), at=st.integers(0, B - 1))
@settings(max_examples=5, deadline=None)
def test_every_item_is_read_by_itself(name: str, seed: int, at: int) -> None:
    model, inputs = make(name), some_inputs(seed)
    alone = model(rows(inputs, slice(at, at + 1))).tokens[0]
    torch.testing.assert_close(alone, model(inputs).tokens[at], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_TOKENS)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("additions", [True, False])
def test_every_trained_weight_gets_a_gradient(name: str, aligned: bool, additions: bool) -> None:
    switches = {"value_path": additions, "prior": additions, "agreement_bias": additions}
    model, inputs = make(name, **(switches if name in WITH_QUERIES else {})), some_inputs()
    found = model(inputs if aligned else replace(inputs, agreement_map=None, agreement=None))
    if list(model.parameters()):
        found.tokens.sin().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", WITH_QUERIES)
def test_the_prior_starts_the_queries_in_their_cells(name: str) -> None:
    inputs = replace(some_inputs(), visual=0.001 * some_inputs().visual, agreement_map=torch.zeros(B, P))
    options = {"anchored": 0} if name == "tgq" else {}
    for value_path in (True, False):
        model = make(name, tokens=2, value_path=value_path, **options)
        (attention,) = model(inputs).attention.values()
        columns = attention.unflatten(-1, (3, 4)).sum(-2)  # 2 queries on 3 x 4 tokens: left and right half
        assert columns[:, :, 0, :2].sum(-1).min() > 0.8 and columns[:, :, 1, 2:].sum(-1).min() > 0.8


@pytest.mark.parametrize("name", WITH_QUERIES)
def test_the_agreement_bias_draws_queries_to_where_text_and_picture_agree(name: str) -> None:
    inputs = some_inputs()
    peaked = replace(inputs, agreement_map=6 * torch.eye(P)[:B])
    options = {"exploratory": 0, "gates": "none"} if name == "tgq" else {"prior": False}
    guided, blind = (make(name, agreement_bias=on, **options) for on in (True, False))
    if name != "tgq":
        assert (guided.guided, blind.guided) == (True, False)
    (attention,) = guided(peaked).attention.values()
    assert attention.mean((1, 2)).argmax(-1).tolist() == list(range(B))
    torch.testing.assert_close(blind(peaked).tokens, blind(inputs).tokens)


@pytest.mark.parametrize("name", ["qformer", "resampler", "text-qformer"])
def test_the_value_path_is_added_at_the_output(name: str) -> None:
    model, without, inputs = make(name), make(name, value_path=False), some_inputs()
    without.load_state_dict({n: w for n, w in model.state_dict().items() if not n.startswith("value_path.")})
    x, bias = without(inputs).tokens, shared_bias(inputs, model.prior, None)
    path, visual = model.value_path, inputs.visual
    pooled, _ = path.attention(x, visual, None, bias, values=path.mlp(visual))
    torch.testing.assert_close(model(inputs).tokens, x + pooled)
