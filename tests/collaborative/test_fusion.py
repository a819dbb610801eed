from __future__ import annotations

import numpy as np
import pytest
import torch
from doc_commands import ROOT, blocks

from tgqformer.collaborative.fusion import (
    Fusion,
    FusionSettings,
    fuse_vectors,
    reciprocal_rank,
    spread,
)
from tgqformer.collaborative.lists import Lists
from tgqformer.errors import TgqError


def test_reciprocal_rank_by_hand() -> None:
    first, second = np.array([[3, 1, 2]]), np.array([[1, 5, -1]])
    items, scores = reciprocal_rank([first, second], 5)
    assert items.tolist() == [[1, 3, 5, 2, -1]]
    assert scores[0, 0] == pytest.approx(1 / 62 + 1 / 61) and scores[0, 2] == pytest.approx(1 / 62)
    assert reciprocal_rank([first, second], 2, weights=[0, 1])[0].tolist() == [[1, 5]]
    assert reciprocal_rank([first, second], 1, constant=0, weights=[1.0, 0.4])[0].tolist() == [[3]]


def test_equal_scores_stand_in_the_order_of_items_and_an_empty_list_is_no_vote() -> None:
    items, _ = reciprocal_rank([np.array([[4, 0], [-1, -1]]), np.array([[0, 4], [2, -1]])], 3)
    assert items.tolist() == [[0, 4, -1], [2, -1, -1]]


def test_what_cannot_be_fused_is_refused() -> None:
    with pytest.raises(TgqError, match="same queries"):
        reciprocal_rank([np.zeros((1, 2), int), np.zeros((2, 2), int)], 2)
    with pytest.raises(TgqError, match="a weight of 0 or more"):
        reciprocal_rank([np.zeros((1, 2), int)], 2, weights=[-1])
    with pytest.raises(TgqError, match="at least one pair"):
        fuse_vectors([np.ones((3, 2), np.float32)], np.zeros(0, int), np.zeros(0, int), shown=False)
    with pytest.raises(ValueError, match=r"hide\n.*less than or equal to 1"):
        FusionSettings(hide=2)


def test_untrained_fusion_is_the_mean_of_cosines() -> None:
    torch.manual_seed(0)
    sources = [torch.nn.functional.normalize(torch.randn(6, width), dim=1) for width in (3, 5)]
    fused = Fusion([3, 5])(sources, torch.ones(6, 2, dtype=torch.bool))
    torch.testing.assert_close(fused @ fused.T, (sources[0] @ sources[0].T + sources[1] @ sources[1].T) / 2)


def made_shop() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """120 items in 30 families of four; content shows the family and much else, behaviour a part of it."""
    rng = np.random.default_rng(0)
    family = np.arange(120) // 4
    center = rng.normal(size=(30, 16))[family]
    distraction = 2.0 * rng.normal(size=(120, 4)) @ rng.normal(size=(4, 16))
    behaviour = center @ rng.normal(size=(16, 5)) + 1.2 * rng.normal(size=(120, 5))
    return family, (center + 0.5 * distraction).astype(np.float32), behaviour.astype(np.float32)


def hits(vectors: np.ndarray, family: np.ndarray, queries: np.ndarray) -> float:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    scores = unit[queries] @ unit.T
    scores[np.arange(len(queries)), queries] = -2
    top = np.argsort(-scores, axis=1)[:, :3]
    return float((family[top] == family[queries][:, None]).mean())


def test_learned_fusion_beats_each_source_and_lands_new_items() -> None:
    family, content, behaviour = made_shop()
    new = np.arange(0, 120, 4)
    behaviour[new] = 0
    a, b = (np.array(side) for side in zip(*(
        (i, j) for i in range(120) for j in range(120) if family[i] == family[j] and i != j and i % 4 and j % 4
    ), strict=True))  # fmt: skip
    settings = FusionSettings(steps=80, batch=64, lr=0.002)
    fused = fuse_vectors([content, behaviour], a, b, settings, shown=False)
    warm = np.flatnonzero(np.arange(120) % 4)
    assert hits(fused, family, warm) > max(hits(content, family, warm), hits(behaviour, family, warm))
    assert hits(fused, family, new) > hits(content, family, new)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, rtol=1e-5)
    assert (fused == fuse_vectors([content, behaviour], a, b, settings, shown=False)).all()


def test_code_of_the_page_runs() -> None:
    spaces: dict[str, np.ndarray] = {}
    for block in blocks(ROOT / "docs/joined.md"):
        if block.language == "python":
            exec(block.text, spaces)
    assert spaces["items"].tolist() == [[2, 4, 9]] and spaces["fused"].shape == (20, 12)


def test_an_item_that_no_source_knows_stays_zero() -> None:
    known = np.eye(4, dtype=np.float32)
    known[3] = 0
    fused = fuse_vectors([known, known], np.array([0]), np.array([1]), FusionSettings(steps=2, batch=4), shown=False)
    assert not fused[3].any() and fused[:3].any(1).all()


def test_content_is_spread_over_what_is_clicked_with_it() -> None:
    content = np.array([[2, 0], [0, 3], [0, 1], [0, 0]], np.float32)
    lists = Lists(
        np.array([[1, 2], [0, -1], [-1, -1], [0, 1]], np.int32), np.array([[3, 1], [1, 0], [0, 0], [1, 1]], np.float32)
    )
    half = np.sqrt(0.5)
    expected = [[half, half], [half, half], [0, 1], [half, half]]  # a new item keeps its own; one without takes theirs
    np.testing.assert_allclose(spread(content, lists, 1.0), expected, atol=1e-6)
    np.testing.assert_allclose(spread(content, lists, 1.0, near=1)[3], [1, 0], atol=1e-6)
    np.testing.assert_allclose(spread(content, lists, 0.0)[:3], [[1, 0], [0, 1], [0, 1]])
