"""The text-aware Q-Former against `transformers.InstructBlipQFormerModel` with equal weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peer_weights import load_instructblip
from torch import Tensor
from transformers import InstructBlipQFormerConfig
from transformers.models.instructblip.modeling_instructblip import InstructBlipQFormerModel

from tgqformer.connectors import ConnectorInput, ConnectorWidths
from tgqformer.connectors.text_qformer import TextQFormer

B, P, T, K = 3, 12, 6, 5
WIDTHS = ConnectorWidths(visual=24, vector=6, metadata=32, grid=(3, 4))
PLAIN = {"dim": 32, "heads": 4, "hidden": 48, "value_path": False, "prior": False}


def pair(layers: int = 4, every: int = 2) -> tuple[TextQFormer, InstructBlipQFormerModel]:
    torch.manual_seed(0)
    config = InstructBlipQFormerConfig(
        vocab_size=11, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=48,
        encoder_hidden_size=24, cross_attention_frequency=every, max_position_embeddings=8,
        attn_implementation="eager",
    )  # fmt: skip
    peer = InstructBlipQFormerModel(config).eval()
    for weight in peer.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    ours = TextQFormer(WIDTHS, tokens=K, blocks=layers, cross_every=every, **PLAIN)  # type: ignore[arg-type]
    load_instructblip(ours, peer)
    ours.read.weight.data, ours.read.bias.data = torch.eye(32), torch.zeros(32)
    return ours.eval(), peer


def some_inputs(peer: InstructBlipQFormerModel, ids: Tensor, mask: Tensor) -> ConnectorInput:
    """The text as their word and position embeddings give it."""
    words = peer.embeddings.word_embeddings(ids) + peer.embeddings.position_embeddings(torch.arange(T))
    torch.manual_seed(1)
    return ConnectorInput(torch.randn(B, P, 24), torch.zeros(B, 6), torch.ones(B, dtype=torch.bool), words, mask)


@pytest.mark.parametrize(("layers", "every"), [(1, 1), (4, 2), (3, 3)])
def test_same_outputs_as_instructblip(layers: int, every: int) -> None:
    ours, peer = pair(layers, every)
    ids = torch.randint(1, 11, (B, T))
    mask = torch.arange(T)[None] < torch.tensor([[T], [3], [1]])
    inputs = some_inputs(peer, ids, mask)
    attended = torch.cat([torch.ones(B, K), mask], 1).long()
    with torch.no_grad():
        expected = peer(
            input_ids=ids, attention_mask=attended, query_embeds=ours.queries.expand(B, -1, -1),
            encoder_hidden_states=inputs.visual,
        ).last_hidden_state[:, :K]  # fmt: skip
        found = ours(inputs)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)
    assert found.attention["query"].shape == (B, 4, K, P)


def test_padding_says_nothing_and_words_do() -> None:
    ours, peer = pair()
    mask = torch.arange(T)[None] < torch.tensor([[4], [2], [0]])
    inputs = some_inputs(peer, torch.randint(1, 11, (B, T)), mask)
    other = replace(inputs, metadata=torch.where(mask[..., None], inputs.metadata, torch.randn(B, T, 32)))
    torch.testing.assert_close(ours(inputs).tokens, ours(other).tokens)
    moved = ours(replace(inputs, metadata=inputs.metadata + torch.randn(B, T, 32))).tokens
    same = [torch.allclose(one, another, atol=1e-4) for one, another in zip(moved, ours(inputs).tokens, strict=True)]
    assert same == [False, False, True]  # the last item has no text


def test_weights_of_another_shape_of_model_are_refused() -> None:
    _, peer = pair()
    with pytest.raises(ValueError, match="theirs has 4 layers, ours 3 blocks"):
        load_instructblip(TextQFormer(WIDTHS, blocks=3, cross_every=2, **PLAIN), peer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="set cross_every"):
        load_instructblip(TextQFormer(WIDTHS, blocks=4, cross_every=1, **PLAIN), peer)  # type: ignore[arg-type]
