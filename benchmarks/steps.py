"""What a training step and an embedded item cost, by language model and connector, against the products in them.

Features are random, of the widths that EfficientNet-Lite0 and MiniLM give; texts have 14 tokens. A step is forward and
backward of 64 pairs, a step of the connector alone of 256 pairs; an item is embedded in batches of 128, once with the
adapters inside the weights, as the bench does, and once with them apart. Prints medians of the process time on one
thread, and what share of it the matrix products alone would take, at the rate of a bare one of the same run.

    python benchmarks/steps.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tgqformer.connectors import ConnectorWidths
from tgqformer.encoders.alignment import Alignment
from tgqformer.encoders.frozen import resolve_precision
from tgqformer.model.batch import ItemBatch
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.language import LanguageModel, LoRA, make_language
from tgqformer.training.batches import PairBatch
from tgqformer.training.loop import Objective
from tgqformer.training.objectives import PairObjective, VisualLoss, VisualObjective
from tgqformer.training.settings import TrainingSettings

WIDTHS = ConnectorWidths(visual=496, vector=1280, metadata=384, grid=(7, 7))
TEXT, TOKENS, PAIRS, ALONE, EMBEDDED = 14, 4, 64, 256, 128
LANGUAGES: dict[str, dict[str, Any]] = {
    "MiniLM": {"name": "minilm"},
    "MiniLM, as in `small`": {"name": "minilm", "frozen_layers": 5},
    "SmolLM2, 6 layers": {"name": "smollm2", "layers": 6, "frozen_layers": 3},
    "SmolLM2, 4 layers, as in `small`": {"name": "smollm2", "layers": 4, "frozen_layers": 3},
}
CONNECTORS = {"TGQ-Former": "tgq", "Q-Former": "qformer", "MLP": "mlp"}
BFLOAT16 = resolve_precision("auto", torch.device("cpu")) is torch.bfloat16


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"products in {'bfloat16' if BFLOAT16 else 'float32'}; in brackets the share of the products alone\n")
    print("| language model | connector | step, s | step alone, s | an item, ms | adapters apart, ms |")
    print("|---|---|--:|--:|--:|--:|")
    for title, language in LANGUAGES.items():
        for name, connector in CONNECTORS.items():
            print(f"| {title} | {name} | " + " | ".join(costs(connector, language, repeats)) + " |", flush=True)


def costs(connector: str, language: dict[str, Any], repeats: int) -> list[str]:
    """Measure one model: the cells of its row."""
    torch.manual_seed(0)
    body = make_language(lora=LoRA(), **language)
    model = ItemEmbedder(connector, {"tokens": TOKENS}, WIDTHS, body)
    if model.connector.guided:
        model.alignment = Alignment(WIDTHS.visual, WIDTHS.metadata)
    settings = TrainingSettings().resolved(10**6)
    visual = VisualLoss.wanted(model, settings)
    assert visual is not None
    objective, stage = PairObjective(model, settings, visual), VisualObjective(model, settings, visual)
    few, many, items = (some_items(count, body) for count in (2 * PAIRS, 2 * ALONE, EMBEDDED))

    def step(what: Objective, batch: ItemBatch) -> None:
        losses = what(PairBatch(batch, torch.zeros(len(batch) // 2, len(batch) // 2, dtype=torch.bool)))
        torch.stack([what.weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum().backward()

    @torch.no_grad()
    def embed() -> None:
        model(items)

    model.train()
    found = [timed(lambda: step(objective, few), repeats), timed(lambda: step(stage, many), repeats)]
    model.eval()
    with body.merged():
        merged = timed(embed, repeats, EMBEDDED / 1000)
    return [*found, merged, timed(embed, repeats, EMBEDDED / 1000)]


def timed(work: Callable[[], None], repeats: int, share: float = 1.0) -> str:
    """Time calls, after one to warm up: the median, by `share`, and how much of it the bare products take, in %."""
    with autocast(), FlopCounterMode(display=False) as counted:
        work()
    seconds, bare = [], []
    for _ in range(repeats):
        bare.append(clock(product) / (2 * PAIRS * 18 * 576 * 1536 * 2))
        with autocast():
            seconds.append(clock(work))
    products = counted.get_total_flops() * statistics.median(bare)
    return f"{statistics.median(seconds) / share:.2f} ({100 * products / statistics.median(seconds):.0f} %)"


LEFT, RIGHT = torch.randn(2 * PAIRS * 18, 576), torch.randn(576, 1536)
if BFLOAT16:
    LEFT, RIGHT = LEFT.bfloat16(), RIGHT.bfloat16()


def product() -> None:
    """A product as in a step: 2,304 tokens through a layer of SmolLM2's feed-forward."""
    torch.mm(LEFT, RIGHT)


def autocast() -> torch.autocast:
    """Products as training and the bench have them on this processor."""
    return torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16)


def clock(work: Callable[[], None]) -> float:
    """Time one call: seconds of this process, whatever else the machine does."""
    start = time.process_time()
    work()
    return time.process_time() - start


def some_items(count: int, language: LanguageModel) -> ItemBatch:
    """Random features of so many items, in float16 as they are cached."""
    real, half = torch.ones(count, TEXT, dtype=torch.bool), partial(torch.randn, dtype=torch.float16)
    return ItemBatch(
        half(count, 49, WIDTHS.visual), half(count, WIDTHS.vector), real[:, 0],
        half(count, TEXT, WIDTHS.metadata), real, half(count, WIDTHS.metadata),
        half(count, TEXT, language.width), real,
    )  # fmt: skip


if __name__ == "__main__":
    main()
