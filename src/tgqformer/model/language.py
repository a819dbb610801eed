"""Language models: visual tokens and text -> one vector per item. Any Hugging Face text model, with LoRA by `peft`."""

from __future__ import annotations

import copy
import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils.rnn import pad_sequence

from tgqformer.encoders.base import TextEncoder, TextFeatures, quiet, save_tokenizer
from tgqformer.encoders.huggingface import HuggingFaceText, read_model, read_tokenizer, tokenizer_rules
from tgqformer.encoders.minilm import packaged_folder
from tgqformer.encoders.words import check_words, places_in
from tgqformer.errors import TgqError, nearest
from tgqformer.files import read_json, write_json
from tgqformer.model.packaged import smollm2_folder
from tgqformer.model.split import is_bidirectional, join, keep_layers, kept_apart, layers_of, positions_of, split
from tgqformer.parallel import TOKENIZING

Pooling = Literal["mean", "last"]
PACKAGED: dict[str, tuple[Callable[[], Path], int]] = {"minilm": (packaged_folder, 4), "smollm2": (smollm2_folder, 0)}
"""Language models that are installed with the package: their folder, and how many layers read the text alone."""
SPLIT_ERROR = 1e-3
"""How far the states of a model in two parts may be from those of the whole, as a share of their norm."""
HUB = "hf:<folder or hub id>"


class LanguageModel(nn.Module, ABC):
    """Reads K visual tokens and a text; gives one vector of width H. The base class of all language models."""

    width: int
    """H."""
    fingerprint: str
    """Names the frozen prefix, so that a text cache can keep what it gave."""

    __call__: Callable[..., Tensor]

    @abstractmethod
    def encode(self, texts: Sequence[str], *, end: bool = True) -> TextFeatures:
        """Run the frozen prefix over B texts: states [B, L, H], bool [B, L], and their mean [B, H].

        `end` False leaves away the end token that decoders embed at, for a text that does not end there.
        """

    @abstractmethod
    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Say of B texts which are read to their end."""

    @abstractmethod
    def forward(self, visual: Tensor, visual_mask: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Read visual [B, K, H] and states [B, L, H] with their masks; return the pooled state [B, H]."""

    @abstractmethod
    def read_prefixed(
        self, prefix: Tensor, has_prefix: Tensor, own: int, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read a prefix [B, R, H] and states [B, L, H]; return the pooled states of all and of the prefix, [B, H] each.

        The first `own` tokens of the prefix see each other alone, and the prefix is pooled over them; bool [B]
        `has_prefix` says which items have one (where False its pooled state means nothing).
        """

    @abstractmethod
    def state_scale(self) -> float:
        """Return the root mean square of the states of a text: the scale that visual tokens should start with."""

    @abstractmethod
    def merged(self) -> AbstractContextManager[None]:
        """Read with the adapters inside the weights they adapt: faster, and not for training.

        Afterwards the weights are what they were, bit for bit.
        """

    @abstractmethod
    def take(self, other: LanguageModel) -> None:
        """Take the weights of another one of the same make, what its adapters learned merged into them.

        Raises:
            TgqError: if it is of another make, or its text is read otherwise.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that `load_language(folder)` needs."""


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685) on all linear layers of the trained part; `rank` 0 trains nothing of it."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0


class HuggingFaceLM(LanguageModel):
    """A Hugging Face text model in two parts: a frozen prefix reads the text, a body reads text and picture.

    The first `frozen_layers` layers see the text alone, once (their output can be cached); the visual tokens join
    before the next layer. With 0 frozen layers the prefix is the word embedding.

    Args:
        model: an `AutoModel` without head. tokenizer: its tokenizer.
        pooling: `mean` over all tokens, visual ones included (bidirectional models), or `last` token (decoders).
        frozen_layers: how many layers read the text alone. layers: how many layers of the model are kept at all.
        max_tokens: texts are cut here (or where the model's positions end); a decoder's end token always stays.
        lora: adapters of the body; None for a body that is not trained (a loaded model).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        pooling: Pooling,
        frozen_layers: int = 0,
        layers: int | None = None,
        max_tokens: int = 64,
        lora: LoRA | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer, self.pooling = tokenizer, pooling
        if layers is not None:
            keep_layers(model, 0, layers)
        depth = len(layers_of(model))
        if not 0 <= frozen_layers < depth:
            raise TgqError(
                f"language.frozen_layers is {frozen_layers}, the model has {depth} layers; leave at least one"
            )
        self.frozen_layers, self.width = frozen_layers, int(model.config.hidden_size)
        self.model_type = str(model.config.model_type)
        self.bidirectional = is_bidirectional(model)
        self.first_position, self.positions = positions_of(model)
        self.max_tokens = min(max_tokens, self.positions or max_tokens)
        self.end_id = tokenizer.eos_token_id if pooling == "last" else None
        self._room = self.max_tokens - (self.end_id is not None)
        if model.get_input_embeddings().weight.shape[1] != self.width:
            raise TgqError(
                f"a model of type {self.model_type} whose words are not as wide as its states is not supported"
            )
        check_words("the language model", tokenizer, places_in(model))
        model.eval().requires_grad_(False)
        self.fingerprint = _fingerprint(model, tokenizer, frozen_layers, self.max_tokens, self.end_id)
        self._alike: tuple[TextEncoder, bool] | None = None
        ids, mask = torch.arange(3)[None], torch.ones(1, 3, dtype=torch.long)
        with torch.no_grad():
            whole = model(input_ids=ids, attention_mask=mask).last_hidden_state if frozen_layers else None
        prefix, body = split(model, frozen_layers)
        self.prefix: Any = prefix
        self.body: Any = body
        if whole is not None:
            self._check_split(ids, mask, whole)
        if lora is not None and lora.rank:
            self.body = _with_lora(body, lora)

    @torch.no_grad()
    def _check_split(self, ids: Tensor, mask: Tensor, whole: Tensor) -> None:
        """Refuse a model whose halves do not give what the whole gave [1, L, H] of token ids [1, L]."""
        try:
            states = self.prefixed(ids, mask)
            found, _ = self._read(whole[:, :0], states.mask[:, :0], states.tokens, states.mask)
            error = float((found - whole).norm() / whole.norm())
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            error = torch.inf
        if not error < SPLIT_ERROR:
            raise TgqError(
                f"language.frozen_layers is {self.frozen_layers}, but a model of type {self.model_type} does not give "
                "the same in two parts; give 0"
            )

    def train(self, mode: bool = True) -> HuggingFaceLM:
        """Switch dropout of the body; the frozen prefix never trains."""
        super().train(mode)
        self.prefix.eval()
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, end: bool = True) -> TextFeatures:
        """Run the frozen prefix over B texts, see `LanguageModel.encode`."""
        device = next(self.prefix.parameters()).device
        ids, mask = (x.to(device) for x in self._tokenize(texts, end=end))
        if not mask.any(1).all():
            raise TgqError(
                "the tokenizer gives no token for an empty text; give language.pooling: last, which adds an end token,"
                " or another language model"
            )
        return self.prefixed(ids, mask)

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Say of B texts which are read to their end."""
        with TOKENIZING:
            return [len(row) <= self._room for row in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    def prefixed(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """Run the frozen prefix over token ids [B, L] with their mask [B, L], in a form that can be traced."""
        if self.frozen_layers:
            states = self.prefix(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        else:
            states = self.prefix(ids)
        real = mask.bool()
        mean = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
        return TextFeatures(states, real, mean)

    def begins(self, encoder: TextEncoder) -> bool:
        """Return whether a text encoder is the same model: then the frozen prefix is its first layers."""
        if self._alike is None or self._alike[0] is not encoder:
            self._alike = encoder, self._is_beginning_of(encoder)
        return self._alike[1]

    def _is_beginning_of(self, encoder: TextEncoder) -> bool:
        if not isinstance(encoder, HuggingFaceText) or not self.bidirectional or not self.frozen_layers:
            return False
        if encoder.max_tokens > self.max_tokens or self.end_id is not None or not hasattr(encoder.tower, "encoder"):
            return False
        own = encoder.tower, encoder.tokenizer
        return self.fingerprint == _fingerprint(*own, self.frozen_layers, self.max_tokens, None)

    def forward(self, visual: Tensor, visual_mask: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Read visual [B, K, H] and states [B, L, H] with their masks; return the pooled state [B, H]."""
        out, real = self._read(visual, visual_mask, states, mask)
        return self._pooled(out, real)

    def read_prefixed(
        self, prefix: Tensor, has_prefix: Tensor, own: int, states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read a prefix and states, and ask twice, see `LanguageModel.read_prefixed`."""
        real = has_prefix[:, None].expand(-1, prefix.shape[1])
        out, everything = self._read(prefix, real, states, mask, own=own)
        among = torch.arange(out.shape[1], device=out.device) < own
        return self._pooled(out, everything), self._pooled(out, among.expand(out.shape[0], -1))

    def _read(
        self, visual: Tensor, visual_mask: Tensor, states: Tensor, mask: Tensor, own: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Run the body: (states [B, K + L, H], bool [B, K + L]); the first `own` tokens see no later one."""
        tokens, real = states.to(visual.dtype), mask
        if visual.shape[1]:  # a mask of no column would be one column for ONNX Runtime
            tokens, real = torch.cat([visual, tokens], 1), torch.cat([visual_mask, real], 1)
        if not self.frozen_layers and tokens.shape[1] > (self.positions or tokens.shape[1]):
            raise TgqError(
                f"{visual.shape[1]} visual and {states.shape[1]} text tokens are more than the {self.positions} "
                "positions of the language model; lower language.max_tokens"
            )
        positions = (real.long().cumsum(1) - 1).clamp_min(0) + self.first_position
        seen = kept_apart(real, own, tokens.dtype) if own and self.bidirectional else real.long()
        out: Tensor = self.body(inputs_embeds=tokens, attention_mask=seen, position_ids=positions).last_hidden_state
        return out, real

    def _pooled(self, out: Tensor, real: Tensor) -> Tensor:
        """Pool states [B, S, H] where bool [B, S] `real`: their mean, or the last of them."""
        if self.pooling == "mean":
            return (out * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        last = (real.long() * torch.arange(real.shape[1], device=real.device)).argmax(1)
        return out[torch.arange(out.shape[0], device=out.device), last]

    @torch.no_grad()
    def take(self, other: LanguageModel) -> None:
        """Take the weights of a loaded one, see `LanguageModel.take`; the adapters of this one stay as they are."""
        own = {_plain_name(name): weight for name, weight in self.body.state_dict().items() if "lora_" not in name}
        given = other.body.state_dict() if isinstance(other, HuggingFaceLM) else {}
        shapes = [{name: weight.shape for name, weight in one.items()} for one in (own, given)]
        alike = isinstance(other, HuggingFaceLM) and other.fingerprint == self.fingerprint
        if not alike or other.pooling != self.pooling or shapes[0] != shapes[1]:
            raise TgqError("the language model is another one, or reads texts otherwise (language in the recipe)")
        for name, weight in own.items():
            weight.copy_(given[name])

    def save(self, folder: Path) -> None:
        """Write a whole Hugging Face model with the adapters merged in, its tokenizer, and how it is split."""
        folder.mkdir(parents=True, exist_ok=True)
        body = copy.deepcopy(self.body)
        if hasattr(body, "merge_and_unload"):
            body = body.merge_and_unload()
        whole = join(copy.deepcopy(self.prefix), body, self.frozen_layers)
        with quiet():
            whole.save_pretrained(folder, safe_serialization=True)
        save_tokenizer(self.tokenizer, folder)
        write_json(
            folder / "language.json",
            {"pooling": self.pooling, "frozen_layers": self.frozen_layers, "max_tokens": self.max_tokens},
        )

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Read with the adapters inside the weights they adapt, see `LanguageModel.merged`."""
        spread = any(isinstance(weight, DTensor) for weight in self.body.parameters())  # no process has them whole
        if spread or not hasattr(self.body, "merge_adapter"):
            yield
            return
        before = {name: weight.data for name, weight in self.body.named_parameters()}
        try:
            self.body.merge_adapter(safe_merge=True)  # which leaves the tensors of before as they are
            yield
        finally:
            self.body.unmerge_adapter()  # subtracts, so that rounding is left
            for name, weight in self.body.named_parameters():
                weight.data = before[name]

    @torch.no_grad()
    def state_scale(self) -> float:
        """Return the root mean square of the text states that enter the body."""
        features = self.encode(["a product of a shop, with a name and a brand"])
        return float(features.tokens[features.mask].float().square().mean(-1).sqrt().median())

    def _tokenize(self, texts: Sequence[str], *, end: bool = True) -> tuple[Tensor, Tensor]:
        """Return ids [B, L] and attention mask [B, L], padded at the right."""
        with TOKENIZING:
            rows = self.tokenizer(list(texts), truncation=True, max_length=self._room)["input_ids"]
        found = [torch.tensor(self._ended(row, end), dtype=torch.long) for row in rows]
        ids = pad_sequence(found, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
        lengths = torch.tensor([len(row) for row in found])
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()

    def _ended(self, ids: list[int], end: bool) -> list[int]:
        """Decoders embed at an end token, which comes after the cut; some tokenizers put one there themselves."""
        if self.end_id is None:
            return ids
        own = bool(ids) and ids[-1] in end_ids(self.tokenizer)
        if not end:
            return ids[:-1] if own else ids
        return ids if own else [*ids, self.end_id]


def end_ids(tokenizer: Any) -> set[int]:
    """Return the ids that end a text where they stand last: special ones, but not those of a beginning or no word."""
    no_end = {tokenizer.bos_token_id} | {tokenizer.unk_token_id} - {tokenizer.eos_token_id}
    return set(tokenizer.all_special_ids) - no_end


def _plain_name(name: str) -> str:
    """Return the name of a weight without what adapters put into it."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def make_language(
    name: str,
    *,
    lora: LoRA,
    layers: int | None = None,
    frozen_layers: int | None = None,
    pooling: Pooling | None = None,
    max_tokens: int = 64,
) -> LanguageModel:
    """Make a language model by its name: `minilm`, `smollm2` (both packaged), or `hf:<folder or hub id>`.

    Raises:
        TgqError: for an unknown name, a package that is not installed, or a hub that cannot be reached.
    """
    check_language(name)
    if name in PACKAGED:
        find, default_frozen = PACKAGED[name]
        folder = str(find())
    else:
        folder, default_frozen = name.removeprefix("hf:"), 0
    if layers is not None:
        default_frozen = min(default_frozen, layers - 1)
    model, tokenizer = _pretrained(folder)
    return HuggingFaceLM(
        model,
        tokenizer,
        pooling=pooling or ("mean" if is_bidirectional(model) else "last"),
        frozen_layers=default_frozen if frozen_layers is None else frozen_layers,
        layers=layers,
        max_tokens=max_tokens,
        lora=lora,
    )


def check_language(name: str) -> None:
    """Refuse a name of a language model that `make_language` does not know.

    Raises:
        TgqError: with the nearest known one.
    """
    if name not in PACKAGED and not name.startswith("hf:"):
        raise TgqError(f"language model {name!r} is not known; {nearest(name, [*PACKAGED, HUB])}")


def load_language(folder: Path) -> LanguageModel:
    """Load what `HuggingFaceLM.save` wrote."""
    model, tokenizer = _pretrained(str(folder))
    return HuggingFaceLM(model, tokenizer, **read_json(folder / "language.json"))


def _pretrained(folder: str) -> tuple[Any, Any]:
    model, tokenizer = read_model(folder, attn_implementation="eager"), read_tokenizer(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def _with_lora(body: Any, lora: LoRA) -> Any:
    from peft import LoraConfig, get_peft_model

    # Whole names: "dense" alone would also adapt a pooler, which nothing reads.
    inside = {module for layer in layers_of(body) for module in layer.modules() if isinstance(module, nn.Linear)}
    linear = [name for name, module in body.named_modules() if module in inside]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=linear)
    with warnings.catch_warnings():  # peft asks transformers by a name that transformers is about to drop
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(body, config)


def _fingerprint(model: Any, tokenizer: Any, frozen: int, max_tokens: int, end_id: int | None) -> str:
    """Name the frozen prefix: the split, where texts are cut and how they end, the tokenizer, and its weights."""
    words = f"{frozen}:{max_tokens}:{model.config.model_type}" + ("" if end_id is None else f":end {end_id}")
    words += tokenizer_rules(tokenizer)
    digest = hashlib.blake2b(words.encode(), digest_size=8)
    read = [*layers_of(model)[:frozen].parameters(), *model.get_input_embeddings().parameters()]
    for weight in read:
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return f"prefix-{digest.hexdigest()}"
