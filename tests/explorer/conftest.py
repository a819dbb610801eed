"""A drawn shop with its noise, two tiny models (text-guided and not), and a real server over it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browsing import launched
from explorer_pages import DESK, PHONE, Visit, visit
from playwright.sync_api import Browser
from small_shop import Client, Running

from tgqformer.catalog.catalog import Catalog
from tgqformer.encoders.alignment import Alignment
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.encoding import make_encoders
from tgqformer.model.language import LoRA, make_language
from tgqformer.model.prompt import Prompt
from tgqformer.pairs.pairs import Pairs
from tgqformer.service.places import find_places
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.site import Site, open_site
from tgqformer.stages import mark
from tgqformer.store import make_store
from tgqformer.store.content import row_of
from tgqformer.store.ledger import VersionSpec
from tgqformer.synthetic.noise import NoisePlan, NoiseView, write_view
from tgqformer.synthetic.studio import draw_studio

torch.set_num_threads(1)
ITEMS = 60
MODELS = {"TGQ-Former": ("tgq", {"dim": 8, "heads": 2}), "Q-Former": ("qformer", {"dim": 8, "heads": 2})}
SETTINGS = ServiceSettings(refresh=5.0, threads=3)


def built(name: str, vision: Path, text: Path) -> ItemEmbedder:
    """A tiny model whose every weight has left its start."""
    torch.manual_seed(3)
    connector, options = MODELS[name]
    exact = {"precision": "float32", "device": "cpu", "levels": [1]}
    encoders = make_encoders(f"hf:{vision}", f"hf:{text}", Prompt(), exact)
    language = make_language(f"hf:{text}", lora=LoRA(rank=2), frozen_layers=1)
    alignment = Alignment(encoders.widths.visual, encoders.widths.metadata) if connector == "tgq" else None
    model = ItemEmbedder(connector, options, encoders.widths, language, alignment=alignment, encoders=encoders)
    with torch.no_grad():
        for weight in model.trainable().values():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def sold(n: int) -> dict[str, object]:
    """What the shop says of the n-th item today: every fifth is one product, every seventh is sold out."""
    stock = "out_of_stock" if n % 7 == 6 else "in_stock"
    sale = {"sale_price": 9.5, "currency": "EUR"} if n % 4 == 1 else {}
    return {"availability": stock, "item_group": "five" if n % 5 == 0 else None, **sale}


@pytest.fixture(scope="session")
def model_of(tiny_model: Callable[[str], Path]) -> Callable[[str], ItemEmbedder]:
    """Give a function that builds a tiny model by its name in `MODELS`."""
    return lambda name: built(name, tiny_model("vit"), tiny_model("bert"))


@pytest.fixture(scope="session")
def run_folder(model_of: Callable[[str], ItemEmbedder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: catalog/, shown/ with noise, models/, and a store with a version of each model."""
    folder = tmp_path_factory.mktemp("explorer") / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: small\n")
    clean = draw_studio(folder / "catalog", items=ITEMS, shown=False, workers=1)
    shown = write_view(NoiseView(clean, "mixed", NoisePlan()), folder / "shown", shown=False)
    mark(folder / "shown", "catalogue", inputs={"catalog": clean.fingerprint})
    items, store = list(shown.items()), make_store(folder / "store")
    ids = [item.id for item in items]
    (folder / "pairs").mkdir()
    Pairs.of(ids[:-3], ids[3:]).write(folder / "pairs" / "pairs-test.parquet")
    for name in MODELS:
        model_of(name).save(folder / "models" / name / "seed-0" / "model")
        model = ItemEmbedder.load(folder / "models" / name / "seed-0" / "model")
        spec = VersionSpec(model.version, model.dim, label=name, catalog=str(shown.path))
        rows = [
            replace(row_of(item, vector, None), **sold(n))
            for n, (item, vector) in enumerate(zip(items, model.encode(items), strict=True))
        ]
        version = store.create(spec, rows)
        if name == "TGQ-Former":
            store.serve(version.name)
    return folder


def site_of(folder: Path, state: Path, *, models: bool = True) -> Site:
    """Open a run's folder, with its models or without; what the service writes goes to `state`."""
    saved = tuple(folder / "models" / name / "seed-0" / "model" for name in MODELS)
    places = find_places(str(folder), catalog=folder / "shown")
    return open_site(replace(places, models=saved if models else (), state=state), SETTINGS)


@pytest.fixture(scope="session")
def running(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service with its explorer on a real socket."""
    with Running(site_of(run_folder, tmp_path_factory.mktemp("state")), SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def open_shop() -> Callable[..., Site]:
    """Give `site_of`."""
    return site_of


@pytest.fixture
def client(running: Running) -> Client:
    """A connection to it."""
    return running.client()


@pytest.fixture(scope="session")
def shown(run_folder: Path) -> Catalog:
    """The catalogue that is served."""
    return Catalog.open(run_folder / "shown")


@pytest.fixture(scope="session")
def copied(run_folder: Path) -> Callable[[Path], Path]:
    """Give a function that copies the run's folder, for a test that changes it."""
    return lambda to: Path(shutil.copytree(run_folder, to))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with launched() as found:
        yield found


@pytest.fixture
def desk(browser: Browser, running: Running) -> Iterator[Visit]:
    """A page on a large screen."""
    yield from visit(browser, running, **DESK)


@pytest.fixture
def phone(browser: Browser, running: Running) -> Iterator[Visit]:
    """A page on a phone of 360 pixels, touched, in the dark, with reduced motion."""
    yield from visit(browser, running, **PHONE)


@pytest.fixture(scope="module")
def first(shown: Catalog) -> str:
    """Id of a product with a picture and a title."""
    return next(item.id for item in shown.items(pictures=False) if item.pictures and item.title)
