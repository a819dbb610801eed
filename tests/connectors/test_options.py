"""Options are checked before anything is made: names, words, numbers, and what contradicts itself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from tgqformer.connectors import CONNECTORS, Connector, ConnectorWidths, check_connector, make_connector
from tgqformer.connectors.mlp import MLPProjector
from tgqformer.errors import TgqError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tqg", {}, "connector 'tqg' is not known; did you mean 'tgq'?"),
        (
            "zzz",
            {},
            "choose from frozen, none, mean, linear, mlp, qformer, text-qformer, resampler, c-abstractor",
        ),
        ("tgq", {"widths": 2}, "'widths' is not a key here"),
        ("tgq", {"gatse": "both"}, "connector 'tgq': 'gatse' is not a key here; did you mean 'gates'?"),
        ("tgq", {"gates": "boht"}, "gates: 'boht' is not known; did you mean 'both'?"),
        ("tgq", {"streams": "jiont"}, "streams: 'jiont' is not known; did you mean 'joint'?"),
        ("tgq", {"modulate": "pooled"}, "'modulate' is not a key here; known are tokens, anchored,"),
        ("tgq", {"dropout": 1.5}, "dropout: input should be less than or equal to 1"),
        ("tgq", {"value_path": "maybe"}, "value_path: input should be a valid boolean"),
        ("tgq", [1], "must be a section of keys"),
        ("tgq", {"heads": 3}, "3 heads do not divide a width of 256"),
        ("tgq", {"blocks": 0, "value_path": False}, "a block or the value path"),
        ("tgq", {"tokens": 4, "anchored": 3, "exploratory": 3}, "3 anchored and 3 exploratory queries do not make 4"),
        ("tgq", {"tokens": 0}, "at least one query"),
        ("qformer", {"blocks": 0, "value_path": False}, "a block or the value path"),
        ("tgq", {"anchored": 0, "exploratory": 0}, "at least one query"),
        ("qformer", {"tokens": 0}, "tokens: input should be greater than 0"),
        ("qformer", {"blocks": -1}, "blocks: input should be greater than or equal to 0"),
        ("qformer", {"cross_every": 0}, "cross_every: input should be greater than 0"),
        ("text-qformer", {"heads": 5}, "5 heads do not divide a width of 256"),
        ("text-qformer", {"blocks": 0}, "blocks: input should be greater than 0"),
        ("resampler", {"key_heads": 3}, "3 heads of keys do not divide 4 heads"),
        ("resampler", {"tokens": 0}, "tokens: input should be greater than 0"),
        ("notellm2", {"weight": 1}, "from 0 to below 1, found 1.0"),
        ("notellm2", {"word": " "}, "must not be empty"),
        ("c-abstractor", {"blocks": 0}, "blocks: input should be greater than 0"),
        ("mlp", {"dim": "wide"}, "dim: input should be a valid integer"),
        ("mean", {"dim": 8}, "'dim' is not a key here; known are tokens"),
        ("none", {"tokens": 4}, "'tokens' is not a key here; known are none"),
    ],
)
def test_wrong_options_are_named(name: str, options: Any, message: str) -> None:
    for refuse in (
        check_connector,
        lambda *given: make_connector(given[0], ConnectorWidths(4, 4, 4, (2, 2)), given[1]),
    ):
        with pytest.raises(TgqError) as found:
            refuse(name, options)
        assert message in str(found.value)


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_every_connector_is_checked_by_its_signature(name: str) -> None:
    connector = CONNECTORS[name]
    assert issubclass(connector, Connector)
    _, *options = inspect.signature(connector).parameters.values()
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)
    check_connector(name, {option.name: option.default for option in options})


def test_tgq_former_has_few_options() -> None:
    assert list(inspect.signature(CONNECTORS["tgq"]).parameters)[1:] == [
        *("tokens", "anchored", "exploratory", "dim", "heads", "blocks", "streams", "gates"),
        *("value_path", "prior", "agreement_bias", "beta", "dropout"),
    ]


def test_a_check_makes_no_weights_and_draws_nothing() -> None:
    before, options = torch.get_rng_state(), {"dim": 2**20, "blocks": 12}  # terabytes of weights, were they made
    check_connector("tgq", options)
    assert torch.equal(torch.get_rng_state(), before)


def test_numbers_and_switches_that_are_written_as_words_are_read() -> None:
    made = make_connector("mlp", ConnectorWidths(4, 4, 4, (2, 2)), {"dim": "16", "value_path": "true"})
    assert isinstance(made, MLPProjector) and (made.width, made.value_path) == (16, True)
