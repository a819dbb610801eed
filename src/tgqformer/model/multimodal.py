"""A whole multimodal language model as embedder: any Hugging Face image-text-to-text model, as it comes.

Picture and metadata go into one prompt that asks for one word; the embedding is the last layer's state at the last
token (as in E5-V, arXiv 2407.12580). Nothing is trained. It is the yardstick that the connectors are held against.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.config import plain
from tgqformer.encoders.frozen import Precision, resolve_precision
from tgqformer.encoders.huggingface import check_complete, read_tokenizer
from tgqformer.errors import TgqError
from tgqformer.model.base import Embedder
from tgqformer.model.hub import locate_model
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import UNSAVED, version_of
from tgqformer.parallel import TOKENIZING

ASK = Prompt(template="{metadata}\nThis product in one word:")
"""The prompt where none is given."""


class WholeEmbedder(Embedder):
    """Items -> embeddings of unit length by a whole model of others, as it comes; it is shown the pictures themselves.

    prompt: which metadata it reads, and with which words. longest_side: larger pictures are shrunk to so many pixels
    before the model's own processor sees them; None for never.
    """

    prompt: Prompt
    longest_side: int | None

    def embed_items(self, items: Sequence[Item], root: Path | None = None) -> Tensor:
        """Embed B items at once from their first pictures and metadata: [B, d] of unit length."""

        def read(item: Item) -> Image | None:
            try:
                return read_picture(item.pictures[0], root) if item.pictures else None
            except PictureError as error:
                raise TgqError(f"the picture of item {item.id!r} cannot be read: {error}") from error

        with ThreadPoolExecutor(2) as pool:
            pictures = list(pool.map(read, items))
        return self.embed(pictures, [self.prompt.metadata(item) for item in items])

    @abstractmethod
    def embed(self, pictures: Sequence[Image | None], metadata: Sequence[str]) -> Tensor:
        """Embed B items from pictures that are read already and from their metadata texts.

        Returns:
            float32 [B, d] of unit length, on the CPU. An item without picture is embedded by its text alone.
        """

    def _shrink(self, picture: Image | None) -> Image | None:
        side = self.longest_side
        if picture is None or side is None or max(picture.size) <= side:
            return picture
        small = picture.copy()
        small.thumbnail((side, side))
        return small


class MultimodalEmbedder(WholeEmbedder):
    """Items -> embeddings of unit length by one multimodal model as it comes.

    Args:
        model: an image-text-to-text model whose base model gives `last_hidden_state`. processor: its processor.
        prompt: which metadata it reads, and with which words. version: names model, prompt and picture size.
        longest_side: larger pictures are shrunk to this many pixels before the processor sees them; None for never.
    """

    batch_size = 8

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompt: Prompt = ASK,
        *,
        version: str = UNSAVED,
        longest_side: int | None = 448,
    ) -> None:
        self.model, self.processor, self.prompt = model.eval(), processor, prompt
        self.version, self.longest_side = version, longest_side
        self.dim = int(model.config.get_text_config().hidden_size)
        processor.tokenizer.padding_side = "right"  # what comes before a token is then the same in every batch

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = next(self.model.parameters()).device
        return found

    @property
    def sees(self) -> bool:
        """Whether a picture makes a difference."""
        return True

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Image | None], metadata: Sequence[str]) -> Tensor:
        """Embed B items from pictures that are read already and from their metadata texts."""
        vectors = torch.zeros(len(pictures), self.dim)
        for seen in (True, False):
            rows = [row for row, picture in enumerate(pictures) if (picture is not None) == seen]
            if rows:
                shown = [self._shrink(pictures[row]) for row in rows]
                vectors[rows] = self._ask(shown if seen else None, [metadata[row] for row in rows])
        return vectors

    def _ask(self, pictures: list[Image | None] | None, metadata: list[str]) -> Tensor:
        """The normalised state of each last token, [b, d]; all items have a picture, or none has."""
        texts = [self._text(self.prompt.wrap(text), pictures is not None) for text in metadata]
        images = {} if pictures is None else {"images": [[picture] for picture in pictures]}
        with TOKENIZING:
            inputs = self.processor(text=texts, **images, return_tensors="pt", padding=True)
        inputs = inputs.to(self.device, self.model.dtype)
        out = self.model.base_model(**inputs)
        states = getattr(out, "last_hidden_state", None)
        if states is None:
            raise TgqError(f"{type(self.model).__name__} gives no last hidden state; choose another multimodal model")
        mask = inputs["attention_mask"]
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        return F.normalize(states[torch.arange(len(states), device=mask.device), last].float(), dim=-1).cpu()

    def _text(self, question: str, seen: bool) -> str:
        """What the processor reads: the model's own chat form where it has one, else its image token and the text."""
        if self.processor.chat_template is None:
            return f"{self.processor.image_token}\n{question}" if seen else question
        content = [{"type": "image"}] * seen + [{"type": "text", "text": question}]
        chat: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return chat


def load_multimodal(
    path: Path | str,
    *,
    prompt: Prompt = ASK,
    longest_side: int | None = 448,
    device: str = "cpu",
    precision: Precision = "auto",
) -> MultimodalEmbedder:
    """Load a multimodal model from a folder in the layout of the hub, or by its hub id while online.

    Pictures are prepared by PIL and need no torchvision, also in models whose processor could read films (Qwen-VL).

    Raises:
        TgqError: if it cannot be loaded, or is of a kind that does not read picture and text.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    dtype, folder = resolve_precision(precision, torch.device(device)), locate_model(path)
    try:
        processor = whole_processor(folder)
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise TgqError(
            f"multimodal model {str(path)!r} cannot be loaded: {why}; give a folder with an image-text-to-text model "
            "and its processor, or a hub id while online"
        ) from error
    check_complete(str(path), info)
    words = f"{version_of(folder)}:{plain(prompt)}:{longest_side}:{dtype}"
    version = blake2b(words.encode(), digest_size=8).hexdigest()
    return MultimodalEmbedder(model.to(device), processor, prompt, version=version, longest_side=longest_side)


def whole_processor(folder: Path) -> Any:
    """Return the processor of pictures and text, its parts put together here.

    `AutoProcessor` would also make the part that reads films, which needs torchvision.
    """
    from transformers import AutoConfig, AutoImageProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name

    kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
    if kind not in PROCESSOR_MAPPING_NAMES:
        raise ValueError(f"transformers has no processor of pictures and text for model type {kind!r}")
    whole = processor_class_from_name(PROCESSOR_MAPPING_NAMES[kind])
    made, wanted = _without_films(whole), whole.get_attributes()
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False),
        "tokenizer": read_tokenizer(str(folder)),
    }
    unread = [part for part in made.get_attributes() if part not in parts]
    if unread:
        raise ValueError(f"the processor of {kind!r} also wants {', '.join(unread)}")
    settings, _ = made.get_processor_dict(folder)
    return made.from_args_and_dict([parts.get(part) for part in wanted], settings)  # None where films would be read


def _without_films(processor: Any) -> Any:
    """The same processor class, which does not ask for a video processor."""

    class PicturesAndText(processor):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [part for part in super().get_attributes() if "video" not in part]

    PicturesAndText.__name__ = processor.__name__  # what a saved processor is read as
    return PicturesAndText
