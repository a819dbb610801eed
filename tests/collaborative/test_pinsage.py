from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tgqformer.collaborative.data import Split, histories
from tgqformer.collaborative.pinsage import (
    MinedPairs,
    PairDraws,
    PinSage,
    PinSageSettings,
    UserPairs,
    pinsage,
    principal_axes,
    standardised,
)
from tgqformer.collaborative.walks import Visits, walk
from tgqformer.errors import TgqError

CPU = torch.device("cpu")
TRIANGLE = histories(
    np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 2, 3]), 2
)  # users {0, 1} and {1, 2, 3}; item 4: none


def test_visits_of_one_step_are_as_likely_as_the_graph_says() -> None:
    visits = walk(TRIANGLE, 5, walks=6000, length=1, restart=0.0, keep=4, seed=0)
    assert visits.items[0].tolist() == [1, -1, -1, -1]
    share = visits.counts / 6000
    assert share[0, 0] == pytest.approx(1 / 2, abs=0.03)
    of_one = dict(zip(visits.items[1].tolist(), share[1], strict=True))
    assert of_one[0] == pytest.approx(1 / 4, abs=0.03)
    assert of_one[2] == pytest.approx(1 / 6, abs=0.03) and of_one[3] == pytest.approx(1 / 6, abs=0.03)
    assert not visits.counts[4].any() and (visits.items[4] == -1).all()


def test_visits_follow_personalised_pagerank() -> None:
    rng = np.random.default_rng(0)
    train = histories(np.repeat(np.arange(30), 4), rng.integers(8, size=120), 30)
    matrix = np.zeros((30, 8))
    np.add.at(matrix, (train.rows(), train.indices), 1.0)
    step = (matrix / matrix.sum(0)).T @ (matrix / matrix.sum(1, keepdims=True))
    state, wanted = np.eye(8), np.zeros((8, 8))
    for _ in range(6):
        state = (0.7 * state + 0.3 * np.eye(8)) @ step
        wanted += state
    visits = walk(train, 8, walks=4000, length=6, restart=0.3, keep=7, seed=1)
    for item in range(8):
        found = dict(zip(visits.items[item].tolist(), visits.counts[item] / 4000, strict=True))
        for other, share in found.items():
            assert share == pytest.approx(wanted[item, other], abs=0.06)


def test_walks_come_again_by_seed_and_refuse_nonsense() -> None:
    options = {"walks": 20, "length": 2, "restart": 0.2, "keep": 3}
    first, again = (walk(TRIANGLE, 5, seed=4, **options) for _ in range(2))  # type: ignore[arg-type]
    assert (first.items == again.items).all() and (first.counts == again.counts).all()
    with pytest.raises(TgqError, match="restart"):
        walk(TRIANGLE, 5, walks=1, length=1, restart=1.0, keep=1, seed=0)


def test_importance_weighs_by_visits_and_absent_neighbours_weigh_nothing() -> None:
    visits = Visits(np.array([[1, 2, -1], [0, -1, -1], [-1, -1, -1]]), np.array([[6, 2, 0], [3, 0, 0], [0, 0, 0]]))
    items, weights = visits.nearest(2)
    assert items.tolist() == [[1, 2], [0, 1], [2, 2]]
    np.testing.assert_allclose(weights, [[0.75, 0.25], [1, 0], [0, 0]])
    np.testing.assert_allclose(visits.nearest(2, importance=False)[1], [[0.5, 0.5], [1, 0], [0, 0]])


def tiny(features: torch.Tensor | None = None, layers: int = 2) -> PinSage:
    torch.manual_seed(0)
    neighbours = torch.tensor([[1, 2], [0, 2], [3, 3], [0, 4], [4, 4]])
    weights = torch.tensor([[0.7, 0.3], [0.5, 0.5], [1.0, 0.0], [0.4, 0.6], [0.0, 0.0]])
    return PinSage(neighbours, weights, dim=4, hidden=6, layers=layers, features=features)


@pytest.mark.parametrize("learned", [True, False])
def test_vectors_are_those_of_convolving_every_item(learned: bool) -> None:
    model = tiny(None if learned else torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    x = model.table
    for one in model.convolutions:
        said = F.relu(one.inner(x))
        pooled = torch.stack([model.weights[i] @ said[model.neighbours[i]] for i in range(5)])
        x = F.normalize(F.relu(one.outer(torch.cat([x, pooled], 1))), dim=1)
    wanted = F.normalize(model.final(x), dim=1)
    items = torch.tensor([3, 0, 3])
    torch.testing.assert_close(model(items), wanted[items])
    torch.testing.assert_close(model.vectors(), wanted)
    assert isinstance(model.table, torch.nn.Parameter) == learned


def test_the_margin_loss_by_hand() -> None:
    model = tiny()
    z = model.vectors().detach()
    queries, positives = torch.tensor([0, 3]), torch.tensor([1, 2])
    shared, hard = torch.tensor([4, 1]), torch.tensor([[2], [3]])
    terms = [
        max(0.0, float(z[q] @ z[n] - z[q] @ z[p]) + 0.4)
        for q, p, negatives in ((0, 1, (4, 2)), (3, 2, (4, 1)))  # 1 is the first pair's positive, 3 the second's query
        for n in negatives
    ]
    assert model.loss(queries, positives, shared, hard, 0.4).item() == pytest.approx(sum(terms) / 4, abs=1e-5)


def test_draws_are_pairs_of_one_user_and_hard_ones_grow_by_epoch() -> None:
    visits = Visits(np.array([[1, 2, 3], [0, 3, 2], [3, -1, -1], [2, 1, -1], [-1] * 3]), np.ones((5, 3), np.int64))
    settings = PinSageSettings(negatives=7, hard=2, hard_from=1, hard_to=3)
    draws = PairDraws(UserPairs(TRIANGLE), 5, visits, settings, batch=50, seed=0)
    queries, positives, shared, hard = draws.draw(0, 0)
    assert {frozenset(pair) for pair in zip(queries.tolist(), positives.tolist(), strict=True)} == {
        frozenset(pair) for pair in ((0, 1), (1, 2), (1, 3), (2, 3))
    }
    assert shared.shape == (7,) and hard.shape == (50, 0)
    assert draws.draw(1, 0)[3].shape == (50, 1)
    queries, _, _, hard = draws.draw(9, 0)
    assert hard.shape == (50, 2)
    seldom = {0: {2, 3}, 1: {3, 2}, 3: {1}}
    assert all(set(row) <= seldom[q] for q, row in zip(queries.tolist(), hard.tolist(), strict=True) if q in seldom)
    assert set(hard[queries == 2].ravel()) <= set(range(5))
    assert draws.steps == 1


def test_no_pair_is_said() -> None:
    alone = histories(np.array([0, 1]), np.array([0, 1]), 2)
    with pytest.raises(TgqError, match="two different items"):
        UserPairs(alone)
    with pytest.raises(TgqError, match="no pair"):
        MinedPairs(np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_mined_pairs_are_drawn_in_both_directions() -> None:
    pairs = MinedPairs(np.array([0, 3]), np.array([2, 4]))
    queries, positives = pairs.draw(200, np.random.default_rng(0))
    assert {*zip(queries.tolist(), positives.tolist(), strict=True)} == {(0, 2), (2, 0), (3, 4), (4, 3)}
    assert len(pairs) == 4


def test_a_recommender_trains_on_mined_pairs_over_the_graph_of_the_split(split: Split) -> None:
    settings = PinSageSettings(dim=4, hidden=4, neighbours=2, hard_from=1, hard_to=3, negatives=3)
    chosen = np.array([0, 1]), np.array([5, 6])
    recommender = pinsage(settings, split, batch=4, seed=0, device=CPU, pairs=chosen)
    assert recommender.objective.steps == 1
    queries, positives, *_ = recommender.objective.draw(0, 0)
    assert {frozenset(pair) for pair in zip(queries.tolist(), positives.tolist(), strict=True)} <= {
        frozenset((0, 5)), frozenset((1, 6))
    }  # fmt: skip


def test_hidden_neighbours_are_hidden_in_training_alone() -> None:
    neighbours, weights = torch.tensor([[1], [0], [0]]), torch.ones(3, 1)
    torch.manual_seed(0)
    model = PinSage(neighbours, weights, dim=8, hidden=16, layers=1, hide=0.5, features=torch.randn(3, 8))
    alone = PinSage(neighbours, weights * 0, dim=8, hidden=16, layers=1, features=model.table)
    alone.load_state_dict(model.state_dict())
    items = torch.arange(3)
    whole = model.eval()(items)
    torch.testing.assert_close(whole, model(items))
    model.train()
    seen = torch.stack([model(items) for _ in range(40)])
    for item in range(3):
        hidden = (seen[:, item] - alone(items)[item]).abs().amax(1) < 1e-6
        shown = (seen[:, item] - whole[item]).abs().amax(1) < 1e-6
        assert (hidden | shown).all() and 5 < hidden.sum() < 35


def test_new_items_get_vectors_from_their_content(split: Split) -> None:
    features = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    settings = PinSageSettings(dim=4, hidden=4, neighbours=2, hard_from=1, hard_to=3, negatives=3)
    recommender = pinsage(settings, split, batch=4, seed=0, device=CPU, features=features)
    assert recommender.vectors is not None and recommender.score == "cosine"
    vectors = recommender.vectors()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(9))
    profile = vectors[torch.from_numpy(split.train.row(2))].mean(0)
    torch.testing.assert_close(recommender.scorer(split.train)(np.array([2]))[0], vectors @ profile)
    with pytest.raises(TgqError, match="content alone"):
        pinsage(PinSageSettings(layers=0), split, batch=4, seed=0, device=CPU)
    with pytest.raises(ValueError, match=r"hard_from \(5\) must be below hard_to \(5\)"):
        PinSageSettings(hard_from=5, hard_to=5)
    with pytest.raises(ValueError, match=r"neighbours\n.*greater than 0"):
        PinSageSettings(neighbours=0)


def test_features_are_standardised() -> None:
    found = standardised(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_carried_content_starts_at_content_and_its_neighbours() -> None:
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    neighbours, weights = torch.tensor([[1], [0], [2]]), torch.tensor([[1.0], [1.0], [0.0]])
    axes = principal_axes(features, 4)
    torch.testing.assert_close(axes @ axes.T, torch.eye(4))
    model = PinSage(neighbours, weights, dim=4, hidden=4, layers=1, features=features, carry=axes)
    with torch.no_grad():
        model.final[2].weight.zero_()  # the convolution says nothing
    unit = F.normalize(features, dim=1) @ axes.T
    directions = F.normalize(unit, dim=1)
    torch.testing.assert_close(model(torch.tensor([2])), directions[2:])  # a new item: its own content alone
    both = F.normalize(directions[0] + directions[1], dim=0)
    torch.testing.assert_close(model(torch.tensor([0]))[0], both)
    assert {name for name, _ in model.named_parameters()} >= {"carry"}
    narrow = principal_axes(features, 8)
    torch.testing.assert_close(narrow[:6] @ narrow[:6].T, torch.eye(6))
    assert not narrow[6:].any()
