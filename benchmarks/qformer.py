"""Our Q-Former against `transformers.Blip2QFormerModel` with equal weights, and the time of a training step.

1. Forward, no gradient, float32: 768 wide, 6 layers, 32 queries, 196 tokens, batch 64. Prints the largest difference
   of the outputs and, in turns, both medians of wall time and of processor time, and their ratios.
2. Forward + backward of the connectors as the recipes use them (49 tokens of width 496, D 256, batch 128).

    python benchmarks/qformer.py [--repeats 7] [--threads 1] [--compile]

On a machine that does other work too, one thread gives the steadier ratio: with several, each waits for the slowest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tgqformer.connectors.base import ConnectorInput, ConnectorWidths
from tgqformer.connectors.qformer import QFormer
from tgqformer.connectors.tgq import TGQFormer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from peer_weights import load_blip2


@dataclass(frozen=True)
class Cost:
    """Medians in seconds: on the clock, and of the processor (all threads together)."""

    wall: float
    processor: float


def main() -> None:
    """Check equality, then time both in turns; then time training steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="put both through torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{arguments.threads} threads, median of {arguments.repeats}")
    compare_with_blip2(arguments.batch, arguments.repeats, arguments.compile)
    time_training(arguments.repeats)


def compare_with_blip2(batch: int, repeats: int, compiled: bool) -> None:
    """Print difference, times and ratios of the two forwards."""
    ours, peer = equal_models()
    queries, tokens = ours.queries.detach(), torch.randn(batch, 196, 768)
    attend = torch.compile(ours.attend) if compiled else ours.attend
    peer_forward = torch.compile(peer) if compiled else peer

    def run_peer() -> Tensor:
        found: Tensor = peer_forward(query_embeds=queries.expand(batch, -1, -1), encoder_hidden_states=tokens)[0]
        return found

    with torch.inference_mode():
        print(f"largest difference {(attend(tokens)[0] - run_peer()).abs().max():.1e}")
        costs = in_turns({"ours": lambda: attend(tokens), "Blip2QFormerModel": run_peer}, repeats)
    one, other = costs["ours"], costs["Blip2QFormerModel"]
    print(f"ratio {one.wall / other.wall:.2f} (processor time {one.processor / other.processor:.2f})")


def equal_models() -> tuple[QFormer, nn.Module]:
    """Give our Q-Former and BLIP-2's with the same random weights."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    config = Blip2QFormerConfig(hidden_size=768, num_hidden_layers=6, num_attention_heads=12, intermediate_size=3072,
                                encoder_hidden_size=768, cross_attention_frequency=2)  # fmt: skip
    peer = Blip2QFormerModel(config).eval()
    ours = QFormer(ConnectorWidths(768, 768, 384, (14, 14)), tokens=32, dim=768, heads=12, blocks=6, cross_every=2,
                   value_path=False, prior=False).eval()  # fmt: skip
    load_blip2(ours, peer)
    return ours, peer


def time_training(repeats: int, batch: int = 128) -> None:
    """Print the time of forward + backward at the default settings."""
    widths = ConnectorWidths(496, 1280, 384, (7, 7))
    inputs = ConnectorInput(
        torch.randn(batch, 49, 496), torch.randn(batch, 1280), torch.ones(batch, dtype=torch.bool),
        torch.randn(batch, 24, 384), torch.rand(batch, 24) > 0.3, torch.randn(batch, 49), torch.rand(batch),
    )  # fmt: skip

    def step(model: nn.Module) -> None:
        model.zero_grad()
        model(inputs).tokens.square().mean().backward()

    models = {
        "training step, TGQFormer": TGQFormer(widths),
        "training step, QFormer": QFormer(widths),
        "the same, plain": QFormer(widths, value_path=False, prior=False),
    }
    in_turns({name: lambda model=model: step(model) for name, model in models.items()}, repeats)  # type: ignore[misc]


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Cost]:
    """Run each work once to warm up, then all in turns; print and give the medians."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter(), time.process_time()
            work()
            if turn:
                times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    costs = {name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in times.items()}
    for name, cost in costs.items():
        print(f"{name:<26} {1000 * cost.wall:7.0f} ms, processor {1000 * cost.processor:7.0f} ms")
    return costs


if __name__ == "__main__":
    main()
