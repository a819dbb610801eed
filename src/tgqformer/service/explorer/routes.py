"""Addresses of the explorer: pages under `/`, JSON under `/explorer/api/`, pictures, and its own static files.

Every address is relative in the pages, so that the service may stand behind a prefix. Items are named in the query
string only, where any character may stand. Work goes to threads of the explorer's own; nothing blocks the event loop.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import Field

from tgqformer.catalog.checks import LIMITS
from tgqformer.service.caching import is_known, tag_of
from tgqformer.service.errors import ApiError
from tgqformer.service.explorer.atlas import Atlas
from tgqformer.service.explorer.browse import Offered, Sort
from tgqformer.service.explorer.maps import LISTED, Maps
from tgqformer.service.explorer.noising import KINDS, NoiseChoice, can_draw
from tgqformer.service.explorer.overlay import By
from tgqformer.service.explorer.shop import Asked, Data, Shop, uploaded
from tgqformer.service.explorer.wins import pairs_of
from tgqformer.service.params import MAX_ID
from tgqformer.synthetic.noise import NoiseKind

if TYPE_CHECKING:
    from tgqformer.service.site import Site
from tgqformer.service.uploads import caller

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = ("/", "/product", "/map", "/try", "/wins", "/docs")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FACETS = 300
"""So many categories and brands are offered to choose from; the search finds the others."""

Id = Annotated[str, Query(min_length=1, max_length=MAX_ID)]
Size = Annotated[Literal["small", "large"], Query()]
Count = Annotated[int, Query(ge=1, le=60)]
Versions = Annotated[list[str], Query(max_length=2)]
Version = Annotated[str, Query(max_length=200)]
Severity = Annotated[int, Query(ge=0, le=5)]
Seed = Annotated[int, Query(ge=0, le=9999)]
Words = Annotated[str, Query(max_length=200)]
Price = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]
Asking = Annotated[str, Query(min_length=1, max_length=200)]
Place = Annotated[int, Query(ge=0)]
Places = Annotated[list[Annotated[int, Field(ge=0)]], Query(min_length=1, max_length=LISTED)]
Tag = Annotated[str, Query(max_length=40)]
Path_ = Annotated[list[str], Query(max_length=20)]


def _offered(low: Price = None, high: Price = None, stock: bool = False, sort: Sort = "") -> Offered:
    return Offered(low, high, stock, sort)


def make_explorer(site: Site) -> APIRouter:
    """Return the routes of the explorer for a site."""
    shop, atlas = Shop(site), Atlas(site.folder / "explorer")
    router = APIRouter(include_in_schema=False)
    _add_pages(router)
    _add_products(router, site, shop)
    _add_models(router, site, shop)
    _add_map(router, site, shop, Maps(shop, atlas))
    return router


def _add_pages(router: APIRouter) -> None:
    """Put the pages and their files on the router: read once, never by a path from the caller."""
    root = files("tgqformer.service.explorer") / "static"
    held = {one.name: one.read_bytes() for one in root.iterdir() if PurePath(one.name).suffix in TYPES}

    async def page(request: Request) -> Response:
        return await static("index.html", request)

    for address in PAGES:
        router.add_api_route(address, page)

    @router.get("/explorer/static/{name}")
    async def static(name: str, request: Request) -> Response:
        if name not in held:
            raise ApiError(404, "there is no such file", "open the explorer's first page")
        return _cached(request, held[name], TYPES[PurePath(name).suffix], "no-cache")


def _add_products(router: APIRouter, site: Site, shop: Shop) -> None:
    """Put what the grid and the product page read on the router."""

    @router.get("/explorer/api/site")
    async def about() -> Data:
        return await site.explore(_about, site, shop)

    @router.get("/explorer/api/items")
    async def items(
        q: Words = "",
        category: Path_ = [],  # noqa: B006 - read only
        brand: Words = "",
        offered: Annotated[Offered, Depends(_offered)] = Offered(),  # noqa: B008
        start: Annotated[int, Query(ge=0, le=10**9)] = 0,
        count: Count = 48,
    ) -> Data:
        return await site.explore(shop.find, Asked(q, tuple(category), brand, offered), start, count)

    @router.get("/explorer/api/alike")
    async def alike(q: Asking, k: Count = 10) -> Data:
        return await site.explore(shop.alike, q, k)

    @router.get("/explorer/api/item")
    async def item(id: Id) -> Data:
        return await site.explore(shop.product, id)

    @router.get("/explorer/picture")
    async def picture(request: Request, id: Id, size: Size = "small") -> Response:
        return _jpeg(request, await site.explore(shop.encoded, id, size))

    @router.get("/explorer/noised")
    async def noised(
        request: Request,
        id: Id,
        kind: NoiseKind = "poster",
        severity: Severity = 0,
        seed: Seed = 0,
        size: Size = "large",
    ) -> Response:
        return _jpeg(request, await site.explore(shop.encoded_noised, id, NoiseChoice(kind, severity, seed), size))


def _add_models(router: APIRouter, site: Site, shop: Shop) -> None:
    """Put what needs a store or a model on the router."""

    @router.get("/explorer/api/neighbours")
    async def neighbours(id: Id, version: Versions = [""], k: Count = 12) -> Data:  # noqa: B006 - read only
        return await site.explore(shop.neighbours, id, version, k)

    @router.get("/explorer/api/wins")
    async def wins(version: Annotated[list[str], Query(min_length=2, max_length=2)]) -> Data:
        return await site.explore(shop.wins, version[0], version[1])

    @router.get("/explorer/api/trial")
    async def trial(
        id: Id,
        version: Versions = [""],  # noqa: B006 - read only
        kind: NoiseKind = "poster",
        severity: Severity = 0,
        seed: Seed = 0,
        k: Count = 10,
    ) -> Data:
        return await site.explore(shop.trial, id, NoiseChoice(kind, severity, seed), version, k)

    @router.get("/explorer/api/why")
    async def why(
        id: Id, other: Id, version: Version = "", kind: NoiseKind | None = None, severity: Severity = 0, seed: Seed = 0
    ) -> Data:
        asked = NoiseChoice(kind, severity, seed) if kind is not None else None
        return await site.explore(shop.why, id, other, version, asked)

    @router.post("/explorer/api/search")
    async def search(
        picture: Annotated[UploadFile | None, File()] = None,
        title: Annotated[str, Form(max_length=LIMITS["title"])] = "",
        version: Versions = [""],  # noqa: B006 - read only
        k: Count = 12,
    ) -> Data:
        data = await picture.read() if picture is not None else b""
        if not data and not title.strip():
            raise ApiError(422, "there is neither a picture nor a title", "choose a picture, write a title, or both")

        client = caller.get()

        def found() -> Data:
            return shop.search(uploaded(title), site.uploads.decode(data, client) if data else None, version, k)

        return await site.explore(found)


def _add_map(router: APIRouter, site: Site, shop: Shop, maps: Maps) -> None:
    """Put the map of a version on the router; points are named by their place in it."""

    @router.get("/explorer/api/map")
    async def state(version: Version = "") -> Data:
        return await site.explore(maps.state, version)

    @router.get("/explorer/api/map/points")
    async def points(version: Version = "", tag: Tag = "") -> Response:
        made = await site.explore(maps.of, version, tag)
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return Response(made.packed(), headers=headers, media_type="application/octet-stream")

    @router.get("/explorer/api/map/place")
    async def place(item: Id, version: Version = "", tag: Tag = "") -> Data:
        made = await site.explore(maps.of, version, tag)
        return {"place": made.position.get(item)}

    @router.get("/explorer/api/map/at")
    async def point(
        place: Annotated[list[Place], Query(min_length=1, max_length=LISTED)], version: Version = "", tag: Tag = ""
    ) -> Data:
        return await site.explore(maps.at, version, tag, place)

    @router.get("/explorer/api/map/find")
    async def find(
        q: Annotated[str, Query(min_length=1, max_length=200)], version: Version = "", tag: Tag = ""
    ) -> Data:
        return await site.explore(maps.find, version, tag, q)

    @router.get("/explorer/api/map/colours")
    async def colours(by: By, version: Version = "", other: Version = "", tag: Tag = "") -> Data:
        return await site.explore(maps.coloured, version, tag, by, other)

    @router.get("/explorer/api/map/picture")
    async def dot(request: Request, place: Place, version: Version = "", tag: Tag = "") -> Response:
        made = await site.explore(maps.of, version, tag)
        name = made.ids[place] if place < len(made.ids) else None
        return _jpeg(request, await site.explore(shop.encoded, name, "small") if name is not None else None)


def _about(site: Site, shop: Shop) -> Data:
    """Return what the pages can offer."""
    shown, served = shop.shown(), site.served
    versions = [
        {"name": one.name, "label": one.label or one.name, "served": one.name == served.version.name}
        for one in site.versions()
    ]
    versions.sort(key=lambda one: not one["served"])
    categories = [{"path": one.path, "count": one.count} for one in shown.browser.categories[:FACETS]] if shown else []
    brands = [{"name": one.path[0], "count": one.count} for one in shown.browser.brands[:FACETS]] if shown else []
    name = (shown.clean or shown.catalog).name if shown else None
    about = {"name": name, "items": len(shown.browser) if shown else 0, "clean": bool(shown and shown.clean)}
    about["model"], about["upload"] = served.embedder is not None, site.settings.max_body_bytes
    about["judged"] = len(versions) > 1 and pairs_of(site.places.store) is not None
    kinds = KINDS if can_draw() else ()
    return {**about, "versions": versions, "kinds": kinds, "categories": categories, "brands": brands}


def _jpeg(request: Request, data: bytes | None) -> Response:
    """Return a picture that browsers keep for ten minutes and ask about afterwards."""
    if data is None:
        raise ApiError(404, "this item has no picture", "show it by its title")
    return _cached(request, data, "image/jpeg", "private, max-age=600")


def _cached(request: Request, data: bytes, media_type: str, caching: str) -> Response:
    """Return the data, or 304 where the browser has it already."""
    tag = tag_of(data)
    headers = {**HEADERS, "ETag": tag, "Cache-Control": caching}
    if is_known(tag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)
