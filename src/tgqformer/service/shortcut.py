"""The one answer that a shop asks for on every page, given before the framework looks at the request.

`GET /items/{item_id}/similar` with nothing but `k`, answered from the table of neighbours, needs a few look-ups;
reading parameters by their declarations takes several times as long. All else, errors too, is left to the route in
`api.py`; a test holds the two to the same answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson
from starlette.types import Scope, Send

from tgqformer.service.caching import ASK, is_known, tag_of
from tgqformer.service.errors import ApiError
from tgqformer.service.params import DEFAULT_COUNT, checked_id
from tgqformer.service.site import Site

START, END = "/items/", "/similar"
IF_NONE = b"if-none-match"
COUNT = re.compile(rb"k=([1-9]\d{0,2})")


@dataclass(frozen=True)
class _Route:
    path: str


ROUTE = _Route("/items/{item_id}/similar")


class Shortcut:
    """Asked by the guard, before the application."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._counted = site.telemetry.answers.labels("precomputed")

    async def __call__(self, scope: Scope, send: Send) -> bool:
        """Answer at once where that is possible; return whether it was."""
        body = self._body(scope) if scope["method"] == "GET" else None
        if body is None:
            return False
        scope["route"] = ROUTE
        self._counted.inc()
        tag = tag_of(body)
        headers = [(b"etag", tag.encode()), (b"cache-control", ASK.encode())]
        sent = [value for name, value in scope["headers"] if name == IF_NONE]
        if sent and is_known(tag, [value.decode("latin-1") for value in sent]):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return True
        headers += [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    def _body(self, scope: Scope) -> bytes | None:
        path = scope["path"]
        if not (path.startswith(START) and path.endswith(END)):
            return None
        quoted, count = path[len(START) : -len(END)], _count(scope["query_string"])
        if count is None or count > self._site.settings.max_k or "/" in quoted:
            return None
        try:
            item_id = checked_id(quoted)
        except ApiError:
            return None
        served = self._site.chosen(item_id)
        found = None if served.neighbours is None else served.neighbours.of(item_id, count, served.rules)
        if found is None:
            return None
        results = [{"id": name, "score": score} for name, score in found]
        answer = self._site.answers.id_of(served.model_version, served.rules, item_id, (name for name, _ in found))
        head = {"item": item_id, "answer": answer, "model_version": served.model_version, "source": "precomputed"}
        return orjson.dumps({**head, "results": results})


def _count(query: bytes) -> int | None:
    if not query:
        return DEFAULT_COUNT
    found = COUNT.fullmatch(query)
    return int(found[1]) if found else None
