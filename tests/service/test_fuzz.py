"""Hostile input: the OpenAPI document by schemathesis, and uploads that nobody means well."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import schemathesis
from hostile import bombs, forms, impostors, mutated, sent, uploads, watched
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from small_shop import FAST, Running, make_shop, serving

from tgqformer.service.app import make_app

EXAMPLES = 12

DECODER = "tgqformer.service.decoder"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, drawn: Path, models: tuple[Path, Path]) -> Iterator[Running]:
    shop = make_shop(tmp_path_factory.mktemp("fuzz") / "run", drawn, models)
    with serving(shop) as running:
        yield running


OPERATIONS = (
    ("GET", "/items/{item_id}"), ("GET", "/items/{item_id}/similar"), ("PUT", "/items/{item_id}"),
    ("DELETE", "/items/{item_id}"), ("POST", "/search"), ("POST", "/embed"), ("GET", "/healthz"), ("GET", "/readyz"),
    ("GET", "/metrics"), ("POST", "/events"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_the_openapi_document_says(running: Running, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    operation = schema[path][method]

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # a schema cannot say "one of these fields"

    check()


def test_the_openapi_document_is_whole(running: Running) -> None:
    document = running.client().get("/openapi.json")
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert found == set(OPERATIONS)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
            if not path.endswith("z") and path != "/metrics":
                assert {"200", "400", "401", "403", "422", "503", "504"} <= set(operation["responses"])
    examples = [name for name, schema in document["components"]["schemas"].items() if "example" in json.dumps(schema)]
    assert {"SimilarItems", "SearchResults", "StoredItem", "EmbeddingOut", "ErrorBody"} <= set(examples)


def test_the_document_needs_no_other_site(running: Running) -> None:
    for path in ("/docs", "/redoc"):  # their pages would load scripts from elsewhere
        assert running.client()("GET", path)[0] == 404
    assert make_app(running.site, FAST).title == "tgqformer"


def test_there_are_300_hostile_uploads_for_the_benchmark() -> None:
    assert sum(1 for _ in uploads(240)) >= 300


def test_hostile_uploads_are_refused_or_answered(running: Running, tmp_path: Path) -> None:
    some = [("form", one.body, one.kind) for one in forms()]
    some += [(name, sent(data), "multipart/form-data; boundary=XX") for name, data in (*bombs(), *impostors())]
    some += [(name, sent(data), "multipart/form-data; boundary=XX") for name, data in mutated(35)]
    process, ask = psutil.Process(os.getpid()), running.client()
    before, most, statuses = process.memory_info().rss, 0, set()
    with watched() as seen:
        for n, (name, body, kind) in enumerate(some):
            method, path = (("POST", "/search"), ("PUT", "/items/x"), ("POST", "/embed"))[n % 3]
            status, headers, answer = ask(method, path, body, {"content-type": kind})
            if headers.get("connection") == "close":
                ask = running.client()
            assert status in (200, 400, 413, 422), (name, status, answer)
            assert status == 200 or (answer["error"] and answer["hint"]), name
            statuses.add(status)
            most = max(most, process.memory_info().rss)
    assert statuses == {200, 400, 413, 422}
    assert most - before < 700 << 20
    outside = [what for what in seen if what.startswith("open /etc") or "meta-data" in what or "passwd" in what]
    outside += [what for what in seen if what.startswith(("socket.connect", "subprocess", "os."))]
    worker = f"subprocess.Popen ('{sys.executable}', ['{sys.executable}', '-m', '{DECODER}']"
    own = ("os.scandir", "os.listdir", worker)
    assert not [what for what in outside if not what.startswith(own)], "besides syncing the store, and decoders"
    assert ask.get("/items/sku-1/similar")["source"] == "precomputed"
