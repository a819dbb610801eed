"""Copying weights of published Q-Formers into ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tgqformer.connectors.attention import Block
from tgqformer.connectors.qformer import QFormer


@torch.no_grad()
def load_blip2(ours: QFormer, theirs: nn.Module) -> None:
    """Copy the weights of a `transformers.Blip2QFormerModel` (its queries are not part of it) into our Q-Former.

    Raises:
        ValueError: if depth or places of cross-attention differ.
    """
    layers = theirs.get_submodule("encoder.layer")
    assert isinstance(layers, nn.ModuleList)
    if len(layers) != len(ours.blocks):
        raise ValueError(f"theirs has {len(layers)} layers, ours {len(ours.blocks)} blocks")
    _copy(ours.norm, theirs.get_submodule("layernorm"))
    for block, layer in zip(ours.blocks, layers, strict=True):
        assert isinstance(block, Block)
        _load_block(block, layer)


def _load_block(block: Block, layer: Any) -> None:
    own = layer.attention.attention
    parts = (own.query, own.key, own.value)
    block.self_attention.query_key_value.weight.copy_(torch.cat([part.weight for part in parts]))
    block.self_attention.query_key_value.bias.copy_(torch.cat([part.bias for part in parts]))
    _copy(block.self_out, layer.attention.output.dense)
    _copy(block.self_norm, layer.attention.output.LayerNorm)
    if (block.cross_attention is not None) != bool(layer.has_cross_attention):
        raise ValueError("cross-attention stands in other layers; set cross_every as theirs")
    if block.cross_attention is not None:
        cross = layer.crossattention
        for name in ("query", "key", "value"):
            _copy(getattr(block.cross_attention, name), getattr(cross.attention, name))
        _copy(block.cross_out, cross.output.dense)
        _copy(block.cross_norm, cross.output.LayerNorm)
    _copy(block.feed_in, layer.intermediate_query.dense)
    _copy(block.feed_out, layer.output_query.dense)
    _copy(block.feed_norm, layer.output_query.LayerNorm)


def _copy(ours: nn.Module, theirs: nn.Module) -> None:
    for name, weight in ours.named_parameters(recurse=False):
        source: Tensor = getattr(theirs, name)
        weight.copy_(source)
