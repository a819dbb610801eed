"""Our Q-Former against `transformers.Blip2QFormerModel` with equal weights: same outputs, less time.

768 wide, 6 layers, 32 queries, 196 tokens, batch 64, float32. Prints the largest difference, both medians and the ratio.

    python benchmarks/qformer.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tgqformer.connectors.base import ConnectorWidths
from tgqformer.connectors.qformer import QFormer
from tgqformer.connectors.weights import load_blip2


def main() -> None:
    """Check equality, then time both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    torch.manual_seed(0)
    config = Blip2QFormerConfig(hidden_size=768, num_hidden_layers=6, num_attention_heads=12, intermediate_size=3072,
                                encoder_hidden_size=768, cross_attention_frequency=2)  # fmt: skip
    peer = Blip2QFormerModel(config).eval()
    ours = QFormer(ConnectorWidths(768, 768, 384, (14, 14)), queries=32, dim=768, heads=12, blocks=6, cross_every=2,
                   value_path=False, prior=False).eval()  # fmt: skip
    load_blip2(ours, peer)
    queries, tokens = ours.queries.detach(), torch.randn(arguments.batch, 196, 768)

    def run_peer() -> Tensor:
        found: Tensor = peer(query_embeds=queries.expand(len(tokens), -1, -1), encoder_hidden_states=tokens)[0]
        return found

    def run_ours() -> Tensor:
        return ours.attend(tokens)[0]

    with torch.inference_mode():
        print(f"largest difference {(run_ours() - run_peer()).abs().max():.1e}")
        times: dict[str, list[float]] = {"ours": [], "Blip2QFormerModel": []}
        for _ in range(arguments.repeats):
            times["ours"].append(clock(run_ours))
            times["Blip2QFormerModel"].append(clock(run_peer))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:<18} {1000 * median:7.0f} ms (median of {arguments.repeats})")
    print(f"ratio {medians['ours'] / medians['Blip2QFormerModel']:.2f}")


def clock(work: Callable[[], Tensor]) -> float:
    """Time one call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
