"""A run: one recipe, from raw files to a served table, stage by stage. A stage that is done is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file

from tgqformer.catalog.catalog import Catalog, CatalogWriter
from tgqformer.catalog.importer import import_catalog
from tgqformer.catalog.interactions import read_interactions
from tgqformer.catalog.pairs import Pairs, PairSets, mine_pairs, split_pairs
from tgqformer.catalog.shoppers import FASHION, STUDIO, prepare_pairs, subset
from tgqformer.catalog.splits import ItemSplit
from tgqformer.encoders.alignment import Alignment, JointAlignment, TokenNorm
from tgqformer.encoders.frozen import Precision
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.report import Report, write_report
from tgqformer.evaluation.results import Result, View, read_log, summarize
from tgqformer.evaluation.tables import csv_text, differences_markdown, markdown, rich_table
from tgqformer.files import read_json, write_json, write_text
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import Encoders, make_encoders
from tgqformer.model.features import CatalogFeatures, cache_features, embed_features
from tgqformer.model.language import HuggingFaceLM, LoRA, make_language
from tgqformer.noise import NoisePlan, NoiseView, write_view
from tgqformer.progress import console
from tgqformer.recipe import ModelSection, Recipe, write_recipe
from tgqformer.reporting import Looks, cost_of, neighbour_examples
from tgqformer.store.build import build_store
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.neighbours import build_neighbours
from tgqformer.training.alignment import fit_token_norm, train_alignment
from tgqformer.training.loop import train
from tgqformer.training.sampling import PairSampler

Positions = NDArray[np.int64]


NOTES = (
    "Every item but the query is in the pool. Test queries and their positives are items that training never saw. Ties "
    "are averaged, never broken by order.",
    "All models have the same pairs, steps, batch, learning rate, language model and visual tokens. The example "
    "queries are those where the first two models differ most: three quarters in favour of the first, one quarter "
    "against it.",
)
STAGES = ("catalog", "pairs", "features", "train", "evaluate", "embed", "index", "neighbours", "report")


class Run:
    """The folder of a run and its stages; each stage makes what it needs and reuses what is done.

    Args:
        recipe: what to do. folder: where everything is written.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.yaml")

    # --- data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def catalog(self) -> Catalog:
        """The imported (or drawn) catalogue."""
        section, to = self.recipe.catalog, self.folder / "catalog"
        if self._begin("catalog", to, asdict(section)):
            if section.source == "studio":
                from tgqformer.catalog.studio import draw_studio

                draw_studio(to, items=section.items or 2000, seed=section.seed)
            else:
                whole = self.folder / "imported" if section.items else to
                import_catalog(
                    Path(section.source), whole, reader=section.reader, mapping=section.mapping or None,
                    pack=section.pack, root=Path(section.pictures) if section.pictures else None,
                    show_progress_bar=True,
                )  # fmt: skip
                if section.items:
                    _keep_some(Catalog.open(whole), section.items, to)
            self._end(to, asdict(section))
        return Catalog.open(to)

    @cached_property
    def pairs(self) -> PairSets:
        """Training, validation and test pairs, each within its part of the item split."""
        section, to = self.recipe.pairs, self.folder / "pairs"
        inputs = {"catalog": self.catalog.fingerprint, **asdict(section)}
        fractions = (section.train, section.val, section.test)
        if self._begin("pairs", to, inputs):
            if section.shoppers is not None:
                truth = self.folder / "catalog" / "truth.parquet"
                prepare_pairs(
                    self.catalog, {"fashion": FASHION, "studio": STUDIO}[section.shoppers], to, fractions, section.seed,
                    truth=pq.read_table(truth) if truth.exists() else None,
                )  # fmt: skip
            else:
                pairs = self._mine()
                split = ItemSplit.by_hash(self.catalog.ids(), fractions, section.seed)
                sets = split_pairs(pairs, split)
                to.mkdir(parents=True, exist_ok=True)
                split.save(to / "split.parquet")
                for name in ("train", "val", "test"):
                    getattr(sets, name).write(to / f"pairs-{name}.parquet")
            self._end(to, inputs)
        train, val, test = (Pairs.read(to / f"pairs-{name}.parquet") for name in ("train", "val", "test"))
        return PairSets(train, val, test, ItemSplit.load(to / "split.parquet"))

    def _mine(self) -> Pairs:
        section = self.recipe.pairs
        if section.pairs is not None:
            return Pairs.read(Path(section.pairs))
        interactions = read_interactions(Path(str(section.interactions)))
        return mine_pairs(
            interactions, window=section.window, min_support=section.min_support, cap=section.cap,
            weighting=section.weighting,
        )  # fmt: skip

    def views(self) -> list[NoiseView]:
        """The views of the catalogue that are cached: those evaluated, and `noised` for the alignment stage."""
        plan = NoisePlan(**asdict(self.recipe.noise))
        names = dict.fromkeys(("mixed", *self.recipe.evaluation.views, "noised"))
        return [NoiseView(self.catalog, name, plan) for name in names]

    @cached_property
    def encoders(self) -> Encoders:
        """The frozen encoders and the prompt."""
        section = self.recipe.encoders
        return make_encoders(section.vision, section.text, self.recipe.prompt, section.vision_options)

    @cached_property
    def features(self) -> CatalogFeatures:
        """What the frozen encoders saw in every item, in every view."""
        return cache_features(self.catalog, self.encoders, self._language(), self.views(), self.folder / "cache")

    def positions(self, part: str) -> Positions:
        """Positions of the items of one part of the split."""
        return np.sort(self.catalog.positions(self.pairs.split.part(part)))

    # --- training -----------------------------------------------------------------------------------------------------

    def alignment(self, seed: int) -> tuple[TokenNorm, Alignment | JointAlignment]:
        """Standardisation and alignment of one seed, shared by all models of that seed.

        A joint encoder brings its own alignment; then only the standardisation is fitted.
        """
        to = self.folder / "alignment" / f"seed-{seed}"
        inputs = {**self._data_inputs(), "seed": seed, "settings": asdict(self.recipe.alignment)}
        norm = TokenNorm(self.encoders.widths.visual)
        alignment = Alignment(self.encoders.widths.visual, self.encoders.widths.metadata)
        if self._begin(f"alignment, seed {seed}", to, inputs):
            features, items = self.features, self.positions("train")
            fit_token_norm(norm, features.pictures, items, seed)
            to.mkdir(parents=True, exist_ok=True)
            save_file(norm.state_dict(), to / "norm.safetensors")
            if self.encoders.space is None:
                trained = train_alignment(
                    features.pictures, lambda chosen: features.pictures(chosen, "noised"), norm, items,
                    self.recipe.alignment, seed=seed,
                )  # fmt: skip
                save_file(trained.state_dict(), to / "alignment.safetensors")
            self._end(to, inputs)
        norm.load_state_dict(load_file(to / "norm.safetensors"))
        if self.encoders.space is not None:
            return norm, self.encoders.alignment()
        alignment.load_state_dict(load_file(to / "alignment.safetensors"))
        return norm, alignment.requires_grad_(False).eval()

    def model_folder(self, section: ModelSection, seed: int) -> Path:
        """Where one model of one seed lives."""
        return self.folder / "models" / section.name.lower().replace(" ", "-") / f"seed-{seed}"

    def build(self, section: ModelSection, seed: int) -> ItemEmbedder:
        """A fresh model of one seed."""
        norm, alignment = self.alignment(seed)
        torch.manual_seed(seed)
        language = self._language() if section.language else None
        model = ItemEmbedder(
            section.connector, section.options, self.encoders.widths, language, encoders=self.encoders, dim=None
        )
        if model.connector.guided:
            model.alignment = alignment
        model.token_norm.load_state_dict(norm.state_dict())
        return model

    def train(self, section: ModelSection, seed: int) -> Path:
        """Train one model; give the folder of the saved model."""
        to = self.model_folder(section, seed)
        inputs = self._model_inputs(section, seed)
        if self._begin(f"{section.name}, seed {seed}", to, inputs, resumable=True):
            model = self.build(section, seed)
            a, b = self._positions_of(self.pairs.train)
            sampler = PairSampler(
                a, b, self._categories(), items=len(self.catalog), batch=self.recipe.training.batch,
                group=self.recipe.training.group, seed=seed,
            )  # fmt: skip
            train(model, self.features, sampler, self.recipe.training, to, seed=seed, validate=self._validation())
            model.save(to / "model")
            shutil.rmtree(to / "checkpoint", ignore_errors=True)
            self._end(to, inputs)
        return to / "model"

    def _validation(self) -> Callable[[ItemEmbedder], float] | None:
        """H@10 of the validation queries in a pool of validation items and some of training."""
        rng = np.random.default_rng(0)
        held, train_items = self.positions("val"), self.positions("train")
        others = rng.choice(train_items, min(self.recipe.evaluation.validation_pool, len(train_items)), replace=False)
        pool = np.sort(np.r_[held, others])
        a, b = self._positions_of(self.pairs.val)
        if not len(a):
            return None
        queries = Queries.from_pairs(np.searchsorted(pool, a), np.searchsorted(pool, b))

        def validate(model: ItemEmbedder) -> float:
            vectors = self._embedded(model, pool, "mixed", shown=False)
            return evaluate(vectors, queries).means()["hit@10"]

        return validate

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self, section: ModelSection, seed: int) -> Result:
        """Measure one model in the full pool, on every view."""
        saved = self.train(section, seed)
        to = self.model_folder(section, seed) / "result"
        inputs = {**self._model_inputs(section, seed), "views": list(self.recipe.evaluation.views)}
        if self._begin(f"evaluation of {section.name}, seed {seed}", to, inputs):
            model = ItemEmbedder.load(saved)
            queries = Queries.from_pairs(*self._positions_of(self.pairs.test))
            ids, views = self.catalog.ids(), {}
            for name, vectors in self.embed_views(model).items():
                scores = evaluate(vectors, queries)
                views[name] = View.of(scores, ids, self._facts(name, scores.query))
            log = read_log(self.model_folder(section, seed) / "log.jsonl")
            Result(section.name, seed, views, log).write(to)
            self._end(to, inputs)
        return Result.read(to)

    def embed_views(self, model: ItemEmbedder) -> dict[str, NDArray[np.float32]]:
        """Embed the whole catalogue in every view; an item that looks alike in two views is embedded once."""
        found: dict[str, NDArray[np.float32]] = {}
        everything = np.arange(len(self.catalog))
        for view in ("clean", *self.recipe.evaluation.views):
            if view in found or view not in self.features.rows:
                continue
            vectors = np.empty((len(self.catalog), model.dim), np.float32)
            left = np.ones(len(self.catalog), bool)
            for earlier, known in found.items():
                same = left & ((self.features.rows[earlier] == self.features.rows[view]) | (not model.connector.tokens))
                vectors[same], left[same] = known[same], False
            vectors[left] = self._embedded(model, everything[left], view)
            found[view] = vectors
        return {view: found[view] for view in self.recipe.evaluation.views}

    def _embedded(
        self, model: ItemEmbedder, positions: Positions, view: str, *, shown: bool = True
    ) -> NDArray[np.float32]:
        """Embed from the cache. Texts alone stay in float32: equal titles must give equal vectors, so ties are seen."""
        precision: Precision = "auto" if model.connector.tokens else "float32"
        return embed_features(model, self.features, positions, view, precision=precision, shown=shown)

    def _facts(self, view: str, queries: Positions) -> dict[str, Any]:
        """What is known of each query: the noise it wears in this view, and its category."""
        look = self._view(view)
        ids = np.asarray(self.catalog.ids(), dtype=object)[queries]
        specs = [look.spec(item_id) for item_id in ids]
        category = self.catalog.table(["category"])["category"]
        return {
            "kind": [spec.kind if spec else "" for spec in specs],
            "severity": [spec.severity if spec else 0 for spec in specs],
            "category": [(category[int(at)].as_py() or [""])[0] for at in queries],
        }

    # --- serving ------------------------------------------------------------------------------------------------------

    @cached_property
    def shown_catalog(self) -> Catalog:
        """The catalogue as shoppers see it: with the noise of the mixed view, where the recipe draws some."""
        if not self.recipe.noise.share:
            return self.catalog
        to = self.folder / "shown"
        inputs = {"catalog": self.catalog.fingerprint, "noise": asdict(self.recipe.noise)}
        if self._begin("catalogue with its noise", to, inputs):
            write_view(self._view("mixed"), to)
            self._end(to, inputs)
        return Catalog.open(to)

    def embed(self) -> Embeddings:
        """Embed the catalogue with the first model of the recipe, from the cached features."""
        saved = self.train(self.recipe.models[0], self.recipe.seeds[0])
        catalog, to = self.shown_catalog, self.folder / "embeddings"
        model = ItemEmbedder.load(saved)
        inputs = {"model": model.version, "catalog": catalog.fingerprint}
        if self._begin("embeddings", to, inputs, resumable=True):
            ids = catalog.ids()
            table = Embeddings.create(
                to, dim=model.dim, model_version=model.version, ids_fingerprint=fingerprint_of(ids), count=len(ids)
            )
            for partition in table.missing():
                start, stop = table.bounds(partition)
                table.write(partition, ids[start:stop], self._embedded(model, np.arange(start, stop), "mixed"))
            self._end(to, inputs)
        return Embeddings.open(to)

    def index(self) -> Path:
        """Build the store."""
        embeddings, to = self.embed(), self.folder / "store"
        inputs = {"model": embeddings.model_version, "catalog": self.shown_catalog.fingerprint}
        if self._begin("store", to, inputs):
            build_store(embeddings, self.shown_catalog, to)
            self._end(to, inputs)
        return to

    def neighbours(self) -> Path:
        """Work out the exact top-K of every item."""
        embeddings, to = self.embed(), self.folder / "neighbours"
        inputs = {
            "model": embeddings.model_version,
            "catalog": self.shown_catalog.fingerprint,
            "k": self.recipe.neighbours,
        }
        if self._begin("neighbours", to, inputs, resumable=True):
            build_neighbours(embeddings, to, self.recipe.neighbours)
            self._end(to, inputs)
        return to

    # --- report -------------------------------------------------------------------------------------------------------

    def report(self) -> Path:
        """Write report.html, table.md and table.csv."""
        results = [self.evaluate(section, seed) for section in self.recipe.models for seed in self.recipe.seeds]
        rows = summarize(results)
        differences = f"\nPaired differences in H@10, points [95 %]:\n\n{differences_markdown(results)}"
        write_text(self.folder / "table.md", markdown(rows) + (differences if len(self.recipe.models) > 1 else ""))
        write_text(self.folder / "table.csv", csv_text(rows))
        seed, view = self.recipe.seeds[0], self._view("mixed")
        models = {s.name: ItemEmbedder.load(self.model_folder(s, seed) / "model") for s in self.recipe.models}
        queries = Queries.from_pairs(*self._positions_of(self.pairs.test))
        everything = np.arange(len(self.catalog))
        shown = dict(list(models.items())[:2])
        vectors = {name: self._embedded(model, everything, "mixed") for name, model in shown.items()}
        sample = np.random.default_rng(0).permutation(queries.query)[:1000]
        looks = {
            name: Looks(model, self.features, view, sample)
            for name, model in models.items()
            if self._attends(model) and (self.features.rows["mixed"][sample] >= 0).any()
        }
        guided = next((look for look in looks.values() if len(look.seen.connector.attention) > 1), None)
        return write_report(self.folder / "report.html", Report(
            title=f"{self.recipe.name}: {len(self.catalog):,} items, {len(queries):,} queries",
            settings=self._settings(), results=results,
            examples=neighbour_examples(vectors, queries, view, self.recipe.evaluation.examples),
            attention=guided.examples(self.recipe.evaluation.examples) if guided else (),
            shares={name: look.shares() for name, look in looks.items() if look.noised},
            gates={name: look.gates() for name, look in looks.items() if look.seen.connector.gates},
            cost=[cost_of(name, model, self.features) for name, model in models.items()],
            commands=[f"tgq run {self.folder / 'recipe.yaml'} --to {self.folder}"],
            notes=NOTES,
        ))  # fmt: skip

    def _attends(self, model: ItemEmbedder) -> bool:
        return model.recipe["connector"] in ("qformer", "tgq")

    def _settings(self) -> dict[str, object]:
        recipe, sets = self.recipe, self.pairs
        return {
            "catalogue": f"{recipe.catalog.source}, {len(self.catalog):,} items",
            "pairs": f"{len(sets.train):,} train, {len(sets.val):,} validation, {len(sets.test):,} test",
            "noise": f"{100 * recipe.noise.share:.0f} % of the items: {', '.join(recipe.noise.kinds)}",
            "vision encoder": recipe.encoders.vision, "text encoder": recipe.encoders.text,
            "language model": recipe.language.name, "steps": recipe.training.steps,
            "pairs a step": recipe.training.batch, "learning rate": recipe.training.lr, "seeds": len(recipe.seeds),
        }  # fmt: skip

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _view(self, name: str) -> NoiseView:
        return next(view for view in self.views() if view.name == name)

    def _language(self) -> HuggingFaceLM:
        section = self.recipe.language
        return make_language(
            section.name, layers=section.layers, frozen_layers=section.frozen_layers, pooling=section.pooling,
            max_tokens=section.max_tokens,
            lora=LoRA(section.lora_rank, section.lora_alpha, section.lora_dropout),
        )  # fmt: skip

    def _positions_of(self, pairs: Pairs) -> tuple[Positions, Positions]:
        a, b = pairs.positions(self.catalog.ids()).T
        return a, b

    def _categories(self) -> Positions:
        """A code for each item's whole category path."""
        paths = [" > ".join(path or []) for path in self.catalog.table(["category"])["category"].to_pylist()]
        return np.unique(paths, return_inverse=True)[1]

    def _data_inputs(self) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "catalog": self.catalog.fingerprint, "pairs": asdict(recipe.pairs), "noise": asdict(recipe.noise),
            "encoders": asdict(recipe.encoders), "prompt": recipe.prompt.to_dict(),
        }  # fmt: skip

    def _model_inputs(self, section: ModelSection, seed: int) -> dict[str, Any]:
        recipe = self.recipe
        return {
            **self._data_inputs(), "seed": seed, "model": asdict(section), "alignment": asdict(recipe.alignment),
            "training": asdict(recipe.training), "language": asdict(recipe.language),
            "validation_pool": recipe.evaluation.validation_pool,
        }  # fmt: skip

    def _begin(self, what: str, folder: Path, inputs: dict[str, Any], *, resumable: bool = False) -> bool:
        """Say whether a stage must run. What was made from other inputs is removed; a resumable one goes on."""
        done, started = folder / "stage.json", folder.with_name(f".{folder.name}.started.json")
        plain = _plain(inputs)
        if done.exists() and read_json(done) == plain:
            console.print(f"[dim]{what}: done already[/]")
            return False
        console.print(f"[bold]{what}[/]")
        if not (resumable and started.exists() and read_json(started) == plain):
            shutil.rmtree(folder, ignore_errors=True)
        if resumable:
            write_json(started, plain)
        return True

    def _end(self, folder: Path, inputs: dict[str, Any]) -> None:
        write_json(folder / "stage.json", _plain(inputs))


def _keep_some(catalog: Catalog, count: int, to: Path) -> None:
    """Write a catalogue of `count` items, chosen by a stable hash of their ids, in the same order."""
    kept = set(subset(catalog.ids(), count))
    with CatalogWriter(to, name=catalog.name, pack=False, root=catalog.root) as writer:
        for item in catalog.items():
            if item.id in kept:
                writer.add(item)


def _plain(inputs: dict[str, Any]) -> Any:
    """As JSON gives it back: tuples as lists."""
    return json.loads(json.dumps(inputs))


def execute(recipe: Recipe, folder: Path, until: str = "report") -> Run:
    """Run a recipe up to a stage of `STAGES`, and print the table when there is one."""
    run = Run(recipe, folder)
    every = [(section, seed) for seed in recipe.seeds for section in recipe.models]
    work: dict[str, Callable[[], object]] = {
        "catalog": lambda: run.catalog, "pairs": lambda: run.pairs, "features": lambda: run.features,
        "train": lambda: [run.train(*one) for one in every], "evaluate": lambda: [run.evaluate(*one) for one in every],
        "embed": run.embed, "index": run.index, "neighbours": run.neighbours, "report": run.report,
    }  # fmt: skip
    for stage in STAGES[: STAGES.index(until) + 1]:
        work[stage]()
    if STAGES.index(until) >= STAGES.index("evaluate"):
        rows = summarize([run.evaluate(*one) for one in every])
        Console().print(rich_table(rows, title=recipe.name))
    return run
