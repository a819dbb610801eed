"""The explorer over HTTP: answers, limits, headers, and what hostile callers get."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from PIL import Image
from small_shop import Client, Running, png

from tgqformer.catalog.catalog import Catalog
from tgqformer.service.explorer.pictures import Recent
from tgqformer.service.explorer.shop import clean_of
from tgqformer.service.site import Site
from tgqformer.stages import mark


def api(client: Client, path: str, **query: object) -> dict:
    return client.get(f"/explorer/api/{path}?{urlencode(query, doseq=True)}")


def picture(client: Client, path: str, **query: object) -> Image.Image:
    status, headers, body = client("GET", f"/explorer/{path}?{urlencode(query)}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    return Image.open(BytesIO(body))


@pytest.mark.parametrize("page", ["/", "/product?id=x", "/map", "/try", "/explorer/static/app.js"])
def test_pages_allow_nothing_from_elsewhere(client: Client, page: str) -> None:
    status, headers, body = client("GET", page)
    assert status == 200 and body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert headers["x-content-type-options"].split(",")[0] == "nosniff"
    assert b"http://" not in body.replace(b"http://www.w3.org/", b"") and b"https://" not in body
    assert client("GET", page, None, {"if-none-match": headers["etag"]})[0] == 304


@pytest.mark.parametrize(
    "name", ["../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "nothing.js", "/etc/passwd", ""]
)
def test_no_other_file_is_given(client: Client, name: str) -> None:
    status, _, body = client("GET", f"/explorer/static/{name}")
    assert status == 404 and "import" not in str(body)


def test_what_the_pages_can_offer(client: Client) -> None:
    about = api(client, "site")
    assert [(one["label"], one["served"]) for one in about["versions"]] == [("TGQ-Former", True), ("Q-Former", False)]
    assert (about["items"], about["clean"], about["kinds"]) == (60, True, ["poster", "clutter", "distractor"])
    assert sum(one["count"] for one in about["categories"] if len(one["path"]) == 1) == 60


def test_pages_of_a_search_hold_every_item_once(client: Client, shown: Catalog) -> None:
    pages = [api(client, "items", start=start, count=25) for start in (0, 25, 50, 75)]
    assert [len(page["items"]) for page in pages] == [25, 25, 10, 0]
    assert [item["id"] for page in pages for item in page["items"]] == shown.ids()
    brand = api(client, "site")["brands"][0]
    assert api(client, "items", brand=brand["name"], count=1)["total"] == brand["count"]
    category = api(client, "site")["categories"][0]
    assert api(client, "items", category=category["path"], count=1)["total"] == category["count"]


def test_a_product(client: Client, shown: Catalog) -> None:
    [item] = shown.take_positions([0])
    found = api(client, "item", id=item.id)
    assert (found["title"], found["brand"], tuple(found["category"])) == (item.title, item.brand, item.category)
    assert found["attributes"] == dict(item.attributes)


def test_an_id_may_be_as_long_as_the_service_takes_it(client: Client) -> None:
    assert [client("GET", f"/explorer/api/item?id={'x' * n}")[0] for n in (512, 513)] == [404, 422]


def test_some_products_wear_noise_and_say_which_picture_is_clean(client: Client, run_folder: Path) -> None:
    clean = {item.id: item.pictures[0].digest for item in Catalog.open(run_folder / "catalog").items()}
    told = {name: api(client, "item", id=name)["clean"] for name in list(clean)[:20]}
    assert any(told.values()) and not all(told.values())
    assert all(digest == clean[name] for name, digest in told.items() if digest)


def test_neighbours_of_two_versions(client: Client, shown: Catalog) -> None:
    first = shown.ids()[0]
    columns = api(client, "neighbours", id=first, version=["v1", "v2"], k=8)["columns"]
    assert [column["label"] for column in columns] == ["TGQ-Former", "Q-Former"]
    for column in columns:
        scores = [hit["score"] for hit in column["hits"]]
        assert len(scores) == 8 and scores == sorted(scores, reverse=True)
        assert first not in {hit["id"] for hit in column["hits"]}
        assert all(hit["picture"] for hit in column["hits"])
    assert columns[0]["hits"] != columns[1]["hits"]
    assert api(client, "neighbours", id=first, k=8)["columns"][0] == columns[0]


def test_a_trial_without_noise_keeps_all_and_with_noise_says_what_it_lost(client: Client, shown: Catalog) -> None:
    first = shown.ids()[0]
    quiet = api(client, "trial", id=first, version=["v1", "v2"], kind="clutter", severity=0, seed=7)["columns"]
    assert [(column["kept"], column["of"], column["lost"]) for column in quiet] == [(10, 10, [])] * 2
    loud = api(client, "trial", id=first, version=["v1", "v2"], kind="poster", severity=5)["columns"]
    for before, after in zip(quiet, loud, strict=True):
        was, here = {hit["id"] for hit in before["hits"]}, {hit["id"] for hit in after["hits"]}
        assert after["kept"] == len(was & here)
        assert {hit["id"] for hit in after["lost"]} == was - here
        assert set(after["was"]) == was
        assert [hit["score"] for hit in after["hits"]] != [hit["score"] for hit in before["hits"]]
    assert loud == api(client, "trial", id=first, version=["v1", "v2"], kind="poster", severity=5)["columns"]


@pytest.mark.parametrize("kind", ["poster", "clutter", "distractor"])
def test_noise_is_drawn_on_the_clean_picture(client: Client, run_folder: Path, kind: str) -> None:
    worn = next(item for item in Catalog.open(run_folder / "catalog").items() if item.pictures)
    clean = np.asarray(picture(client, "noised", id=worn.id, kind=kind), int)
    mild = np.asarray(picture(client, "noised", id=worn.id, kind=kind, severity=1), int)
    hard = np.asarray(picture(client, "noised", id=worn.id, kind=kind, severity=5), int)
    again = np.asarray(picture(client, "noised", id=worn.id, kind=kind, severity=5), int)
    other = np.asarray(picture(client, "noised", id=worn.id, kind=kind, severity=5, seed=1), int)
    changed = [(np.abs(one - clean).max(axis=2) > 40).mean() for one in (mild, hard)]
    assert changed[0] > 0 and changed[1] > 0.02
    assert np.array_equal(hard, again) and not np.array_equal(hard, other)


def test_pictures_come_small_or_large_with_a_tag(client: Client, shown: Catalog) -> None:
    name = shown.ids()[0]
    assert max(picture(client, "picture", id=name).size) <= 320
    _, headers, _ = client("GET", f"/explorer/picture?id={name}&size=large")
    assert "max-age" in headers["cache-control"]
    tag = headers["etag"]
    for known in (tag, f"W/{tag}", f'"another", {tag}', "*"):  # nginx makes tags weak where it compresses
        for path in (f"/explorer/picture?id={name}&size=large", "/explorer/static/app.js"):
            status, _, _ = client("GET", path, None, {"if-none-match": known})
            assert status == (304 if known == "*" or "picture" in path else 200)
    assert client("GET", f"/explorer/picture?id={name}", None, {"if-none-match": '"another"'})[0] == 200
    assert client("HEAD", f"/explorer/picture?id={name}&size=large")[1]["etag"] == tag


def test_why(client: Client, shown: Catalog) -> None:
    first, second = shown.ids()[:2]
    guided = api(client, "why", id=first, other=second)
    assert guided["label"] == "TGQ-Former" and guided["seen"]["fit"] == "pad"
    tokens = np.prod(guided["seen"]["grid"])
    for sight in guided["seen"]["items"]:
        assert set(sight["attention"]) == set(sight["gates"]) == {"anchored", "exploratory"}
        assert all(len(one) == tokens for maps in sight["attention"].values() for one in maps)
        assert len(sight["agreement_map"]) == tokens
    assert {fact["name"] for fact in guided["facts"]} >= {"category", "brand", "colour in the picture"}
    noisy = api(client, "why", id=first, other=second, kind="poster", severity=5)
    assert noisy["seen"]["items"][0] != guided["seen"]["items"][0]
    assert noisy["seen"]["items"][1]["gates"] == guided["seen"]["items"][1]["gates"]
    plain = api(client, "why", id=first, other=second, version="v2")
    assert [one["agreement"] for one in plain["seen"]["items"]] == [None, None]


def test_an_upload_finds_the_product_it_shows(client: Client, run_folder: Path) -> None:
    catalog = Catalog.open(run_folder / "shown")
    item = next(one for one in catalog.items() if one.pictures and one.title)
    status, answer = client.form("POST", "/explorer/api/search?version=v1&version=v2&k=5", item.pictures[0].data)
    assert status == 200
    for column in answer["columns"]:
        assert len(column["hits"]) == 5
    status, answer = client.form("POST", "/explorer/api/search", title=item.title or "")
    assert status == 200 and len(answer["columns"][0]["hits"]) == 12


def test_the_map_names_its_points(client: Client, running: Running, shown: Catalog) -> None:
    while (said := api(client, "map"))["state"] == "preparing":
        pass
    assert said["count"] == said["of"] == 60
    status, _, body = client("GET", "/explorer/api/map/points")
    points = np.frombuffer(body, "<u2").reshape(3, 60)
    assert status == 200 and points[2].max() < len(said["groups"])
    place = api(client, "map/place", item=shown.ids()[5])["place"]
    assert api(client, "map/at", place=place)["items"][0]["id"] == shown.ids()[5]
    assert picture(client, "api/map/picture", place=place).width > 0
    assert api(client, "map/place", item="nobody")["place"] is None
    assert client("GET", "/explorer/api/map/at?place=60")[0] == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("api/item?id=nobody", 404),
        ("api/item", 422),
        ("api/item?id=", 422),
        ("api/item?id=" + "x" * 600, 422),
        ("api/neighbours?id=nobody", 404),
        ("api/neighbours?id={id}&version=v9", 404),
        ("api/neighbours?id={id}&version=v1&version=v2&version=v1", 422),
        ("api/neighbours?id={id}&k=0", 422),
        ("api/neighbours?id={id}&k=100000", 422),
        ("api/trial?id={id}&severity=6", 422),
        ("api/trial?id={id}&kind=sticker", 422),
        ("api/trial?id={id}&seed=-1", 422),
        ("api/why?id={id}&other=nobody", 404),
        ("api/items?count=1000", 422),
        ("api/items?start=-1", 422),
        ("api/items?q=" + "x" * 500, 422),
        ("api/map/at?place=-1", 422),
        ("picture?id=nobody", 404),
        ("picture?id={id}&size=huge", 422),
        ("picture?id=..%2f..%2fcatalog%2fcatalog.json", 404),
        ("noised?id=nobody&severity=3", 404),
    ],
)
def test_wrong_questions_are_refused_with_words(client: Client, shown: Catalog, path: str, status: int) -> None:
    got, _, body = client("GET", f"/explorer/{path.replace('{id}', quote(shown.ids()[0]))}")
    assert got == status
    assert body["error"] and body["hint"]


@pytest.mark.parametrize(
    "data", [b"no picture", png("red")[:40], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a" + b"\0" * 64]
)
def test_uploads_that_are_no_pictures_are_refused_with_words(client: Client, data: bytes) -> None:
    status, answer = client.form("POST", "/explorer/api/search", data)
    assert status == 422 and answer["error"] and answer["hint"]


def test_an_upload_of_nothing_is_refused(client: Client) -> None:
    assert client.form("POST", "/explorer/api/search", title="  ")[0] == 422


def test_a_shop_without_models_and_clean_pictures_still_shows_itself(
    copied: Callable[[Path], Path], tmp_path: Path, open_shop: Callable[..., Site]
) -> None:
    folder = copied(tmp_path / "run")
    (folder / "shown" / "tgq.json").unlink()
    shutil.rmtree(folder / "models")
    site = open_shop(folder, tmp_path / "state", models=False)
    with Running(site, site.settings) as server:
        client = server.client()
        about, name = api(client, "site"), Catalog.open(folder / "shown").ids()[0]
        assert about["clean"] is False
        assert api(client, "neighbours", id=name)["columns"][0]["hits"]
        [column] = api(client, "trial", id=name, severity=2)["columns"]
        assert "model" in column["error"] and column["hint"]
        assert api(client, "why", id=name, other=Catalog.open(folder / "shown").ids()[1])["seen"] is None
        assert "model" in client.form("POST", "/explorer/api/search", title="lamp")[1]["columns"][0]["error"]
        assert picture(client, "noised", id=name, severity=3).width > 0


def test_a_picture_that_came_over_http_takes_the_place_of_the_clean_one(
    copied: Callable[[Path], Path], tmp_path: Path, open_shop: Callable[..., Site]
) -> None:
    folder = copied(tmp_path / "run")
    site = open_shop(folder, tmp_path / "state")
    with Running(site, site.settings) as server:
        client = server.client()
        name = next(name for name in Catalog.open(folder / "shown").ids() if api(client, "item", id=name)["clean"])
        status, answer = client.form("PUT", f"/items/{name}", png("red", (64, 48)), title="A red flag")
        assert status < 300, answer
        assert api(client, "item", id=name)["clean"] is None
        for path in ("picture", "noised"):
            red, green, _ = picture(client, path, id=name).resize((1, 1)).getpixel((0, 0))
            assert red > 200 and green < 60
        assert client("DELETE", f"/items/{name}")[0] < 300
        assert client("GET", f"/explorer/api/item?id={name}")[0] == 404


def test_the_clean_catalogue_is_found_by_its_fingerprint_only(copied: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = copied(tmp_path / "run")
    shown = Catalog.open(folder / "shown")
    clean = clean_of(shown)
    assert clean is not None and clean.path == folder / "catalog"
    mark(folder / "shown", "catalogue", inputs={"catalog": "another"})
    assert clean_of(shown) is None
    assert clean_of(Catalog.open(folder / "catalog")) is None


def test_what_is_kept_is_bounded_by_weight_and_the_oldest_goes() -> None:
    kept, made = Recent[bytes](10, len), []

    def make(name: str) -> bytes:
        return kept.get(name, lambda: made.append(name) or b"1234")

    for name in "ababcab":
        make(name)
    assert made == ["a", "b", "c", "a", "b"]
    assert len(kept.get("large", lambda: b"x" * 99)) == 99
