"""The application: routes, the guard before them, and every error as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from tgqformer.errors import TgqError
from tgqformer.service.api import make_api
from tgqformer.service.errors import ApiError, as_api_error, as_failure, response_of
from tgqformer.service.guard import BodyRefused, Guard
from tgqformer.service.keys import Keyring
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.shortcut import Shortcut
from tgqformer.service.site import Site
from tgqformer.version import __version__

EXPECTED = (ApiError, TgqError, RequestValidationError, HTTPException)

ABOUT = """Items similar to an item, to a picture or to a text, from embeddings that look past promo stickers.

Every answer comes wholly from one model version, which it names. Errors are `{"error": ..., "hint": ...}`.
An id in a path is percent-encoded: it may hold any character but control characters. No URL is ever fetched.
"""
NO_FILE = "This is text, not a file; with curl an @ stands before the name of the file: -F picture=@shoe.jpg"
TAGS = [
    {"name": "items", "description": "Items of the store, and what is similar to them."},
    {"name": "search", "description": "Items that are not in the store."},
    {"name": "events", "description": "What shoppers did with lists."},
    {"name": "health", "description": "For load balancers and monitoring."},
]


def make_app(site: Site, settings: ServiceSettings) -> FastAPI:
    """Make the application over a site; it begins to look for swaps when it is started, and closes the site at the end.

    Raises: TgqError where the file of keys cannot be read.
    """
    keyring = Keyring(settings.keys) if settings.keys is not None else None

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await site.start()
        yield
        await site.close()

    app = FastAPI(
        title="tgqformer",
        version=__version__,
        description=ABOUT,
        openapi_tags=TAGS,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=dict.fromkeys((*EXPECTED, Exception), _answer),
    )
    app.state.site = site
    app.include_router(make_api(site))
    if settings.explorer:
        from tgqformer.service.explorer import make_explorer

        app.include_router(make_explorer(site))
    app.add_middleware(
        Guard,
        shortcut=Shortcut(site),
        settings=settings,
        telemetry=site.telemetry,
        keyring=keyring,
        uploads=site.uploads,
    )
    if settings.origins:  # outermost: what the guard refuses must be readable, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "If-None-Match"),
            expose_headers=("ETag", "X-Request-Id", "Retry-After"),
        )
    return app


async def _answer(request: Request, error: Exception) -> Response:
    answer = response_of(_as_api_error(error))
    if not isinstance(error, EXPECTED):  # it does not pass the guard any more
        answer.headers["x-request-id"] = request.scope["request_id"]
    return answer


def _as_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BodyRefused):
        return error.problem
    if isinstance(error, TgqError):
        return as_api_error(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    return as_failure(error)


def _of_validation(error: RequestValidationError) -> ApiError:
    """Name the first wrong values, without repeating them."""
    found = [f"{'.'.join(str(part) for part in one['loc'][1:]) or 'body'}: {_words(one)}" for one in error.errors()[:3]]
    return ApiError(422, "; ".join(found)[:500], "see /openapi.json for what this route takes")


def _words(wrong: dict[str, Any]) -> str:
    return NO_FILE if "UploadFile" in wrong["msg"] else str(wrong["msg"])


def _of_http(error: HTTPException) -> ApiError:
    if isinstance(error.__cause__, OSError):  # FastAPI says 400 for all that goes wrong while it takes in a body
        return as_failure(error.__cause__)
    known = {
        404: ("there is no such path", "the routes are listed in /openapi.json"),
        405: ("this path does not take this method", "the header Allow names the methods of this path"),
    }
    other = (str(error.detail)[:500], "see /openapi.json for what this route takes")
    return ApiError(error.status_code, *known.get(error.status_code, other), error.headers)
