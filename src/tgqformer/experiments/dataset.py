"""The data of a recipe: catalogue, pairs, features, alignment; each made once and shared by all models.

What needs torch is imported where it is used: a call that has nothing to do does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tgqformer import config
from tgqformer.catalog.catalog import VERSION, Catalog
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, both_directions, evaluate
from tgqformer.evaluation.untrained import STEPS, Choice, choose_best
from tgqformer.experiments.recipe import EvaluationSection, Recipe
from tgqformer.experiments.sources import RELATED, catalog_inputs, make_catalog, make_pairs, read_pairs
from tgqformer.files import read_json, write_json
from tgqformer.pairs.pairs import Pairs, PairSets
from tgqformer.pairs.splits import PARTS
from tgqformer.progress import console
from tgqformer.stages import Digests, Stage, Stages, digest_of
from tgqformer.store.embeddings import fingerprint_of
from tgqformer.synthetic.noise import NoiseView, noise_views
from tgqformer.training.settings import AlignmentSettings
from tgqformer.types import Bools, Floats, Ints, Positions, Vectors

if TYPE_CHECKING:
    from tgqformer.encoders.alignment import Alignment, JointAlignment, TokenNorm
    from tgqformer.model.encoding import Encoders
    from tgqformer.model.features import CatalogFeatures
    from tgqformer.model.frozen import FrozenPart
    from tgqformer.model.language import LanguageModel

NEW_ITEM = "new item"
"""The view of a new item in a known shop: a query that training never saw, of which any partner counts."""
KNOWN_ITEM = "known item"
"""The view of an item that training knows, asked for its partners of a later time."""
CHOSEN_ON = 1000
"""How many queries of training and validation the share of the frozen text is chosen on."""


class Dataset:
    """What all models of a recipe share; each part is made when it is first asked for, and reused when done.

    Args:
        recipe: what to do. folder: where all is kept. stages, digests: of the run that this is a part of.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, *, stages: Stages | None = None, digests: Digests | None = None
    ) -> None:
        self.recipe, self.folder = recipe, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.stages, self.digests = stages or Stages(), digests or Digests(folder / ".digests.json")
        self._agreements: dict[tuple[int, str, int], Floats] = {}

    # --- catalogue ----------------------------------------------------------------------------------------------------

    @cached_property
    def catalog(self) -> Catalog:
        """The imported (or drawn) catalogue."""
        section, to = self.recipe.catalog, self.folder / "catalog"
        inputs = catalog_inputs(section, self.digests)
        if section.chosen_by == "pairs":
            inputs["pairs"] = self._pairs_source()
        make = partial(make_catalog, section, self.recipe.pairs, to)
        return Catalog.open(self.stages.run(Stage("catalogue", to, "catalogue", inputs, make, format=VERSION)))

    # --- pairs --------------------------------------------------------------------------------------------------------

    @cached_property
    def pairs(self) -> PairSets:
        """Training, validation and test pairs: each within its part of the item split, or of its time."""
        return read_pairs(self._pairs_folder, by_time=self.recipe.pairs.by == "time")

    @cached_property
    def _pairs_folder(self) -> Path:
        section, to = self.recipe.pairs, self.folder / "pairs"
        inputs = config.plain(section)
        if section.related is not None:
            lists = self.catalog.path / RELATED
            inputs |= {"ids": fingerprint_of(self.catalog.ids()), "lists": lists.exists() and self.digests.of(lists)}
        elif section.shoppers is None:  # shoppers see the pictures; a log is joined by ids alone
            inputs |= {"ids": fingerprint_of(self.catalog.ids()), **self._pairs_source()}
        else:
            inputs |= {"catalog": self.catalog.fingerprint}
        make = partial(make_pairs, section, self.catalog, to)
        return self.stages.run(Stage("pairs", to, "pairs", inputs, make, format=2 if section.shoppers is None else 1))

    @property
    def pairs_digest(self) -> str:
        """Digest of pairs and split."""
        return self.digests.of(self._pairs_folder)

    @property
    def split_digest(self) -> str:
        """Digest of the split of the items."""
        return self.digests.of(self._pairs_folder / "split.parquet")

    def _pairs_source(self) -> dict[str, Any]:
        """What the pairs are read from: the digest of a file, or the kinds of the catalogue's own lists."""
        section = self.recipe.pairs
        if section.related is not None:
            return {"related": section.related}
        name = "pairs" if section.pairs is not None else "interactions"
        return {"log": config.plain(section.log), name: self.digests.of(Path(str(getattr(section, name))))}

    def positions(self, part: str) -> Positions:
        """Positions of the items of one part of the split, ascending."""
        return np.sort(self.catalog.positions(self.pairs.split.part(part)))

    def pair_positions(self, part: str) -> tuple[Positions, Positions]:
        """Positions of the two items of each pair of a part (train, val, test), or across parts, int64 [M] each."""
        pairs: Pairs = getattr(self.pairs, part)
        a, b = pairs.positions(self.catalog.ids()).T
        return a, b

    @cached_property
    def queries(self) -> Queries:
        """The test queries, in the pool of the whole catalogue."""
        return Queries.from_pairs(*self.pair_positions("test")).drawn(self.recipe.evaluation.queries)

    @property
    def drawn_inputs(self) -> dict[str, int]:
        """What decides which queries are drawn of many; nothing at the default, as before there was a choice."""
        drawn = self.recipe.evaluation.queries
        return {} if drawn == EvaluationSection.queries else {"queries": drawn}

    @cached_property
    def validation(self) -> tuple[Positions, Queries] | None:
        """A small pool (validation items and some of training) and its queries; None without validation pairs."""
        a, b = self.pair_positions("val")
        if self.pairs.by_time:
            return self._validation(both_directions(a, b))
        return (self._small_pool, Queries.from_pairs(a, b).in_pool(self._small_pool)) if len(a) else None

    @cached_property
    def _small_pool(self) -> Positions:
        rng = np.random.default_rng(0)
        held, others = self.positions("val"), self.positions("train")
        drawn = rng.choice(others, min(self.recipe.evaluation.validation_pool, len(others)), replace=False)
        return np.sort(np.r_[held, drawn])

    @cached_property
    def new_items(self) -> Queries | None:
        """Test items as new ones in a known shop: any partner counts, of training too; None without such pairs."""
        return self._asking(self._edges(("test",), PARTS)) if self.pairs.by_time or len(self.pairs.cross) else None

    @cached_property
    def known_items(self) -> Queries | None:
        """Items that stand in a training pair, asked for their partners of the test period; None unless split by time.

        The others of the test are new ones.
        """
        if not self.pairs.by_time:
            return None
        edges = both_directions(*self.pair_positions("test"))
        return self._asking(edges[np.isin(edges[:, 0], np.concatenate(self.pair_positions("train")))])

    def _asking(self, edges: Ints) -> Queries | None:
        return Queries.from_edges(edges).drawn(self.recipe.evaluation.queries) if len(edges) else None

    @property
    def asked(self) -> dict[str, Queries]:
        """The views that ask otherwise than `queries` does, in the mixed catalogue, by name."""
        views = {NEW_ITEM: self.new_items, KNOWN_ITEM: self.known_items}
        return {name: queries for name, queries in views.items() if queries is not None}

    @cached_property
    def any_validation(self) -> tuple[Positions, Queries] | None:
        """As `validation`, but any partner that is no test item counts, so that there are more queries."""
        if self.pairs.by_time:
            return self.validation
        return self._validation(self._edges(("val",), ("train", "val")))

    @cached_property
    def untrained_validation(self) -> tuple[Positions, Queries] | None:
        """Up to `CHOSEN_ON` queries of training and validation, for what is not trained on their pairs."""
        edges = self._edges(("train", "val"), ("train", "val"))
        asked = np.random.default_rng(0).permutation(np.unique(edges[:, 0]))[:CHOSEN_ON]
        return self._validation(edges[np.isin(edges[:, 0], asked)])

    def _validation(self, edges: Ints) -> tuple[Positions, Queries] | None:
        pool = np.union1d(self._small_pool, edges.ravel())
        return (pool, Queries.from_edges(edges).in_pool(pool)) if len(edges) else None

    def _edges(self, queries: Sequence[str], partners: Sequence[str]) -> Ints:
        """Return (query, partner) of all pairs, also across parts, by the parts that each may be in: int64 [n, 2].

        Where the test takes no part, neither do its pairs.
        """
        names = [name for name in (*PARTS, "cross") if name != "test" or "test" in (*queries, *partners)]
        sides = [self.pair_positions(name) for name in names]
        edges = both_directions(*(np.concatenate(side) for side in zip(*sides, strict=True)))
        part = self.pairs.split.codes(self.catalog.ids())
        inside = [
            np.isin(part[edges[:, at]], [PARTS.index(n) for n in names]) for at, names in enumerate((queries, partners))
        ]
        return edges[inside[0] & inside[1]]

    @cached_property
    def categories(self) -> Positions:
        """A code for each item's whole category path, int64 [N]."""
        paths = [" > ".join(path or []) for path in self.catalog.table(["category"])["category"].to_pylist()]
        return np.unique(paths, return_inverse=True)[1]

    # --- features -----------------------------------------------------------------------------------------------------

    @cached_property
    def views(self) -> dict[str, NoiseView]:
        """The views of the catalogue that are cached, by name: those evaluated, and `noised` for the alignment stage.

        A joint encoder has no such stage. A view that only probes need shows the probed queries alone.
        """
        plan, section = self.recipe.noise, self.recipe.evaluation
        aligned = () if self.recipe.encoders.vision.startswith("joint:") else ("noised",)
        whole = dict.fromkeys(("mixed", *section.views, *aligned))
        probed = [name for name in dict.fromkeys(section.picture_probes) if name not in whole]
        ids = self.catalog.ids()
        only = frozenset(ids[int(at)] for at in self.queries.query[self.probed]) if probed else frozenset()
        shown = noise_views(self.catalog, plan, {**dict.fromkeys(whole), **dict.fromkeys(probed, only)})
        return {view.name: view for view in shown}

    @cached_property
    def probed(self) -> Positions:
        """Which of the queries are probed: a sample, int64 places among `queries`, ascending."""
        count = min(self.recipe.evaluation.probe_queries, len(self.queries))
        return np.sort(np.random.default_rng(0).permutation(len(self.queries))[:count])

    @cached_property
    def touched(self) -> Bools:
        """Where the noise of the view `noised` is in each probed query: bool [n, P], places of the encoder's grid."""
        from tgqformer.evaluation.masks import touched

        return touched(self.encoders.vision, self.views["noised"], self.queries.query[self.probed])

    @cached_property
    def encoders(self) -> Encoders:
        """The frozen encoders and the prompt."""
        from tgqformer.model.encoding import make_encoders

        section = self.recipe.encoders
        return make_encoders(section.vision, section.text, self.recipe.prompt, section.vision_options)

    def language(self) -> LanguageModel:
        """A fresh language model with fresh adapters."""
        from tgqformer.model.language import LoRA, make_language

        section = self.recipe.language
        made = make_language(
            section.name, layers=section.layers, frozen_layers=section.frozen_layers, pooling=section.pooling,
            max_tokens=section.max_tokens, lora=LoRA(section.lora_rank, section.lora_alpha, section.lora_dropout),
        )  # fmt: skip
        if not made.fits([self.recipe.prompt.wrap("")])[0]:
            raise TgqError("prompt.template alone is longer than language.max_tokens: shorten it, or raise that")
        return made

    @cached_property
    def features(self) -> CatalogFeatures:
        """What the frozen encoders saw in every item, in every view."""
        from tgqformer.model.caching import cache_features

        views = list(self.views.values())
        return cache_features(self.catalog, self.encoders, self.language(), views, self.folder / "cache")

    def features_stage(self) -> Stage:
        """Return the stage that encodes what is not in the cache yet, without opening what is."""
        evaluation = self.recipe.evaluation
        inputs = self.inputs() | {"language": self.language_inputs(), "views": evaluation.views}
        if evaluation.picture_probes:  # these show test queries alone
            probes = [*evaluation.picture_probes, evaluation.probe_queries]
            inputs |= {"probes": probes, "pairs": self.pairs_digest} | self.drawn_inputs
        return Stage("features", self.folder / "cache", "features", inputs, self._encode, keep="all")

    def _encode(self) -> None:
        from tgqformer.model.encoding import unread_in

        for warning in unread_in(self.catalog, self.encoders, self.language()):
            console.print(f"warning: {warning}", style="yellow", markup=False)
        _ = self.features

    # --- what needs no training ---------------------------------------------------------------------------------------

    @cached_property
    def frozen(self) -> FrozenPart:
        """The frozen vectors of picture and text, fitted to the items of training."""
        from safetensors.torch import load_file

        from tgqformer.model.frozen import FrozenPart

        inputs = self.frozen_inputs()
        to = self.folder / "frozen" / digest_of(inputs)[:8]
        self.stages.run(Stage("what needs no training", to, "frozen", inputs, partial(self._fit_frozen, to)))
        part = FrozenPart(self.encoders.widths, read_json(to / "choice.json")["share"])
        part.load_state_dict(load_file(to / "frozen.safetensors"))
        return part.eval()

    def frozen_inputs(self) -> dict[str, Any]:
        """All that decides the frozen part."""
        return self.inputs() | {"pairs": self.pairs_digest, "validation_pool": self.recipe.evaluation.validation_pool}

    def _fit_frozen(self, to: Path) -> None:
        from safetensors.torch import save_file

        from tgqformer.model.frozen import FrozenPart

        features, items, part = self.features, self.positions("train"), FrozenPart(self.encoders.widths)
        part.fit(features.vectors(items[start : start + 4096]) for start in range(0, len(items), 4096))
        save_file(part.state_dict(), to / "frozen.safetensors")
        write_json(to / "choice.json", vars(self._text_share(part)))

    def _text_share(self, part: FrozenPart) -> Choice:
        """Choose how much the frozen text counts."""
        if self.untrained_validation is None:
            return choose_best({})
        pool, queries = self.untrained_validation
        tried = {share: self.frozen_vectors(part.sharing(share), pool) for share in STEPS}
        return choose_best({share: evaluate(vectors, queries).values["hit@10"] for share, vectors in tried.items()})

    def frozen_vectors(self, part: FrozenPart, positions: Positions, view: str = "mixed") -> Vectors:
        """Return the frozen vectors of items as a view shows them: float32 [n, d]."""
        import torch

        chunks = [positions[start : start + 4096] for start in range(0, len(positions), 4096)]
        with torch.inference_mode():
            found = [part(self.features.vectors(chunk, view)) for chunk in chunks]
            return torch.cat(found or [torch.zeros(0, part.dim)]).numpy()

    # --- alignment ----------------------------------------------------------------------------------------------------

    def alignment(self, seed: int) -> tuple[TokenNorm, Alignment | JointAlignment]:
        """Standardisation and alignment of one seed, shared by all models of that seed.

        A joint encoder brings its own alignment; then only the standardisation is fitted.
        """
        from safetensors.torch import load_file

        from tgqformer.encoders.alignment import Alignment, TokenNorm

        inputs = self.inputs() | {"split": self.split_digest, "seed": seed}
        inputs["settings"] = config.plain(self.alignment_settings)
        to = self.folder / "alignment" / f"seed-{seed}-{digest_of(inputs)[:8]}"
        self.stages.run(Stage(f"alignment, seed {seed}", to, "alignment", inputs, partial(self._align, to, seed)))
        norm = TokenNorm(self.encoders.widths.visual)
        norm.load_state_dict(load_file(to / "norm.safetensors"))
        if self.encoders.space is not None:
            return norm, self.encoders.alignment()
        alignment = Alignment(self.encoders.widths.visual, self.encoders.widths.metadata)
        alignment.load_state_dict(load_file(to / "alignment.safetensors"))
        return norm, alignment.requires_grad_(False).eval()

    @property
    def alignment_settings(self) -> AlignmentSettings:
        """The settings of the alignment stage, with the number of steps that follows from the training items."""
        return self.recipe.alignment.resolved(len(self.pairs.split.part("train")))

    def _align(self, to: Path, seed: int) -> None:
        from safetensors.torch import save_file

        from tgqformer.encoders.alignment import TokenNorm
        from tgqformer.encoders.frozen import best_device
        from tgqformer.training.alignment import fit_token_norm, train_alignment

        features, items, norm = self.features, self.positions("train"), TokenNorm(self.encoders.widths.visual)
        fit_token_norm(norm, features.pictures, items, seed)
        save_file(norm.state_dict(), to / "norm.safetensors")
        if self.encoders.space is None:
            noised = partial(features.pictures, view="noised")
            settings, device = self.alignment_settings, best_device()
            trained = train_alignment(features.pictures, noised, norm, items, settings, seed=seed, device=device)
            save_file(trained.state_dict(), to / "alignment.safetensors")

    def agreement(self, seed: int, view: str, positions: Positions) -> Floats:
        """How well picture and metadata of items agree: s, float32 [n]; NaN where one of the two is missing.

        Every model of a seed asks for the same; the answers are kept.
        """
        key = seed, view, hash(positions.tobytes())
        if key not in self._agreements:
            self._agreements[key] = self._agreement(seed, view, positions)
        return self._agreements[key]

    def _agreement(self, seed: int, view: str, positions: Positions) -> Floats:
        import torch

        norm, alignment = self.alignment(seed)
        found = np.full(len(positions), np.nan, np.float32)
        if self.encoders.space is not None:
            return found
        for start in range(0, len(positions), 512):
            chosen = positions[start : start + 512]
            batch = self.features.pictures(chosen, view)
            with torch.inference_mode():
                _, agreement = alignment(norm(batch.visual), batch.metadata_vector.float())
            both = (batch.has_picture & batch.metadata_mask.any(1)).numpy()
            found[start : start + len(chosen)][both] = agreement.numpy()[both]
        return found

    # --- what decides -------------------------------------------------------------------------------------------------

    def inputs(self) -> dict[str, Any]:
        """All that decides what the frozen encoders see."""
        recipe, encoders = self.recipe, config.plain(self.recipe.encoders)
        for name in (recipe.encoders.vision, recipe.encoders.text):
            encoders |= self._digest_of(name)
        return {
            "catalog": self.catalog.fingerprint,
            "noise": config.plain(recipe.noise),
            "encoders": encoders,
            "prompt": config.plain(recipe.prompt),
        }

    def language_inputs(self) -> dict[str, Any]:
        """All that decides the language model."""
        return {**config.plain(self.recipe.language), **self._digest_of(self.recipe.language.name)}

    def _digest_of(self, name: str) -> dict[str, str]:
        """The digest of a model that lies in a folder, by its name; nothing for other models."""
        folder = Path(name.rpartition("hf:")[2])
        return {name: self.digests.of(folder)} if "hf:" in name and folder.exists() else {}
