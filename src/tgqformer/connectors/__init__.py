"""Connectors: visual tokens + metadata tokens -> a few tokens for the language model."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from tgqformer.connectors.base import (
    TOKENS,
    Connector,
    ConnectorInput,
    ConnectorOutput,
    ConnectorWidths,
    PictureWord,
    reads_field_maps,
    reads_fields,
    wanted_picture_word,
)  # fmt: skip
from tgqformer.connectors.cabstractor import CAbstractor
from tgqformer.connectors.linear import LinearProjector
from tgqformer.connectors.mean import MeanPool
from tgqformer.connectors.mlp import MLPProjector
from tgqformer.connectors.none import NoConnector
from tgqformer.connectors.notellm2 import NoteLLM2
from tgqformer.connectors.qformer import QFormer
from tgqformer.connectors.resampler import PerceiverResampler
from tgqformer.connectors.text_qformer import TextQFormer
from tgqformer.connectors.tgq import TGQFormer
from tgqformer.errors import TgqError

CONNECTORS: dict[str, Callable[..., nn.Module]] = {
    "none": NoConnector,
    "mean": MeanPool,
    "linear": LinearProjector,
    "mlp": MLPProjector,
    "qformer": QFormer,
    "text-qformer": TextQFormer,
    "resampler": PerceiverResampler,
    "c-abstractor": CAbstractor,
    "notellm2": NoteLLM2,
    "tgq": TGQFormer,
}

__all__ = [
    "CONNECTORS", "TOKENS", "Connector", "ConnectorInput", "ConnectorOutput", "ConnectorWidths", "PictureWord",
    "check_connector", "make_connector", "reads_field_maps", "reads_fields", "wanted_picture_word",
]  # fmt: skip


def make_connector(name: str, widths: ConnectorWidths, options: Mapping[str, Any]) -> nn.Module:
    """Make a connector by its name.

    Raises:
        TgqError: for an unknown name or option, with the nearest known one.
    """
    check_connector(name, options)
    try:
        return CONNECTORS[name](widths, **options)
    except ValueError as error:
        raise TgqError(f"connector {name!r} with {dict(options)}: {error}") from error


def check_connector(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown name or option before anything is made.

    Raises:
        TgqError: with the nearest known one.
    """
    if name not in CONNECTORS:
        raise TgqError(f"connector {name!r} is not known; {_nearest(name, list(CONNECTORS))}")
    known = list(inspect.signature(CONNECTORS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise TgqError(f"connector {name!r} has no option {option!r}; {_nearest(option, known)}")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
