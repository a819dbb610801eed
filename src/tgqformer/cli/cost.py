"""`tgq cost`: what connectors and whole systems cost."""

from __future__ import annotations

from typing import Annotated

import typer

from tgqformer.cli.options import say

PARTS = ("vision tower", "text encoder", "connector", "language model")


def cost(
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="K, visual tokens given to the language model")] = 4,
) -> None:
    """Count parameters and floating-point operations per item, from sizes alone: no weights, no network.

    First every connector at two settings (the packaged encoders; those that the paper names), then whole systems
    beside multimodal models of two and four billion parameters. A multiply-add counts as two operations.

    Example:

        tgq cost --tokens 8
    """
    from tgqformer.evaluation.sizes import connector_costs, packaged, projection_flops, published, system_costs

    backbones = packaged(), published()
    small, large = (connector_costs(one, tokens) for one in backbones)
    say(f"Connectors at {tokens} tokens: (a) {backbones[0].name}; (b) {backbones[1].name}\n")
    head = ("connector", "parameters, M (a)", "MFLOPs an item (a)", "parameters, M (b)", "MFLOPs an item (b)")
    both = [
        (a.model, (a.parameters, a.total_flops, b.parameters, b.total_flops)) for a, b in zip(small, large, strict=True)
    ]
    say(_table(head, [(model, *(f"{number / 1e6:.2f}" for number in numbers)) for model, numbers in both]))
    say("\nWhole systems, 64 tokens of text, GFLOPs an item\n")
    lines = []
    for one in system_costs(tokens):
        flops = (f"{one.flops[part] / 1e9:,.2f}" if part in one.flops else "-" for part in PARTS)
        lines.append((one.model, f"{one.parameters / 1e6:,.0f}", *flops, f"{one.total_flops / 1e9:,.2f}"))
    say(_table(("system", "parameters, M", *PARTS, "all"), lines))
    beside = f"{projection_flops() / 1e9:.2f} G beside the tower"
    say(f"\nViT-B/16 with one linear layer for all its patches, as the paper counts: {beside}")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table, padded to be read as it is."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(f"| {line} |" for line in (lines[0], " | ".join("-" * width for width in widths), *lines[1:]))
