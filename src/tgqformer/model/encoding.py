"""The frozen encoders of a model, together with its prompt: raw items -> features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.config import parse, plain
from tgqformer.connectors import ConnectorWidths
from tgqformer.encoders import load_text, load_vision, make_joint, make_text, make_vision
from tgqformer.encoders.alignment import JointAlignment
from tgqformer.encoders.base import JointSpace, TextEncoder, TextFeatures, VisionEncoder, VisualFeatures
from tgqformer.encoders.cache import half
from tgqformer.encoders.huggingface import HuggingFaceText
from tgqformer.encoders.joint import load_space, save_space
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.model.batch import ItemBatch
from tgqformer.model.language import HuggingFaceLM, LanguageModel
from tgqformer.model.prompt import Pictures, Prompt
from tgqformer.scripts import SAMPLE, tokenizer_of, unread


@dataclass(frozen=True)
class Encoders:
    """A vision encoder, a text encoder and the prompt that turns metadata into text.

    `space` is the shared space of the two where they are the towers of one joint encoder.
    """

    vision: VisionEncoder
    text: TextEncoder
    prompt: Prompt
    space: JointSpace | None = None

    @property
    def widths(self) -> ConnectorWidths:
        """What connectors need to know."""
        vision = self.vision
        return ConnectorWidths(vision.width, vision.vector_width, self.text.width, vision.grid)

    def alignment(self) -> JointAlignment:
        """The agreement that a joint encoder brings along.

        Raises:
            TgqError: if the encoders are no joint encoder.
        """
        if self.space is None:
            raise TgqError(f"{self.vision.name} and {self.text.name} share no space; train an alignment instead")
        return JointAlignment(self.space)

    def preprocess(self, item: Item, root: Path | None = None) -> Tensor | None:
        """Read and prepare the pictures of an item that the prompt looks at: [m, 3, h, w], or None if it has none.

        Raises:
            PictureError: if one of them cannot be read.
        """
        seen = [self.vision.preprocess(read_picture(picture, root)) for picture in self.prompt.seen(item)]
        return torch.stack(seen) if seen else None

    def features(self, items: Sequence[Item], language: LanguageModel | None, root: Path | None = None) -> ItemBatch:
        """Encode raw items on this machine's processor, decoding in threads.

        Raises:
            TgqError: if a picture cannot be read, naming its item.
        """

        def prepare(item: Item) -> Tensor | None:
            try:
                return self.preprocess(item, root)
            except PictureError as error:
                raise TgqError(f"the picture of item {item.id!r} cannot be read: {error}") from error

        with ThreadPoolExecutor(2) as pool:
            pixels = list(pool.map(prepare, items))
        return self.encode(items, pixels, language)

    @torch.no_grad()
    def encode(
        self,
        items: Sequence[Item],
        pixels: Sequence[Tensor | None],
        language: LanguageModel | None,
        *,
        shared: bool = False,
    ) -> ItemBatch:
        """Encode B items whose pictures are prepared already: [m, 3, h, w] each, or [3, h, w] for one, or None.

        shared: see `with_text`.
        """
        several = [() if one is None else one.reshape(-1, *one.shape[-3:]) for one in pixels]
        flat = [picture for one in several for picture in one]
        places, width, vector_width = (
            self.vision.grid[0] * self.vision.grid[1],
            self.vision.width,
            self.vision.vector_width,
        )
        tokens, vectors = torch.zeros(1, places, width), torch.zeros(1, vector_width)  # the last: of no picture
        if flat:
            seen = self.vision.encode(torch.stack(flat))
            tokens = torch.cat([half(seen.tokens).float().cpu(), tokens])
            vectors = torch.cat([half(seen.vector).float().cpu(), vectors])
        rows = torch.full((len(items), max([1, *map(len, several)])), len(flat))
        start = 0
        for at, one in enumerate(several):
            rows[at, : len(one)] = torch.arange(start, start + len(one))
            start += len(one)
        looked = joined(VisualFeatures(tokens[rows], vectors[rows]), rows < len(flat), self.prompt.pictures)
        return replace(self.with_text(*looked[:3], items, language, shared=shared), pictures=looked[3])

    def with_text(
        self,
        visual: Tensor,
        vector: Tensor,
        has_picture: Tensor,
        items: Sequence[Item],
        language: LanguageModel | None,
        *,
        shared: bool = False,
    ) -> ItemBatch:
        """Join features of pictures with those of the items' metadata.

        shared: compute what text encoder and language model have in common once, where they are one model and read the
        same text. Last bits then differ, for the two attend by different code.
        """
        read, states = self._read([self.prompt.metadata(item) for item in items], language, shared)
        return ItemBatch(
            visual,
            vector,
            has_picture,
            half(read.tokens),
            read.mask.clone(),  # encoders may give inference tensors, which training cannot use
            half(read.vector),
            half(states.tokens),
            states.mask,
        )

    def _read(
        self, metadata: list[str], language: LanguageModel | None, shared: bool
    ) -> tuple[TextFeatures, TextFeatures]:
        """Return what the text encoder reads in texts, and what the frozen prefix of the language model does."""
        if language is None:
            return self.text.encode(metadata), no_states(len(metadata))
        prompts = self.prompt.asked(metadata, language.fits)
        if shared and prompts == metadata and isinstance(language, HuggingFaceLM) and language.begins(self.text):
            assert isinstance(self.text, HuggingFaceText)
            both = self.text.encode_with_layer(metadata, language.frozen_layers)
            if both is not None:
                return both[0], replace(both[0], tokens=both[1])
        return self.text.encode(metadata), language.encode(prompts)

    def save(self, folder: Path) -> None:
        """Write vision/, text/ and prompt.json into a model's folder."""
        self.vision.save(folder / "vision")
        self.text.save(folder / "text")
        write_json(folder / "prompt.json", plain(self.prompt))
        if self.space is not None:
            save_space(self.space, folder / "space")

    @classmethod
    def load(cls, folder: Path) -> Encoders:
        """Read what `save` wrote."""
        prompt = parse(Prompt, read_json(folder / "prompt.json"), str(folder / "prompt.json"))
        space = load_space(folder / "space") if (folder / "space").is_dir() else None
        return cls(load_vision(folder / "vision"), load_text(folder / "text"), prompt, space)


def make_encoders(vision: str, text: str, prompt: Prompt, options: Mapping[str, Any]) -> Encoders:
    """Make the frozen encoders by their names; `vision` "joint:hf:..." takes both towers of a joint encoder.

    Raises:
        TgqError: for an unknown name or option, or a model that cannot be read.
    """
    if vision.startswith("joint:"):
        joint = make_joint(vision.removeprefix("joint:"), **options)
        return Encoders(joint.vision, joint.text, prompt, joint.space)
    return Encoders(make_vision(vision, **options), make_text(text), prompt)


def joined(seen: VisualFeatures, there: Tensor, how: Pictures) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Join what the vision encoder saw in up to M pictures of each of B items.

    seen: tokens [B, M, P, Dv] and vectors [B, M, Dg], zeros for no picture. there (Tensor): bool [B, M].

    Returns:
        (tokens [B, P, Dv], or [B, M·P, Dv] to attend to; the mean of the vectors [B, Dg]; bool [B], which items have a
        picture; `there` where it is needed to tell tokens apart).
    """
    tokens, vectors, count = seen.tokens, seen.vector, there.sum(1)
    if there.shape[1] == 1:
        return tokens[:, 0], vectors[:, 0], there[:, 0], None
    many = count[:, None].clamp_min(1)
    vector = half(vectors.float().sum(1) / many).to(vectors.dtype)
    if how == "attend":
        return tokens.flatten(1, 2), vector, count > 0, there
    return half(tokens.float().sum(1) / many[..., None]).to(tokens.dtype), vector, count > 0, None


def unread_in(catalog: Catalog, encoders: Encoders, language: LanguageModel | None) -> list[str]:
    """Return the warnings of `unread_titles` for a sample of the items of a catalogue."""
    return unread_titles(list(catalog.column("title", every=-(-len(catalog) // SAMPLE) or 1)), encoders, language)


def unread_titles(titles: Sequence[str | None], encoders: Encoders, language: LanguageModel | None) -> list[str]:
    """Return a warning for the text encoder, and one for the language model, that cannot read many titles of items."""
    if "title" not in encoders.prompt.fields:
        return []
    readers = {f"the text encoder {encoders.text.name}": encoders.text, "the language model": language}
    known = [(name, getattr(reader, "tokenizer", None)) for name, reader in readers.items()]
    told = [unread(titles, *tokenizer_of(tokenizer), name) for name, tokenizer in known if tokenizer is not None]
    return [warning for warning in told if warning is not None]


def no_states(batch: int) -> TextFeatures:
    """The text states of a model without language model: none."""
    return TextFeatures(torch.zeros(batch, 0, 1), torch.zeros(batch, 0, dtype=torch.bool), torch.zeros(batch, 1))
