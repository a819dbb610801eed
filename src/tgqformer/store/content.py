"""What a row is made from, as a digest: so that a sync knows what changed, and whether it must be embedded anew."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer.catalog.item import Item
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.files import read_json
from tgqformer.model.prompt import Prompt
from tgqformer.store.base import FACTS, StoreRow

SEEN = 32  # hex digits of what the model sees; those of the facts that are only kept follow
BLIND = "0" * SEEN  # of an item whose picture could not be read: never equal, so that the next sync tries again


def content_of(item: Item, prompt: Prompt) -> str:
    """Return 48 hex digits: what the model sees of an item (its text, its pictures), then what the store keeps."""
    return seen_of(item, prompt) + _facts_of(item)


def seen_of(item: Item, prompt: Prompt) -> str:
    """Return 32 hex digits that change with what the model sees: the text by its prompt, the bytes of the picture."""
    digests = [picture.digest for picture in prompt.seen(item)]
    return _digest([prompt.text(item), digests[0] if len(digests) == 1 else digests or ""], SEEN // 2)


def row_of(item: Item, vector: Any, prompt: Prompt | None, *, blind: bool = False, seen: str | None = None) -> StoreRow:
    """Make the row of an item and its vector [d].

    `seen` is the digest of what the model saw when the vector was made, where that is known; else the item is taken to
    be as it was. Without a prompt, too, its content stays unknown, and a sync embeds it again; so it does where the
    picture could not be read (`blind`).
    """
    if seen is None and prompt is not None:
        seen = seen_of(item, prompt)
    content = "" if seen is None else (BLIND if blind else seen) + _facts_of(item)
    facts = {name: getattr(item, name) for name in FACTS if name != "look"}
    return StoreRow(item.id, np.asarray(vector, np.float32), content=content, look=_look_of(item), **facts)


def short_digest(content: str | None) -> int:
    """Return a digest of 8 bytes of a content, at least 2; 1 where there is none."""
    if not content:
        return 1
    return max(int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "little"), 2)


def prompt_of(model: Path) -> Prompt:
    """Read the prompt of a saved model; raises TgqError where there is none."""
    try:
        return parse(Prompt, read_json(model / "prompt.json"), "prompt.json")
    except (OSError, ValueError, TgqError) as error:
        raise TgqError(
            f"{model} is not a saved model (no readable prompt.json); give the folder of a training"
        ) from error


def _facts_of(item: Item) -> str:
    return _digest([*(getattr(item, name) for name in FACTS if name != "look"), (_look_of(item) or b"").hex()], 8)


def _look_of(item: Item) -> bytes | None:
    return item.pictures[0].look if item.pictures else None


def _digest(content: list[Any], size: int) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=size).hexdigest()
