"""A saved model as a module of sentence-transformers (5.4 or newer): texts, pictures, or dicts with both -> vectors.

    model = sentence_transformer("runs/shop/models/tgq-former/served/model")
    vectors = model.encode([{"text": "Red cotton shirt", "image": "shirt.jpg"}, "Blue jeans"])

`SentenceTransformer(folder, trust_remote_code=True)` gives the same. It wants that word for every module that it does
not ship, though this one is installed, and the folder of a model holds no code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modality import is_image_url_or_path
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from tgqformer.catalog.item import Item
from tgqformer.errors import TgqError, nearest
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.hub import locate_model

FIELDS = ("title", "brand", "category", "attributes")
"""What a dict may say of an item besides `text`, which is its title, and `image`, its picture."""


class ItemModule(InputModule):  # type: ignore[misc]
    """An `ItemEmbedder` as the one module of a `SentenceTransformer`."""

    config_keys: list[str] = []  # noqa: RUF012 - as the base class has it

    def __init__(self, model: ItemEmbedder) -> None:
        super().__init__()
        self.model = model

    @property
    def modalities(self) -> list[Any]:
        """What it takes: a text, a picture, or a dict with both."""
        return ["text", "image", ("image", "text")]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Make items of what `encode` was given.

        Raises:
            TgqError: for what is no item, a key that is not known, or a prompt: the model has its own.
        """
        if prompt:
            raise TgqError("this model has its own prompt; leave prompt and prompt_name out")
        return {"items": [item_of(one) for one in inputs]}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Embed items: `sentence_embedding` [B, d], of unit length."""
        batch = self.model.features(features["items"])
        embedding: Tensor = self.model(batch).embedding
        return features | {"sentence_embedding": embedding}

    def get_embedding_dimension(self) -> int:
        """Return d."""
        return self.model.dim

    get_sentence_embedding_dimension = get_embedding_dimension

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write the model into a folder that `SentenceTransformer.save` has made."""
        self.model.write(Path(output_path))

    @classmethod
    def load(
        cls, model_name_or_path: str, *_: Any, revision: str | None = None, local_files_only: bool = False, **__: Any
    ) -> Self:
        """Load a saved model: a folder, or one of the hub."""
        place = locate_model(model_name_or_path, revision=revision, local_files_only=local_files_only)
        return cls(ItemEmbedder.load(place))


def sentence_transformer(
    place: Path | str, *, revision: str | None = None, local_files_only: bool = False, device: str = "cpu"
) -> SentenceTransformer:
    """Load a saved model as a `SentenceTransformer`, without leave to run code.

    Arguments and errors as in `ItemEmbedder.from_pretrained`.
    """
    model = ItemEmbedder.from_pretrained(place, revision=revision, local_files_only=local_files_only)
    made = SentenceTransformer(modules=[ItemModule(model)], device=device)
    made._model_card_text = model.card  # as it does with a folder: so that `save` keeps the card
    return made


def item_of(given: Any) -> Item:
    """Make an item of what `encode` takes: an `Item`, a title, a picture or its path, a dict of text, image, `FIELDS`.

    Raises:
        TgqError: for anything else, or a key that is not known, with the nearest.
    """
    if isinstance(given, Item):
        return given
    if isinstance(given, Image) or (isinstance(given, str) and is_image_url_or_path(given)):
        return Item(picture=given)
    if isinstance(given, str):
        return Item(title=given)
    if not isinstance(given, Mapping):
        raise TgqError(f"an item is a text, a picture, or a dict with text and image; got {type(given).__name__}")
    known = ("text", "image", *FIELDS)
    unknown = [key for key in given if key not in known]
    if unknown:
        raise TgqError(f"an item has no {unknown[0]!r}; {nearest(unknown[0], known)}")
    if "text" in given and "title" in given:
        raise TgqError("text is the title; give one of the two")
    told = {key: given[key] for key in FIELDS if key in given}
    category = told.pop("category", ())
    path = tuple(part.strip() for part in category.split(">")) if isinstance(category, str) else tuple(category)
    return Item(title=given.get("text", told.pop("title", None)), category=path, picture=given.get("image"), **told)
