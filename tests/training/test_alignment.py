"""The alignment stage learns which place carries what the text names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tgqformer.encoders.alignment import Alignment, JointAlignment, TokenNorm
from tgqformer.encoders.base import TextFeatures, VisualFeatures
from tgqformer.model.batch import ItemBatch
from tgqformer.training.alignment import fit_token_norm, train_alignment
from tgqformer.training.settings import AlignmentSettings

torch.set_num_threads(1)
PLACES, WIDTH, TEXT, WORDS = 4, 8, 8, 24


class Toy:
    """Item n names word `word[n]`; one place of its picture shows that word, the others show other words."""

    def __init__(self, count: int = 900) -> None:
        rng = np.random.default_rng(0)
        self.word, self.place = rng.integers(WORDS, size=count), rng.integers(PLACES, size=count)
        shown = rng.integers(WORDS, size=(count, PLACES))
        shown[np.arange(count), self.place] = self.word
        self.shown = shown
        looks, names = (torch.from_numpy(rng.normal(size=(WORDS, width))).float() for width in (WIDTH, TEXT))
        self.visual, self.text = looks[shown] * 3 + 1, names[self.word]
        self.visual += 0.1 * torch.from_numpy(rng.normal(size=self.visual.shape)).float()
        self.has_picture = torch.ones(count, dtype=torch.bool)
        self.has_text = torch.ones(count, dtype=torch.bool)

    def __call__(self, positions: np.ndarray) -> ItemBatch:
        mask = self.has_text[positions][:, None]
        none = torch.zeros(len(positions), 0, 1)
        return ItemBatch(
            self.visual[positions].half(), self.visual[positions].mean(1), self.has_picture[positions],
            self.text[positions][:, None], mask, self.text[positions], none, none[..., 0].bool(),
        )  # fmt: skip


def test_it_finds_the_place_that_the_text_names_in_items_it_never_saw():
    toy, norm = Toy(), TokenNorm(WIDTH)
    fit_token_norm(norm, toy, np.arange(800), 0)
    fresh = Alignment(WIDTH, TEXT)
    settings = AlignmentSettings(steps=150, batch=32, lr=3e-3)
    trained = train_alignment(toy, toy, norm, np.arange(800), settings, shown=False)
    held = np.arange(800, 900)
    hits = {}
    for name, alignment in (("fresh", fresh), ("trained", trained)):
        found, _ = alignment(norm(toy.visual[held]), toy.text[held])
        hits[name] = float((toy.shown[held, found.argmax(1).numpy()] == toy.word[held]).mean())
    assert hits["trained"] > 0.8 > 0.5 > hits["fresh"]  # chance is a little above a quarter
    scores = trained.scores(norm(toy.visual[held]), toy.text[held])
    matched, others = scores.diagonal(), scores.flatten()[toy.word[held].repeat(100) != np.tile(toy.word[held], 100)]
    assert matched.mean() > others.mean() + 0.3
    assert not any(weight.requires_grad for weight in trained.parameters()) and not trained.training


def test_tokens_are_standardised_clipped_and_left_as_they_were():
    norm, tokens = TokenNorm(3), torch.randn(40, 5, 3) * torch.tensor([100.0, 1.0, 0.0]) + 7
    norm.fit(tokens)
    before = tokens.clone()
    seen = norm(tokens).flatten(0, 1)
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3, rtol=0)  # one never moves
    assert norm(tokens + 1e6).max() == 10 and torch.equal(tokens, before)


def test_the_same_seed_gives_the_same_alignment():
    toy, norm = Toy(50), TokenNorm(WIDTH)
    runs = [
        train_alignment(toy, toy, norm, np.arange(50), AlignmentSettings(steps=5, batch=16), seed=seed, shown=False)
        for seed in (1, 1, 2)
    ]
    first, again, other = (torch.cat([value.flatten() for value in run.state_dict().values()]) for run in runs)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_noised_pictures_are_among_them():
    toy, seen = Toy(50), {"clean": 0, "noised": 0}

    def look(which: str):
        def give(positions: np.ndarray) -> ItemBatch:
            seen[which] += 1
            return toy(positions)

        return give

    settings = AlignmentSettings(steps=30, batch=8, noised=0.5)
    train_alignment(look("clean"), look("noised"), TokenNorm(WIDTH), np.arange(50), settings, shown=False)
    assert 7 <= seen["noised"] <= 23 and sum(seen.values()) == 31  # one look at the widths


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_any_number_of_steps_will_do(steps):
    settings = AlignmentSettings(steps=steps, batch=8)
    trained = train_alignment(Toy(20), Toy(20), TokenNorm(WIDTH), np.arange(20), settings, shown=False)
    assert all(weight.isfinite().all() for weight in trained.parameters())


@pytest.mark.parametrize(
    ("items", "steps"), [(1, 100), (363, 100), (1400, 110), (5120, 400), (10_500, 400), (10**7, 400)]
)
def test_steps_follow_from_the_number_of_items(items, steps):
    assert AlignmentSettings().resolved(items) == AlignmentSettings(steps=steps)
    assert AlignmentSettings(steps=7).resolved(items).steps == 7


def test_steps_that_are_left_out_are_those_of_the_items_that_are_given():
    toy, seen = Toy(50), []

    def look(positions: np.ndarray) -> ItemBatch:
        seen.append(len(positions))
        return toy(positions)

    train_alignment(look, look, TokenNorm(WIDTH), np.arange(50), AlignmentSettings(), shown=False)
    assert seen == [1, *[50] * 100]  # one look at the widths, then as many as all few items get


@pytest.mark.parametrize("missing", ["has_picture", "has_text"])
def test_items_without_picture_or_text_teach_nothing(missing):
    toy, settings = Toy(20), AlignmentSettings(steps=5, batch=8)
    getattr(toy, missing)[:] = False
    toy.visual[:] = toy.text[:] = torch.nan
    trained = train_alignment(toy, toy, TokenNorm(WIDTH), np.arange(20), settings, shown=False)
    assert all(weight.isfinite().all() for weight in trained.parameters())


def test_equal_texts_are_no_negatives():
    torch.manual_seed(0)
    alignment, visual, text = Alignment(WIDTH, TEXT), torch.randn(4, PLACES, WIDTH), torch.randn(4, TEXT)
    text[1] = text[0]
    same = (text[:, None] == text[None]).all(-1)
    logits = alignment.scores(visual, text) / 0.07
    allowed = [[0, 2, 3], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    expected = sum(
        -F.log_softmax(matrix[i, allowed[i]], 0)[allowed[i].index(i)] for i in range(4) for matrix in (logits, logits.T)
    )
    assert torch.allclose(alignment.loss(visual, text, same), expected / 8, atol=1e-5)
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert alignment.loss(visual, text, everything).item() == pytest.approx(0, abs=1e-6)


def test_scores_are_those_of_the_pairs_one_by_one():
    torch.manual_seed(0)
    alignment, visual, text = Alignment(WIDTH, TEXT), torch.randn(3, PLACES, WIDTH), torch.randn(3, TEXT)
    kappa_map, agreement = alignment(visual, text)
    assert torch.allclose(alignment.scores(visual, text).diagonal(), agreement, atol=1e-6)
    c = kappa_map / alignment.log_kappa.exp()
    assert (c.abs() <= 1 + 1e-6).all()
    assert torch.allclose((kappa_map.softmax(-1) * c).sum(-1), agreement, atol=1e-6)


def test_the_norm_standardises_each_channel_of_pictures_alone():
    toy, norm = Toy(), TokenNorm(WIDTH)
    toy.visual *= torch.logspace(-2, 2, WIDTH)
    toy.visual[..., 3] = 7.0  # a channel that never moves
    toy.has_picture[::2] = False
    toy.visual[::2] = 1e4  # what stands where there is no picture means nothing
    fit_token_norm(norm, toy, np.arange(900), 0)
    flat = norm(toy.visual[1::2]).flatten(0, 1)
    moving = [0, 1, 2, 4, 5, 6, 7]
    assert flat.mean(0).abs().max() < 0.02 and torch.allclose(flat.std(0)[moving], torch.ones(7), atol=0.02)
    assert norm.scale[3] == 1
    assert norm(torch.full((1, 1, WIDTH), 1e9)).max() == 10 == -norm(torch.full((1, 1, WIDTH), -1e9)).min()


def test_without_any_picture_the_norm_changes_nothing():
    toy, norm = Toy(10), TokenNorm(WIDTH)
    toy.has_picture[:] = False
    fit_token_norm(norm, toy, np.arange(10), 0)
    assert torch.equal(norm.mean, torch.zeros(WIDTH)) and torch.equal(norm.scale, torch.ones(WIDTH))


def test_a_joint_space_gives_plain_cosines():
    class Space(torch.nn.Module):
        width = 2

        def pictures(self, features):
            return features.tokens[..., :2], features.vector

        def texts(self, features):
            return features.vector

    picture = VisualFeatures(torch.tensor([[[2.0, 0, 9], [0, 3, 9], [-1, 0, 9]]]), torch.tensor([[3.0, 4.0]]))
    text = TextFeatures(torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[5.0, 0.0]]))
    found, agreement = JointAlignment(Space(), kappa=10.0)(picture, text)
    assert torch.allclose(found, torch.tensor([[10.0, 0.0, -10.0]])) and agreement.item() == pytest.approx(0.6)
    louder = JointAlignment(Space(), kappa=10.0)(replace(picture, tokens=picture.tokens * 7), text)[0]
    assert torch.allclose(louder, found)
