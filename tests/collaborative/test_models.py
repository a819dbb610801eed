"""The learned models against dense computations and cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tgqformer.collaborative.data import Split, histories
from tgqformer.collaborative.graph import SparseMatrix, bipartite, symmetric_norm
from tgqformer.collaborative.lightgcn import LightGCN, LightGCNSettings, lightgcn, reduced
from tgqformer.collaborative.models import make_recommender
from tgqformer.collaborative.ngcf import NGCF, NGCFSettings, ngcf
from tgqformer.collaborative.ranking import ranker, softmax_loss
from tgqformer.collaborative.sasrec import SASRec, SASRecSettings, by_length, sasrec
from tgqformer.collaborative.settings import Preset
from tgqformer.errors import TgqError

CPU = torch.device("cpu")


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_lightgcn_loss_and_gradient_are_those_of_dense_matrices(split: Split, layers: int) -> None:
    torch.manual_seed(0)
    adjacency = SparseMatrix.of(symmetric_norm(bipartite(split.train, split.items)), symmetric=True)
    model = LightGCN(adjacency, split.users, split.items, dim=5, layers=layers)
    users, liked, other = torch.tensor([0, 1, 1]), torch.tensor([3, 4, 4]), torch.tensor([8, 2, 3])
    recommender = ranker(model, LightGCNSettings(l2=1e-2), split, batch=3, seed=0)
    loss = recommender.objective.loss(users, liked, other)
    loss.backward()

    table = model.table.detach().requires_grad_()
    powers = [table]
    for _ in range(layers):
        powers.append(adjacency.forward.to_dense() @ powers[-1])
    final = torch.stack(powers).mean(0)
    torch.testing.assert_close(torch.cat(model.final()), final)
    u, p, n = (final[rows] for rows in (users, split.users + liked, split.users + other))
    start = [table[rows] for rows in (users, split.users + liked, split.users + other)]
    wanted = -F.logsigmoid((u * p).sum(1) - (u * n).sum(1)).mean()
    wanted = wanted + 1e-2 * sum(one.pow(2).sum() for one in start) / 2 / 3
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(model.table.grad, table.grad)


def test_lightgcn_scores_are_dot_products_and_start_from_content(split: Split) -> None:
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    settings = LightGCNSettings(dim=4, layers=2)
    recommender = lightgcn(settings, split, batch=8, seed=0, device=CPU, features=features)
    model = recommender.objective.model
    assert isinstance(model, LightGCN)
    torch.testing.assert_close(model.table[split.users :].detach(), torch.from_numpy(reduced(features, 4, 0.1)))
    scores = recommender.scorer(split.train)(np.array([2, 0]))
    torch.testing.assert_close(scores, model.final()[0][[2, 0]] @ model.final()[1].T)
    with pytest.raises(TgqError, match="width 7"):
        reduced(features, 7, 0.1)


def test_reduced_features_keep_the_order_of_distances() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(30, 2)) @ rng.normal(size=(2, 8)) + 5).astype(np.float32)
    low = reduced(features, 2, 0.1)
    near = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (features, low)]
    np.testing.assert_allclose(near[0] / near[0].max(), near[1] / near[1].max(), atol=1e-4)
    assert low.std() == pytest.approx(0.1, rel=1e-3)


def test_the_softmax_and_its_gradient_are_those_among_what_a_user_did_not_touch() -> None:
    rng = np.random.default_rng(0)
    users, items = (torch.from_numpy(rng.normal(size=(n, 4))).requires_grad_() for n in (4, 5))
    touched = {0: [1, 4], 2: [0], 3: [0, 1, 2, 3, 4]}  # user 1 touched nothing, user 3 all that there is
    place, liked = (torch.tensor(side) for side in zip(*((u, i) for u in touched for i in touched[u]), strict=True))
    found = softmax_loss(users, items, place, liked)
    scores, losses = users @ items.T, []
    for user, own in touched.items():
        others = [item for item in range(5) if item not in own]
        losses += [-F.log_softmax(scores[user, [item, *others]], 0)[0] for item in own]
    wanted = torch.stack(losses).mean()
    torch.testing.assert_close(found, wanted)
    gradients = torch.autograd.grad(3 * found, (users, items)), torch.autograd.grad(3 * wanted, (users, items))
    torch.testing.assert_close(*gradients)


def test_the_softmax_is_finite_however_far_apart_scores_are() -> None:
    users, items = torch.tensor([[200.0], [-200.0]]), torch.tensor([[1.0], [-1.0], [0.5]])
    for which in (users, items):
        which.requires_grad_()
    loss = softmax_loss(users, items, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))
    torch.testing.assert_close(loss, torch.tensor((0.0 + 300.0 + 400.0) / 3))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, (users, items)))


@pytest.mark.parametrize("make", [lightgcn, ngcf])
def test_the_softmax_trains_a_graph(make: Any, split: Split) -> None:
    settings = (LightGCNSettings if make is lightgcn else NGCFSettings)(loss="softmax", l2=0.01)
    recommender = make(settings, split, batch=16, seed=0, device=CPU)
    optimizer, losses = torch.optim.Adam(recommender.objective.model.parameters(), lr=0.03), []
    for step in range(40):
        losses.append(
            recommender.objective.loss(*(torch.from_numpy(one) for one in recommender.objective.draw(step, 0)))
        )
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("make", [lightgcn, ngcf])
def test_the_softmax_regularises_what_takes_part_in_each_interaction(make: Any, split: Split) -> None:
    losses = []
    for l2 in (0.0, 0.5):
        settings = (LightGCNSettings if make is lightgcn else NGCFSettings)(loss="softmax", l2=l2)
        recommender = make(settings, split, batch=16, seed=0, device=CPU)
        recommender.objective.model.eval()
        losses.append(recommender.objective.loss(*(torch.from_numpy(one) for one in recommender.objective.draw(0, 0))))
    of_users, of_items = recommender.objective.model.start()
    rows, items = torch.from_numpy(split.train.rows()), torch.from_numpy(split.train.indices)
    wanted = (of_users[rows].pow(2).sum(1) + of_items[items].pow(2).sum(1)).mean() / 2
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * wanted, atol=1e-5, rtol=1e-4)


def test_ngcf_is_the_authors_formula(split: Split) -> None:
    settings = NGCFSettings(dim=4, widths=(3, 2), edge_dropout=0.3, message_dropout=0.3, l2=0.5)
    recommender = ngcf(settings, split, batch=4, seed=0, device=CPU)
    model = recommender.objective.model
    assert isinstance(model, NGCF)
    model.eval()
    whole = torch.from_numpy(bipartite(split.train, split.items).toarray()) + torch.eye(16)
    laplacian = whole / whole.sum(1, keepdim=True)
    layer = torch.cat([model.user_table, model.item_table])
    layers = [layer]
    for k in range(2):
        side = laplacian @ layer
        first = F.leaky_relu(side @ model.sums[k].weight.T + model.sums[k].bias, 0.2)
        layer = first + F.leaky_relu((layer * side) @ model.products[k].weight.T + model.products[k].bias, 0.2)
        layers.append(layer / layer.norm(dim=1, keepdim=True))
    users, items = model.final()
    torch.testing.assert_close(torch.cat([users, items]), torch.cat(layers, 1))
    assert users.shape == (7, 9) and items.shape == (9, 9)
    model.train()
    assert not torch.equal(model.final()[0], users)
    u, p, n = users[[0, 1]], items[[2, 3]], items[[4, 5]]
    wanted = (
        F.softplus((u * n).sum(1) - (u * p).sum(1)).mean() + 0.5 * (u.norm() ** 2 + p.norm() ** 2 + n.norm() ** 2) / 4
    )
    model.eval()
    found = recommender.objective.loss(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5]))
    torch.testing.assert_close(found, wanted)


def small_sasrec(dropout: float = 0.0) -> SASRec:
    torch.manual_seed(0)
    return SASRec(10, dim=6, blocks=2, heads=2, length=5, dropout=dropout)


def test_sasrec_sees_only_what_came_before() -> None:
    model = small_sasrec()
    sequence = torch.tensor([[0, 3, 5, 2, 7]])
    changed = torch.tensor([[0, 3, 5, 9, 1]])
    torch.testing.assert_close(model(sequence)[:, :3], model(changed)[:, :3])
    assert not torch.allclose(model(sequence)[:, 3:], model(changed)[:, 3:])


def test_sasrec_is_a_transformer_written_out() -> None:
    """One sequence with nothing padded, one head at a time, one place at a time."""
    model = small_sasrec().eval()
    sequence = [4, 3, 5, 2, 7]
    x = model.table.weight[sequence] * 6**0.5 + model.places
    for block in model.blocks:
        normed, rows = block.before(x), []
        q, k, v = block.query(normed), block.key(x), block.value(x)
        for place in range(5):
            heads = []
            for head in (slice(0, 3), slice(3, 6)):
                weights = torch.softmax(k[: place + 1, head] @ q[place, head] / 3**0.5, 0)
                heads.append(weights @ v[: place + 1, head])
            rows.append(torch.cat(heads))
        y = block.between(normed + torch.stack(rows))
        x = y + block.outer(torch.relu(block.inner(y)))
    torch.testing.assert_close(model(torch.tensor([sequence]))[0], model.last(x))


def test_sasrec_loss_skips_what_pads_and_the_padding_vector_stays_zero() -> None:
    model = small_sasrec()
    inputs, following = torch.tensor([[0, 0, 4, 3, 5]]), torch.tensor([[0, 0, 3, 5, 2]])
    negatives = torch.tensor([[0, 0, 9, 8, 1]])
    states = model(inputs)[0]
    scores = [(states * model.table.weight[items[0]]).sum(1)[2:] for items in (following, negatives)]
    wanted = -(F.logsigmoid(scores[0]) + F.logsigmoid(-scores[1])).mean()
    found = model.loss(inputs, following, negatives)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        model.loss(inputs, following, negatives, 0.1) - found, 0.05 * model.table.weight.pow(2).sum()
    )
    found.backward()
    assert not model.table.weight.grad[0].any() and not model.table.weight[0].any()


def test_sasrec_computes_only_what_does_not_pad() -> None:
    """A batch of long and short sequences, parted by length, has the loss and the gradient of the whole."""
    torch.manual_seed(0)
    model, rng = SASRec(10, dim=6, blocks=2, heads=1, length=30, dropout=0.0), np.random.default_rng(0)
    lengths = [1, 30, 8, 9, 20, 21, 0]
    inputs, following, negatives = (torch.zeros(7, 30, dtype=torch.int64) for _ in range(3))
    for row, length in enumerate(lengths):
        for items in (inputs, following, negatives):
            items[row, 30 - length :] = torch.from_numpy(rng.integers(1, 11, length))
    assert {length: rows.tolist() for rows, length in by_length(inputs)} == {8: [0, 2], 20: [3, 4], 30: [1, 5]}
    states, real = model(inputs), following > 0
    scores = [(states * model.table(items)).sum(-1)[real] for items in (following, negatives)]
    wanted = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
    found = model.loss(inputs, following, negatives)
    torch.testing.assert_close(found, wanted)
    weights = list(model.parameters())
    for one, other in zip(torch.autograd.grad(found, weights), torch.autograd.grad(wanted, weights), strict=True):
        torch.testing.assert_close(one, other)


def test_sasrec_scores_next_items_of_what_is_known(split: Split) -> None:
    recommender = sasrec(SASRecSettings(dim=6, length=5), split, batch=4, seed=0, device=CPU)
    model = recommender.objective.model
    assert isinstance(model, SASRec)
    model.eval()
    scores = recommender.scorer(split.train)(np.array([1]))
    sequence = torch.from_numpy(np.r_[[0] * 2, split.train.row(1) + 1])[None]
    torch.testing.assert_close(scores, model(sequence)[:, -1] @ model.vectors().T)
    assert recommender.vectors is not None and recommender.vectors().shape == (9, 6)


def test_settings_out_of_range_and_content_where_none_is_taken_are_refused(split: Split) -> None:
    features = np.ones((9, 4), np.float32)
    for name in ("ngcf", "sasrec", "ease"):
        with pytest.raises(TgqError, match="takes no content"):
            make_recommender(Preset("x", name), split, features=features)
    for kind, bad, message in (
        (LightGCNSettings, {"layers": -1}, "layers\n.*greater than or equal to 0"),
        (NGCFSettings, {"widths": (0,)}, "widths.0\n.*greater than 0"),
        (NGCFSettings, {"edge_dropout": 1.0}, "edge_dropout\n.*less than 1"),
        (SASRecSettings, {"dim": 5, "heads": 2}, r"dim \(5\) must be a multiple of heads \(2\)"),
        (SASRecSettings, {"dropout": 1.0}, "dropout\n.*less than 1"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(**bad)


def test_a_user_without_history_can_be_scored() -> None:
    rows = histories(np.array([0, 0, 0]), np.array([1, 2, 3]), 2)
    split = Split(rows, rows, rows, ["a", "b"], list("vwxyz"))
    recommender = sasrec(SASRecSettings(dim=4, length=3), split, batch=2, seed=0, device=CPU)
    assert torch.isfinite(recommender.scorer(rows)(np.array([1]))).all()
