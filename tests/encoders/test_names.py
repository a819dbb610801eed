"""Names and options of encoders are checked before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

from tgqformer.encoders import check_encoders
from tgqformer.errors import TgqError

HUB = "hf:no/such-model"


@pytest.mark.parametrize(
    ("vision", "text", "options", "message"),
    [
        (
            "efficientnet",
            "minilm",
            {},
            "'efficientnet' is not known; did you mean 'efficientnet-lite0'?",
        ),
        ("vit", "minilm", {}, "choose from efficientnet-lite0, hf:<folder or hub id>"),
        ("hf:", "minilm", {}, "vision encoder 'hf:' is not known"),
        (HUB, "minilm", {"levels": "x"}, "levels: input should be a valid tuple"),
        ("efficientnet-lite0", "minlm", {}, "text encoder 'minlm' is not known; did you mean 'minilm'?"),
        ("joint:efficientnet-lite0", "-", {}, "joint encoder 'efficientnet-lite0' is not known"),
        (
            "efficientnet-lite0",
            "minilm",
            {"levels": "sevral"},
            "'sevral' is not known; did you mean 'several'?",
        ),
        ("efficientnet-lite0", "minilm", {"level": "last"}, "'level' is not a key here; did you mean 'levels'?"),
        (
            "efficientnet-lite0",
            "minilm",
            {"fit": "pad"},
            "'fit' is not a key here; known are levels, side, precision",
        ),
        ("efficientnet-lite0", "minilm", {"precision": "float23"}, "'float23' is not known; did you mean 'float32'?"),
        ("efficientnet-lite0", "minilm", {"device": "cdua"}, "device: 'cdua' is no device; give auto, cpu, cuda or"),
        (HUB, "minilm", {"fit": "padd"}, "fit: 'padd' is not known; did you mean 'pad'?"),
        (HUB, "minilm", {"levels": ["last"]}, "levels.0: input should be a valid integer"),
        (f"joint:{HUB}", "-", {"pooling": "mean"}, "'pooling' is not a key here"),
    ],
)
def test_wrong_names_and_options_are_named(vision: str, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TgqError) as found:
        check_encoders(vision, text, options)
    assert message in str(found.value)


def test_right_ones_pass_and_nothing_is_made() -> None:
    check_encoders("efficientnet-lite0", "minilm", {"levels": "last", "device": "cuda:1"})
    check_encoders(HUB, HUB, {"levels": [-2], "fit": "crop", "precision": "bfloat16"})
    check_encoders(f"joint:{HUB}", "not read", {"levels": (1, 2)})
