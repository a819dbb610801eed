"""Costs at real sizes: against figures that are published or worked out by hand, and as `tgq cost` prints them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.connectors import CONNECTORS, ConnectorWidths
from tgqformer.evaluation.sizes import Backbone, connector_costs, projection_flops

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def printed() -> dict[str, list[float]]:
    """The numbers of the tables of `tgq cost`, by the name of their row."""
    result = CliRunner().invoke(app, ["cost", "--tokens", "2"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "Connectors at 2 tokens" in said and "0.31 G beside the tower" in said
    tables = json.loads(CliRunner().invoke(app, ["cost", "--tokens", "2", "--json"]).stdout)
    rows = [list(row.values()) for table in tables for row in table]
    return {row[0]: [round(number or 0.0, 2) for number in row[1:]] for row in rows}


@pytest.mark.slow
def test_whole_systems_come_out_as_published(printed: dict[str, list[float]]) -> None:
    millions, tower, text, connector, language, whole = printed["InternVL3-2B"]
    assert 1800 < millions < 2000 and text == 0
    assert (round(tower), round(whole)) == (724, 1584)
    millions, tower, text, connector, language, whole = printed["Qwen3-VL-4B"]
    assert 4300 < millions < 4500
    assert round(tower + connector) == 579
    millions, tower, text, connector, language, whole = printed["TGQ-Former (ViT-B/16, RoBERTa, Qwen3-Embedding-0.6B)"]
    assert tower == 35.13 and connector < 0.2
    assert whole == pytest.approx(tower + text + connector + language, abs=0.03)
    assert 57.31 < language < 60.96  # 64 tokens of text alone, and with 4 visual ones
    assert round(35.13 + projection_flops() / 1e9, 2) == 35.44  # the paper rounds 35.126 + 0.308 to 35.43
    small = printed["TGQ-Former (EfficientNet-Lite0, MiniLM, SmolLM2-135M)"]
    assert 0.7 < small[1] < 0.8 and small[-1] < 20  # 0.39 G multiply-adds are published for the picture


@pytest.mark.slow
def test_every_connector_has_a_row(printed: dict[str, list[float]]) -> None:
    assert set(CONNECTORS) <= set(printed)
    assert printed["none"] == [0.0] * 4 and printed["mean"] == [0.0] * 4


def test_connectors_by_hand() -> None:
    backbone = Backbone(
        "toy", ConnectorWidths(visual=20, vector=6, metadata=10, grid=(3, 4)), 5, nn.Identity(), None, None
    )
    linear, mlp = connector_costs(backbone, 3, ["linear", "mlp"])
    assert linear.parameters == linear.trainable == 20 * 256 + 256
    assert linear.flops == {"connector": 2 * 3 * 20 * 256}
    assert mlp.flops == {"connector": 2 * 3 * (20 * 256 + 256 * 256)}
    few, many = (connector_costs(backbone, tokens, ["qformer"])[0] for tokens in (2, 32))
    assert few.total_flops < many.total_flops
    assert many.parameters - few.parameters == 30 * 256  # queries are all that grows
