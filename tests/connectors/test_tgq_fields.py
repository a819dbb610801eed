"""TGQ-Former with an anchor for each metadata field: brand, kind and material look for themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tgqformer.connectors import ConnectorInput, ConnectorWidths, make_connector, reads_fields
from tgqformer.connectors.attention import CrossAttention
from tgqformer.connectors.tgq import TGQFormer, share_out
from tgqformer.encoders.base import TextFeatures
from tgqformer.errors import TgqError

B, P, F, T = 3, 12, 3, 4
WIDTHS = ConnectorWidths(visual=10, vector=6, metadata=8, grid=(3, 4), fields=F)


def make(**options: Any) -> TGQFormer:
    torch.manual_seed(0)
    given = {"tokens": 4, "exploratory": 1, "dim": 16, "heads": 2, "gates": "none", "anchors": "fields"}
    return TGQFormer(WIDTHS, **{**given, **options}).eval()


def some_inputs() -> ConnectorInput:
    """Three items with three fields of up to four tokens; item 1 lacks the field 2, item 2 has none at all."""
    g = torch.Generator().manual_seed(1)
    lengths = torch.tensor([[4, 1, 2], [3, 2, 0], [0, 0, 0]])
    fields = TextFeatures(
        torch.randn(B, F, T, 8, generator=g), torch.arange(T) < lengths[..., None], torch.randn(B, F, 8, generator=g)
    )
    return ConnectorInput(
        visual=torch.randn(B, P, 10, generator=g), vector=torch.randn(B, 6, generator=g),
        has_picture=torch.ones(B, dtype=torch.bool), metadata=torch.randn(B, 5, 8, generator=g),
        metadata_mask=torch.ones(B, 5, dtype=torch.bool), agreement_map=torch.randn(B, P, generator=g),
        agreement=torch.rand(B, generator=g), fields=fields, field_maps=torch.randn(B, F, P, generator=g),
    )  # fmt: skip


def with_tokens(inputs: ConnectorInput, change: Tensor) -> ConnectorInput:
    assert inputs.fields is not None
    return replace(inputs, fields=replace(inputs.fields, tokens=inputs.fields.tokens + change))


def moved(before: Tensor, after: Tensor) -> list[list[bool]]:
    """Which query of which item gives another token: [B][K]."""
    moved: list[list[bool]] = ((before - after).abs().amax(-1) > 1e-6).tolist()
    return moved


@pytest.mark.parametrize(
    ("queries", "fields", "wanted"),
    [
        (3, 3, ["0", "1", "2"]),
        (5, 3, ["0", "0", "1", "1", "2"]),
        (2, 4, ["01", "23"]),
        (2, 3, ["01", "2"]),
        (1, 3, ["012"]),
    ],
)
def test_queries_are_shared_out_among_the_fields(queries: int, fields: int, wanted: list[str]) -> None:
    found = ["".join(str(field) for field in range(fields) if row[field]) for row in share_out(queries, fields)]
    assert found == wanted


@pytest.mark.parametrize("changed", range(F))
def test_a_field_reaches_its_own_query_alone(changed: int) -> None:
    model, inputs = make(streams="separate", blocks=0), some_inputs()
    change = torch.zeros(B, F, T, 8)
    change[:, changed] = 1
    found = moved(model(inputs).tokens, model(with_tokens(inputs, change)).tokens)
    own = [query == changed for query in range(F)]
    assert found == [[*own, False], [*(own if changed < 2 else [False] * F), False], [False] * 4]


def test_with_joint_streams_the_others_hear_of_it_in_self_attention() -> None:
    model, inputs = make(streams="joint"), some_inputs()
    change = torch.zeros(B, F, T, 8)
    change[0, 1] = 1
    assert moved(model(inputs).tokens, model(with_tokens(inputs, change)).tokens) == [[True] * 4, *[[False] * 4] * 2]


def test_a_missing_field_leaves_its_query_at_its_latent() -> None:
    model, inputs = make(), some_inputs()
    anchors = model._queries(inputs)[:, :F]
    assert model.anchors is not None
    bare = model.anchors.norm(model.anchors.latents)[0]
    kept = (anchors - bare).abs().amax(-1) < 1e-6
    assert kept.tolist() == [[False] * 3, [False, False, True], [True] * 3]
    loud = some_inputs()
    assert loud.fields is not None
    hidden = loud.fields.tokens.masked_fill(~loud.fields.mask[..., None], 99.0)
    torch.testing.assert_close(model(replace(loud, fields=replace(loud.fields, tokens=hidden))).tokens,
                               model(inputs).tokens)  # fmt: skip


def test_a_field_has_a_bias_of_its_own_by_hand() -> None:
    model, inputs = make(field_bias=True, blocks=0, prior=False), some_inputs()
    flat = replace(inputs, field_maps=torch.zeros(B, F, P))
    peaked = torch.zeros(B, F, P)
    peaked[:, 1, 7] = 3.0
    drawn, even = (model(given).attention["anchored"] for given in (replace(flat, field_maps=peaked), flat))
    ratio = (drawn / even).log()
    # β = 2 on the logits of the query of field 1, where the item has this field
    torch.testing.assert_close(ratio[:2, :, 1, 7] - ratio[:2, :, 1, 0], torch.full((2, 2), 6.0), rtol=1e-4, atol=1e-4)
    assert ratio[:, :, [0, 2]].abs().max() < 1e-5 and ratio[2].abs().max() < 1e-5
    model_of_the_whole = make(blocks=0)
    same = model_of_the_whole(replace(inputs, field_maps=peaked)).tokens
    torch.testing.assert_close(same, model_of_the_whole(inputs).tokens)  # without field_bias the maps are not read


def test_a_query_of_two_fields_takes_the_mean_of_those_that_are_there() -> None:
    model, inputs = make(tokens=2, exploratory=1, field_bias=True), some_inputs()
    maps = model._query_maps(inputs)
    assert maps is not None and inputs.field_maps is not None and maps.shape == (B, 1, P)
    torch.testing.assert_close(maps[0, 0], inputs.field_maps[0].mean(0))
    torch.testing.assert_close(maps[1, 0], inputs.field_maps[1, :2].mean(0))
    assert not maps[2].any()


@pytest.mark.parametrize("trust", [False, True])
def test_every_weight_learns(trust: bool) -> None:
    model = make(field_bias=True, trust=trust)
    model(some_inputs()).tokens.sin().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    plain = make(anchors="pooled")
    assert {name for name, _ in make().named_parameters()} == {name for name, _ in plain.named_parameters()}


def test_only_this_form_asks_for_fields() -> None:
    assert reads_fields(make()) and not reads_fields(make(anchors="pooled"))
    with pytest.raises(ValueError, match="were not given"):
        make()(replace(some_inputs(), fields=None))
    for options in ({"anchored": 0, "exploratory": 4}, {"anchors": "pooled", "field_bias": True}):
        with pytest.raises(ValueError, match="anchors: fields"):
            make(**{"tokens": None, **options})
    with pytest.raises(TgqError, match="a prompt that reads at least one field"):
        make_connector("tgq", replace(WIDTHS, fields=0), {"anchors": "fields"})


@pytest.mark.parametrize("queries", [1, 64])
def test_a_mask_by_query_is_as_attending_to_what_is_seen_alone(queries: int) -> None:
    torch.manual_seed(0)
    attention, context = CrossAttention(8, 6, 2), torch.randn(2, 20, 6)
    asked, seen = torch.randn(2, queries, 8), torch.rand(2, queries, 20) < 0.5
    seen[0, 0] = False
    pooled, weights = attention(asked, context, seen)
    for item, query in ((0, 0), (1, 0), (1, queries - 1)):
        alone, _ = attention(asked[item : item + 1, query : query + 1], context[item : item + 1, seen[item, query]])
        wanted = alone[0, 0] if seen[item, query].any() else torch.zeros(8)
        torch.testing.assert_close(pooled[item, query], wanted, rtol=1e-4, atol=1e-5)
    assert not weights[~seen[:, None].expand_as(weights)].any()
