"""Copying weights of published connectors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tgqformer.connectors.attention import QFormerBlock
from tgqformer.connectors.qformer import QFormer
from tgqformer.connectors.resampler import PerceiverResampler, ResamplerLayer
from tgqformer.connectors.text_qformer import TextBlock, TextQFormer


@torch.no_grad()
def load_blip2(ours: QFormer, theirs: nn.Module) -> None:
    """Copy the weights of a `transformers.Blip2QFormerModel` (its queries are not part of it) into our Q-Former.

    Raises:
        ValueError: if depth or places of cross-attention differ.
    """
    _copy(ours.norm, theirs.get_submodule("layernorm"))
    for block, layer in _layers(ours.blocks, theirs.get_submodule("encoder.layer")):
        assert isinstance(block, QFormerBlock)
        _load_block(block, layer)


@torch.no_grad()
def load_instructblip(ours: TextQFormer, theirs: nn.Module) -> None:
    """Copy the weights of a `transformers.InstructBlipQFormerModel` into our text-aware Q-Former.

    Its queries are not part of it; its embeddings of words and positions have no place in ours, where the text encoder
    gives the text (`TextQFormer.read`). Of its last layer, the feed-forward of the text is never read.

    Raises:
        ValueError: if depth or places of cross-attention differ.
    """
    _copy(ours.norm, theirs.get_submodule("embeddings.layernorm"))
    for block, layer in _layers(ours.blocks, theirs.get_submodule("encoder.layer")):
        assert isinstance(block, TextBlock)
        _load_block(block.block, layer)
        if block.keep_text:
            _copy(block.text_in, layer.intermediate.dense)
            _copy(block.text_out, layer.output.dense)
            _copy(block.text_norm, layer.output.LayerNorm)


@torch.no_grad()
def load_idefics2(ours: PerceiverResampler, theirs: nn.Module) -> None:
    """Copy the weights of a `transformers.Idefics2PerceiverResampler` into ours, latents included.

    Raises:
        ValueError: if depth or number of latents differ.
    """
    latents = theirs.get_parameter("latents")
    if len(latents) != ours.tokens:
        raise ValueError(f"theirs has {len(latents)} latents, ours {ours.tokens}")
    ours.latents.copy_(latents[None])
    _copy(ours.norm, theirs.get_submodule("norm"))
    for block, layer in _layers(ours.blocks, theirs.get_submodule("layers")):
        assert isinstance(block, ResamplerLayer)
        _copy(block.latents_norm, layer.input_latents_norm)
        _copy(block.context_norm, layer.input_context_norm)
        _copy(block.feed_norm, layer.post_attention_layernorm)
        for own, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "o_proj")):
            _copy(getattr(block.attention, own), getattr(layer.self_attn, name))
        for own in ("gate", "up", "down"):
            _copy(getattr(block, own), getattr(layer.mlp, f"{own}_proj"))


def _layers(blocks: nn.ModuleList, layers: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    assert isinstance(layers, nn.ModuleList)
    if len(layers) != len(blocks):
        raise ValueError(f"theirs has {len(layers)} layers, ours {len(blocks)} blocks")
    return zip(blocks, layers, strict=True)


def _load_block(block: QFormerBlock, layer: Any) -> None:
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
