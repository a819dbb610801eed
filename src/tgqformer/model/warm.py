"""A warm start: a fresh model takes the weights of an earlier one, or is refused."""

from __future__ import annotations

from typing import Any

import torch

from tgqformer.config import plain
from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder

ANEW = "keep the recipe as it was, or train anew once without training.from"


@torch.no_grad()
def take_weights(model: ItemEmbedder, earlier: ItemEmbedder) -> None:
    """Give a fresh model all that an earlier one learned: connector, heads, alignment, language model.

    Args:
        model: as `Trial.build` makes it, with adapters of its own. earlier: a loaded one, of the same make.

    Raises:
        TgqError: if the earlier one does not fit: another connector, other widths, other encoders or prompt.
    """
    for what, own, other in _makes(model, earlier):
        if own != other:
            raise TgqError(f"training.from: the earlier model has {what} {other}, this one {own}; {ANEW}")
    if model.language is not None and earlier.language is not None:
        try:
            model.language.take(earlier.language)
        except TgqError as error:
            raise TgqError(f"training.from: {error}; {ANEW}") from error
    weights = {name: weight for name, weight in earlier.state_dict().items() if _is_taken(name)}
    own_names = {name for name in model.state_dict() if _is_taken(name)}
    if own_names != set(weights):
        odd = sorted(own_names ^ set(weights))[0]
        raise TgqError(f"training.from: the earlier model and this one differ in {odd}; {ANEW}")
    model.load_state_dict(weights, strict=False)


def _is_taken(name: str) -> bool:
    return not name.startswith(("language.", "frozen."))


def _makes(model: ItemEmbedder, earlier: ItemEmbedder) -> list[tuple[str, Any, Any]]:
    """Return what two models must share: (word, of the one, of the other)."""
    assert model.encoders is not None and earlier.encoders is not None
    own, other = model.encoders, earlier.encoders
    return [
        ("the connector", model.recipe["connector"], earlier.recipe["connector"]),
        ("the connector's options", model.recipe["options"], earlier.recipe["options"]),
        ("the vision encoder", own.vision.fingerprint, other.vision.fingerprint),
        ("the text encoder", own.text.fingerprint, other.text.fingerprint),
        ("the prompt", plain(own.prompt), plain(other.prompt)),
        ("widths", vars(model.widths), vars(earlier.widths)),
        ("a language model:", model.language is not None, earlier.language is not None),
        ("vectors of width", model.projection.out_features, earlier.projection.out_features),
    ]
