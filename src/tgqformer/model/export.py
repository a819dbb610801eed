"""Write a model for ONNX Runtime, from pixels and token ids to the embedding; it is checked before it counts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.config import plain
from tgqformer.encoders.efficientnet import SIZE, EfficientNetEncoder
from tgqformer.errors import TgqError
from tgqformer.files import write_json
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.graph import WholeGraph
from tgqformer.model.language import HuggingFaceLM, end_ids
from tgqformer.model.onnx import FORMAT, KIND, OnnxEmbedder, faults_of
from tgqformer.model.version import version_of
from tgqformer.packages import need
from tgqformer.pixels import Steps
from tgqformer.stages import atomic_folder, mark
from tgqformer.topk import best_of
from tgqformer.types import Floats, Vectors
from tgqformer.version import __version__

OPSET = 20
CLOSE = 1e-3
"""An exported model whose vectors differ by more than this in any number is refused."""
NAMES = ("pixels", "has_picture", "ids", "mask", "has_text", "prompt_ids", "prompt_mask")
BATCH, LONG, PROMPT = 3, 7, 11  # of the example: primes, so that no other size of the model is taken for one of them


@dataclass(frozen=True)
class Checked:
    """How an exported model compares with the one it was made of, on some items.

    items: how many. difference: the largest of any number of a vector, of the form in float32. overlap: share of the
    ten nearest among these items that stay, of the form that was written; None with fewer than 20 items.
    """

    items: int
    difference: float
    overlap: float | None


def export_onnx(
    model: ItemEmbedder, to: Path, items: Sequence[Item], root: Path | None, *, int8: bool, overwrite: bool = False
) -> Checked:
    """Write a model as a folder that `OnnxEmbedder` runs.

    Args:
        model: with encoders. to: the folder. items, root: what it is checked on. int8: whether the weights of matrix
            products are kept in 8 bits. overwrite: replace an exported model that stands there.

    Raises:
        TgqError: for a model that cannot be exported, or whose exported form differs by more than `CLOSE`; then nothing
            is written.
    """
    for module in ("onnx", "onnxscript"):
        need(module)
    with atomic_folder(to, KIND, overwrite=overwrite) as folder:
        graph = WholeGraph(model).eval()
        about = _describe(model, folder)
        pixels = about["pixels"]
        _trace(graph, [*pixels["shape"]], pixels["dtype"], folder / "model.onnx")
        write_json(folder / "onnx.json", about)
        wanted, found = model.encode(items, root=root), _encoded(folder, items, root)
        difference = float(np.abs(found - wanted).max())
        if not difference <= CLOSE:
            raise TgqError(f"the exported model differs by {difference:.2g} from {model.source}; nothing is written")
        if int8:
            _quantize(folder)
            found = _encoded(folder, items, root)
        checked = Checked(len(items), difference, overlap_of(wanted, found) if len(items) >= 20 else None)
        write_json(folder / "onnx.json", about | {"int8": int8, "checked": asdict(checked)})
        mark(folder, KIND, version=model.version, content=version_of(folder))
    return checked


def _encoded(folder: Path, items: Sequence[Item], root: Path | None) -> Vectors:
    """Embed items [n, d] by the exported form; raises TgqError where the runtime cannot."""
    try:
        return OnnxEmbedder(folder).encode(items, root=root)
    except faults_of(need("onnxruntime")) as error:
        why = str(error).split("\n", 1)[0]
        raise TgqError(f"ONNX Runtime cannot run the exported form of this model: {why}") from error


def overlap_of(one: Vectors, other: Vectors, k: int = 10) -> float:
    """Return which share of the k nearest of every row [n, d] stay when the vectors are others."""
    kept = [np.intersect1d(a, b).size for a, b in zip(_nearest(one, k), _nearest(other, k), strict=True)]
    return float(np.mean(kept)) / k


def _nearest(vectors: Vectors, k: int) -> Any:
    scores: Floats = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    return best_of(scores, k)[0]


def made_up_items() -> list[Item]:
    """Return items to check a model on where there is no catalogue: with and without picture and text."""
    rng = np.random.default_rng(0)
    drawn = [Image.fromarray(rng.integers(0, 256, (80, 60, 3), dtype=np.uint8)) for _ in range(3)]
    words = ("Red canvas shoe", "Kettle, 1.7 l, brushed steel, with a long cord", "", "Blue wool scarf for children")
    return [Item(id=str(n), title=words[n % 4], picture=drawn[n % 3] if n % 3 else None) for n in range(8)]


def seen_items(catalog: Catalog, count: int) -> list[Item]:
    """Return the first items of a catalogue to check a model on, without pictures that can no longer be read."""
    return [
        replace(item, pictures=tuple(one for one in item.pictures if _is_there(one, catalog.root)))
        for item in catalog.items(0, min(count, len(catalog)))
    ]


def _is_there(picture: Picture, root: Path | None) -> bool:
    try:
        read_picture(picture, root)
    except PictureError:
        return False
    return True


def _describe(model: ItemEmbedder, folder: Path) -> dict[str, Any]:
    """Write tokenizers, image processor and prompt; return what `onnx.json` says."""
    encoders, language = model.encoders, model.language
    assert encoders is not None
    write_json(folder / "prompt.json", plain(encoders.prompt))
    text: Any = encoders.text
    backend(text.tokenizer).save(str(folder / "text.json"))
    full = bool(text._full_length)
    about: dict[str, Any] = {
        "format": FORMAT,
        "tgqformer": __version__,
        "model_version": model.version,
        "dim": model.dim,
        "text": {"max_tokens": text.max_tokens, "pad": text.tokenizer.pad_token_id or 0, "full": full},
        "language": None,
    }
    if isinstance(language, HuggingFaceLM):
        tokenizer = language.tokenizer
        backend(tokenizer).save(str(folder / "language.json"))
        special = sorted(end_ids(tokenizer))
        about["language"] = {"max_tokens": language.max_tokens, "pad": tokenizer.pad_token_id or 0} | (
            {} if language.end_id is None else {"end": language.end_id, "special": special}
        )
    vision: Any = encoders.vision
    if isinstance(vision, EfficientNetEncoder):
        about["pixels"] = {"by": "letterbox", "fit": vision.fit, "shape": [3, SIZE, SIZE], "dtype": "uint8"}
    else:
        shape = list(vision.preprocess(Image.new("RGB", (64, 64))).shape)
        about["pixels"] = {"by": "processor", "fit": vision.fit, "shape": shape, "dtype": "float32"}
        if (steps := Steps.of(vision.processor)) is not None:
            about["pixels"] |= {"by": "steps", "steps": asdict(steps)}
        else:
            vision.processor.save_pretrained(folder / "vision")
    return about


def backend(tokenizer: Any) -> Any:
    """Return the tokenizer of the library `tokenizers` in one of transformers.

    Raises:
        TgqError: where there is none.
    """
    found = getattr(tokenizer, "backend_tokenizer", None)
    if found is None:
        raise TgqError(f"the tokenizer {type(tokenizer).__name__} has no fast form, so it cannot be exported")
    return found


def _trace(graph: WholeGraph, shape: list[int], dtype: str, to: Path) -> None:
    """Write the graph."""
    batch, long, prompt = (torch.export.Dim(name, min=1, max=1 << 16) for name in ("batch", "tokens", "prompt"))
    seen, told = torch.ones(BATCH, dtype=torch.bool), torch.ones(BATCH, dtype=torch.bool)  # one twice is one input
    texts = [torch.ones(BATCH, length, dtype=torch.long) for length in (LONG, LONG, PROMPT, PROMPT)]
    example = (torch.zeros(BATCH, *shape, dtype=getattr(torch, dtype)), seen, *texts[:2], told, *texts[2:])
    sizes = ({0: batch}, {0: batch}, *[{0: batch, 1: long}] * 2, {0: batch}, *[{0: batch, 1: prompt}] * 2)
    try:
        with torch.no_grad(), _silent():
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                dynamic_shapes=sizes,
                opset_version=OPSET,
                verbose=False,
                optimize=False,
                input_names=NAMES,
                output_names=["vectors"],
            )
            assert program is not None
            program.save(str(to))
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        why = str(error.__cause__ or error).split("\n", 1)[0]
        raise TgqError(f"PyTorch cannot export this model: {why}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep off the screen what the exporter says of torchvision and the quantiser of preparation."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger()]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _not_of_weights(graph: Path) -> list[str]:
    """Name the products with a constant that is no matrix, such as the keys of queries that are the same for all items.

    Each of its channels would get a scale of its own, which the runtime refuses.
    """
    found = need("onnx").load(graph).graph
    shapes = {one.name: len(one.dims) for one in found.initializer}
    return [one.name for one in found.node if one.op_type == "MatMul" and shapes.get(one.input[1], 2) != 2]


def _quantize(folder: Path) -> None:
    """Keep the weights of matrix products and the tables of words in 8 bits."""
    runtime, tool = need("onnxruntime"), need("onnxruntime.quantization")
    whole, folded = folder / "model.onnx", folder / "folded.onnx"
    session = runtime.SessionOptions()
    session.log_severity_level = 3
    session.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session.optimized_model_filepath = str(folded)  # weights that are turned first are not found otherwise
    runtime.InferenceSession(str(whole), session, providers=["CPUExecutionProvider"])
    with _silent():
        # seven bits of range: the 16-bit sums of processors without VNNI overflow at eight
        options = {"per_channel": True, "reduce_range": True, "weight_type": tool.QuantType.QInt8}
        kinds = ["MatMul", "Gemm", "Gather"]
        tool.quantize_dynamic(
            folded, whole, op_types_to_quantize=kinds, nodes_to_exclude=_not_of_weights(folded), **options
        )
    folded.unlink()
