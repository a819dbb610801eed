"""A run: one recipe, from raw files to a served table, stage by stage. A stage that is done is not done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console

from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.evaluation.report import Report, write_report
from tgqformer.evaluation.results import Result, summarize
from tgqformer.evaluation.tables import csv_text, differences_markdown, markdown, rich_table
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import ModelSection, Recipe, write_recipe
from tgqformer.experiments.reporting import Looks, NoisedSample, cost_of, neighbour_examples
from tgqformer.experiments.trial import Trial
from tgqformer.files import write_text
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.stages import begin, end
from tgqformer.store.build import Build, build_store
from tgqformer.store.content import prompt_of, seen_of
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.neighbours import build_neighbours
from tgqformer.synthetic.noise import write_view
from tgqformer.training.checkpoint import drop_checkpoints

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
        self.data = Dataset(recipe, folder)
        write_recipe(recipe, folder / "recipe.yaml")

    # --- training and evaluation --------------------------------------------------------------------------------------

    def trial(self, section: ModelSection, seed: int) -> Trial:
        """One model of one seed, in the folder where it lives."""
        folder = self.folder / "models" / section.name.lower().replace(" ", "-") / f"seed-{seed}"
        return Trial(self.recipe, self.data, section, seed, folder)

    def train(self, section: ModelSection, seed: int) -> Path:
        """Train one model; give the folder of the saved model."""
        trial = self.trial(section, seed)
        to, inputs = trial.folder, trial.inputs()
        if begin(f"{section.name}, seed {seed}", to, inputs, resumable=True):
            model = trial.fit()
            if not isinstance(model, ItemEmbedder):
                raise TgqError(f"{section.name} is a whole multimodal model, which a run cannot serve; use `tgq bench`")
            model.save(to / "model")
            drop_checkpoints(to)
            end(to, inputs)
        return to / "model"

    def evaluate(self, section: ModelSection, seed: int) -> Result:
        """Measure one model in the full pool, on every view and by every probe."""
        saved, trial, measured = self.train(section, seed), self.trial(section, seed), self.recipe.evaluation
        to = trial.folder / "result"
        inputs = {
            **trial.inputs(), "views": list(measured.views), "probes": list(measured.probes),
            "probe_queries": measured.probe_queries if measured.probes else 0,
        }  # fmt: skip
        if begin(f"evaluation of {section.name}, seed {seed}", to, inputs):
            trial.measure(ItemEmbedder.load(saved)).write(to)
            end(to, inputs)
        return Result.read(to)

    # --- serving ------------------------------------------------------------------------------------------------------

    @cached_property
    def shown_catalog(self) -> Catalog:
        """The catalogue as shoppers see it: with the noise of the mixed view, where the recipe draws some."""
        if not self.recipe.noise.share:
            return self.data.catalog
        to = self.folder / "shown"
        inputs = {"catalog": self.data.catalog.fingerprint, "noise": asdict(self.recipe.noise)}
        if begin("catalogue with its noise", to, inputs):
            write_view(self.data.views["mixed"], to)
            end(to, inputs)
        return Catalog.open(to)

    def embed(self, section: ModelSection | None = None) -> Embeddings:
        """Embed the catalogue with a model (the first of the recipe), of the first seed, from the cached features."""
        trial = self.trial(section or self.recipe.models[0], self.recipe.seeds[0])
        saved = self.train(trial.section, trial.seed)
        catalog, to = self.shown_catalog, self.folder / "embeddings" / trial.folder.parent.name
        model = ItemEmbedder.load(saved)
        inputs = {"model": model.version, "catalog": catalog.fingerprint}
        if begin(f"embeddings by {trial.section.name}", to, inputs, resumable=True):
            ids, prompt = catalog.ids(), prompt_of(saved)
            table = Embeddings.create(
                to, dim=model.dim, model_version=model.version, ids_fingerprint=fingerprint_of(ids), count=len(ids)
            )
            for partition in table.missing():
                start, stop = table.bounds(partition)
                contents = [seen_of(item, prompt) for item in catalog.items(start, stop, pictures=False)]
                table.write(partition, ids[start:stop], trial.embed(model, np.arange(start, stop)), contents)
            end(to, inputs)
        return Embeddings.open(to)

    def index(self) -> Path:
        """Build the store: a version for each model of the recipe, the first of them served."""
        sections, to = self.recipe.models, self.folder / "store"
        tables = [self.embed(section) for section in sections]
        inputs = {"models": [t.model_version for t in tables], "catalog": self.shown_catalog.fingerprint}
        if begin("store", to, inputs):
            for section, table in zip(reversed(sections), reversed(tables), strict=True):
                model = self.trial(section, self.recipe.seeds[0]).folder / "model"
                build = Build(section.name, model, keep=len(sections))  # the last one made is served
                build_store(table, self.shown_catalog, to, build)
            end(to, inputs)
        return to

    def neighbours(self) -> Path:
        """Work out the exact top-K of every item."""
        embeddings, to = self.embed(), self.folder / "neighbours"
        inputs = {
            "model": embeddings.model_version,
            "catalog": self.shown_catalog.fingerprint,
            "k": self.recipe.neighbours,
        }
        if begin("neighbours", to, inputs, resumable=True):
            build_neighbours(embeddings, to, self.recipe.neighbours)
            end(to, inputs)
        return to

    # --- report -------------------------------------------------------------------------------------------------------

    def report(self) -> Path:
        """Write report.html, table.md and table.csv."""
        results = [self.evaluate(section, seed) for section in self.recipe.models for seed in self.recipe.seeds]
        rows = summarize(results)
        differences = f"\nPaired differences in H@10, points [95 %]:\n\n{differences_markdown(results)}"
        write_text(self.folder / "table.md", markdown(rows) + (differences if len(self.recipe.models) > 1 else ""))
        write_text(self.folder / "table.csv", csv_text(rows))
        seed, view = self.recipe.seeds[0], self.data.views["mixed"]
        trials = {section.name: self.trial(section, seed) for section in self.recipe.models}
        models = {name: ItemEmbedder.load(trial.folder / "model") for name, trial in trials.items()}
        queries, everything = self.data.queries, np.arange(len(self.data.catalog))
        vectors = {name: trials[name].embed(models[name], everything) for name in list(models)[:2]}
        sample = NoisedSample(self.data.encoders, view, np.random.default_rng(0).permutation(queries.query)[:1000])
        looks = {name: Looks(model, self.data.features, sample) for name, model in models.items() if len(sample)}
        guided = next((look for look in looks.values() if len(look.seen.connector.attention) > 1), None)
        return write_report(self.folder / "report.html", Report(
            title=f"{self.recipe.name}: {len(self.data.catalog):,} items, {len(queries):,} queries",
            settings=self._settings(), results=results,
            examples=neighbour_examples(vectors, queries, view, self.recipe.evaluation.examples),
            attention=guided.examples(self.recipe.evaluation.examples) if guided else (),
            shares={name: look.shares() for name, look in looks.items() if look.shares()},
            gates={name: look.gates() for name, look in looks.items() if look.seen.connector.gates},
            cost=[cost_of(name, model, self.data.features) for name, model in models.items()],
            commands=[f"tgq run {self.folder / 'recipe.yaml'} --to {self.folder}"],
            notes=NOTES,
        ))  # fmt: skip

    def _settings(self) -> dict[str, object]:
        recipe, sets = self.recipe, self.data.pairs
        alone = recipe.training.visual_stage(len(sets.train)).steps if recipe.training.visual_steps else 0
        return {
            "catalogue": f"{recipe.catalog.source}, {len(self.data.catalog):,} items",
            "pairs": f"{len(sets.train):,} train, {len(sets.val):,} validation, {len(sets.test):,} test",
            "noise": f"{100 * recipe.noise.share:.0f} % of the items: {', '.join(recipe.noise.kinds)}",
            "vision encoder": recipe.encoders.vision, "text encoder": recipe.encoders.text,
            "language model": recipe.language.name, "steps of the connector alone before": alone,
            "steps": recipe.training.steps, "pairs a step": recipe.training.batch,
            "learning rate": recipe.training.lr, "seeds": len(recipe.seeds),
        }  # fmt: skip


def execute(recipe: Recipe, folder: Path, until: str = "report") -> Run:
    """Run a recipe up to a stage of `STAGES`, and print the table when there is one."""
    run = Run(recipe, folder)
    every = [(section, seed) for seed in recipe.seeds for section in recipe.models]
    work: dict[str, Callable[[], object]] = {
        "catalog": lambda: run.data.catalog, "pairs": lambda: run.data.pairs, "features": lambda: run.data.features,
        "train": lambda: [run.train(*one) for one in every], "evaluate": lambda: [run.evaluate(*one) for one in every],
        "embed": lambda: [run.embed(section) for section in recipe.models], "index": run.index,
        "neighbours": run.neighbours, "report": run.report,
    }  # fmt: skip
    for stage in STAGES[: STAGES.index(until) + 1]:
        work[stage]()
    if STAGES.index(until) >= STAGES.index("evaluate"):
        rows = summarize([run.evaluate(*one) for one in every])
        Console().print(rich_table(rows, title=recipe.name))
    return run
