"""An exported model is served by ONNX Runtime: the answers of the saved one, from a process without torch."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from serve_only import alone, modules_of, served_alone
from small_shop import FAST, WAIT, Client, Shop, eventually, make_shop, png, serving

from tgqformer.errors import TgqError
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.export import export_onnx, made_up_items
from tgqformer.service.places import find_places
from tgqformer.service.site import open_site

EXPLORED = replace(FAST, explorer=True, timeout=WAIT)
ASKED = [{"title": "red shirt"}, {"title": "green bag", "brand": "acme"}, {"brand": "bolt", "price": "12.5"}]


@pytest.fixture(scope="module")
def exported(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "onnx"
    export_onnx(ItemEmbedder.load(models[0]), to, made_up_items(), None, int8=False)
    return to


@pytest.fixture(scope="module")
def both(
    drawn: Path, models: tuple[Path, Path], exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, Client, Shop, subprocess.Popen[bytes]]]:
    """The service of PyTorch and that of ONNX Runtime over one store."""
    folder = tmp_path_factory.mktemp("served")
    shop = make_shop(folder / "run", drawn, models)
    words = [str(shop.folder), "--runtime", "onnx", "--model", str(exported), "--state", str(folder / "state")]
    words += ["--timeout", str(WAIT)]
    with (
        serving(shop, EXPLORED) as torch_service,
        served_alone(folder / "log", *words) as (port, process),
    ):
        yield torch_service.client(), Client(port), shop, process


Both = tuple[Client, Client, Shop, "subprocess.Popen[bytes]"]


def test_vectors_and_lists_are_those_of_the_saved_model(both: Both) -> None:
    torch_service, onnx_service, shop, _ = both
    assert onnx_service.get("/readyz") == torch_service.get("/readyz")
    for fields in ASKED:
        for picture in (None, png("red", (31, 24))):
            made = [sent(client, "POST", "/embed", picture, **fields) for client in (torch_service, onnx_service)]
            assert [status for status, _ in made] == [200, 200]
            np.testing.assert_allclose(made[1][1]["vector"], made[0][1]["vector"], atol=1e-3)
            for path in ("/search?k=7", "/search?k=5&max_price=20&metadata=true"):
                found = [sent(client, "POST", path, picture, **fields) for client in (torch_service, onnx_service)]
                assert same(*(body["results"] for _, body in found))
    for item in shop.items[:6]:
        for query in ("k=8", "k=5&brand=acme", "k=6&metadata=true", "k=4&same_category=0.5"):
            lists = [client("GET", f"/items/{item.id}/similar?{query}") for client in (torch_service, onnx_service)]
            assert lists[0][0] == lists[1][0]
            assert "results" not in lists[0][2] or same(lists[0][2]["results"], lists[1][2]["results"])


def sent(client: Client, *words: Any, **fields: str) -> tuple[int, Any]:
    """Send a form; again, while the machine is too busy for it."""
    answers = list[tuple[int, Any]]()
    eventually(lambda: answers.append(client.form(*words, **fields)) or answers[-1][0] != 503)
    return answers[-1]


def same(one: list[dict[str, object]], other: list[dict[str, object]]) -> bool:
    """Whether two lists hold the same, in one order but for scores that are as good as equal."""
    np.testing.assert_allclose([hit["score"] for hit in one], [hit["score"] for hit in other], atol=1e-3)
    assert len(one) > 2 and {hit["id"] for hit in one} == {hit["id"] for hit in other}
    return True


def test_items_are_put_and_deleted(both: Both) -> None:
    torch_service, onnx_service, _, _ = both
    status, _ = sent(onnx_service, "PUT", "/items/new-1", png("red"), title="red shirt", brand="acme")
    assert status == 200
    near = onnx_service.get("/items/new-1/similar?k=5")["results"]
    eventually(lambda: torch_service("GET", "/items/new-1/similar?k=5")[0] == 200)
    assert same(near, torch_service.get("/items/new-1/similar?k=5")["results"])
    assert onnx_service("DELETE", "/items/new-1")[0] == 200
    assert onnx_service("GET", "/items/new-1")[0] == 404


def test_the_explorer_shows_all_but_what_the_exported_form_does_not_say(both: Both) -> None:
    torch_service, onnx_service, shop, _ = both
    about, asked = onnx_service.get("/explorer/api/site"), shop.items[0].id
    assert about["model"] and about["kinds"] == [] and torch_service.get("/explorer/api/site")["kinds"]
    lists = [client.get(f"/explorer/api/neighbours?id={asked}") for client in (torch_service, onnx_service)]
    assert [hit["id"] for hit in lists[0]["columns"][0]["hits"]] == [
        hit["id"] for hit in lists[1]["columns"][0]["hits"]
    ]
    alike = [client.get("/explorer/api/alike?q=red+shirt")["hits"] for client in (torch_service, onnx_service)]
    assert same(*alike)
    status, found = sent(onnx_service, "POST", "/explorer/api/search", png("blue"), title="blue shoe")
    assert status == 200 and len(found["columns"][0]["hits"]) > 5
    why = onnx_service.get(f"/explorer/api/why?id={asked}&other={shop.items[1].id}")
    assert why["seen"] is None and "exported form" in why["note"] and why["facts"]
    noised = urlencode({"id": asked, "kind": "clutter", "severity": 3})
    for path in (f"trial?{noised}", f"why?{noised}&other={shop.items[1].id}"):
        status, _, body = onnx_service("GET", f"/explorer/api/{path}")
        assert status == 400 and "cannot draw noise" in body["error"] and "tgqformer[noise]" in body["hint"]
    assert onnx_service.get(f"/explorer/api/trial?id={asked}")["columns"][0]["hits"]


def test_the_map_is_drawn_without_torch(both: Both) -> None:
    torch_service, onnx_service, shop, _ = both
    points = []
    for client in (torch_service, onnx_service):
        eventually(lambda client=client: client.get("/explorer/api/map")["state"] == "ready")
        points.append(client.get("/explorer/api/map/points"))
    assert len(points[1]) == 6 * len(shop.items) and points[0] == points[1]


def test_it_ends_in_order(both: Both) -> None:
    *_, process = both
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0


def test_the_wrong_kind_of_model_is_refused_with_the_right_words(
    shop: Shop, models: tuple[Path, Path], exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(TgqError, match="serve it with --runtime onnx"):
        find_places(str(shop.folder), models=[exported])
    with pytest.raises(TgqError, match="needs PyTorch; write it with `tgq export"):
        find_places(str(shop.folder), models=[models[0]], runtime="onnx")
    places = find_places(str(shop.folder), runtime="onnx", state=tmp_path / "state")
    with pytest.raises(TgqError, match="no folder holds the exported form of model"):
        open_site(places, FAST)


def test_exported_forms_beside_the_models_of_a_run_are_found(shop: Shop, exported: Path) -> None:
    beside = shop.folder / "models" / "tgq" / "seed-1" / "onnx"
    beside.parent.mkdir(parents=True)
    beside.symlink_to(exported)
    assert find_places(str(shop.folder), runtime="onnx").models == (beside,)
    assert find_places(str(shop.folder)).models == ()


def test_what_trains_is_told_by_its_extra_where_it_is_not_installed(shop: Shop, tmp_path: Path) -> None:
    known = modules_of("serve-onnx", "store")
    assert {"onnxruntime", "lancedb", "fastapi"} <= known
    assert not {"torch", "transformers", "scipy", "cv2", "matplotlib", "lance", "faiss"} & known
    for words, extra in ((["embed", "catalog", "--model", "m", "--to", "e"], "train"), (["run", "demo"], "train")):
        code = f"from tgqformer.cli import main\nsys.argv[1:] = {words!r}\nmain()"
        done = subprocess.run(
            alone(code, extras=("serve-onnx", "store")), capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 2 and f"tgqformer[{extra}" in "".join(done.stderr.split()), done.stderr
    code = "from tgqformer import Catalog, OnnxEmbedder\nfrom tgqformer import ItemEmbedder"
    done = subprocess.run(alone(code, extras=("serve-onnx", "store")), capture_output=True, text=True, check=False)
    assert "ItemEmbedder: this needs" in done.stderr and "pip install 'tgqformer[train]'" in done.stderr
