"""Tiny random towers written to disk, each against the plain transformers call."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
    SwinConfig,
    SwinModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tgqformer.encoders import load_text, load_vision, make_joint, make_text, make_vision
from tgqformer.encoders.base import VisualFeatures
from tgqformer.encoders.huggingface import check_pretrained
from tgqformer.encoders.joint import load_space, save_space
from tgqformer.errors import TgqError
from tgqformer.model.language import LoRA, make_language
from tgqformer.pixels import letterbox, read_processor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "shirt", "shoe", "a", "of", "衬", "衫"]
TEXTS = ["red shirt", "a shoe", "blue shirt of a shoe", "衬衫"]
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 16, "vocab_size": len(WORDS)}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SQUARE = {"size": {"height": 32, "width": 32}}
SHORTEST = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
EXACT = {"precision": "float32", "device": "cpu"}


def build(kind: str) -> tuple[object, object]:
    """Give a tiny random model and its image processor (None for a text model)."""
    if kind == "clip":
        config = CLIPConfig(text_config={**TEXT, **SPECIAL}, vision_config=VISION, projection_dim=10)
        return CLIPModel(config), CLIPImageProcessorPil(**SHORTEST)
    if kind == "chinese-clip":
        config = ChineseCLIPConfig(text_config={**TEXT, "pad_token_id": 0}, vision_config=VISION, projection_dim=10)
        return ChineseCLIPModel(config), ChineseCLIPImageProcessorPil(**SQUARE, do_center_crop=False)
    if kind == "siglip":
        text = {**TEXT, **SPECIAL, "hidden_size": 16, "projection_size": 16}
        return SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)), SiglipImageProcessorPil(**SQUARE)
    if kind == "dinov2":
        return Dinov2Model(Dinov2Config(**VISION)), BitImageProcessorPil(**SHORTEST)
    if kind == "registers":
        config = Dinov2WithRegistersConfig(**VISION, num_register_tokens=4)
        return Dinov2WithRegistersModel(config), BitImageProcessorPil(**SHORTEST)
    if kind == "vit":
        return ViTModel(ViTConfig(**VISION)), ViTImageProcessorPil(**SQUARE)
    return BertModel(BertConfig(**TEXT)), None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Write each tiny model once; give its folder."""
    folders: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in folders:
            torch.manual_seed(len(folders))
            folder = tmp_path_factory.mktemp(kind)
            model, processor = build(kind)
            with torch.no_grad():  # larger weights than the defaults, so that differences show
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.15)
            model.save_pretrained(folder)
            if processor is not None:
                processor.save_pretrained(folder)
            BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
            folders[kind] = folder
        return folders[kind]

    return save


@pytest.fixture(scope="module")
def squares() -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(3)]


def plain(folder: Path, squares: list[Image.Image], processor) -> tuple[object, torch.Tensor]:
    """Give the plain model and the pixels of its own processor."""
    pixels = torch.as_tensor(np.stack(processor(images=squares)["pixel_values"]))
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), pixels


@pytest.mark.parametrize(
    ("kind", "prefix"), [("clip", 1), ("chinese-clip", 1), ("siglip", 0), ("dinov2", 1), ("registers", 5), ("vit", 1)]
)
def test_tokens_are_the_patches_of_the_plain_call(saved, squares, kind, prefix):
    folder = saved(kind)
    encoder = make_vision(f"hf:{folder}", levels=[1, 2], **EXACT)
    model, pixels = plain(folder, squares, build(kind)[1])
    with torch.no_grad():
        out = getattr(model, "vision_model", model)(pixel_values=pixels, output_hidden_states=True)
    ours = encoder.encode(torch.stack([encoder.preprocess(square) for square in squares]))
    assert encoder.grid == (4, 4) and encoder.width == 48 and ours.tokens.shape == (3, 16, 48)
    layers = [out.last_hidden_state, out.hidden_states[1], out.hidden_states[2]]
    expected = torch.cat([layer[:, prefix:] for layer in layers], dim=-1)
    assert torch.allclose(ours.tokens, expected, atol=1e-5)
    vector = out.last_hidden_state[:, 0] if kind == "vit" else out.pooler_output
    assert torch.allclose(ours.vector, vector, atol=1e-5) and encoder.vector_width == 16


@pytest.mark.parametrize("kind", ["clip", "chinese-clip", "siglip", "dinov2", "registers", "vit"])
def test_a_saved_tower_gives_equal_outputs_and_fingerprint(saved, squares, tmp_path, kind):
    encoder = make_vision(f"hf:{saved(kind)}", levels=[-2], precision="bfloat16", device="cpu")
    encoder.save(tmp_path / "vision")
    loaded = load_vision(tmp_path / "vision", device="cpu")
    pixels = torch.stack([encoder.preprocess(square) for square in squares])
    assert torch.equal(pixels, torch.stack([loaded.preprocess(square) for square in squares]))
    assert loaded.fingerprint == encoder.fingerprint and loaded.name == encoder.name
    before, after = encoder.encode(pixels), loaded.encode(pixels)
    assert torch.equal(before.tokens, after.tokens) and torch.equal(before.vector, after.vector)


def test_fingerprints_tell_options_apart_and_not_folders(saved, tmp_path):
    folder = saved("clip")
    base = make_vision(f"hf:{folder}", **EXACT)
    (tmp_path / "moved").symlink_to(folder)
    assert make_vision(f"hf:{tmp_path / 'moved'}", **EXACT).fingerprint == base.fingerprint
    others = [
        make_vision(f"hf:{folder}", levels=[1], **EXACT),
        make_vision(f"hf:{folder}", fit="crop", **EXACT),
        make_vision(f"hf:{folder}", precision="bfloat16", device="cpu"),
        make_vision(f"hf:{saved('dinov2')}", **EXACT),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_a_strip_takes_no_more_memory_than_a_photo(saved, fit):
    strip = Image.new("RGB", (60_000, 4), (255, 255, 255))  # squared by its longer side: 10 GB
    encoder = make_vision(f"hf:{saved('clip')}", fit=fit, **EXACT)
    assert encoder.preprocess(strip).shape == encoder.preprocess(Image.new("RGB", (40, 40))).shape
    plain = encoder.preprocess(strip)
    strip.paste((0, 0, 0), (29_990, 0, 30_010, 4))
    assert torch.equal(encoder.preprocess(strip), plain) == (fit == "pad")  # the middle is what is cropped
    photo = letterbox(Image.new("RGB", (5000, 2500), (1, 2, 3)))
    assert photo.size == (5000, 5000) and letterbox(strip).size == (2048, 2048)


def test_padding_keeps_what_cropping_loses(saved):
    tall = Image.new("RGB", (20, 60), (255, 255, 255))
    tall.paste((0, 0, 0), (0, 0, 20, 10))  # the hat of the picture
    pad, crop = (make_vision(f"hf:{saved('clip')}", fit=fit, **EXACT) for fit in ("pad", "crop"))
    assert float(pad.preprocess(tall).min()) < -1 and float(crop.preprocess(tall).min()) > 0


@pytest.mark.parametrize("kind", ["bert", "clip", "chinese-clip", "siglip"])
def test_text_tokens_are_those_of_the_plain_call(saved, kind):
    folder = saved(kind)
    encoder = make_text(f"hf:{folder}", device="cpu")
    tokenizer = BertTokenizer.from_pretrained(folder)
    long = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    batch = tokenizer(TEXTS, return_tensors="pt", **long)
    mask = batch["attention_mask"].bool()
    inputs = {"input_ids": batch["input_ids"]} | ({} if kind == "siglip" else {"attention_mask": mask.long()})
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        out = getattr(model, "text_model", model)(**inputs)
    ours = encoder.encode(TEXTS)
    assert torch.equal(ours.mask, mask) and (ours.tokens[~mask] == 0).all()
    assert torch.allclose(ours.tokens[mask], out.last_hidden_state[mask], atol=1e-5)
    if kind == "bert":
        assert torch.allclose(ours.vector[0], out.last_hidden_state[0][mask[0]].mean(dim=0), atol=1e-5)
    else:
        pooled = out.last_hidden_state[:, 0] if kind == "chinese-clip" else out.pooler_output
        assert torch.allclose(ours.vector, pooled, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "clip", "chinese-clip", "siglip"])
def test_a_saved_text_tower_gives_equal_outputs_and_fingerprint(saved, tmp_path, kind):
    encoder = make_text(f"hf:{saved(kind)}", device="cpu", max_tokens=8)
    encoder.encode(TEXTS)  # a call sets padding and truncation in the tokenizer; the fingerprint must not see it
    encoder.save(tmp_path / "text")
    loaded = load_text(tmp_path / "text", device="cpu")
    assert loaded.fingerprint == encoder.fingerprint and loaded.max_tokens == encoder.max_tokens
    texts = [*TEXTS, "", "red " * 50]
    before, after = encoder.encode(texts), loaded.encode(texts)
    assert torch.equal(before.tokens, after.tokens) and torch.equal(before.vector, after.vector)
    assert torch.equal(before.mask, after.mask) and not before.mask[4].any()


def test_pooling_by_cls_and_its_fingerprint(saved):
    mean, cls = (make_text(f"hf:{saved('bert')}", device="cpu", pooling=pooling) for pooling in ("mean", "cls"))
    features = cls.encode(TEXTS)
    assert torch.equal(features.vector, features.tokens[:, 0]) and cls.fingerprint != mean.fingerprint


@pytest.mark.parametrize("kind", ["clip", "chinese-clip", "siglip"])
def test_the_joint_space_is_that_of_the_model(saved, squares, kind):
    folder = saved(kind)
    joint = make_joint(f"hf:{folder}", levels=(1,), **EXACT)
    model, pixels = plain(folder, squares, build(kind)[1])
    with torch.no_grad():
        pictures = model.get_image_features(pixel_values=pixels).pooler_output
        tokenizer = BertTokenizer.from_pretrained(folder)
        long = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
        batch = tokenizer(TEXTS, return_tensors="pt", **long)
        if kind == "siglip":
            batch = {"input_ids": batch["input_ids"]}
        texts = model.get_text_features(**{k: v for k, v in batch.items() if k != "token_type_ids"}).pooler_output
    features = joint.vision.encode(torch.stack([joint.vision.preprocess(square) for square in squares]))
    tokens, vector = joint.space.pictures(features)
    assert torch.allclose(vector, pictures, atol=1e-5)
    assert torch.allclose(joint.space.texts(joint.text.encode(TEXTS)), texts, atol=1e-5)
    assert tokens.shape == (3, 16, joint.space.width) and joint.space.width == (16 if kind == "siglip" else 10)


def test_a_clip_token_takes_the_way_of_cls(saved, squares):
    """The CLS state, given as a token, must land on the picture's own vector."""
    joint = make_joint(f"hf:{saved('clip')}", **EXACT)
    pixels = torch.stack([joint.vision.preprocess(square) for square in squares])
    with torch.no_grad():
        cls = joint.vision.tower(pixel_values=pixels).last_hidden_state[:, :1]
    features = joint.vision.encode(pixels)
    token, vector = joint.space.pictures(VisualFeatures(cls, features.vector))
    assert torch.allclose(token[:, 0], vector, atol=1e-5)


def test_a_siglip_token_takes_the_way_of_the_head(saved, squares):
    """A picture all of whose tokens are the same one has that token's place in the space."""
    joint = make_joint(f"hf:{saved('siglip')}", **EXACT)
    features = joint.vision.encode(torch.stack([joint.vision.preprocess(square) for square in squares]))
    same = features.tokens[:, 5:6].expand(-1, 16, -1)
    with torch.no_grad():
        head = joint.vision.tower.head(same)
    assert torch.allclose(joint.space.pictures(features)[0][:, 5], head, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_saved_space_is_equal(saved, squares, tmp_path, kind):
    joint = make_joint(f"hf:{saved(kind)}", **EXACT)
    save_space(joint.space, tmp_path / "joint")
    loaded = load_space(tmp_path / "joint", device="cpu")
    features = joint.vision.encode(torch.stack([joint.vision.preprocess(square) for square in squares]))
    for before, after in zip(joint.space.pictures(features), loaded.pictures(features), strict=True):
        assert torch.equal(before, after)
    texts = joint.text.encode(TEXTS)
    assert torch.equal(joint.space.texts(texts), loaded.texts(texts))


def test_what_is_no_joint_encoder_is_named(saved, tmp_path):
    with pytest.raises(TgqError, match="is no joint image-text encoder"):
        make_joint(f"hf:{saved('bert')}")
    (tmp_path / "config.json").write_text('{"type": "minilm"}')
    with pytest.raises(TgqError, match="is no joint space"):
        load_space(tmp_path)


def test_what_cannot_be_reached_says_what_to_do(saved):
    for make in (make_vision, make_text):
        with pytest.raises(TgqError, match=r"cannot be read: .*Give a folder with config\.json.*hf download no/such"):
            make("hf:no/such-model")
    with pytest.raises(TgqError, match="cannot be read"):
        read_processor(str(saved("bert")))


def test_a_folder_that_cannot_be_read_says_what_it_needs(tmp_path):
    with pytest.raises(TgqError, match=r"The folder needs config\.json") as caught:
        make_vision(f"hf:{tmp_path}")
    assert "hf download" not in str(caught.value)


def test_incomplete_weights_are_refused(saved, tmp_path):
    model, processor = build("dinov2")
    state = {key: value for key, value in model.state_dict().items() if ".1." not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    processor.save_pretrained(tmp_path)
    with pytest.raises(TgqError, match="lack weights, first"):
        make_vision(f"hf:{tmp_path}")


STRANGE = {
    "no patch tokens": (
        SwinModel,
        SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
        ViTImageProcessorPil(**SQUARE),
    ),
    "not read pictures of 32 x 32 pixels": (
        ViTModel,
        ViTConfig(**{**VISION, "image_size": 64}),
        ViTImageProcessorPil(**SQUARE),
    ),
    "pictures of several sizes; take fit: pad": (
        ViTModel,
        ViTConfig(**VISION),
        BitImageProcessorPil(size={"shortest_edge": 32}, do_center_crop=False),
    ),
}


@pytest.mark.parametrize("why", STRANGE)
def test_a_tower_whose_tokens_are_no_grid_is_refused(tmp_path, why):
    kind, config, processor = STRANGE[why]
    kind(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(TgqError, match=why):
        make_vision(f"hf:{tmp_path}", fit="crop", **EXACT)


def test_texts_that_a_model_does_not_pool_are_refused(saved, tmp_path):
    with pytest.raises(TgqError, match="pools no text itself; give pooling: mean or cls"):
        make_text(f"hf:{saved('bert')}", pooling="pooler")
    shutil.copytree(saved("bert"), tmp_path, dirs_exist_ok=True)
    T5Model(T5Config(vocab_size=13, d_model=8, d_ff=8, num_layers=1, num_heads=2, d_kv=4)).save_pretrained(tmp_path)
    with pytest.raises(TgqError, match=r"also writes \(t5\), so it is no text encoder"):
        make_text(f"hf:{tmp_path}")


@pytest.mark.parametrize("kind", ["bert", "clip", "chinese-clip"])
def test_a_model_without_its_tokenizer_is_refused(saved, tmp_path, kind):
    model, _ = build(kind)
    model.save_pretrained(tmp_path)  # and no tokenizer: transformers would make one that knows no word
    for read in (make_text, lambda name: check_pretrained(name.removeprefix("hf:"), pictures=False)):
        with pytest.raises(TgqError, match="has no words: its tokenizer files are missing"):
            read(f"hf:{tmp_path}")


def test_weights_that_are_cut_off_or_of_another_size_are_refused(saved, tmp_path):
    shutil.copytree(saved("bert"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    with pytest.raises(TgqError, match=r"cannot be read: .*mismatch"):
        make_text(f"hf:{tmp_path}")
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(TgqError, match=r"cannot be read: .*deserializing"):
        make_text(f"hf:{tmp_path}")


def test_wrong_options_are_named(saved):
    name = f"hf:{saved('clip')}"
    with pytest.raises(TgqError, match="no layer 9; levels may be 0 to 3"):
        make_vision(name, levels=[9])
    with pytest.raises(TgqError, match="fit: 'stretch' is not known; choose from pad, crop"):
        make_vision(name, fit="stretch")
    with pytest.raises(TgqError, match="pooling: 'max' is not known; choose from auto, mean, cls, pooler"):
        make_text(name, pooling="max")
    with pytest.raises(TgqError, match="did you mean 'levels'"):
        make_vision(name, level=[1])
    with pytest.raises(TgqError, match="'tokenizer' is not a key here; known are pooling"):
        make_text(name, tokenizer=None)


def test_a_processor_without_pil_form_is_named(saved, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "StrangeImageProcessor"}')
    with pytest.raises(TgqError, match="'StrangeImageProcessor', which has no PIL form"):
        read_processor(str(tmp_path))


@pytest.mark.parametrize("stored", ["CLIPFeatureExtractor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"])
def test_older_names_of_processors_are_understood(tmp_path, stored):
    (tmp_path / "preprocessor_config.json").write_text(f'{{"image_processor_type": "{stored}"}}')
    assert type(read_processor(str(tmp_path))) is CLIPImageProcessorPil


def test_nothing_imported_torchvision():
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize("added", [["tunic"], []])
def test_a_tokenizer_with_more_words_than_the_model_is_refused(saved, tmp_path, added):
    shutil.copytree(saved("bert"), tmp_path, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})  # which only texts with it would need
    tokenizer.save_pretrained(tmp_path)
    make = partial(make_language, lora=LoRA(rank=0))
    for read in (make_text, make, lambda name: check_pretrained(name.removeprefix("hf:"), pictures=False)):
        with pytest.raises(TgqError, match=r"there is no place for 'tunic'") if added else nullcontext():
            read(f"hf:{tmp_path}")
