"""Connectors: visual tokens + metadata tokens -> a few tokens for the language model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from tgqformer.config import options_of, parse
from tgqformer.connectors.base import (
    TOKENS,
    Connector,
    ConnectorInput,
    ConnectorOutput,
    ConnectorWidths,
    PictureWord,
)
from tgqformer.connectors.cabstractor import CAbstractor
from tgqformer.connectors.linear import LinearProjector
from tgqformer.connectors.mean import MeanPool
from tgqformer.connectors.mlp import MLPProjector
from tgqformer.connectors.none import Frozen, NoConnector
from tgqformer.connectors.notellm2 import NoteLLM2
from tgqformer.connectors.qformer import QFormer
from tgqformer.connectors.resampler import PerceiverResampler
from tgqformer.connectors.text_qformer import TextQFormer
from tgqformer.connectors.tgq import TGQFormer
from tgqformer.errors import TgqError, nearest

CONNECTORS: dict[str, type[Connector]] = {
    "frozen": Frozen,
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
_ANY_WIDTHS = ConnectorWidths(visual=8, vector=8, metadata=8, grid=(2, 2))
_PASSED = set[tuple[type[Connector] | None, str]]()

__all__ = [
    "CONNECTORS",
    "TOKENS",
    "Connector",
    "ConnectorInput",
    "ConnectorOutput",
    "ConnectorWidths",
    "PictureWord",
    "check_connector",
    "check_pictures",
    "make_connector",
]


def make_connector(name: str, widths: ConnectorWidths, options: Mapping[str, Any]) -> Connector:
    """Make a connector by its name.

    Raises:
        TgqError: for an unknown name, option or word, with the nearest known one, and for options that contradict
            each other.
    """
    if name not in CONNECTORS:
        raise TgqError(f"connector {name!r} is not known; {nearest(name, CONNECTORS)}")
    checked = parse(_options(CONNECTORS[name]), options, f"connector {name!r}")
    try:
        return CONNECTORS[name](widths, **vars(checked))
    except ValueError as error:
        raise TgqError(f"connector {name!r} with {dict(options)}: {error}") from error


def check_connector(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown name and wrong options before anything is made; errors as in `make_connector`.

    The connector is made without memory for its weights, so that it says itself which options contradict each other.
    What has passed is not made again: a bench asks for each of its cells.
    """
    asked = (CONNECTORS.get(name), repr(options))
    if asked not in _PASSED:
        with torch.device("meta"):
            make_connector(name, _ANY_WIDTHS, options)
        _PASSED.add(asked)


def check_pictures(name: str, how: str) -> None:
    """Refuse a connector that cannot take several pictures as it is asked to.

    Raises:
        TgqError: naming those that can.
    """
    if how == "attend" and not CONNECTORS[name].attends:
        able = ", ".join(one for one, made in CONNECTORS.items() if made.attends)
        raise TgqError(f"connector {name!r} reads the grid of one picture; prompt.pictures: attend is for {able}")


@cache
def _options(connector: type[Connector]) -> type[Any]:
    return options_of(connector)
