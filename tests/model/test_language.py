"""Language models on tiny random ones, each against the plain transformers call."""

from __future__ import annotations

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    ElectraConfig,
    GraniteConfig,
    ModernBertConfig,
    PhiConfig,
    PretrainedConfig,
)

from tgqformer import packages
from tgqformer.encoders.huggingface import HuggingFaceText
from tgqformer.errors import TgqError
from tgqformer.model import packaged
from tgqformer.model.language import HuggingFaceLM, LoRA, check_language, load_language, make_language
from tgqformer.model.split import layers_of

torch.set_num_threads(1)
KINDS = ["bert", "roberta", "llama", "qwen"]
DECODERS = ("llama", "qwen")
TEXTS = ["red shirt of a shoe", "bag", "blue"]
PLAIN = LoRA(rank=0)


def read(lm: HuggingFaceLM, texts: list[str], visual: torch.Tensor | None = None, mask: torch.Tensor | None = None):
    """Embed texts, after visual tokens [B, K, H] where there are some."""
    states = lm.encode(texts)
    visual = torch.zeros(len(texts), 0, lm.width) if visual is None else visual
    mask = torch.ones(visual.shape[:2], dtype=torch.bool) if mask is None else mask
    return lm(visual, mask, states.tokens, states.mask)


def plainly(folder: Path, text: str, layers: int | None) -> torch.Tensor:
    """What transformers itself makes of one text."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    decoder = hasattr(model, "layers")
    stack = model.layers if decoder else model.encoder.layer
    del stack[layers or len(stack) :]
    model.config.num_hidden_layers = len(stack)
    ids = tokenizer(text + ("</s>" if decoder else ""), return_tensors="pt")
    with torch.no_grad():
        out = model.eval()(input_ids=ids["input_ids"]).last_hidden_state[0]
    return out[-1] if decoder else out.mean(0)


@pytest.mark.parametrize("layers", [None, 2])
@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_prefix_and_body_together_are_the_plain_model(tiny_model, kind, frozen, layers):
    folder = tiny_model(kind)
    lm = make_language(f"hf:{folder}", lora=PLAIN, frozen_layers=frozen, layers=layers).eval()
    assert lm.pooling == ("last" if kind in DECODERS else "mean") and lm.width == 16
    with torch.no_grad():
        found = read(lm, TEXTS)  # padded to the longest
        for row, text in zip(found, TEXTS, strict=True):
            assert torch.allclose(row, plainly(folder, text, layers), atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_masked_visual_tokens_and_padding_change_nothing(tiny_model, kind, frozen):
    lm = make_language(f"hf:{tiny_model(kind)}", lora=PLAIN, frozen_layers=frozen).eval()
    visual = torch.randn(3, 2, 16)
    with torch.no_grad():
        text_only, seen = read(lm, TEXTS), read(lm, TEXTS, visual)
        hidden = read(lm, TEXTS, 100 * visual, torch.zeros(3, 2, dtype=torch.bool))
        some = read(lm, TEXTS, visual, torch.tensor([[True, True], [False, False], [True, True]]))
        alone = read(lm, TEXTS[1:2], visual[1:2])
    assert torch.allclose(hidden, text_only, atol=1e-5)
    assert torch.allclose(alone[0], seen[1], atol=1e-5)
    assert torch.allclose(some, torch.stack([seen[0], text_only[1], seen[2]]), atol=1e-5)
    assert not torch.allclose(seen, text_only, atol=1e-2)


def written(tiny_model, folder: Path, config: PretrainedConfig) -> str:
    """Write a tiny random model of this configuration with the words of the others; return its name."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model("llama")).save_pretrained(folder)
    return f"hf:{folder}"


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
         "vocab_size": 18, "max_position_embeddings": 64}  # fmt: skip
MARKS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 5}


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_bidirectional_model_of_another_build_is_no_decoder(tiny_model, tmp_path, frozen):
    config = ModernBertConfig(**SMALL, **MARKS, cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=2)
    lm = make_language(written(tiny_model, tmp_path, config), lora=LoRA(rank=2), frozen_layers=frozen).eval()
    assert lm.pooling == "mean"
    plain = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(tmp_path)("red shirt of a shoe", return_tensors="pt")["input_ids"]
    visual, states = torch.randn(1, 3, 16), [lm.encode([text]) for text in ("red shirt of a shoe", "blue")]
    with torch.no_grad():
        wanted = plain(input_ids=ids).last_hidden_state[0].mean(0)
        assert torch.allclose(read(lm, ["red shirt of a shoe"])[0], wanted, atol=1e-5)
        pictures = [
            lm.read_prefixed(visual, torch.ones(1, dtype=torch.bool), 2, one.tokens, one.mask)[1] for one in states
        ]
    assert torch.allclose(*pictures, atol=1e-5)  # NoteLLM-2's word for the picture has not seen the text
    lm.save(tmp_path / "saved")
    assert torch.allclose(read(load_language(tmp_path / "saved").eval(), TEXTS), read(lm, TEXTS), atol=1e-5)


def test_a_model_that_is_not_the_sum_of_its_halves_is_refused(tiny_model, tmp_path):
    phi = written(tiny_model, tmp_path / "phi", PhiConfig(**SMALL))
    whole, parted = (make_language(phi, lora=PLAIN, frozen_layers=frozen).eval() for frozen in (0, 1))
    with torch.no_grad():
        assert torch.allclose(read(parted, TEXTS), read(whole, TEXTS), atol=1e-5)
    granite = GraniteConfig(**SMALL, num_key_value_heads=1, embedding_multiplier=3.0)  # it scales what comes in
    name = written(tiny_model, tmp_path / "granite", granite)
    make_language(name, lora=PLAIN)
    with pytest.raises(TgqError, match="frozen_layers is 1, but a model of type granite does not give the same"):
        make_language(name, lora=PLAIN, frozen_layers=1)
    narrow = written(tiny_model, tmp_path / "electra", ElectraConfig(**SMALL, embedding_size=8))
    with pytest.raises(TgqError, match="type electra whose words are not as wide as its states"):
        make_language(narrow, lora=PLAIN)


BERT_LINEAR = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
               "intermediate.dense", "output.dense"]  # fmt: skip
LLAMA_LINEAR = [*(f"self_attn.{name}_proj" for name in "qkvo"), "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


@pytest.mark.parametrize(
    ("kind", "path", "linear"), [("bert", "encoder.layer", BERT_LINEAR), ("llama", "layers", LLAMA_LINEAR)]
)
@pytest.mark.parametrize("frozen", [0, 1])
def test_exactly_the_adapters_of_the_body_are_trained(tiny_model, kind, path, linear, frozen):
    lm = make_language(f"hf:{tiny_model(kind)}", lora=LoRA(rank=2), frozen_layers=frozen)
    trained = {name for name, weight in lm.named_parameters() if weight.requires_grad}
    assert trained == {
        f"body.base_model.model.{path}.{layer}.{name}.lora_{side}.default.weight"
        for layer in range(3 - frozen)
        for name in linear
        for side in "AB"
    }
    read(lm.train(), TEXTS, torch.randn(3, 2, 16)).square().sum().backward()
    without = [name for name, weight in lm.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []  # each of them is read: DDP would stop at one that is not


def test_rank_zero_trains_nothing(tiny_model):
    lm = make_language(f"hf:{tiny_model('bert')}", lora=PLAIN)
    assert not any(weight.requires_grad for weight in lm.parameters())


def test_the_prefix_never_drops_out(tiny_model):
    lm = make_language(f"hf:{tiny_model('bert')}", lora=LoRA(rank=2), frozen_layers=2).train()
    assert torch.equal(lm.encode(TEXTS).tokens, lm.encode(TEXTS).tokens)
    assert lm.body.training and not lm.prefix.training


def test_merged_reads_the_same_and_leaves_each_weight_as_it_was(tiny_model):
    torch.manual_seed(0)
    lm = make_language(f"hf:{tiny_model('llama')}", lora=LoRA(rank=2), frozen_layers=1).eval()
    for name, weight in lm.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    weights = {name: weight.detach().clone() for name, weight in lm.named_parameters()}
    visual = torch.randn(3, 2, 16)
    with torch.no_grad():
        apart = read(lm, TEXTS, visual)
        with lm.merged(), torch.inference_mode():
            inside = {name for name, weight in lm.named_parameters() if not torch.equal(weight, weights[name])}
            assert len(inside) == 2 * len(LLAMA_LINEAR)  # two layers of the body
            assert torch.allclose(read(lm, TEXTS, visual), apart, atol=1e-5)
        with pytest.raises(ZeroDivisionError), lm.merged():
            raise ZeroDivisionError
        assert torch.equal(read(lm, TEXTS, visual), apart)
    assert all(torch.equal(weight, weights[name]) for name, weight in lm.named_parameters())
    read(lm.train(), TEXTS, visual).sum().backward()  # and it still learns
    assert all(weight.grad is not None for name, weight in lm.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize("layers", [None, 2])
@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_has_the_adapters_merged_in(tiny_model, tmp_path, capfd, kind, frozen, layers):
    torch.manual_seed(0)
    lm = make_language(
        f"hf:{tiny_model(kind)}", lora=LoRA(rank=2, dropout=0.1), frozen_layers=frozen, layers=layers, max_tokens=9
    )
    optimizer = torch.optim.AdamW([weight for weight in lm.parameters() if weight.requires_grad], lr=0.05)
    visual, before = torch.randn(3, 2, 16), read(lm.eval(), TEXTS).detach()
    for _ in range(3):
        optimizer.zero_grad()
        read(lm.train(), TEXTS, visual).square().mean().backward()
        optimizer.step()
    lm.eval().save(tmp_path / "lm")
    assert not capfd.readouterr().err  # transformers has progress bars of its own
    loaded = load_language(tmp_path / "lm").eval()
    with torch.no_grad():
        trained = read(lm, TEXTS, visual)
        assert not torch.allclose(read(lm, TEXTS), before, atol=1e-2)
        assert torch.allclose(read(loaded, TEXTS, visual), trained, atol=1e-5)
        assert torch.allclose(read(lm, TEXTS, visual), trained, atol=0)  # saving leaves the model alone
    kept = ("fingerprint", "pooling", "max_tokens", "frozen_layers")
    assert [getattr(loaded, name) for name in kept] == [getattr(lm, name) for name in kept]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_text_is_finite(tiny_model, kind):
    lm = make_language(f"hf:{tiny_model(kind)}", lora=PLAIN, pooling="mean" if kind == "bert" else "last").eval()
    for texts in ([""], ["", "red shirt"]):
        states = lm.encode(texts)
        assert states.mask[0].any() and states.tokens.isfinite().all()
        assert read(lm, texts).isfinite().all()


def test_a_model_that_makes_nothing_of_an_empty_text_says_so(tiny_model):
    lm = make_language(f"hf:{tiny_model('roberta')}", lora=PLAIN, pooling="mean")
    for texts in ([""], ["", "red shirt"]):
        with pytest.raises(TgqError, match="no token for an empty text"):
            lm.encode(texts)


@pytest.mark.parametrize("kind", DECODERS)
def test_the_end_token_survives_the_cut(tiny_model, kind):
    lm = make_language(f"hf:{tiny_model(kind)}", lora=PLAIN, max_tokens=4).eval()
    ids, mask = lm._tokenize(["red shirt of a shoe", "red"])
    assert ids.tolist() == [[6, 9, 13, 5], [6, 5, 0, 0]] and mask.sum(1).tolist() == [4, 2]
    assert torch.allclose(read(lm, ["red shirt of a shoe"]), read(lm, ["red shirt of"]), atol=1e-6)


def test_an_end_token_of_the_tokenizer_itself_is_not_doubled(tiny_model):
    from tokenizers.processors import TemplateProcessing

    lm = make_language(f"hf:{tiny_model('qwen')}", lora=PLAIN, max_tokens=4)
    lm.tokenizer = copy.deepcopy(lm.tokenizer)
    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    lm.tokenizer.add_special_tokens({"sep_token": "[SEP]"})
    assert lm._tokenize(["red"])[0].tolist() == [[6, 3]]


def test_an_unknown_word_is_no_end(tiny_model):
    lm = make_language(f"hf:{tiny_model('llama')}", lora=PLAIN)
    assert lm._tokenize(["red tartan"])[0].tolist() == [[6, 1, 5]]


def test_texts_are_cut_where_the_positions_end(tiny_model):
    for kind, most in (("bert", 40), ("roberta", 38)):
        lm = make_language(f"hf:{tiny_model(kind)}", lora=PLAIN, max_tokens=512, frozen_layers=1)
        assert lm.encode(["red " * 100]).tokens.shape[1] == lm.max_tokens == most
    lm = make_language(f"hf:{tiny_model('bert')}", lora=PLAIN, max_tokens=512)
    with pytest.raises(TgqError, match="2 visual and 40 text tokens are more than the 40 positions"):
        read(lm, ["red " * 100], torch.zeros(1, 2, 16))


def test_fingerprints_tell_apart_what_changes_the_states(tiny_model, tmp_path):
    folder = f"hf:{tiny_model('llama')}"
    options = [{}, {"frozen_layers": 1}, {"max_tokens": 8}, {"pooling": "mean"}, {"layers": 1}]
    found = [make_language(folder, lora=PLAIN, **option).fingerprint for option in options]
    assert len(set(found)) == 4 and found[0] == found[4]  # layers behind the prefix do not change what it gives
    assert make_language(folder, lora=LoRA(rank=4)).fingerprint == found[0]
    shutil.copytree(tiny_model("llama"), tmp_path, dirs_exist_ok=True)
    rules = json.loads((tmp_path / "tokenizer.json").read_text()) | {"normalizer": {"type": "Lowercase"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))  # the same words and weights
    assert make_language(f"hf:{tmp_path}", lora=PLAIN).fingerprint != found[0]


def test_threads_may_share_a_model(tiny_model):
    lm = make_language(f"hf:{tiny_model('bert')}", lora=PLAIN, frozen_layers=1).eval()
    texts = [" ".join(["red", "shirt", "of"][: 1 + n % 3] * (1 + n % 5)) for n in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: lm.encode([text]).tokens, texts))
    assert all(torch.equal(one, lm.encode([text]).tokens) for one, text in zip(found, texts, strict=True))


def test_visual_tokens_start_at_the_scale_of_the_text(tiny_model):
    lm = make_language(f"hf:{tiny_model('bert')}", lora=PLAIN, frozen_layers=1)
    states = lm.encode(["a shirt of acme"]).tokens[0]
    assert lm.state_scale() == pytest.approx(float(states.square().mean().sqrt()), rel=0.5)


@pytest.mark.parametrize("frozen", [-1, 3])
def test_a_body_needs_a_layer(tiny_model, frozen):
    with pytest.raises(TgqError, match="the model has 3 layers; leave at least one"):
        make_language(f"hf:{tiny_model('bert')}", lora=PLAIN, frozen_layers=frozen)


def test_what_cannot_be_loaded_is_named(tiny_model, tmp_path):
    with pytest.raises(TgqError, match="'minlm' is not known; did you mean 'minilm'"):
        check_language("minlm")
    with pytest.raises(TgqError, match="'gpt5' is not known; choose from minilm, smollm2, hf:"):
        make_language("gpt5", lora=PLAIN)
    with pytest.raises(TgqError, match="cannot be read"):
        make_language(f"hf:{tmp_path}", lora=PLAIN)
    with pytest.raises(TgqError, match="cannot be read"):
        make_language(f"hf:{tiny_model('vit')}", lora=PLAIN)


def test_weights_that_are_missing_are_not_made_up(tiny_model, tmp_path):
    model = AutoModel.from_pretrained(tiny_model("llama"))
    state = {key: value for key, value in model.state_dict().items() if "layers.1.mlp" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    AutoTokenizer.from_pretrained(tiny_model("llama")).save_pretrained(tmp_path)
    with pytest.raises(TgqError, match=r"lack weights, first 'layers\.1\.mlp\.down_proj"):
        make_language(f"hf:{tmp_path}", lora=PLAIN)


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(TgqError, match=r"'no-such' is not installed; run: pip install"):
        packages.package_folder("no_such_module_at_all", "no-such")
    monkeypatch.setenv("TGQ_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "package_folder", lambda *_: tmp_path)
    with pytest.raises(TgqError, match=r"no \.gguf file"):
        packaged.smollm2_folder()


def test_minilm_is_found_and_read():
    lm = make_language("minilm", lora=PLAIN).eval()
    assert (lm.width, lm.frozen_layers, lm.pooling) == (384, 4, "mean")
    short = make_language("minilm", lora=PLAIN, layers=2)  # a layer is left to learn
    assert (short.frozen_layers, len(layers_of(short.body))) == (1, 1)
    with torch.no_grad():
        a, b, c = torch.nn.functional.normalize(read(lm, ["red running shoes", "crimson sneakers", "tax law"]), dim=-1)
    assert a @ b > a @ c + 0.3


@pytest.mark.slow
def test_smollm2_is_converted_once_and_embeds(tmp_path, monkeypatch):
    monkeypatch.setenv("TGQ_CACHE", str(tmp_path))
    lm = make_language("smollm2", lora=PLAIN, layers=4, max_tokens=8).eval()
    assert (lm.width, lm.pooling, lm.frozen_layers, len(lm.body.layers)) == (576, "last", 0, 4)
    folder = tmp_path / "smollm2-135m"
    assert packaged.smollm2_folder() == folder and not list(tmp_path.glob(".*"))
    assert "quantization_config" not in (folder / "config.json").read_text() and list(folder.glob("*.safetensors"))
    before = folder.stat().st_mtime_ns
    with torch.no_grad():
        found = read(make_language("smollm2", lora=PLAIN, layers=4, max_tokens=8).eval(), ["red shoes", ""])
        assert torch.allclose(found, read(lm, ["red shoes", ""]), atol=1e-5) and found.isfinite().all()
    assert folder.stat().st_mtime_ns == before  # not made again


def test_a_prefix_that_is_the_text_encoder_s_beginning_is_read_once(tiny_model):
    folder = str(tiny_model("bert"))
    text = HuggingFaceText.make(folder, max_tokens=12, device="cpu")
    language = make_language(f"hf:{folder}", lora=LoRA(rank=0), frozen_layers=1)
    texts = ["a red shirt", "a blue shoe of acme"]
    assert language.begins(text)
    read, states = text.encode_with_layer(texts, 1)
    alone, prefix = text.encode(texts), language.encode(texts)
    assert torch.equal(read.tokens, alone.tokens) and torch.equal(read.vector, alone.vector)
    assert torch.equal(read.mask, prefix.mask)
    assert torch.allclose(states[read.mask], prefix.tokens[prefix.mask], atol=1e-5)
    assert text.encode_with_layer(["", "a shirt"], 1) is None
    assert text.encode_with_layer(["a red shirt of acme " * 9], 1) is None


def test_another_text_encoder_is_no_beginning(tiny_model):
    language = make_language(f"hf:{tiny_model('bert')}", lora=LoRA(rank=0), frozen_layers=1)
    text = HuggingFaceText.make(str(tiny_model("bert")), max_tokens=12, device="cpu")
    with torch.no_grad():
        text.tower.embeddings.word_embeddings.weight[0] += 1
    assert not language.begins(text)
    longer = HuggingFaceText.make(str(tiny_model("bert")), device="cpu")
    longer.max_tokens = language.max_tokens + 1
    assert not language.begins(longer)
