"""Errors that become an HTTP answer: a status, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from tgqformer.catalog.pictures import PictureError
from tgqformer.errors import TgqError
from tgqformer.store.base import UnknownItem, Unreachable, VersionGone

RETRY = {"retry-after": "1"}


class ApiError(Exception):
    """An answer other than 2xx. `error` says what is wrong, `hint` what to do."""

    def __init__(self, status: int, error: str, hint: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.hint, self.headers = status, error, hint, dict(headers or {})


def overloaded(what: str) -> ApiError:
    """Make the answer of a service that has too much to do."""
    return ApiError(503, f"too many requests at once: {what}", "try again after the seconds in Retry-After", RETRY)


def unknown_item(item_id: str) -> ApiError:
    """Make the answer for an id that is not served. It names no other ids: finding the nearest takes seconds."""
    shown = item_id if len(item_id) <= 80 else item_id[:77] + "..."
    return ApiError(404, f"there is no item {shown!r}", "check the id, or add the item with PUT /items/{item_id}")


def as_api_error(error: TgqError) -> ApiError:
    """Turn an error that a user can mend into an answer; its last clause is the hint."""
    what, _, hint = str(error).rpartition("; ")
    if isinstance(error, PictureError) and error.kind in ("missing", "escapes", "remote"):  # never of an upload
        return ApiError(404, "the item's picture is not where the catalogue says", "import the catalogue again")
    if isinstance(error, PictureError):
        status = 413 if error.kind in ("bomb", "too-large") else 422
        return ApiError(status, f"the picture cannot be read: {error.reason}", "send a JPEG, PNG or WebP picture")
    if isinstance(error, UnknownItem):
        return ApiError(404, what or hint, hint)
    if isinstance(error, VersionGone):
        return ApiError(503, "the version being served was replaced this moment", "try again", RETRY)
    if isinstance(error, Unreachable):  # what it says is for the log: it names the server
        return ApiError(503, "the store cannot be reached", "try again after the seconds in Retry-After", RETRY)
    return ApiError(400, what or hint, hint)


def body_of(error: str, hint: str) -> bytes:
    """Write the body that every error has."""
    return orjson.dumps({"error": error, "hint": hint})


def response_of(error: ApiError) -> Response:
    """Make the whole answer."""
    return Response(body_of(error.error, error.hint), error.status, error.headers, "application/json")
