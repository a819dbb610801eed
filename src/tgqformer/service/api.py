"""The routes of the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from PIL.Image import Image
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import look_of_image
from tgqformer.errors import TgqError
from tgqformer.service.answers import search_of
from tgqformer.service.caching import ASK, is_known, tag_of
from tgqformer.service.errors import RETRY, ApiError, unknown_item
from tgqformer.service.events import Event, event_of
from tgqformer.service.forms import ItemFields, ItemForm, with_picture
from tgqformer.service.params import DEFAULT_COUNT, Count, Given, ItemId, Metadata, Taken, Visitor, Where, check_new
from tgqformer.service.schemas import (
    Alive,
    EmbeddingOut,
    EventIn,
    EventsKept,
    Ready,
    SearchResults,
    SimilarItems,
    StoredItem,
    Written,
    problems,
)
from tgqformer.service.served import Answer, Served
from tgqformer.service.site import Site
from tgqformer.service.uploads import caller
from tgqformer.service.writer import Write
from tgqformer.store.base import FACTS, Hit, UnknownItem
from tgqformer.store.content import row_of
from tgqformer.store.rules import Rules

MOST = 1000  # events of one request
SHOWN = tuple(name for name in FACTS if name != "look")
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {CONTENT_TYPE_LATEST.partition(";")[0]: {}}, "description": "Counters for Prometheus."}
}
TAG = {"description": "Changes when the list does; send it back in If-None-Match.", "schema": {"type": "string"}}
LISTS: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": TAG}},
    304: {"headers": {"ETag": TAG}, "description": "The list is as the caller has it."},
    **problems(404),
}


def make_api(site: Site) -> APIRouter:
    """Make the routes over a site."""
    taken = Taken()
    router = APIRouter(dependencies=[Depends(taken.check)])
    _add_items(router, site)
    _add_embedding(router, site)
    _add_events(router, site)
    _add_health(router, site)
    taken.learn(router)
    return router


def _add_items(router: APIRouter, site: Site) -> None:
    @router.get("/items/{item_id}/similar", tags=["items"], response_model=SimilarItems, responses=LISTS)
    async def similar_items(
        request: Request,
        item_id: ItemId,
        where: Where,
        given: Given,
        k: Count = DEFAULT_COUNT,
        metadata: Metadata = False,
        visitor: Visitor = None,
    ) -> Response:
        """Items most similar to one of the store.

        Looked up in the table of precomputed neighbours where that is possible: no filter, and the item is as it was
        when the table was made. Else searched in the store this moment; `source` says which.
        The answer has an ETag: one that is sent again in If-None-Match gets 304 while the list is the same.
        """
        served = site.chosen(visitor or item_id)
        _check_count(site, k)
        rules = _changed(served, given)
        answer = await site.similar(served, item_id, k, where, rules, facts=metadata)
        if metadata and answer.source == "precomputed":
            answer = await site.run(_with_metadata, served, item_id, k, answer, rules)
        names = [hit.id for hit in answer.hits]
        head = {"item": item_id, "answer": site.answers.id_of(answer.model_version, rules, item_id, names)}
        found = _json({**head, **_found(answer.model_version, answer.source, answer.hits, metadata)})
        headers = {"ETag": tag_of(bytes(found.body)), "Cache-Control": ASK}
        if is_known(headers["ETag"], request.headers.getlist("if-none-match")):
            return Response(status_code=304, headers=headers)
        found.headers.update(headers)
        return found

    @router.get("/items/{item_id}", tags=["items"], response_model=StoredItem, responses=problems(404))
    async def read_item(item_id: ItemId) -> Response:
        """The metadata of one item."""
        served = site.served
        item = await site.run(lambda: site.items.item(served, item_id, pictures=False))
        if item is None:
            raise unknown_item(item_id)
        about = {name: getattr(item, name) for name in ("id", "attributes", *SHOWN)}
        return _json({**about, "pictures": len(item.pictures), "model_version": served.model_version})

    @router.put("/items/{item_id}", tags=["items"], response_model=Written, responses=problems(413, 429, 501))
    async def put_item(item_id: ItemId, form: ItemFields) -> Response:
        """Add an item, or replace it whole: embedded, written to disk and found by searches before this answers."""
        check_new(item_id)
        with site.lease() as served:
            item, vector = await _embed(site, served, form, item_id)
            version = await site.write(Write(item_id, served, item, vector))
        return _json({"id": item_id, "model_version": version})

    @router.delete("/items/{item_id}", tags=["items"], response_model=Written, responses=problems(404))
    async def delete_item(item_id: ItemId) -> Response:
        """Remove an item: no answer holds it any more."""
        with site.lease() as served:
            if not await site.run(served.has, item_id):
                raise unknown_item(item_id)
            version = await site.write(Write(item_id, served))
        return _json({"id": item_id, "model_version": version})


def _add_embedding(router: APIRouter, site: Site) -> None:
    @router.post("/search", tags=["search"], response_model=SearchResults, responses=problems(413, 429, 501))
    async def search(
        form: ItemFields, where: Where, given: Given, k: Count = DEFAULT_COUNT, metadata: Metadata = False
    ) -> Response:
        """Items most similar to one that is not in the store, given by a picture, by text, or by both."""
        _check_count(site, k)
        with site.lease() as served:
            item, vector = await _embed(site, served, form)
            row, rules = row_of(replace(item, id=""), vector, None), _changed(served, given)
            hits, _ = await site.run(lambda: served.search(row, k, where, rules, facts=metadata))
        answer = site.answers.id_of(served.model_version, rules, search_of(vector), [hit.id for hit in hits])
        return _json({"answer": answer, **_found(served.model_version, "live", hits, metadata)})

    @router.post("/embed", tags=["search"], response_model=EmbeddingOut, responses=problems(413, 429, 501))
    async def embed(form: ItemFields) -> Response:
        """The embedding of a picture, of text, or of both."""
        with site.lease() as served:
            _, vector = await _embed(site, served, form)
        return _json({"model_version": served.version.latest, "dim": len(vector), "vector": vector})


def _add_events(router: APIRouter, site: Site) -> None:
    @router.post("/events", tags=["events"], response_model=EventsKept, responses=problems(413))
    async def events(sent: Annotated[list[EventIn], Field(min_length=1, max_length=MOST)] | EventIn) -> Response:
        """What shoppers did with lists: one event, or up to 1,000. On the disk when this answers; all or none."""
        return _json({"kept": await site.run(_kept, site, [sent] if isinstance(sent, EventIn) else sent)})


def _kept(site: Site, sent: Sequence[EventIn]) -> int:
    """Keep events. Raises: ApiError 422 for one that fits no answer of this service."""
    found, says = list[tuple[str | None, Event]](), dict[str, str]()
    for number, one in enumerate(sent):
        try:
            event = event_of(site.answers.read(one.answer), one.event, one.item, one.visitor)
        except TgqError as error:
            raise ApiError(
                422, f"event {number}: {error}", "see /openapi.json; no event of this request was kept"
            ) from error
        says[event.rules] = site.answers.rules_of(event.rules)
        found.append((one.id, event))
    return site.journal.add(found, says)


def _add_health(router: APIRouter, site: Site) -> None:
    @router.get("/healthz", tags=["health"], response_model=Alive)
    async def healthz() -> Response:
        """Whether the process answers."""
        return _json({"status": "ok"})

    @router.get("/readyz", tags=["health"], response_model=Ready, responses=problems(503))
    async def readyz() -> Response:
        """What is served; 503 where the store is gone or cannot be written."""
        served = site.served
        if (trouble := await site.trouble()) is not None:
            raise ApiError(503, f"not ready: {trouble}", "see what became of its disk or server", RETRY)
        refused = None if site.refusal is None else site.refusal.name
        return _json({"status": "ready", **served.about(), "refused": refused})

    @router.get("/metrics", tags=["health"], response_class=Response, responses=METRICS)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        waiting = site.telemetry.waiting
        waiting.labels("embedding").set(site.served.batcher.waiting)
        waiting.labels("writing").set(site.writer.waiting)
        waiting.labels("threads").set(site.pool.jobs)
        waiting.labels("exploring").set(site.exploring.jobs)
        return Response(site.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


async def _embed(site: Site, served: Served, form: ItemForm, item_id: str = "(sent)") -> tuple[Item, Any]:
    """Return the item that a form holds, with its picture, and its vector [d]."""
    form.require_content()
    _ = served.model
    data, item, looks, client = await form.read(), form.item(item_id), list[bytes](), caller.get()

    def decoded() -> Image:
        picture = site.uploads.decode(data or b"", client)
        looks.append(look_of_image(picture))
        return picture

    vector = await served.embed(item, None if data is None else decoded)
    return with_picture(item, data, *looks), vector


def _changed(served: Served, given: dict[str, Any]) -> Rules:
    """Return the rules of a request. Raises: ApiError 422 for a value that no rule takes."""
    try:
        return served.rules.changed(given, "rules")
    except TgqError as error:
        raise ApiError(422, str(error), "see /openapi.json for what a rule takes") from error


def _check_count(site: Site, k: int) -> None:
    if k > site.settings.max_k:
        raise ApiError(422, f"k is at most {site.settings.max_k} here; got {k}", "ask for fewer items")


def _with_metadata(served: Served, item_id: str, k: int, answer: Answer, rules: Rules) -> Answer:
    """Add what the rows say to a precomputed answer; search live where one of them is gone this moment."""
    try:
        rows = served.table.get([hit.id for hit in answer.hits])
    except UnknownItem:
        return served.live(item_id, k, None, rules)
    hits = [
        Hit(row.id, hit.score, **{name: getattr(row, name) for name in FACTS})
        for row, hit in zip(rows, answer.hits, strict=True)
    ]
    return Answer(answer.model_version, answer.source, hits)


def _found(model_version: str, source: str, hits: Sequence[Hit], metadata: bool) -> dict[str, Any]:
    names = ("id", "score", *SHOWN) if metadata else ("id", "score")
    results = [{name: getattr(hit, name) for name in names} for hit in hits]
    return {"model_version": model_version, "source": source, "results": results}


def _json(content: object) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
