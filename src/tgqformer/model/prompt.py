"""How an item's metadata becomes text: part of every saved model."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, get_args

from tgqformer.catalog.item import Item, Picture
from tgqformer.config import settings

Part = Literal["title", "brand", "category", "attributes"]
Pictures = Literal["first", "mean", "attend"]
COLOURS = """
    aqua beige black blue bronze brown burgundy camel charcoal chocolate coffee copper coral cream crimson cyan
    fluorescent fuchsia gold golden green grey gray gunmetal indigo ivory khaki lavender lemon lilac lime magenta
    mahogany maroon mauve metallic mint multi multicolor multicolour multicoloured multicolored mushroom mustard navy
    nude ochre off-white offwhite olive orange peach pink plum purple red rose rust sand scarlet silver skin steel tan
    taupe teal turquoise violet white wine yellow
""".split()  # noqa: SIM905


@settings
class Prompt:
    """What the model reads of an item: which metadata, in which words, and which of its pictures.

    Args:
        fields: of title, brand, category, attributes, in this order.
        attributes: names of the attributes that are read; `None` for all. Those not named stay unseen by the model.
        cut_words: words to cut from the title; `colours` cuts colour words, so that colour must come from the picture.
        template: what the language model reads; `{metadata}` stands for the text above. Decoders do well with an
            instruction, for example `Product: {metadata}\\nIts look and use in one word:`.
        pictures: `first`, or all of an item's: `mean` averages what the vision encoder gives, place by place; `attend`
            puts the tokens of all side by side, for connectors whose queries attend to them.
        prefix: what stands before the text of an item that has any: some models were trained with such words, as E5 was
            with `query: `.
    """

    fields: tuple[Part, ...] = get_args(Part)
    attributes: tuple[str, ...] | None = None
    cut_words: Literal["none", "colours"] = "none"
    template: str = "{metadata}"
    pictures: Pictures = "first"
    prefix: str = ""

    def __post_init__(self) -> None:
        if len(set(self.fields)) < len(self.fields):
            raise ValueError(f"prompt.fields takes title, brand, category, attributes, each once; found {self.fields}")
        if "{metadata}" not in self.template:
            raise ValueError("prompt.template must contain {metadata}")

    def seen(self, item: Item) -> tuple[Picture, ...]:
        """Return the pictures of an item that are looked at, each content once."""
        chosen = item.pictures[:1] if self.pictures == "first" else item.pictures
        return tuple({picture.digest: picture for picture in chosen}.values())

    def metadata(self, item: Item) -> str:
        """Return the metadata of an item as one text; empty if it has none."""
        text = ". ".join(part for part in (self._field(item, name) for name in self.fields) if part)
        return text and self.prefix + text

    def text(self, item: Item) -> str:
        """Return what the language model reads."""
        return self.wrap(self.metadata(item))

    def wrap(self, metadata: str) -> str:
        """Put metadata text into the template; an item without text leaves the template alone."""
        return self.template.replace("{metadata}", metadata)

    def asked(self, metadata: Sequence[str], fits: Callable[[list[str]], list[bool]]) -> list[str]:
        """Put B metadata texts into the template, cut so that what it says after them is read, too.

        fits: says of texts which the language model reads to their end.
        """
        texts = [self.wrap(text) for text in metadata]
        if not texts or self.template.endswith("{metadata}"):  # then the language model's own cut is right
            return texts
        return [
            text if whole else self.wrap(_longest(told, lambda part: fits([self.wrap(part)])[0]))
            for text, told, whole in zip(texts, metadata, fits(texts), strict=True)
        ]

    def _field(self, item: Item, name: str) -> str:
        if name == "title":
            return self._cut(item.title or "")
        if name == "brand":
            return item.brand or ""
        if name == "category":
            return " > ".join(item.category)
        keys = item.attributes.keys() if self.attributes is None else self.attributes
        wanted = (key for key in keys if key in item.attributes)
        return ", ".join(f"{key.replace('_', ' ')}: {item.attributes[key]}" for key in wanted)

    def _cut(self, title: str) -> str:
        if self.cut_words == "none":
            return title
        return re.sub(r"\s{2,}", " ", self._pattern.sub(" ", title)).strip(" -,&/")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"\b({'|'.join(sorted(COLOURS, key=len, reverse=True))})\b", re.IGNORECASE)


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of a text that fits."""
    return text[: bisect_left(range(1, len(text) + 1), True, key=lambda length: not fits(text[:length]))]
