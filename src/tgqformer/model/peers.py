"""Whole models of others as rows of the bench: any image-text-to-text model, any model of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F

from tgqformer.config import plain
from tgqformer.encoders.frozen import Precision, resolve_precision
from tgqformer.errors import TgqError
from tgqformer.model.hub import locate_model
from tgqformer.model.multimodal import WholeEmbedder, load_multimodal, whole_processor
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import UNSAVED, version_of
from tgqformer.packages import check_there

SENTENCE = "sentence-transformers:"
"""Stands before the place of a model of that library."""
NOTHING = "."
"""What is read of an item without text and picture: some models fail at an empty text."""
ALL = Prompt()
"""What such a model reads where nothing else is said: all metadata, without words around it."""


class SentenceEmbedder(WholeEmbedder):
    """Items -> embeddings of unit length by a `SentenceTransformer` as it comes: of texts, of pictures, or of both.

    A model that takes a dict of text and image gets both at once (Qwen3-VL-Embedding); one that takes each alone (CLIP)
    gives the mean of the two; one that takes texts alone never sees a picture.

    Args:
        model: the `SentenceTransformer`. prompt: which metadata it reads. version: names model, prompt, picture size.
        longest_side: see `WholeEmbedder`.
    """

    batch_size = 8

    def __init__(
        self, model: Any, prompt: Prompt = ALL, *, version: str = UNSAVED, longest_side: int | None = 448
    ) -> None:
        self.model, self.prompt, self.version, self.longest_side = model, prompt, version, longest_side
        self._joint = bool(model.supports(("image", "text")))
        self.dim = self._encode(["a product"]).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = self.model.device
        return found

    @property
    def sees(self) -> bool:
        """Whether a picture makes a difference."""
        return self._joint or bool(self.model.supports("image"))

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Image | None], metadata: Sequence[str]) -> Tensor:
        """Embed B items from pictures that are read already and from their metadata texts."""
        shown = [self._shrink(picture) if self.sees else None for picture in pictures]
        texts = [self.prompt.wrap(text) for text in metadata]
        vectors = torch.zeros(len(shown), self.dim)
        for seen, read in ((True, True), (True, False), (False, True), (False, False)):
            rows = [
                row for row, text in enumerate(texts) if (shown[row] is not None) == seen and bool(text.strip()) == read
            ]
            if not rows:
                continue
            images, words = [shown[row] for row in rows], [texts[row] for row in rows]
            if seen and read and self._joint:
                both = [{"text": text, "image": image} for text, image in zip(words, images, strict=True)]
                vectors[rows] = self._encode(both)
            elif seen and read:
                vectors[rows] = F.normalize(self._encode(images) + self._encode(words), dim=-1)
            else:
                vectors[rows] = self._encode(images if seen else words if read else [NOTHING] * len(rows))
        return vectors

    def _encode(self, inputs: Sequence[Any]) -> Tensor:
        found: Tensor = self.model.encode(
            list(inputs), batch_size=self.batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        return F.normalize(found.float(), dim=-1).cpu()


def load_whole(place: str, device: str = "cpu") -> WholeEmbedder:
    """Load a whole model: `sentence-transformers:PLACE`, or the place of an image-text-to-text model.

    Errors as in `load_sentence` and `load_multimodal`.
    """
    if place.startswith(SENTENCE):
        return load_sentence(place.removeprefix(SENTENCE), device=device)
    return load_multimodal(place, device=device)


def load_sentence(
    place: Path | str,
    *,
    prompt: Prompt = ALL,
    longest_side: int | None = 448,
    device: str = "cpu",
    precision: Precision = "auto",
) -> SentenceEmbedder:
    """Load a model of sentence-transformers from a folder, or by its hub id; no code of its own is run.

    Raises:
        TgqError: if the library is not installed, or the model cannot be loaded or wants code of its own.
    """
    check_there(["sentence_transformers"])
    from sentence_transformers import SentenceTransformer

    folder, dtype = locate_model(place), resolve_precision(precision, torch.device(device))
    try:
        with pictures_without_films():
            model = SentenceTransformer(
                str(folder), device=device, trust_remote_code=False, local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )  # fmt: skip
        words = f"{version_of(folder)}:{plain(prompt)}:{longest_side}:{dtype}"
        version = blake2b(words.encode(), digest_size=8).hexdigest()
        return SentenceEmbedder(model, prompt, version=version, longest_side=longest_side)
    except (OSError, ValueError, KeyError, AttributeError, ImportError, TypeError) as error:
        why = " ".join(str(error).split())
        raise TgqError(f"the sentence-transformers model {str(place)!r} cannot be loaded: {why}") from error


@contextmanager
def pictures_without_films() -> Iterator[None]:
    """Let sentence-transformers read a processor of pictures and texts that would read films too, as Qwen-VL's.

    Else it asks for a library of films (torchvision), though no film is shown.
    """
    from sentence_transformers.base.modules import transformer

    loader: Any = transformer
    known = loader.AutoProcessor

    class Processors:
        @staticmethod
        def from_pretrained(place: str, **options: Any) -> Any:
            try:
                return known.from_pretrained(place, **options)
            except (ImportError, OSError):  # the library, or the settings of a part that reads films
                return whole_processor(Path(place))

    loader.AutoProcessor = Processors
    try:
        yield
    finally:
        loader.AutoProcessor = known
