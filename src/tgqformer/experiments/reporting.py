"""What a run's report shows beyond its figures: example neighbours, attention over noised pictures, gates, cost."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tgqformer.catalog.item import Item
from tgqformer.encoders.cache import half
from tgqformer.evaluation.attention import GateStatistics, NoiseShare, gate_statistics, noise_shares
from tgqformer.evaluation.cost import Cost, count_flops, flops_per_item, parameters, throughput
from tgqformer.evaluation.masks import as_seen, pool_mask
from tgqformer.evaluation.metrics import Queries
from tgqformer.evaluation.report import AttentionExample, NeighbourExample, ReportCard
from tgqformer.model.embedder import Embedded, ItemEmbedder
from tgqformer.model.encoding import Encoders
from tgqformer.model.features import CatalogFeatures
from tgqformer.synthetic.noise import Noised, NoiseView
from tgqformer.topk.vectors import nearest_items
from tgqformer.types import Doubles, Positions, Vectors

CANDIDATES, LOSSES = 400, 4
"""So many queries are looked at for examples; one of so many examples is a loss of the first model."""


def neighbour_examples(
    vectors: dict[str, Vectors], queries: Queries, view: NoiseView, count: int, k: int = 6
) -> list[NeighbourExample]:
    """Show queries where the first two models differ most, by the rule that `example_rule` tells.

    vectors: model -> [N, d] of the mixed view.
    """
    catalog = view.catalog
    ids = catalog.ids()
    noised = np.array([at for at, position in enumerate(queries.query) if view.spec(ids[int(position)]) is not None])
    shown = noised if len(noised) else np.arange(len(queries))
    candidates = shown[:: max(1, len(shown) // CANDIDATES)]
    found = {name: nearest_items(table, queries.query[candidates], k) for name, table in vectors.items()}
    positives = [queries.positives.row(int(at)) for at in candidates]
    hits = {
        name: np.array([np.isin(row, own).sum() for row, own in zip(near, positives, strict=True)])
        for name, (near, _) in found.items()
    }
    counts = list(hits.values())
    gain = counts[0] - counts[1] if len(counts) > 1 else counts[0]
    # From both ends: where the first model gains most, and where it loses most, so that the page does not flatter it.
    order = np.argsort(-gain, kind="stable")
    losses = count // LOSSES
    chosen = [*order[: count - losses], *order[::-1][:losses]]
    return [_neighbour_example(int(at), candidates, queries, found, view, ids) for at in chosen]


def example_rule(models: list[str], count: int, k: int = 6) -> str:
    """Say how `neighbour_examples` chooses, for the head of the examples."""
    losses, first = count // LOSSES, models[0]
    more = f" more partners than {models[1]} finds" if len(models) > 1 else " most partners"
    return (
        f"Chosen by a rule, not for their looks: of some {CANDIDATES} test queries, taken at even steps from those "
        f"whose picture wears noise (from all where none does), first the {count - losses} for which {first} finds"
        f"{more} among the {k} nearest, by the largest lead, then the {losses} with the smallest lead: its losses."
    )


def _neighbour_example(
    at: int, candidates: Positions, queries: Queries, found: dict[str, tuple[Positions, Vectors]], view: NoiseView,
    ids: list[str],
) -> NeighbourExample:  # fmt: skip
    positives = set(queries.positives.row(int(candidates[at])).tolist())
    rows = {
        name: [
            _card(view, ids[int(i)], int(i) in positives, float(score))
            for i, score in zip(near[at], scores[at], strict=True)
        ]
        for name, (near, scores) in found.items()
    }
    return NeighbourExample(_card(view, ids[int(queries.query[candidates[at]])], False, None), rows)


def _card(view: NoiseView, item_id: str, hit: bool, score: float | None) -> ReportCard:
    item = view.catalog.take([item_id])[0]
    shown = view.render(item)
    return ReportCard(item.id, item.title or "", shown.picture if shown else None, hit, score)


class NoisedSample:
    """A sample of items as a view shows them, with their masks on the encoder's grid; shared by all models.

    Items with noise; all items, where the view draws none. `noised` says which of the two.

    Args:
        encoders: whose grid and padding the masks follow. view: which pictures. positions: int64 [n], of the sample.
    """

    def __init__(self, encoders: Encoders, view: NoiseView, positions: Positions) -> None:
        ids = view.catalog.ids()
        items = view.catalog.take([ids[int(at)] for at in positions])
        rendered = [(int(at), item, view.render(item)) for at, item in zip(positions, items, strict=True)]
        pictures = [(at, item, shown) for at, item, shown in rendered if shown is not None]
        noised = [(at, item, shown) for at, item, shown in pictures if shown.mask.any()]
        self.noised, kept = bool(noised), noised or pictures
        self.view, self.positions = view.name, np.array([at for at, _, _ in kept], np.int64)
        self.items: list[tuple[Item, Noised]] = [(item, as_seen(encoders.vision, shown)) for _, item, shown in kept]
        self.grid = encoders.vision.grid
        self.masks = np.array([pool_mask(shown.mask, self.grid) for _, shown in self.items])

    def __len__(self) -> int:
        return len(self.items)


class Inspection:
    """What a model attends to in a sample of items."""

    def __init__(self, model: ItemEmbedder, features: CatalogFeatures, sample: NoisedSample) -> None:
        self.sample = sample
        with torch.inference_mode():
            self.seen: Embedded = model(features.batch(sample.positions, sample.view).to(model.device))
        first = slice(sample.masks[0].size if len(sample) else None)  # of several pictures noise is on the first alone
        self.attention = {name: weights[..., first] for name, weights in self.seen.connector.attention.items()}
        known = self.seen.agreement_map
        self.agreement_map = None if known is None else known[:, first]

    def shares(self) -> dict[str, NoiseShare]:
        """Share of each stream's attention inside the noise; nothing where there is none."""
        found: dict[str, NoiseShare] = {}
        if not self.sample.noised:
            return found
        for stream, weights in self.attention.items():
            found |= noise_shares(weights, self.sample.masks, {stream: slice(None)})
        if self.agreement_map is not None:
            alone = self.agreement_map.softmax(-1)[:, None, None]
            found |= noise_shares(alone, self.sample.masks, {"agreement map alone": slice(None)})
        return found

    def gates(self) -> list[GateStatistics]:
        """Statistics of the gates."""
        return gate_statistics(self.seen.connector.gates)

    def examples(self, count: int) -> list[AttentionExample]:
        """Attention maps over the first pictures."""
        shares, made = self.shares(), []
        for at, (item, shown) in enumerate(self.sample.items[:count]):
            maps = {name: self._map(weights[at]) for name, weights in self.attention.items()}
            inside = {name: float(shares[name].per_item[at]) for name in maps if name in shares}
            mask = shown.mask if self.sample.noised else None
            made.append(AttentionExample(item.title or item.id, shown.picture, maps, mask, inside))
        return made

    def _map(self, weights: Tensor) -> Doubles:
        return np.asarray(weights.mean((0, 1)).reshape(self.sample.grid).double().cpu().numpy())


def cost_of(name: str, model: ItemEmbedder, features: CatalogFeatures, items: int = 64, *, timed: bool = True) -> Cost:
    """Parameters, FLOPs per item by part, and (`timed`) items per second of connector and LM on ready features."""
    batch = features.batch(np.arange(min(items, len(features))), "mixed").to(model.device)
    connector = count_flops(lambda: model.connector(model.connector_input(batch))) / len(batch)
    whole = flops_per_item({"all": lambda: model(batch)}, len(batch))["all"]
    flops = {"vision": _vision_flops(model), "connector": connector, "language model": whole - connector}
    if not model.connector.tokens:
        flops["vision"] = 0.0
    with torch.inference_mode():
        rate = throughput(lambda: model(batch), len(batch)) if timed else None
    encoder = (
        [part for part in vars(model.encoders.vision).values() if isinstance(part, nn.Module)] if model.encoders else []
    )
    total = parameters(model)[0] + sum(parameters(part)[0] for part in encoder)
    return Cost(name, total, sum(weight.numel() for weight in model.trainable().values()), flops, rate)


def _vision_flops(model: ItemEmbedder) -> float:
    assert model.encoders is not None
    vision = model.encoders.vision
    pixels = vision.preprocess(Image.new("RGB", (224, 224), "white"))[None]
    return float(count_flops(lambda: half(vision.encode(pixels).tokens)))
