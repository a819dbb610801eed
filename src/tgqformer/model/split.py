"""Taking a Hugging Face text model apart: what reads the text alone, what reads text and picture, and both together."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tgqformer.errors import TgqError

FINAL_NORMS = {"norm", "final_norm", "final_layernorm", "final_layer_norm"}
"""What models call the norm behind their last layer."""


class PassStates(nn.Module):
    """Stands where a truncated encoder had its embeddings: the states that come in are already embedded."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """Return `inputs_embeds` [B, L, H] as they are."""
        return inputs_embeds


def positions_of(model: Any) -> tuple[int, int | None]:
    """Return the first position and how many there are; None where they are rotary, and a text may be of any length."""
    if not hasattr(model, "encoder"):
        return 0, None
    first = getattr(model.embeddings, "padding_idx", -1) + 1  # RoBERTa counts from behind its padding
    return first, int(model.config.max_position_embeddings) - first


def layers_of(model: Any) -> nn.ModuleList:
    """Return the transformer layers: BERT-like models keep it in `encoder.layer`, decoders in `layers`."""
    for path in ("encoder.layer", "layers"):
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return found
    raise TgqError(f"{type(model).__name__} has neither encoder.layer nor layers; this text model is not supported yet")


def is_bidirectional(model: Any) -> bool:
    """Return whether a token sees those behind it: in BERT-like models, or as its attention says (ModernBERT)."""
    parts = layers_of(model)[0].modules()
    return hasattr(model, "encoder") or any(getattr(part, "is_causal", None) is False for part in parts)


def keep_layers(model: Any, start: int, stop: int) -> None:
    """Leave a model the layers from `start` to before `stop`."""
    kept = nn.ModuleList(list(layers_of(model))[start:stop])
    if getattr(model.config, "layer_types", None) is not None:
        model.config.layer_types = model.config.layer_types[start:stop]
    if hasattr(model, "encoder"):
        model.encoder.layer = kept
    else:
        model.layers = kept
        for index, layer in enumerate(kept):
            for part in list[Any](one for one in layer.modules() if hasattr(one, "layer_idx")):
                part.layer_idx = index
    model.config.num_hidden_layers = len(kept)


def split(model: Any, frozen: int) -> tuple[Any, Any]:
    """Split into what reads the text alone and what reads text and picture; both together hold each weight once."""
    if frozen == 0:
        return model.get_input_embeddings(), model
    prefix, body = copy.deepcopy(model), model
    keep_layers(prefix, 0, frozen)
    keep_layers(body, frozen, len(layers_of(body)))
    for name in FINAL_NORMS & dict(prefix.named_children()).keys():
        setattr(prefix, name, nn.Identity())  # the final norm belongs to the last layer, which is the body's
    if hasattr(prefix, "pooler"):
        prefix.pooler = None
    if hasattr(body, "embeddings"):
        body.embeddings = PassStates()
    else:
        body.set_input_embeddings(nn.Identity())
    return prefix, body


def join(prefix: Any, body: Any, frozen: int) -> Any:
    """Undo `_split`: one whole model."""
    if frozen == 0:
        return body
    layers = nn.ModuleList([*layers_of(prefix), *layers_of(body)])
    if hasattr(body, "embeddings"):
        body.embeddings = prefix.embeddings
    else:
        body.set_input_embeddings(prefix.get_input_embeddings())
    if hasattr(body, "encoder"):
        body.encoder.layer = layers
    else:
        body.layers = layers
    if getattr(body.config, "layer_types", None) is not None:
        body.config.layer_types = [*prefix.config.layer_types, *body.config.layer_types]
    body.config.num_hidden_layers = len(layers)
    return body


def kept_apart(real: Tensor, own: int, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [B, 1, S, S]: real tokens are seen, but by the first `own` only those among them.

    A row that would see nothing sees itself, so that no number is lost.
    """
    place = torch.arange(real.shape[1], device=real.device)
    seen = real[:, None, :] & ((place[:, None] >= own) | (place[None, :] < own))
    seen = seen | (place[:, None] == place[None, :])
    return torch.zeros(seen.shape, dtype=dtype, device=real.device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]
