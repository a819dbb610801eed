"""A study, stage by stage: content, behaviour, and both joined, judged alike. What is done is not done again.

STUDY/
  study.yaml                     every setting, written out
  data/                          catalogue and token cache, as of a run; another run's folder may serve
  log.parquet                    all interactions, simulated or read
  content/seed-N/                the content model, its vectors and log; lists/: its lists
  systems/NAME/seed-N/           log, checkpoint, vectors, lists of a model of behaviour
  joined/NAME/seed-N/            lists, vectors where it has some, blend.json where weights were learned
  results/NAME/seed-N/           metrics.json, queries.parquet: a view is a bucket
  report.html, table.md, table.csv
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer import config
from tgqformer.catalog.catalog import Catalog
from tgqformer.collaborative.blend import BUCKETS, FITTED, Blend, learn_blend
from tgqformer.collaborative.fusion import reciprocal_rank, spread
from tgqformer.collaborative.lists import Lists, lists_of_vectors
from tgqformer.config import slug
from tgqformer.errors import named_by
from tgqformer.evaluation.metrics import Scores
from tgqformer.evaluation.results import Result, ViewScores
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.recipe import Recipe
from tgqformer.experiments.study.content import content_vectors
from tgqformer.experiments.study.log import StudyLog, make_log
from tgqformer.experiments.study.settings import Study, System
from tgqformer.experiments.study.systems import hits, scores_of, system_stage, system_vectors
from tgqformer.pairs.interactions import Interactions, read_interactions
from tgqformer.pairs.splits import ItemSplit
from tgqformer.stages import Digests, Stage, Stages, claim, only_one
from tgqformer.synthetic.shoppers import SHOPPERS, read_truth, simulate_sessions
from tgqformer.types import Vectors

CONTENT = "content"
ALL = "all asked"
"""The view of all queries together."""


class StudyRun:
    """The folder of a study and its stages; each makes what it needs and reuses what is done.

    Args:
        study: what to do. folder: where everything is written. data: a folder with the catalogue and token cache of the
            same recipe, for example of a run; None keeps them in the study's own. changes: of the content recipe.
        device: where models of behaviour are trained.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        *,
        data: Path | None = None,
        changes: tuple[str, ...] = (),
        device: str = "cpu",
    ) -> None:
        content = dataclasses.replace(study.content, set=(*study.content.set, *changes))
        study = dataclasses.replace(study, content=content)  # so that study.yaml says all
        self.study, self.folder, self.data, self.device = study, folder, data or folder / "data", device
        self.recipe: Recipe = content.load()
        self._content: dict[int, Vectors] = {}
        claim(folder, "study", study.name)
        with only_one(folder):  # the settings of another that is at work there stay
            config.write(study, folder / "study.yaml")
        self.stages, self.digests = Stages(), Digests(folder / ".digests.json")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return self.study.seeds

    # --- the log ------------------------------------------------------------------------------------------------------

    @cached_property
    def catalog(self) -> Catalog:
        """The catalogue of the recipe."""
        return Dataset(self.recipe, self.data, stages=self.stages).catalog

    @cached_property
    def interactions(self) -> Interactions:
        """All interactions: read, or simulated once."""
        section, to = self.study.log, self.folder / "log"
        if section.interactions is not None:
            with named_by({name: f"log.read.{name}" for name in config.plain(section.read)}):
                return read_interactions(Path(section.interactions), section.read)
        inputs = config.plain(section) | {"catalog": self.catalog.fingerprint}
        self.stages.run(Stage("log", to, "log", inputs, partial(self._simulate, to)))
        return read_interactions(to / "log.parquet")

    def _simulate(self, to: Path) -> None:
        section, truth = self.study.log, self.data / "catalog" / "truth.parquet"
        shoppers = dataclasses.replace(
            SHOPPERS[str(section.shoppers)],
            sessions_per_item=section.sessions_per_item,
            sharpness=section.sharpness,
            seed=section.seed,
        )
        whole, known = ItemSplit.by_hash(self.catalog.ids(), (1.0, 0.0, 0.0), 0), None
        if truth.exists():
            known = read_truth(truth, self.catalog.ids())
        simulate_sessions(self.catalog, shoppers, whole, truth=known, shown=True).write(to / "log.parquet")

    @cached_property
    def log(self) -> StudyLog:
        """What is trained on, and the queries."""
        return make_log(self.interactions, self.catalog.ids(), self.study.protocol)

    # --- one source each ----------------------------------------------------------------------------------------------

    def content(self, seed: int) -> Vectors:
        """Vectors of the content model, float32 [N, d]."""
        if seed not in self._content:
            to = self.folder / "content" / f"seed-{seed}"
            self._content[seed] = content_vectors(self.recipe, self.data, self.log, seed, to, self.stages)
        return self._content[seed]

    def system(self, system: System, seed: int) -> Lists:
        """Lists of a model of behaviour; models that count are the same for every seed."""
        given = self.content(seed) if system.content else None
        to = self._at("systems", system.name, seed)
        stage = system_stage(system, self.log, given, seed, to, self.study.protocol.k, self.device)
        return Lists.read(self.stages.run(stage) / "lists.safetensors")

    def vectors(self, name: str, seed: int) -> Vectors:
        """Vectors of a source, float32 [N, d]; zeros for items that it does not know."""
        if name == CONTENT:
            return self.content(seed)
        if name in self.study.join.spreads:
            self.lists(name, seed)
            found: Vectors = np.load(self._at("joined", name, seed) / "vectors.npy", allow_pickle=False)
            return found
        system = self._system(name)
        self.system(system, seed)
        return system_vectors(self._at("systems", name, self._seed_of(system, seed)))

    def lists(self, name: str, seed: int) -> Lists:
        """Lists of any source or join, by its name."""
        join = self.study.join
        if name == CONTENT:
            inputs = {"content": self._content_id(seed)}

            def listed(_: Path) -> Lists:
                return lists_of_vectors(self.content(seed), self.study.protocol.k, shown=True)

            return self._kept("content lists", "lists", CONTENT, seed, inputs, listed)
        if name in join.sources():
            return self._join(name, seed)
        system = self._system(name)
        return self.system(system, self._seed_of(system, seed))

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """The seeds that make a difference to a source: one for models that count."""
        systems = {system.name: system for system in self.study.systems}
        counts = name in systems and not _learns(systems[name])
        return self.seeds[:1] if counts else self.seeds

    # --- judged -------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All that is judged: content, systems, joins."""
        return [CONTENT, *(system.name for system in self.study.systems), *self.study.join.sources()]

    def result(self, name: str, seed: int) -> Result:
        """Judge one source on the test queries, a view for each bucket."""
        to = self._at("results", name, seed)
        lists = self.lists(name, seed)
        few = self.study.protocol.few_clicks
        inputs = {"log": self.log.fingerprint, "lists": _digest(lists), "views": [*BUCKETS, ALL], "few": few}

        def make() -> None:
            scores = scores_of(lists, self.log.test)
            parts = {**self.log.buckets(self.log.test), ALL: np.arange(len(self.log.test))}
            views = {name: ViewScores.of(_some(scores, places), self.log.ids) for name, places in parts.items()}
            Result(name, seed, views).write(to)

        return Result.read(self.stages.run(Stage(f"evaluation of {name}, seed {seed}", to, "result", inputs, make)))

    def results(self) -> list[Result]:
        """Judge everything, every seed."""
        return [self.result(name, seed) for name in self.names() for seed in self.seeds_of(name)]

    def validation(self, name: str) -> float:
        """Mean H@10 over the buckets of the validation queries, and over the seeds."""
        queries, found = self.log.validation, []
        for seed in self.seeds_of(name):
            lists = self.lists(name, seed)
            found += [hits(lists, queries.at(places)) for places in self.log.buckets(queries).values()]
        return float(np.mean(found))

    def chosen(self) -> str:
        """The join that validates best: what is recommended."""
        systems = [system.name for system in self.study.systems if system.content and not system.ablation]
        offered = [*self.study.join.sources(), *systems]
        return max(offered or [CONTENT], key=self.validation)

    # --- joined -------------------------------------------------------------------------------------------------------

    def _spread(self, name: str, seed: int, to: Path) -> Lists:
        how = self.study.join.spreads[name]
        lists = self.lists(how.behaviour, seed)
        return self._of_vectors(spread(self.vectors(how.content, seed), lists, how.share, self.study.join.near), to)

    def _of_vectors(self, vectors: Vectors, to: Path) -> Lists:
        to.mkdir(parents=True, exist_ok=True)
        np.save(to / "vectors.npy", vectors)
        return lists_of_vectors(vectors, self.study.protocol.k, shown=True)

    def _alike(self, name: str, seed: int, to: Path) -> Lists:
        ranked = [self.lists(source, seed).items.astype(np.int64) for source in self.study.join.alike[name]]
        items, scores = reciprocal_rank(ranked, self.study.protocol.k)
        return Lists(items.astype(np.int32), scores.astype(np.float32))

    def _blended(self, name: str, seed: int, to: Path) -> Lists:
        lists = {source: self.lists(source, seed) for source in self.study.join.blends[name]}
        blend = learn_blend(lists, self.log.validation, self.log.clicks, few=self.study.protocol.few_clicks)
        blend.write(to / "blend.json")
        return blend.apply(lists, self.log.clicks, self.study.protocol.k, shown=True)

    def blend(self, name: str, seed: int) -> Blend:
        """Read the learned weights of a blend."""
        self.lists(name, seed)
        return Blend.read(self._at("joined", name, seed) / "blend.json")

    # --- folders ------------------------------------------------------------------------------------------------------

    def _join(self, name: str, seed: int) -> Lists:
        join = self.study.join
        ways = ((join.spreads, self._spread), (join.alike, self._alike))
        make = next((way for section, way in ways if name in section), self._blended)
        how = join.spreads.get(name)
        inputs = {
            "log": self.log.fingerprint,
            "how": config.plain(how) if how is not None else None,
            "near": join.near if name in join.spreads else None,
            "fitted": [FITTED, self.study.protocol.few_clicks] if name in join.blends else None,
            "sources": {source: _digest(self.lists(source, seed)) for source in join.sources()[name]},
        }
        return self._kept(name, "joined", name, seed, inputs, lambda to: make(name, seed, to))

    def _kept(
        self, what: str, kind: str, name: str, seed: int, inputs: dict[str, Any], make: Callable[[Path], Lists]
    ) -> Lists:
        to = self._at(kind, name, seed)
        inputs = {**inputs, "k": self.study.protocol.k}

        def write() -> None:
            make(to).write(to / "lists.safetensors")

        stage = Stage(f"{what}, seed {seed}", to, kind, inputs, write)
        return Lists.read(self.stages.run(stage) / "lists.safetensors")

    def _content_id(self, seed: int) -> str:
        return blake2b(self.content(seed).tobytes(), digest_size=8).hexdigest()

    def _system(self, name: str) -> System:
        return next(system for system in self.study.systems if system.name == name)

    def _seed_of(self, system: System, seed: int) -> int:
        return seed if _learns(system) else self.seeds[0]

    def _at(self, kind: str, name: str, seed: int) -> Path:
        return self.folder / kind / slug(name) / f"seed-{seed}"


def _learns(system: System) -> bool:
    from tgqformer.collaborative.models import LEARNED

    return system.model in LEARNED


def _some(scores: Scores, places: Any) -> Scores:
    return Scores(scores.query[places], {metric: values[places] for metric, values in scores.values.items()})


def _digest(lists: Lists) -> str:
    digest = blake2b(lists.items.tobytes(), digest_size=8)
    digest.update(lists.scores.tobytes())
    return digest.hexdigest()
