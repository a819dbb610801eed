"""TGQ-Former: each part with its switch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgqformer.connectors import ConnectorInput, ConnectorOutput, ConnectorWidths
from tgqformer.connectors.tgq import Anchors, ReliabilityGate, TGQFormer, redundancy, split_tokens

B, P, T = 4, 12, 5
WIDTHS = ConnectorWidths(visual=10, vector=6, metadata=8, grid=(3, 4))


def make(**options: Any) -> TGQFormer:
    torch.manual_seed(0)
    return TGQFormer(WIDTHS, **{"dim": 16, "heads": 2, **options}).eval()


def some_inputs(seed: int = 1) -> ConnectorInput:
    g = torch.Generator().manual_seed(seed)
    return ConnectorInput(
        visual=torch.randn(B, P, 10, generator=g),
        vector=torch.randn(B, 6, generator=g),
        has_picture=torch.ones(B, dtype=torch.bool),
        metadata=torch.randn(B, T, 8, generator=g),
        metadata_mask=torch.arange(T)[None] < torch.tensor([[5], [3], [1], [4]]),
        agreement_map=torch.randn(B, P, generator=g),
        agreement=torch.rand(B, generator=g),
    )


def rows(inputs: ConnectorInput, which: slice) -> ConnectorInput:
    return ConnectorInput(**{name: value[which] for name, value in vars(inputs).items() if value is not None})


def stir_gates(model: TGQFormer) -> None:
    """As after training: gates that are not zero."""
    for gate in (model.gate_anchored, model.gate_exploratory):
        if gate is not None:
            torch.nn.init.normal_(gate.mlp[-1].weight)  # type: ignore[arg-type]


def anchored(found: ConnectorOutput) -> Tensor:
    return found.tokens[:, :2]


def exploratory(found: ConnectorOutput) -> Tensor:
    return found.tokens[:, 2:]


def test_output_has_every_part() -> None:
    found = make()(some_inputs())
    assert found.tokens.shape == (B, 4, 16)
    assert {name: tuple(x.shape) for name, x in found.attention.items()} == {
        "anchored": (B, 2, 2, P), "exploratory": (B, 2, 2, P),
    }  # fmt: skip
    assert {name: tuple(x.shape) for name, x in found.gates.items()} == {"anchored": (B, 16), "exploratory": (B, 16)}
    assert found.redundancy is not None and 0 <= found.redundancy <= 1
    for weights in found.attention.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, 2, 2))


@pytest.mark.parametrize(("streams", "changes"), [("separate", False), ("joint", True)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_streams_see_each_other_only_when_joint(streams: str, changes: bool, blocks: int) -> None:
    model, given_ = make(streams=streams, blocks=blocks, gates="none"), some_inputs()
    before = model(given_)
    assert model.queries is not None
    model.queries.data += torch.randn_like(model.queries)
    after = model(given_)
    assert not torch.allclose(exploratory(before), exploratory(after))
    assert torch.allclose(anchored(before), anchored(after), atol=1e-6) is not changes


@pytest.mark.parametrize("streams", ["separate", "joint"])
def test_exploratory_queries_know_the_metadata_only_through_the_other_stream(streams: str) -> None:
    model, given_ = make(streams=streams, gates="none"), some_inputs()
    other = replace(given_, metadata=torch.randn(B, T, 8), agreement_map=torch.randn(B, P))
    same = torch.allclose(exploratory(model(given_)), exploratory(model(other)), atol=1e-6)
    assert same is (streams == "separate")


@pytest.mark.parametrize("gates", ["both", "anchored", "exploratory", "none"])
def test_gates_modulate_the_streams_they_are_named_after(gates: str) -> None:
    model, plain, given_ = make(gates=gates), make(gates="none"), some_inputs()
    plain.load_state_dict({n: w for n, w in model.state_dict().items() if not n.startswith("gate_")})
    open_, fresh = plain(given_), model(given_)
    torch.testing.assert_close(fresh.tokens, open_.tokens)  # a fresh gate changes nothing
    stir_gates(model)
    found = model(given_)
    expected = {"both": {"anchored", "exploratory"}, "none": set()}.get(gates, {gates})
    assert set(found.gates) == expected
    for name, part in (("anchored", anchored), ("exploratory", exploratory)):
        factor = 1 + found.gates[name][:, None] if name in expected else 1
        torch.testing.assert_close(part(found), part(open_) * factor)


def test_a_fresh_gate_is_zero_and_learns() -> None:
    gate = ReliabilityGate([1, 6], 16)
    parts = torch.rand(B, 1), torch.randn(B, 6)
    found = gate(*parts)
    assert not found.any()
    found.sum().backward()
    assert gate.mlp[-1].weight.grad.any()  # type: ignore[union-attr]
    torch.nn.init.normal_(gate.mlp[-1].weight, std=100)  # type: ignore[arg-type]
    assert gate(*parts).abs().max() <= 1


def test_the_anchored_gate_reads_the_agreement() -> None:
    model, given_ = make(), some_inputs()
    stir_gates(model)
    before, after = model(given_), model(replace(given_, agreement=given_.agreement + 1))
    assert not torch.allclose(before.gates["anchored"], after.gates["anchored"])
    torch.testing.assert_close(before.gates["exploratory"], after.gates["exploratory"])


def test_redundancy_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0], [2.0, 2.0], [4.0, 1.0]])
    e = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]])
    # dimension 0: correlation 1; dimension 1: (−1, 1, 0) · (−2, −1, 3) = 1 over √2 · √14, squared 1/28
    torch.testing.assert_close(redundancy(a, e), torch.tensor((1 + 1 / 28) / 2))
    torch.testing.assert_close(redundancy(a, -3 * e + 7), torch.tensor((1 + 1 / 28) / 2))


def test_redundancy_of_too_few_items_or_constants_is_zero() -> None:
    assert redundancy(torch.ones(1, 3), torch.ones(1, 3)) == 0
    constant = torch.ones(4, 3, requires_grad=True)
    loss = redundancy(constant, torch.randn(4, 3))
    loss.backward()
    assert loss == 0 and constant.grad is not None and constant.grad.isfinite().all()


def test_redundancy_leaves_out_items_without_picture() -> None:
    model, given_ = make(), some_inputs()
    has = torch.tensor([True, True, True, False])
    few = model(rows(given_, slice(3)))
    torch.testing.assert_close(model(replace(given_, has_picture=has)).redundancy, few.redundancy)


def test_agreement_draws_the_anchored_queries_only() -> None:
    model, given_ = make(blocks=0), some_inputs()
    peaked = torch.zeros(B, P)
    peaked[:, 7] = 4
    flat = model(replace(given_, agreement_map=torch.zeros(B, P)))
    drawn = model(replace(given_, agreement_map=peaked))
    assert (drawn.attention["anchored"][..., 7] > 0.9).all()
    assert (drawn.attention["anchored"][..., 7] > flat.attention["anchored"][..., 7]).all()
    torch.testing.assert_close(drawn.attention["exploratory"], flat.attention["exploratory"])
    # exactly β · κ·a on the logits: the ratio to another place grows by exp(2 · 4)
    ratio = (drawn.attention["anchored"] / flat.attention["anchored"]).log()
    torch.testing.assert_close(ratio[..., 7] - ratio[..., 0], torch.full((B, 2, 2), 8.0), rtol=1e-4, atol=1e-4)


def test_without_agreement_bias_or_map_the_map_is_not_read() -> None:
    model, given_ = make(agreement_bias=False, gates="none"), some_inputs()
    without = replace(given_, agreement_map=None, agreement=None)
    torch.testing.assert_close(model(given_).tokens, model(without).tokens)
    biased = make()
    zero = replace(given_, agreement_map=torch.zeros(B, P), agreement=torch.zeros(B))
    torch.testing.assert_close(biased(zero).tokens, biased(without).tokens)


def test_prior_starts_the_exploratory_queries_in_their_cells() -> None:
    given_ = replace(some_inputs(), visual=0.01 * some_inputs().visual)
    columns = {
        prior: make(blocks=0, prior=prior)(given_).attention["exploratory"].unflatten(-1, (3, 4)).sum(-2)
        for prior in (True, False)
    }
    assert columns[True][:, :, 0, :2].sum(-1).min() > 0.8 and columns[True][:, :, 1, 2:].sum(-1).min() > 0.8
    torch.testing.assert_close(columns[False], torch.full((B, 2, 2, 4), 0.25), rtol=0, atol=0.02)


def test_value_path_is_added_at_the_output() -> None:
    model, given_ = make(gates="none"), some_inputs()
    without = make(gates="none", value_path=False)
    without.load_state_dict({n: w for n, w in model.state_dict().items() if not n.startswith("value_path.")})
    z, bias = without(given_).tokens, model._bias(given_)
    path, visual = model.value_path, given_.visual
    assert path is not None
    pooled, _ = path.attention(z, visual, None, bias, values=path.mlp(visual))
    torch.testing.assert_close(model(given_).tokens, z + pooled)


@pytest.mark.parametrize(("a", "e"), [(2, 0), (0, 2)])
@pytest.mark.parametrize("blocks", [0, 1])
def test_one_stream_alone(a: int, e: int, blocks: int) -> None:
    found = make(anchored=a, exploratory=e, blocks=blocks)(some_inputs())
    name = "anchored" if a else "exploratory"
    assert found.tokens.shape == (B, 2, 16) and found.tokens.isfinite().all()
    assert found.redundancy is None
    assert set(found.attention) == set(found.gates) == {name}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((None, None, None), (2, 2)),
        ((8, None, None), (4, 4)),
        ((5, None, None), (3, 2)),
        ((1, None, None), (1, 0)),
        ((None, 3, None), (3, 1)),
        ((8, None, 0), (8, 0)),
        ((8, 0, None), (0, 8)),
        ((None, 8, 4), (8, 4)),
        ((12, 8, 4), (8, 4)),
    ],
)
def test_tokens_are_split_into_the_two_streams(options: tuple[int | None, ...], expected: tuple[int, int]) -> None:
    assert split_tokens(*options) == expected
    names = ("tokens", "anchored", "exploratory")
    model = make(**{name: one for name, one in zip(names, options, strict=True) if one is not None})
    assert (model.anchored, model.exploratory, model.tokens) == (*expected, sum(expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchored": 0, "exploratory": 0}, "at least one query"),
        ({"tokens": 0}, "at least one query"),
        ({"tokens": 4, "anchored": 3, "exploratory": 2}, "3 anchored and 2 exploratory queries do not make 4 tokens"),
        ({"anchored": 5}, "5 anchored and -1 exploratory queries do not make 4 tokens"),
        ({"blocks": 0, "value_path": False}, "a block or the value path"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("exploratory", [0, 2, 4])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("blocks", [0, 1])
def test_every_trained_weight_gets_a_gradient(exploratory: int, aligned: bool, blocks: int) -> None:
    model, given_ = make(tokens=4, exploratory=exploratory, blocks=blocks), some_inputs()
    stir_gates(model)
    found = model(given_ if aligned else replace(given_, agreement_map=None, agreement=None))
    found.tokens.sin().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_missing_text_leaves_the_anchors_at_their_latents() -> None:
    anchors = Anchors(2, 16, 8, 2)
    mask = torch.tensor([[True, True], [False, False]])
    one, other = anchors(torch.randn(2, 2, 8), mask), anchors(torch.randn(2, 2, 8), mask)
    torch.testing.assert_close(one[1], anchors.norm(anchors.latents)[0])
    torch.testing.assert_close(one[1], other[1])
    assert not torch.allclose(one[0], other[0])


def test_missing_text_gives_finite_output_and_gradients_whatever_the_metadata() -> None:
    model, given_ = make(), some_inputs()
    nothing = replace(given_, metadata_mask=torch.zeros(B, T, dtype=torch.bool))
    found = model(nothing)
    torch.testing.assert_close(found.tokens, model(replace(nothing, metadata=torch.randn(B, T, 8))).tokens)
    (found.tokens.square().sum() + found.redundancy).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_padding_of_the_metadata_is_not_read() -> None:
    model, given_ = make(), some_inputs()
    noise = torch.where(given_.metadata_mask[..., None], 0, torch.randn(B, T, 8))
    torch.testing.assert_close(model(given_).tokens, model(replace(given_, metadata=given_.metadata + noise)).tokens)


@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["joint", "separate"]),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_every_item_is_read_by_itself(a: int, e: int, blocks: int, streams: str, value: bool, seed: int) -> None:
    if a + e == 0 or (blocks == 0 and not value):
        return
    model = make(anchored=a, exploratory=e, blocks=blocks, streams=streams, value_path=value)
    stir_gates(model)
    given_ = some_inputs(seed)
    together = model(given_).tokens
    torch.testing.assert_close(model(rows(given_, slice(2, 3))).tokens[0], together[2], rtol=1e-4, atol=1e-5)


def test_what_is_trained_by_exact_names() -> None:
    def linear(*names: str) -> set[str]:
        return {f"{name}.{part}" for name in names for part in ("weight", "bias")}

    def cross(name: str) -> set[str]:
        return linear(f"{name}.query", f"{name}.key", f"{name}.value") - {f"{name}.key.bias"}

    block = "blocks.0"
    expected = (
        {"queries", "anchors.latents", "prior.scale", "agreement_bias.beta"}
        | cross("anchors.attention")
        | cross(f"{block}.cross_attention")
        | cross("value_path.attention")
        | linear("anchors.out", "anchors.norm", "norm", "value_path.mlp.0")
        | linear(*(f"{block}.{part}_{end}" for part in ("self", "cross") for end in ("out", "norm")))
        | linear(f"{block}.self_attention.query_key_value", *(f"{block}.feed_{end}" for end in ("in", "out", "norm")))
        | linear("gate_anchored.norms.1", "gate_anchored.norms.2", "gate_anchored.norms.3")
        | linear("gate_anchored.mlp.0", "gate_anchored.mlp.2", "gate_exploratory.mlp.0", "gate_exploratory.mlp.2")
        | linear("gate_exploratory.norms.0", "gate_exploratory.norms.1")
    )
    model = make()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    found = model(some_inputs())
    stir_gates(model)
    found = model(some_inputs())
    (found.tokens.sin().sum() + found.redundancy).backward()
    unmoved = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not unmoved, "data-parallel training needs a gradient for every trained weight"
