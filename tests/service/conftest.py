"""A tiny shop, ready to be served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_shop import Shop, draw, make_shop, save_models


@pytest.fixture(scope="session")
def models(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two saved models with different weights."""
    return save_models(tiny_model("vit"), tiny_model("bert"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue, drawn once."""
    return draw(tmp_path_factory.mktemp("drawn") / "catalog")


@pytest.fixture
def shop(tmp_path: Path, drawn: Path, models: tuple[Path, Path]) -> Shop:
    """A shop whose store serves model 0, with its neighbours."""
    return make_shop(tmp_path / "run", drawn, models)
