"""A model that `tgq export` wrote, run by ONNX Runtime. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.config import parse
from tgqformer.errors import TgqError
from tgqformer.files import read_json
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import version_of
from tgqformer.packages import need
from tgqformer.parallel import TOKENIZING, cores
from tgqformer.pixels import Steps, as_rgb, letterbox, read_processor, without_ends
from tgqformer.progress import progress
from tgqformer.stages import note_of
from tgqformer.types import Array, Ints, Vectors

KIND = "onnx model"
FORMAT = 1
"""Of the folder; another number is refused."""
SHORTEST = 2
"""Tokens of a batch of texts, at least: one alone would be another graph."""


class OnnxEmbedder:
    """Items -> embeddings of unit length, as the `ItemEmbedder` that was exported gives them.

    Args:
        folder: written by `tgq export`. threads: of the runtime; by default all processors.

    Raises:
        TgqError: if the folder is no exported model, is of another format or damaged, or onnxruntime is not installed.
    """

    batch_size = 32

    def __init__(self, folder: Path | str, threads: int | None = None) -> None:
        self.folder = Path(folder)
        runtime = need("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3  # errors; folding of constants is told as a warning
        self.about, broken = _about(self.folder), faults_of(runtime)
        try:
            if (note_of(self.folder) or {}).get("content") not in (None, version_of(self.folder)):
                raise ValueError("its files are not those that were written")
            self.session = runtime.InferenceSession(
                str(self.folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
            self.prompt = parse(Prompt, read_json(self.folder / "prompt.json"), str(self.folder / "prompt.json"))
            self._text = Tokens(self.folder / "text.json", **self.about["text"])
            language = self.about["language"]
            self._language = None if language is None else Tokens(self.folder / "language.json", **language)
            self._pixels = prepared_by(self.folder / "vision", **self.about["pixels"])
            self.dim, self.version = int(self.about["dim"]), str(self.about["model_version"])
        except broken as error:
            why = " ".join(str(error).split())
            raise TgqError(f"the exported model in {folder} is damaged: {why}; export it again") from error
        self._asked = {one.name for one in self.session.get_inputs()}

    def encode(
        self,
        items: Iterable[Item] | Catalog,
        batch_size: int | None = None,
        show_progress_bar: bool = False,
        root: Path | None = None,
    ) -> Vectors:
        """Embed items from their pictures and metadata; arguments as of `ItemEmbedder.encode`.

        Returns:
            float32 [n, d], rows of unit length, in the order of the items.

        Raises:
            TgqError: if a picture cannot be read, naming the item.
        """
        total = len(items) if isinstance(items, Catalog | Sequence) else None
        root = items.root if root is None and isinstance(items, Catalog) else root
        stream, found = iter(items.items() if isinstance(items, Catalog) else items), [np.zeros((0, self.dim), "f4")]
        with progress("embedding", total, shown=show_progress_bar) as bar, ThreadPoolExecutor(2) as pool:
            while chunk := list(islice(stream, batch_size or self.batch_size)):
                pixels = list(pool.map(lambda item: self.preprocess(item, root), chunk))
                found.append(self.embed_prepared(chunk, pixels))
                bar.advance(len(chunk))
        return np.concatenate(found)

    def preprocess(self, item: Item, root: Path | None = None) -> Array | None:
        """Read and prepare the picture that the prompt looks at: [3, h, w], or None if the item has none.

        Raises:
            TgqError: if it cannot be read, naming the item.
        """
        for picture in self.prompt.seen(item):
            try:
                return self.prepared(read_picture(picture, root))
            except PictureError as error:
                raise TgqError(f"the picture of item {item.id!r} cannot be read: {error}") from error
        return None

    def prepared(self, picture: Image) -> Array:
        """Return the model's input of a picture: [3, h, w]."""
        return self._pixels(picture)

    def embed_prepared(self, items: Sequence[Item], pixels: Sequence[Array | None]) -> Vectors:
        """Embed items whose pictures are prepared: float32 [n, d]."""
        texts = [self.prompt.metadata(item) for item in items]
        ids, mask = self._text(texts)
        empty = np.zeros(self.about["pixels"]["shape"], self.about["pixels"]["dtype"])
        given: dict[str, Array] = {
            "pixels": np.stack([empty if one is None else one for one in pixels]),
            "has_picture": np.array([one is not None for one in pixels]),
            "ids": ids,
            "mask": mask,
            "has_text": np.array([bool(text.strip()) for text in texts]),
        }
        if self._language is not None:
            given["prompt_ids"], given["prompt_mask"] = self._language(self.prompt.asked(texts, self._language.fits))
        else:
            given["prompt_ids"] = given["prompt_mask"] = np.ones((len(items), SHORTEST), np.int64)
        found: Vectors = self.session.run(None, {name: given[name] for name in self._asked})[0]
        return found


class Tokens:
    """Texts -> token ids [B, T] and their mask [B, T], as the tokenizer of the exported model gives them.

    Args:
        file: the tokenizer. max_tokens: where texts are cut. pad: id of the padding. full: pad all to `max_tokens`.
        end: id that a decoder embeds at, after the cut. special: ids that count as an end of their own.
    """

    def __init__(
        self,
        file: Path,
        *,
        max_tokens: int,
        pad: int,
        full: bool = False,
        end: int | None = None,
        special: Sequence[int] = (),
    ) -> None:
        from tokenizers import Tokenizer

        read_json(file)  # of a file that is damaged or not there, the library raises a plain Exception
        self.tokenizer: Any = Tokenizer.from_file(str(file))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens - (end is not None))
        self.max_tokens, self.pad, self.full, self.end, self.special = max_tokens, pad, full, end, set(special)

    def __call__(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """Return ids [B, T] and mask [B, T], T at least `SHORTEST`."""
        with TOKENIZING:
            rows = [self._ended(one.ids) for one in self.tokenizer.encode_batch(list(texts))]
        longest = self.max_tokens if self.full else max(SHORTEST, *map(len, rows))
        ids = np.full((len(rows), longest), self.pad, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : max(1, len(row))] = 1  # a text without a token would attend to nothing
        return ids, mask

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Say of B texts which are read to their end."""
        with TOKENIZING:
            return [not one.overflowing for one in self.tokenizer.encode_batch(list(texts))]

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if self.end is None or (ids and ids[-1] in self.special) else [*ids, self.end]


def prepared_by(
    folder: Path, *, by: str, fit: str, shape: Sequence[int], dtype: str, steps: dict[str, Any] | None = None
) -> Callable[[Image], Array]:
    """Return what turns a picture into pixels of `shape` and `dtype`.

    by: `letterbox`, `steps`, or `processor` for that of Hugging Face in `folder`, which needs transformers. fit: how a
    picture becomes square for the last two.
    """
    if by == "letterbox":
        return lambda picture: np.array(letterbox(picture, shape[-1])).transpose(2, 0, 1)
    if by == "steps":
        made: Callable[[Image], Array] = Steps(**(steps or {}))
    elif by == "processor":
        need("transformers")
        processor = read_processor(str(folder))
        made = lambda picture: np.asarray(processor(images=picture)["pixel_values"][0], dtype=dtype)  # noqa: E731
    else:
        raise ValueError(f"pictures are prepared by {by!r}")
    return lambda picture: made(letterbox(picture) if fit == "pad" else without_ends(as_rgb(picture)))


def exported_version(folder: Path) -> str:
    """Return the version of the model that was exported into a folder.

    Raises:
        TgqError: if the folder is no exported model, is of another format or damaged.
    """
    return str(_about(folder).get("model_version"))


def _about(folder: Path) -> dict[str, Any]:
    """Read what says how an exported model is run."""
    if not (folder / "onnx.json").is_file():
        raise TgqError(f"{folder} is no exported model: no onnx.json; write one with `tgq export MODEL --to FOLDER`")
    try:
        about: dict[str, Any] = read_json(folder / "onnx.json")
    except ValueError as error:
        raise TgqError(f"{folder / 'onnx.json'} is no JSON: {error}; export the model again") from error
    if not isinstance(about, dict) or "format" not in about:
        raise TgqError(f"{folder / 'onnx.json'} does not describe an exported model; export the model again")
    if about["format"] != FORMAT:
        raise TgqError(f"{folder} has format {about['format']}, this version runs {FORMAT}; export the model again")
    return about


def faults_of(runtime: Any) -> tuple[type[Exception], ...]:
    """Return what a damaged folder may raise: the errors of the runtime share no class of their own."""
    known = vars(runtime.capi.onnxruntime_pybind11_state).values()
    own = [one for one in known if isinstance(one, type) and issubclass(one, Exception)]
    return (OSError, KeyError, TypeError, ValueError, RuntimeError, *own)
