"""Errors that become an HTTP answer: a status, what is wrong, what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from errno import EACCES, ENOSPC, EPERM, EROFS

import orjson
from starlette.responses import Response

from tgqformer.catalog.pictures import PictureError
from tgqformer.errors import TgqError
from tgqformer.service.shelf import ShelfError
from tgqformer.store.base import UnknownItem, UnknownValue, Unreachable, VersionGone

log = logging.getLogger("tgqformer.service")
RETRY = {"retry-after": "1"}
_PICTURES = dict.fromkeys(("bomb", "too-large"), "send a smaller picture") | {"truncated": "send the whole file"}


class Refused(TgqError):  # noqa: N818 - an answer, not a fault
    """A wish that a caller can change: the message says how."""


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
    """Turn an error that a user can mend into an answer; its last clause is the hint.

    Only what the caller sent makes it 4xx, or an item or picture that is not there.
    """
    what, _, hint = str(error).rpartition("; ")
    if isinstance(error, PictureError) and error.kind in ("missing", "escapes", "remote"):  # never of an upload
        return ApiError(404, "the item's picture is not where the catalogue says", "import the catalogue again")
    if isinstance(error, PictureError):
        status = 413 if error.kind in ("bomb", "too-large") else 422
        hint = _PICTURES.get(error.kind, "send a JPEG, PNG, WebP, AVIF or GIF picture")
        return ApiError(status, f"the picture cannot be read: {error.reason}", hint)
    if isinstance(error, UnknownItem):
        return ApiError(404, "there is no such item", "check the id")  # its words name the store
    if isinstance(error, UnknownValue):
        return ApiError(422, what, hint)
    if isinstance(error, VersionGone):
        what = "the version being served cannot be read: it was replaced this moment, or the store is gone"
        return ApiError(503, what, "try again; /readyz says whether the store is there", RETRY)
    if isinstance(error, ShelfError):
        log.error("%s", error)
        return ApiError(503, "what comes in over HTTP cannot be kept now", "try again later; the log says why", RETRY)
    if isinstance(error, Unreachable):  # what it says is for the log: it names the server
        return ApiError(503, "the store cannot be reached", "try again after the seconds in Retry-After", RETRY)
    if isinstance(error, Refused):
        return ApiError(400, what or hint, hint)
    return as_failure(error)  # something here is damaged or set up wrongly: its words name files, and are for the log


def as_failure(error: Exception) -> ApiError:
    """Make the answer of a failure that is not the caller's; what it says goes to the log."""
    if getattr(error, "errno", None) == ENOSPC or "no space left" in str(error).lower():
        log.error("the disk is full: %s", error)
        return ApiError(503, "the disk of the service is full", "try again later", RETRY)
    log.error("%s", error)
    if getattr(error, "errno", None) in (EROFS, EACCES, EPERM) or "read-only" in str(error).lower():
        return ApiError(503, "the store cannot be written now: it is read-only", "try again later", RETRY)
    return ApiError(500, "the service failed", "look into its log under the request's X-Request-Id")


def body_of(error: str, hint: str) -> bytes:
    """Write the body that every error has."""
    return orjson.dumps({"error": error, "hint": hint})


def response_of(error: ApiError) -> Response:
    """Make the whole answer."""
    return Response(body_of(error.error, error.hint), error.status, error.headers, "application/json")
