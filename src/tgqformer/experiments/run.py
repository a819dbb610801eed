"""A run: one recipe, from raw files to a served table, stage by stage. A stage that is done is not done again.

What needs torch is imported where it is used: a call that has nothing to do does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tgqformer import config
from tgqformer.catalog.catalog import VERSION, Catalog
from tgqformer.config import slug
from tgqformer.errors import TgqError
from tgqformer.evaluation.results import Result, SummaryRow, summarize
from tgqformer.evaluation.untrained import PREFIX, verdict
from tgqformer.experiments import Until
from tgqformer.experiments.dataset import NEW_ITEM, Dataset
from tgqformer.experiments.described import NOTES, about, settings_of_run, write_tables
from tgqformer.experiments.earlier import SERVED, Origins
from tgqformer.experiments.presets import CHOICE
from tgqformer.experiments.recipe import ModelSection, Recipe, check_files, check_models, is_written
from tgqformer.experiments.untrained import untrained_results
from tgqformer.files import read_json
from tgqformer.model.version import CARD, version_of
from tgqformer.objects import in_shell
from tgqformer.packages import check_there
from tgqformer.progress import Terminal, console
from tgqformer.stages import Digests, Stage, Stages, check_ours, claim, is_made, only_one, undo_of
from tgqformer.store.build import Build, build_store
from tgqformer.store.content import prompt_of, seen_of
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.ledger import FORMAT
from tgqformer.store.rules import LENGTH, LISTS
from tgqformer.synthetic.noise import write_view

if TYPE_CHECKING:
    from tgqformer.experiments.trial import Trial
    from tgqformer.model.embedder import ItemEmbedder

FEW_QUERIES, FEW_PAIRS = 200, 1000


class Run:
    """The folder of a run and its stages; each stage makes what it needs and reuses what is done.

    Args:
        recipe: what to do. folder: where everything is written.
        recheck: read every source again, whatever its size and time of change say.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, recheck: bool = False) -> None:
        self.recipe, self.folder, self.stages = recipe, folder, Stages()
        self.measured: list[SummaryRow] = []  # a row for each model, view and metric, once they are measured
        self._versions: dict[Path, str] = {}  # of saved models: reading one through takes a while
        digests = Digests(folder / ".digests.json", recheck=recheck)
        self.data = Dataset(recipe, folder, stages=self.stages, digests=digests)
        self.origins = Origins(recipe, self.data, self.stages)

    # --- training and evaluation --------------------------------------------------------------------------------------

    def trial_folder(self, section: ModelSection, seed: int) -> Path:
        """Return where one model of one seed lives."""
        return self.folder / "models" / slug(section.name) / f"seed-{seed}"

    def trial(self, section: ModelSection, seed: int) -> Trial:
        """Return one model of one seed, in the folder where it lives."""
        from tgqformer.experiments.trial import Trial

        to = self.trial_folder(section, seed)
        return Trial(self.recipe, self.data, section, seed, to, self.origins.of(section, to))

    def train(self, section: ModelSection, seed: int) -> Path:
        """Train one model; return the folder of the saved model."""
        return self.stages.run(self._training(section, seed)) / "model"

    def _training(self, section: ModelSection, seed: int) -> Stage:
        name, folder = f"training of {section.name}, seed {seed}", self.trial_folder(section, seed)
        inputs, make = self.origins.inputs(section, folder), partial(self._train, section, seed)
        return Stage(name, folder, "training", inputs, make, keep="same inputs")

    def _train(self, section: ModelSection, seed: int) -> None:
        from tgqformer.model.embedder import ItemEmbedder

        trial = self.trial(section, seed)
        model = trial.fit()
        assert isinstance(model, ItemEmbedder)  # others are refused before, see `check_models`
        model.save(trial.folder / "model")
        trial.drop_checkpoints()

    def announce(self) -> None:
        """Say what will be trained, and about how long all of it takes; nothing where all is trained."""
        left = [
            (section, seed)
            for seed in self.recipe.seeds
            for section in self.recipe.models
            if section.trains and not self._training(section, seed).is_done()
        ]
        if not left:
            return
        console.print(f"{len(self.data.pairs.train):,} training pairs")
        whole, estimates = 0.0, dict[str, float]()
        for section, seed in left:
            if section.name not in estimates:
                lines, estimates[section.name] = self.trial(section, seed).estimate()
                for line in lines:
                    console.print(line, markup=False)
            whole += estimates[section.name]
        console.print(f"{len(left)} to train, {about(whole)}" if len(left) > 1 else about(whole))

    def evaluate(self, section: ModelSection, seed: int) -> Result:
        """Measure one model in the full pool, on every view and by every probe."""
        saved, evaluation = self.train(section, seed), self.recipe.evaluation
        to = self.trial_folder(section, seed) / "result"
        inputs = self.origins.inputs(section, to.parent) | {"views": evaluation.views, "probes": evaluation.probes}
        inputs |= {"probe_queries": evaluation.probe_queries if evaluation.probes else 0} | self.data.drawn_inputs

        def make() -> None:
            self.trial(section, seed).measure(self._loaded(saved)).write(to)

        self.stages.run(Stage(f"evaluation of {section.name}, seed {seed}", to, "result", inputs, make))
        return Result.read(to)

    def _loaded(self, saved: Path) -> ItemEmbedder:
        """Load a model that this run saved; its encoders are those of the run, which are there."""
        from tgqformer.model.embedder import ItemEmbedder

        return ItemEmbedder.load(saved, encoders=self.data.encoders)

    def served(self, section: ModelSection) -> Path:
        """Return the folder of the model that is served: fitted again on all pairs, or the one that is measured."""
        seed = self.recipe.seeds[0]
        saved, to = self.train(section, seed), self.trial_folder(section, seed).parent / SERVED
        if not self._refits(section):
            return saved
        inputs = self.origins.inputs(section, to)
        make = partial(self._refit, section, saved.parent, to)
        name = f"refit of {section.name} on all pairs"
        return self.stages.run(Stage(name, to, "training", inputs, make, keep="same inputs")) / "model"

    def _refits(self, section: ModelSection) -> bool:
        return self.recipe.serve == "all" and section.trains

    def _refit(self, section: ModelSection, measured: Path, to: Path) -> None:
        from tgqformer.experiments.trial import Trial

        trial = Trial(self.recipe, self.data, section, self.recipe.seeds[0], to, self.origins.of(section, to))
        trial.refit(measured).save(to / "model")
        trial.drop_checkpoints()

    # --- serving ------------------------------------------------------------------------------------------------------

    @cached_property
    def shown_catalog(self) -> Catalog:
        """The catalogue as shoppers see it: with the noise of the mixed view, where the recipe draws some."""
        if not self.recipe.noise.share:
            return self.data.catalog
        to = self.folder / "shown"
        inputs = {"catalog": self.data.catalog.fingerprint, "noise": config.plain(self.recipe.noise)}

        def make() -> None:
            write_view(self.data.views["mixed"], to)

        stage = Stage("catalogue with its noise", to, "catalogue", inputs, make, format=VERSION)
        return Catalog.open(self.stages.run(stage))

    def embed(self, section: ModelSection | None = None) -> Embeddings:
        """Embed the catalogue with a model (the first of the recipe), of the first seed, from the cached features."""
        section = section or self.recipe.models[0]
        saved, to = self.served(section), self.folder / "embeddings" / slug(section.name)
        version = self._versions.get(saved) or self._versions.setdefault(saved, version_of(saved))
        inputs = {"model": version, "catalog": self.shown_catalog.fingerprint}
        make = partial(self._embed, section, saved, to)
        stage = Stage(f"embeddings by {section.name}", to, "embeddings", inputs, make, keep="same inputs")
        return Embeddings.open(self.stages.run(stage))

    def _embed(self, section: ModelSection, saved: Path, to: Path) -> None:
        trial, catalog, prompt = self.trial(section, self.recipe.seeds[0]), self.shown_catalog, prompt_of(saved)
        model, ids = self._loaded(saved), catalog.ids()
        table = Embeddings.create(to, dim=model.dim, model_version=model.version, cuttable=model.frozen is None,
                                  ids_fingerprint=fingerprint_of(ids), count=len(ids))  # fmt: skip
        for partition in table.missing():
            start, stop = table.bounds(partition)
            contents = [seen_of(item, prompt) for item in catalog.items(start, stop, pictures=False)]
            table.write(partition, ids[start:stop], trial.embed(model, np.arange(start, stop)), contents)

    def index(self) -> Path:
        """Build the store: a version for each model of the recipe, the first of them served.

        What an earlier night served is served until the new version is whole.
        """
        sections, to = self.recipe.models, self.folder / "store"
        tables = [self.embed(section) for section in sections]
        inputs = {"models": [table.model_version for table in tables], "catalog": self.shown_catalog.fingerprint}

        def make() -> None:
            for section, table in zip(reversed(sections), reversed(tables), strict=True):
                model = self.served(section)
                build = Build(section.name, model, keep=len(sections))  # the last one made is served
                build_store(table, self.shown_catalog, to, build)

        return self.stages.run(Stage("store", to, "store", inputs, make, format=FORMAT, keep="all"))

    def neighbours(self) -> Path:
        """Work out the exact top K of every item."""
        embeddings, to = self.embed(), self.folder / "neighbours"
        version, k = embeddings.model_version, self.recipe.neighbours
        inputs = {"model": version, "catalog": self.shown_catalog.fingerprint, "k": k}

        def make() -> None:
            from tgqformer.store.neighbours import build_neighbours

            build_neighbours(embeddings, to, k)

        self.stages.run(Stage("neighbours", to, "neighbours", inputs, make, keep="same inputs"))
        rules, lists = config.plain(self.recipe.rules), self.folder / ".lists"

        def look() -> None:
            from tgqformer.store.lists import write_ruled
            from tgqformer.store.neighbours import Neighbours

            found = write_ruled(Neighbours.open(to), self.shown_catalog, self.recipe.rules, LENGTH)
            console.print(found.told(), markup=False)

        self.stages.run(
            Stage("lists by the rules", lists, "lists", inputs | {"rules": rules}, look, outputs=(to / LISTS,))
        )
        return to

    # --- report -------------------------------------------------------------------------------------------------------

    def results(self) -> list[Result]:
        """Measure every model of every seed."""
        return [self.evaluate(section, seed) for section in self.recipe.models for seed in self.recipe.seeds]

    def untrained(self) -> list[Result]:
        """Measure what needs no training."""
        return untrained_results(self.data, self.folder / "untrained")

    def verdict(self) -> str:
        """Say whether training pays, and what is served."""
        trained = [section for section in self.recipe.models if section.connector != "frozen"]
        if not trained:
            return "Nothing is trained: served is what needs no training."
        view = "mixed" if self.data.new_items is None or self.data.pairs.by_time else NEW_ITEM
        results, first = [*self.results(), *self.untrained()], self.recipe.models[0]
        served = first.name + self._share_of(first) + (", fitted again on all pairs" if self._refits(first) else "")
        what = "training" if trained[0].trains else "pretraining"
        found = verdict(results, trained[0].name, view, served, what)
        return found.text if found else ""

    def _share_of(self, section: ModelSection) -> str:
        """Say which share of a model's cosine is learned; nothing where all of it is."""
        path = self.trial_folder(section, self.recipe.seeds[0]) / CHOICE
        if not path.is_file():
            return ""
        found = read_json(path)
        share = 100 * float(found["share"])
        return f" ({found['preset']} training, {share:.0f} % learned and {100 - share:.0f} % frozen)"

    def report(self) -> Path:
        """Write report.html, table.md and table.csv."""
        results, page = self.results(), self.folder / "report.html"
        every = [(section, seed) for section in self.recipe.models for seed in self.recipe.seeds]
        trials = [self.origins.inputs(section, self.trial_folder(section, seed)) for section, seed in every]
        inputs = {"name": self.recipe.name, "serve": self.recipe.serve, "trials": trials}
        inputs["evaluation"] = config.plain(self.recipe.evaluation)
        served = {section.name: self.served(section) for section in self.recipe.models}
        outputs = page, self.folder / "table.md", self.folder / "table.csv", *(one / CARD for one in served.values())
        make = partial(self._report, results, page, served)
        self.stages.run(Stage("report", self.folder / ".report", "report", inputs, make, format=3, outputs=outputs))
        return page

    def _report(self, results: list[Result], page: Path, served: dict[str, Path]) -> None:
        from tgqformer.evaluation.report import Report, write_report  # here: Matplotlib takes long to import
        from tgqformer.experiments.card import write_cards
        from tgqformer.experiments.reporting import Inspection, NoisedSample, cost_of, example_rule, neighbour_examples

        verdict, results = self.verdict(), [*results, *self.untrained()]
        settings = settings_of_run(self.recipe, self.data, self._choices())
        write_tables(self.folder, results, verdict)
        seed, view, examples = self.recipe.seeds[0], self.data.views["mixed"], self.recipe.evaluation.examples
        trials = {section.name: self.trial(section, seed) for section in self.recipe.models}
        models = {name: self._loaded(trial.folder / "model") for name, trial in trials.items()}
        queries, everything = self.data.queries, np.arange(len(self.data.catalog))
        vectors = {name: trials[name].embed(models[name], everything) for name in list(models)[:2]}
        sample = NoisedSample(self.data.encoders, view, np.random.default_rng(0).permutation(queries.query)[:1000])
        inspected = {
            name: Inspection(model, self.data.features, sample) for name, model in models.items() if len(sample)
        }
        guided = next((found for found in inspected.values() if len(found.seen.connector.attention) > 1), None)
        report = Report(
            title=f"{self.recipe.name}: {len(self.data.catalog):,} items, {len(queries):,} queries",
            settings=settings,
            results=results,
            verdict=verdict,
            examples=neighbour_examples(vectors, queries, view, examples),
            rule=example_rule(list(vectors), examples),
            attention=guided.examples(examples) if guided else (),
            shares={name: found.shares() for name, found in inspected.items() if found.shares()},
            gates={name: found.gates() for name, found in inspected.items() if found.seen.connector.gates},
            cost=[cost_of(name, model, self.data.features) for name, model in models.items()],
            commands=[f"tgq run {in_shell(self.folder / 'recipe.yaml')} --to {in_shell(self.folder)}"],
            notes=NOTES,
        )
        write_report(page, report)
        write_cards(served, self.data.encoders, self.recipe, results, settings, verdict)

    def _choices(self) -> dict[str, str]:
        """Say what validation chose for each model of each seed."""
        chosen = {}
        for section in self.recipe.models:
            for seed in self.recipe.seeds:
                path = self.trial_folder(section, seed) / CHOICE
                if path.is_file():
                    found = read_json(path)
                    name = f"chosen for {section.name}, seed {seed}"
                    share = f"{100 * found['share']:.0f} % learned ({found['why']})"
                    chosen[name] = f"{found['preset']} training ({found['preset_why']}), {share}"
        return chosen

    def folders(self) -> dict[Path, str]:
        """Return the folders that the stages write, each with its kind; those with a digest in their name left out."""
        found = {"catalog": "catalogue", "pairs": "pairs", "cache": "features", "store": "store"}
        found |= {"neighbours": "neighbours", ".lists": "lists", "untrained": "untrained", ".report": "report"}
        if self.recipe.noise.share:
            found["shown"] = "catalogue"
        whole = {self.folder / name: kind for name, kind in found.items()}
        for section in self.recipe.models:
            whole[self.folder / "embeddings" / slug(section.name)] = "embeddings"
            trials = {self.trial_folder(section, seed): "training" for seed in self.recipe.seeds}
            whole |= trials | {folder.parent / SERVED: "training" for folder in trials if self._refits(section)}
            kept = self.trial_folder(section, 0).parent
            if self.recipe.training.from_ is not None and section.trains:
                whole |= {one.parent / "earlier" / one.name: "earlier" for one in list(whole) if one.parent == kept}
        return whole

    def warn(self) -> None:
        """Say where there are too few pairs or queries for the figures to mean much."""
        pairs, queries = len(self.data.pairs.train), len(self.data.queries)
        if pairs < FEW_PAIRS:
            console.print(f"[yellow]{pairs:,} training pairs are few: a longer log will help more than any setting[/]")
        if queries < FEW_QUERIES:
            console.print(f"[yellow]{queries:,} test queries: figures of so few are not worth reading[/]")


def execute(
    recipe: Recipe, folder: Path, until: Until = "report", *, recheck: bool = False, overwrite: bool = False
) -> Run:
    """Run a recipe up to a stage, and say whether training pays; `measured` of what is returned holds the table.

    Args:
        recipe: what to do. folder: of the run: new, empty, or that of an earlier call. until: the last stage.
        recheck: read every source again. overwrite: take over the folder of a run of another name.

    Raises:
        TgqError: if the folder is not ours or in use, or a file that the recipe names is not there. A new folder is
            removed again where no pairs can be had.
    """
    check_there(_needed(recipe, until))
    if not is_written(recipe, folder / "recipe.yaml"):  # else an earlier call has checked it
        check_models(recipe)
    check_files(recipe)
    undo = undo_of(folder)
    claim(folder, "run", recipe.name, overwrite=overwrite)
    with only_one(folder):
        run = Run(recipe, folder, recheck=recheck)
        for written, kind in run.folders().items():
            check_ours(written, kind)
        config.write(recipe, folder / "recipe.yaml")
        try:
            _work(run, until)
        except TgqError:
            if not is_made(folder / "pairs"):
                undo()
            raise
    return run


def _needed(recipe: Recipe, until: Until) -> list[str]:
    """Return what only some users have and this run needs: better told now than after the training."""
    noise = recipe.noise.share > 0 or set(recipe.evaluation.views) - {"mixed", "clean"}
    store = get_args(Until).index(until) >= get_args(Until).index("index")
    drawn = [*(["cv2"] if noise else []), *(["matplotlib"] if until == "report" else [])]
    return [*([] if until in ("catalog", "pairs") else ["torch"]), *drawn, *(["lancedb"] if store else [])]


def _work(run: Run, until: Until) -> None:
    recipe, stages = run.recipe, get_args(Until)
    every = [(section, seed) for seed in recipe.seeds for section in recipe.models]

    def pairs() -> None:
        _ = run.data.pairs
        run.warn()

    def train() -> None:
        run.announce()
        for one in every:
            run.train(*one)

    work: tuple[Callable[[], Any], ...] = (  # one for each word of `Until`, in its order
        lambda: run.data.catalog,
        pairs,
        lambda: run.stages.run(run.data.features_stage()),
        train,
        lambda: [run.evaluate(*one) for one in every],
        lambda: [run.embed(section) for section in recipe.models],
        run.index,
        run.neighbours,
        run.report,
    )
    last = stages.index(until)
    for at, make in zip(range(len(stages)), work, strict=True):
        if at <= last:
            make()
    if last >= stages.index("evaluate"):
        rows = summarize([*run.results(), *run.untrained()])
        run.measured = [replace(row, model=row.model.replace(PREFIX, "* ")) for row in rows]
        Terminal().print(f"{run.verdict()}\n* needs no training", markup=False)
