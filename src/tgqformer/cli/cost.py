"""`tgq cost`: what connectors and whole systems cost."""

from __future__ import annotations

from typing import Annotated

import typer

from tgqformer.cli.sheets import Column, Sheet

PARTS = ("vision tower", "text encoder", "connector", "language model")
SHORT = ("vision", "text", "connector", "LM", "all")


def cost(
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="K, visual tokens given to the language model.")] = 4,
) -> tuple[Sheet, ...]:
    """Count parameters and floating-point operations per item, from sizes alone: no weights, no network.

    First every connector at two settings (the packaged encoders; those that the paper names), then whole systems
    beside multimodal models of two and four billion parameters. A multiply-add counts as two operations.

    Example:

        tgq cost --tokens 8
    """
    from tgqformer.evaluation.sizes import connector_costs, packaged, projection_flops, published, system_costs

    backbones = packaged(), published()
    small, large = (connector_costs(one, tokens) for one in backbones)
    millions = [Column(f"{what} ({which})", ",.2f") for which in "ab" for what in ("M params", "MFLOPs")]
    numbers = [(a.parameters, a.total_flops, b.parameters, b.total_flops) for a, b in zip(small, large, strict=True)]
    rows = [(a.model, *(number / 1e6 for number in four)) for a, four in zip(small, numbers, strict=True)]
    title = f"Connectors at {tokens} tokens, an item: (a) {backbones[0].name}; (b) {backbones[1].name}"
    parts = [Column("system", cut=True), Column("M params", ",.0f"), *(Column(name, ",.2f") for name in SHORT)]
    systems = [
        (one.model, one.parameters / 1e6, *(_giga(one.flops.get(part)) for part in PARTS), one.total_flops / 1e9)
        for one in system_costs(tokens)
    ]
    about = "Whole systems, 64 tokens of text, GFLOPs an item"
    beside = f"{projection_flops() / 1e9:.2f} G beside the tower"
    note = f"ViT-B/16 with one linear layer for all its patches, as the paper counts: {beside}"
    return Sheet([Column("connector", cut=True), *millions], rows, title), Sheet(parts, systems, about, note)


def _giga(flops: float | None) -> float | None:
    return None if flops is None else flops / 1e9
