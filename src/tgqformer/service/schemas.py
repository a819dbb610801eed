"""The bodies of answers, as OpenAPI shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = "5a55f03acbcd7573"
ERRORS = {
    400: "The request cannot be understood.",
    401: "An API key is needed.",
    403: "The API key may only read.",
    404: "There is no such item.",
    413: "The body or the picture is too large.",
    429: "This client's pictures took too much processor time; Retry-After says how long to wait.",
    422: "A value is wrong.",
    501: "The service has no model.",
    503: "Too much to do: try again after Retry-After seconds.",
    504: "A write took too long: it may have been carried out.",
}


class ErrorBody(BaseModel):
    """Any answer other than 2xx."""

    error: str = Field(description="What is wrong.", examples=["there is no item 'studio-99999'"])
    hint: str = Field(description="What to do.", examples=["check the id"])


class Found(BaseModel):
    """One item that was found."""

    id: str = Field(examples=["studio-00117"])
    score: float = Field(description="Cosine of the two embeddings, 1 at most.", examples=[0.934])
    title: str | None = Field(None, description="With metadata=true.", examples=["Red canvas shoe"])
    brand: str | None = Field(None, description="With metadata=true.", examples=["Acme"])
    category: list[str] | None = Field(None, description="With metadata=true.", examples=[["Shoes", "Canvas"]])
    price: float | None = Field(None, description="With metadata=true.", examples=[19.9])
    sale_price: float | None = Field(None, description="With metadata=true; only where it is lower.", examples=[14.9])
    currency: str | None = Field(None, description="With metadata=true.", examples=["EUR"])
    availability: str | None = Field(None, description="With metadata=true.", examples=["in_stock"])
    item_group: str | None = Field(None, description="With metadata=true: variants share it.", examples=["TEE"])
    created: str | None = Field(None, description="With metadata=true.", examples=["2024-02-29"])


class SimilarItems(BaseModel):
    """Items similar to one of the store, best first."""

    item: str = Field(description="The id asked for.", examples=["studio-00042"])
    answer: str = Field(description="Id of this answer, for POST /events.", examples=["3q2-7wAAvu8"])
    model_version: str = Field(description="The model version that the whole answer comes from.", examples=[VERSION])
    source: Literal["precomputed", "live"] = Field(description="Looked up in the table of neighbours, or searched now.")
    results: list[Found]


class EventIn(BaseModel):
    """What a shopper did with an answer."""

    model_config = ConfigDict(extra="forbid")
    answer: str = Field(description="As the list gave it.", max_length=8000)
    event: Literal["view", "click", "cart", "buy"]
    item: str | None = Field(None, description="An item of the list; a view without one is of all.", max_length=512)
    visitor: str | None = Field(None, description="Who: any text; only a digest is kept.", max_length=200)
    id: str | None = Field(None, description="Sent twice with the same id, it counts once.", max_length=100)


class EventsKept(BaseModel):
    """Events that are on the disk."""

    kept: int = Field(description="How many are new.", examples=[1])


class SearchResults(BaseModel):
    """Items similar to what was sent, best first."""

    answer: str = Field(description="Id of this answer, for POST /events.", examples=["3q2-7wAAvu8"])
    model_version: str = Field(examples=[VERSION])
    source: Literal["live"]
    results: list[Found]


class StoredItem(BaseModel):
    """An item as it is served."""

    id: str = Field(examples=["studio-00042"])
    title: str | None = Field(examples=["Red canvas shoe"])
    brand: str | None = Field(examples=["Acme"])
    category: list[str] = Field(examples=[["Shoes", "Canvas"]])
    attributes: dict[str, str] = Field(examples=[{"color": "red"}])
    price: float | None = Field(examples=[19.9])
    sale_price: float | None = Field(description="What it costs now, where that is less.", examples=[14.9])
    currency: str | None = Field(examples=["EUR"])
    availability: str | None = Field(examples=["in_stock"])
    item_group: str | None = Field(description="Variants of one product share it.", examples=["TEE"])
    created: str | None = Field(examples=["2024-02-29"])
    pictures: int = Field(description="How many pictures it has.", examples=[1])
    model_version: str = Field(examples=[VERSION])


class Written(BaseModel):
    """A write that is on disk and found by searches."""

    id: str = Field(examples=["studio-00042"])
    model_version: str = Field(description="The version that has it.", examples=[VERSION])


class EmbeddingOut(BaseModel):
    """One embedding of unit length."""

    model_version: str = Field(examples=[VERSION])
    dim: int = Field(examples=[3])
    vector: list[float] = Field(examples=[[0.48, -0.6, 0.64]])


class Ready(BaseModel):
    """What the service serves."""

    status: Literal["ready"]
    version: str = Field(description="Name of the version in the store.", examples=["v1"])
    model_version: str = Field(examples=[VERSION])
    label: str = Field(examples=["TGQ-Former"])
    model: bool = Field(description="Whether it can embed: /search, /embed and PUT work.")
    precomputed: bool = Field(description="Whether similar items are looked up, not searched.")
    refused: str | None = Field(description="A version that should be served, but cannot be opened; it is tried again.")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe error answers for OpenAPI: those given, and those that every route may give."""
    return {
        status: {"model": ErrorBody, "description": ERRORS[status]}
        for status in (*statuses, 400, 401, 403, 422, 503, 504)
    }
