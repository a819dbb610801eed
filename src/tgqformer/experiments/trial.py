"""A trial: one model of one seed, trained and measured in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Sized
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tgqformer.encoders.alignment import Alignment
from tgqformer.encoders.frozen import Precision, best_device
from tgqformer.errors import TgqError
from tgqformer.evaluation.metrics import Queries, evaluate
from tgqformer.evaluation.results import Result, ViewScores, read_log
from tgqformer.evaluation.untrained import STEPS, Choice, choose_middle, choose_name
from tgqformer.experiments.dataset import Dataset
from tgqformer.experiments.earlier import Earlier
from tgqformer.experiments.folds import everything, folds_of
from tgqformer.experiments.presets import CHOICE, kept_share, presets_of, trial_inputs
from tgqformer.experiments.ranks import TrialTraining
from tgqformer.experiments.recipe import TOKEN_PROBES, ModelSection, Recipe
from tgqformer.files import read_json, write_json
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.features import Spliced, embed_features
from tgqformer.model.frozen import FrozenPart
from tgqformer.model.multimodal import WholeEmbedder
from tgqformer.model.peers import load_whole
from tgqformer.model.pretrained import load_pretrained
from tgqformer.model.warm import take_weights
from tgqformer.progress import progress
from tgqformer.training.checkpoint import drop_checkpoints
from tgqformer.training.embedder import seconds_of_training, train_embedder
from tgqformer.training.processes import in_processes, is_rank
from tgqformer.training.sampling import PairSampler
from tgqformer.training.settings import TrainingSettings
from tgqformer.types import Doubles, Positions, Vectors

Model = ItemEmbedder | WholeEmbedder
NOTHING = np.zeros(0)


class Trial:
    """One model of one seed.

    Args:
        recipe: how it is trained and measured. data: what all models share, made for the same recipe.
        section: the model. seed: of weights and batches. folder: holds log and checkpoint, and what is made of them.
        earlier: what it goes on from; None for a training from the start.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        section: ModelSection,
        seed: int,
        folder: Path,
        earlier: Earlier | None = None,
    ) -> None:
        self.earlier = earlier
        self.recipe, self.data, self.section, self.seed, self.folder = recipe, data, section, seed, folder

    def inputs(self) -> dict[str, Any]:
        """All that decides the trained weights, of a trial that goes on from nothing."""
        return trial_inputs(self.recipe, self.data, self.section, self.seed)

    def build(self) -> ItemEmbedder:
        """A fresh model."""
        section, encoders = self.section, self.data.encoders
        if section.connector == "frozen":
            model = ItemEmbedder("frozen", section.options, encoders.widths, None, encoders=encoders)
            model.begin_at(self.data.frozen, 0.0)
            return model.eval()
        norm, alignment = self.data.alignment(self.seed)
        torch.manual_seed(self.seed)
        language = self.data.language() if section.language else None
        model = ItemEmbedder(section.connector, section.options, encoders.widths, language, encoders=encoders)
        if model.connector.guided:
            model.alignment = alignment
            if self.recipe.training.alignment_lr and isinstance(alignment, Alignment):
                alignment.requires_grad_(True).log_temperature.requires_grad_(False)  # which only its own loss reads
        model.token_norm.load_state_dict(norm.state_dict())
        return model

    @cached_property
    def _before(self) -> ItemEmbedder:
        assert self.earlier is not None
        return ItemEmbedder.load(self.earlier.model)

    def fit(self) -> Model:
        """Train a fresh model, or go on where a killed training was; with several settings, keep what validates best.

        A pretrained or a whole multimodal model is taken as it is, a frozen one needs no training.
        """
        if self.section.multimodal is not None:
            return load_whole(self.section.multimodal, device=best_device())
        if self.section.connector == "frozen":
            return self.build()
        if self.section.pretrained is not None:
            return self._begun(load_pretrained(self.section.pretrained, self.data.encoders, self.data.language()))
        if self.earlier is not None:
            return self._go_on(self.earlier)
        presets = self.presets()
        if self._share == 1 and len(presets) == 1:
            return self._train(*next(iter(presets.values())))
        folds = [Trial(self.recipe, data, self.section, self.seed, self.folder) for data in self._folds(presets)]
        models, tried, until = dict[str, ItemEmbedder](), dict[str, dict[float, Doubles]](), dict[str, float]()
        for name, (settings, folder) in presets.items():
            if folds:
                tried[name], until[name] = self._cross_validate(folds, settings, folder)
            else:
                models[name] = self._train(settings, folder)
                tried[name] = self._mixtures(models[name])
        choices = {name: self._choose(found) for name, found in tried.items()}
        chosen, why = choose_name({name: tried[name].get(choices[name].share, NOTHING) for name in presets})
        settings, folder = presets[chosen]
        model = models[chosen] if models else self._train(settings, folder, until[chosen])
        found = {"preset": chosen, "preset_why": why, "folds": len(folds), **vars(choices[chosen])}
        kept = until.get(chosen) or kept_share(folder, settings, self.data)
        write_json(self.folder / CHOICE, found | {"until": kept})
        if folder != self.folder:
            shutil.copy(folder / "log.jsonl", self.folder / "log.jsonl")
        model.begin_at(self._frozen(model), choices[chosen].share)
        return model

    def _go_on(self, earlier: Earlier) -> ItemEmbedder:
        """Train on from earlier weights, with the settings, the share and the stop that were chosen for them."""
        choice = dict(earlier.choice)
        settings, folder = next(iter(self.presets().values()))
        until = choice["until"] if choice.get("folds") else None
        model = self._train(settings, folder, until)
        model.begin_at(*self._beginning(model))
        if choice:
            found = {"preset_why": "as for the earlier model", "why": "as of the earlier model", "share": model.share}
            kept = until or kept_share(folder, settings, self.data)
            write_json(self.folder / CHOICE, choice | found | {"until": kept})
        return model

    def _beginning(self, model: ItemEmbedder) -> tuple[FrozenPart, float]:
        """Return the frozen part of a model that went on, and the share that is learned: as of the earlier one.

        With `compatible` the frozen vectors are the earlier ones too; else they are of today's items.
        """
        assert self.earlier is not None
        before, wanted = self._before, self.section.share
        share = before.share if wanted == "auto" else wanted
        if not self.earlier.compatible:
            return (self._frozen(model), share)
        if share != before.share:
            what = f"the earlier model has learned {before.share:g} of its vectors, the recipe asks for {share:g}"
            raise TgqError(f"training.compatible: {what}; vectors of two shares cannot be compared: give share: auto")
        return (before.frozen or FrozenPart(model.widths), share)

    def _begun(self, model: ItemEmbedder) -> ItemEmbedder:
        """Let a pretrained model begin at the frozen vectors of this catalogue; validation chooses the share."""
        model.begin_at(FrozenPart(model.widths), 1)
        if self._share != 1:
            choice = self._choose(self._mixtures(model))
            write_json(
                self.folder / CHOICE, {"preset": "no", "preset_why": "it is pretrained", "folds": 0, **vars(choice)}
            )
            model.begin_at(self._frozen(model), choice.share)
        return model

    def _folds(self, presets: Sized) -> list[Dataset]:
        """Return the folds that validate where there is something to choose, and too few queries to choose by."""
        choosing = self.earlier is None and (self._share == "auto" or len(presets) > 1)
        return folds_of(self.data) if choosing else []

    def _cross_validate(
        self, folds: Sequence[Trial], settings: TrainingSettings, folder: Path
    ) -> tuple[dict[float, Doubles], float]:
        """Train once for each fold; return H@10 of all their queries by the shares, and the share of steps to take."""
        hits, kept = list[dict[float, Doubles]](), []
        for at, fold in enumerate(folds):
            to = folder / f"fold-{at}"
            hits.append(fold._mixtures(fold._train(settings, to)))
            kept.append(kept_share(to, settings, fold.data))
        return {share: np.concatenate([one[share] for one in hits]) for share in hits[0]}, float(np.mean(kept))

    def refit(self, measured: Path) -> ItemEmbedder:
        """Train a fresh model on all pairs, as validation chose it for the one that was measured.

        Args:
            measured: the folder of the trial that was measured; this one has the same recipe, model and seed.
        """
        found = read_json(measured / CHOICE) if (measured / CHOICE).is_file() else {}
        section = replace(self.section, preset=found.get("preset", self.section.preset))
        until = found.get("until") or kept_share(measured, next(iter(self.presets().values()))[0], self.data)
        whole = Trial(self.recipe, everything(self.data), section, self.seed, self.folder, self.earlier)
        settings, folder = next(iter(whole.presets().values()))
        model = whole._train(settings, folder, until)
        if self.earlier is not None:
            model.begin_at(*self._beginning(model))
        elif "share" in found:
            model.begin_at(self._frozen(model), found["share"])
        return model

    def presets(self) -> dict[str, tuple[TrainingSettings, Path]]:
        """Return the settings that the model is trained with, by name, each with its folder; the safest first."""
        given, section = self.recipe.training, self.section
        if self.earlier is not None:
            given = given.continued()
            if section.preset == "auto":
                section = replace(section, preset=self.earlier.choice.get("preset", "given"))
        return presets_of(given, section, len(self.data.pairs.train), self.folder)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of all trainings of this trial, which are done."""
        for log in self.folder.rglob("log.jsonl"):
            drop_checkpoints(log.parent)

    def _train(self, settings: TrainingSettings, folder: Path, until: float | None = None) -> ItemEmbedder:
        """Train a fresh model; validation says which weights are kept, or `until` after which share of the steps.

        Several processes leave theirs in the checkpoint of the last step, and this one goes on from there.
        """
        if settings.processes > 1 and not is_rank():
            what = f"training of {self.section.name}"
            in_processes(settings.processes, TrialTraining(self, settings, folder, until), what)
        model, sampler, old = self.build(), self._sampler(settings), None
        if self.earlier is not None:
            take_weights(model, self._before)
            if self.earlier.compatible:
                model.compatible, old = (self._before.version,), self._old_vectors()
        validate = self.validate if until is None and self._validation is not None else None
        train_embedder(
            model,
            self.data.features,
            sampler,
            settings,
            folder,
            seed=self.seed,
            validate=validate,
            until=until or 1.0,
            old=old,
        )
        return model

    def _old_vectors(self) -> Vectors:
        """Return what the earlier model learned of the items of the training pairs: float32 [N, d], zeros of others."""
        assert self.earlier is not None
        before = ItemEmbedder.load(self.earlier.model)
        before.begin_at(FrozenPart(before.widths), 1)
        items = np.unique(np.concatenate(self.data.pair_positions("train")))
        found = np.zeros((len(self.data.catalog), before.dim), np.float32)
        found[items] = self.embed(before, items, shown=False)
        return found

    def _sampler(self, settings: TrainingSettings) -> PairSampler:
        a, b = self.data.pair_positions("train")
        items, categories = len(self.data.catalog), self.data.categories
        return PairSampler(a, b, categories, items=items, batch=settings.batch, group=settings.group, seed=self.seed)

    def estimate(self) -> tuple[list[str], float]:
        """Say what will be trained, a line for each of the settings tried; and about how many seconds it takes.

        A step of each part is timed on a model that is thrown away.
        """
        if not self.section.trains:
            return [], 0.0
        lines, seconds, presets = [], 0.0, self.presets()
        folds = len(self._folds(presets))
        for name, (settings, _) in presets.items():
            sampler, model = self._sampler(settings), self.build()
            found = settings.resolved(len(sampler.a))
            alone = f"{found.visual_steps} of the connector alone, " if found.visual_steps and model.sees else ""
            tried = (f", {name} settings" if len(presets) > 1 else "") + (f", and {folds} folds" if folds else "")
            lines.append(f"{self.section.name}{tried}: steps: {alone}{found.steps} of the whole model")
            seconds += (1 + folds) * seconds_of_training(model, self.data.features, sampler, found, seed=self.seed)
        return lines, seconds

    def _mixtures(self, model: ItemEmbedder) -> dict[float, Doubles]:
        """H@10 of the validation queries by the shares that may be chosen: share -> [Q]; nothing without any."""
        if self._validation is None:
            return {}
        (pool, queries), tried = self._validation, {}
        learned = self.embed(model, pool, shown=False)
        frozen = self.data.frozen_vectors(self._frozen(model), pool) if self._share != 1 else learned
        for s in STEPS if self._share == "auto" else (self._share,):
            vectors = learned if s == 1 else np.concatenate([(1 - s) ** 0.5 * frozen, s**0.5 * learned], axis=1)
            tried[s] = evaluate(vectors, queries).values["hit@10"]
        return tried

    def _choose(self, hits: dict[float, Doubles]) -> Choice:
        if self._share == "auto":
            return choose_middle(hits)
        return Choice(self._share, "as the recipe says", {share: float(found.mean()) for share, found in hits.items()})

    def _frozen(self, model: ItemEmbedder) -> FrozenPart:
        """Return the frozen vectors of what a model reads: a model of texts alone stays one."""
        if self._share == 1:
            return FrozenPart(model.widths)  # it is not looked at
        whole = self.data.frozen
        if not model.connector.tokens:
            return whole.sharing(1.0)
        return whole.sharing(0.0) if model.language is None else whole

    @property
    def _share(self) -> Literal["auto"] | float:
        """The share of the recipe; embeddings that may be cut to their first dimensions are learned wholly."""
        return 1.0 if self.section.share == "auto" and self.recipe.training.matryoshka else self.section.share

    @property
    def _validation(self) -> tuple[Positions, Queries] | None:
        """Pool and queries of validation; where a share is chosen, every partner that is no test item counts.

        A pretrained model was trained on none of these pairs, so it is asked for those of training too.
        """
        if self.section.pretrained is not None:
            return self.data.untrained_validation
        return self.data.any_validation if self._share == "auto" else self.data.validation

    def validate(self, model: Model) -> tuple[float, float]:
        """H@10 of the validation queries in their pool, and its standard error over queries."""
        assert self._validation is not None
        pool, queries = self._validation
        hits = evaluate(self.embed(model, pool, shown=False), queries).values["hit@10"]
        return float(hits.mean()), float(hits.std() / len(hits) ** 0.5)

    def measure(self, model: Model) -> Result:
        """Measure a trained model in the full pool, on every view, and by every probe."""
        views = {}
        vectors = self.embed_views(model)
        for name in self.recipe.evaluation.views:
            scores = evaluate(vectors[name], self.data.queries)
            views[name] = ViewScores.of(scores, self.data.catalog.ids(), self._facts(name, scores.query))
        for name, queries in self.data.asked.items():
            views[name] = ViewScores.of(evaluate(vectors["mixed"], queries), self.data.catalog.ids())
        asked = list(self.recipe.evaluation.probes)
        if isinstance(model, WholeEmbedder):  # it has tokens of its own
            asked = [name for name in asked if name not in TOKEN_PROBES]
        probes = {name: self._probe(model, name, vectors["mixed"]) for name in asked}
        return Result(self.section.name, self.seed, views, read_log(self.folder / "log.jsonl"), probes)

    def embed_views(self, model: Model) -> dict[str, Vectors]:
        """Embed the whole catalogue in every view; an item that looks alike in two views is embedded once."""
        found: dict[str, Vectors] = {}
        everything, rows = np.arange(len(self.data.catalog)), self.data.features.rows
        for view in self.recipe.evaluation.views:
            vectors = np.empty((len(everything), model.dim), np.float32)
            left = np.ones(len(everything), bool)
            for earlier, known in found.items():
                same = left & ((rows[earlier] == rows[view]).all(1) | (not model.sees))
                vectors[same], left[same] = known[same], False
            vectors[left] = self.embed(model, everything[left], view)
            found[view] = vectors
        return found

    def embed(
        self, model: Model, positions: Positions, view: str = "mixed", *, texts: Positions | None = None,
        spliced: Spliced | None = None, shown: bool = True,
    ) -> Vectors:  # fmt: skip
        """Embed from the cache. Texts alone stay in float32: equal titles must give equal vectors, so ties are seen.

        texts: whose text each item gets, -1 for none. spliced: tokens of another view. A whole multimodal model is
        shown the pictures themselves.
        """
        if isinstance(model, WholeEmbedder):
            return self._embed_pictures(model, positions, view, texts, shown)
        precision: Precision = "auto" if model.sees else "float32"
        features = self.data.features
        return embed_features(
            model, features, positions, view, texts=texts, spliced=spliced, precision=precision, shown=shown
        )

    def _embed_pictures(
        self, model: WholeEmbedder, positions: Positions, view: str, texts: Positions | None, shown: bool
    ) -> Vectors:
        catalog, shown_as, prompt = self.data.catalog, self.data.views[view], self.recipe.prompt
        text_of, found = positions if texts is None else texts, np.empty((len(positions), model.dim), np.float32)
        with progress(f"embedding ({view})", len(positions), shown=shown) as bar:
            for start in range(0, len(positions), 16):
                part = slice(start, start + 16)
                rendered = [shown_as.render(item) for item in catalog.take_positions(positions[part])]
                known = zip(catalog.take_positions(np.maximum(text_of[part], 0)), text_of[part], strict=True)
                words = [prompt.metadata(item) if at >= 0 else "" for item, at in known]
                found[part] = model.embed([one.picture if one else None for one in rendered], words).numpy()
                bar.advance(len(words))
        return found

    def _probe(self, model: Model, name: str, pool: Vectors) -> ViewScores:
        queries, spliced = self.data.queries.at(self.data.probed), None
        view = name if name in self.data.views else "mixed"
        texts = {"no-text": np.full(len(queries), -1), "wrong-text": self._foreign(queries)}.get(name)
        if name in TOKEN_PROBES:
            view, places = "clean", self.data.touched
            spliced = ("noised", places if name == "cover" else ~places)
        seen = self.embed(model, queries.query, view, texts=texts, spliced=spliced, shown=False)
        noise = self._noise("noised" if spliced else view, queries.query)
        return ViewScores.of(evaluate(pool, queries, query_vectors=seen), self.data.catalog.ids(), noise)

    def _foreign(self, queries: Queries) -> Positions:
        """For each query another query of another category, whose text it gets; the same for all models."""
        category, order = self.data.categories, np.random.default_rng(0).permutation(len(queries))
        found = queries.query[order].copy()
        for at, own in enumerate(queries.query):
            step = 0
            while category[found[at]] == category[own] and step < len(order):
                step += 1
                found[at] = queries.query[order[(at + step) % len(order)]]
        return found

    def _facts(self, view: str, queries: Positions) -> dict[str, Any]:
        """What is known of each query: its noise in this view, its category, its agreement."""
        category = self.data.catalog.table(["category"])["category"]
        return self._noise(view, queries) | {
            "category": [(category[int(at)].as_py() or [""])[0] for at in queries],
            "agreement": self.data.agreement(self.seed, view, queries),
        }

    def _noise(self, view: str, queries: Positions) -> dict[str, Any]:
        """The noise of each query in a view."""
        ids = np.asarray(self.data.catalog.ids(), dtype=object)[queries]
        specs = [self.data.views[view].spec(item_id) for item_id in ids]
        return {
            "kind": [spec.kind if spec else "" for spec in specs],
            "severity": [spec.severity if spec else 0 for spec in specs],
        }
