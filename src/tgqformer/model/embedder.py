"""The whole model: picture + metadata -> encoders -> connector -> language model -> one embedding per item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.catalog.item import Item
from tgqformer.connectors import (
    Connector,
    ConnectorInput,
    ConnectorOutput,
    ConnectorWidths,
    check_pictures,
    make_connector,
)
from tgqformer.encoders.alignment import Alignment, JointAlignment, TokenNorm
from tgqformer.encoders.base import TextFeatures, VisualFeatures
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json, write_text
from tgqformer.model.base import Embedder, evaluating
from tgqformer.model.batch import ItemBatch
from tgqformer.model.card import card_of, read_card
from tgqformer.model.encoding import Encoders
from tgqformer.model.frozen import FrozenPart, FrozenVectors
from tgqformer.model.hub import locate_model, name_of, push_folder
from tgqformer.model.language import LanguageModel, load_language
from tgqformer.model.picture_word import PictureHead
from tgqformer.model.pretrained import load_packed, load_pretrained
from tgqformer.model.version import CARD, SENTENCE, version_of
from tgqformer.stages import atomic_folder, mark, note_of
from tgqformer.version import __version__

FORMAT = 3
"""Of a saved model's folder; another number is refused."""
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "tgqformer.model.sentence.ItemModule"}]
"""What tells sentence-transformers who loads the folder."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings [B, d] of unit length, and what the connector looked at.

    `picture` [B, d] is the embedding of the picture alone, of models that have one (NoteLLM-2); for training.
    """

    embedding: Tensor
    connector: ConnectorOutput
    agreement: Tensor | None
    agreement_map: Tensor | None
    picture: Tensor | None = None


class ItemEmbedder(nn.Module, Embedder):
    """Items -> embeddings of unit length.

    Args:
        connector: name and options of the connector, see `connectors.CONNECTORS`.
        widths: what the encoders give.
        language: the language model; None for a picture-only model, which pools the connector's tokens.
        alignment: where the named product is; used by connectors that are guided by text.
        encoders: the frozen encoders, for raw items; None where features are given.
        dim: width of what is learned; the LM's width by default. It is d, unless the model begins at the frozen vector.
    """

    frozen: FrozenPart | None
    """What needs no training, if the embedding begins with it."""
    share: float
    """s, how much of the cosine is learned; the rest is the frozen part's."""
    compatible: tuple[str, ...] = ()
    """Versions of earlier models whose vectors may stand among those of this one."""
    cuts: tuple[int, ...] = ()
    """Numbers of first dimensions that were trained to stand for a whole vector (`training.matryoshka`)."""
    card: str
    """The model card, Markdown; `save` writes one of the model's parts where it is empty."""
    source: str | None
    """Where it was loaded from: a folder, or `OWNER/NAME@COMMIT` of the hub."""

    def __init__(
        self,
        connector: str,
        options: dict[str, Any],
        widths: ConnectorWidths,
        language: LanguageModel | None,
        *,
        alignment: Alignment | JointAlignment | None = None,
        encoders: Encoders | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.card, self.source = "", None
        self.recipe = {"connector": connector, "options": dict(options)}
        self.widths = widths
        self.token_norm = TokenNorm(widths.visual)
        self.alignment = alignment
        if alignment is not None:
            alignment.requires_grad_(False)
        self.connector: Connector = make_connector(connector, widths, options)
        if encoders is not None:
            check_pictures(connector, encoders.prompt.pictures)
        self.encoders, self.language = encoders, language
        word, tokens = self.connector.picture_word, self.connector.tokens
        if language is None and not tokens and self.connector.learns:
            raise TgqError("a model without language model needs a connector that gives visual tokens")
        if language is None and word is not None:
            raise TgqError(f"connector {connector!r} asks a language model for the picture's word; give it one")
        width = self.connector.width if language is None else language.width
        self.to_language = LanguageEntry(self.connector.width, language) if language is not None and tokens else None
        self.picture_weight, self.picture_head = 0.0, None
        if language is not None and word is not None:
            self.picture_weight, self.picture_head = word.weight, PictureHead(word, language, widths.vector)
        self.frozen, self.share = None, 1.0 if self.connector.learns else 0.0
        self.dim = dim or width
        self.projection = nn.Linear(width, self.dim, bias=False)
        nn.init.eye_(self.projection.weight)  # an untrained projection keeps what the language model knows

    def forward(self, batch: ItemBatch) -> Embedded:
        """Embed B items from what the frozen encoders saw in them."""
        inputs = self.connector_input(batch)
        seen = self.connector(inputs)
        learned, alone = self._learned(seen.tokens, batch) if self.share else (None, None)
        return Embedded(self._joined(learned, batch), seen, inputs.agreement, inputs.agreement_map, alone)

    def begin_at(self, frozen: FrozenPart, share: float) -> None:
        """Begin every embedding at the frozen vector: [√(1−s)·frozen ; √s·learned], a mixture of the two cosines.

        share: s. With 1 the model stays as it is; with 0 nothing that was learned is left.
        """
        learned = self.projection.out_features
        if share == 1:
            self.frozen, self.share, self.dim = None, 1.0, learned
        else:
            self.frozen, self.share, self.dim = frozen, share, frozen.dim + (learned if share else 0)

    def _joined(self, learned: Tensor | None, batch: ItemBatch) -> Tensor:
        """Join what is frozen and what is learned [B, d'] to embeddings [B, d] of unit length."""
        if self.frozen is None:
            if learned is None:
                raise TgqError("a frozen model has not been fitted: give it a frozen part with `begin_at`")
            return learned
        frozen: Tensor = self.frozen(FrozenVectors.of(batch))
        if learned is None:
            return frozen
        return torch.cat([(1 - self.share) ** 0.5 * frozen, self.share**0.5 * learned], -1)

    def _learned(self, tokens: Tensor, batch: ItemBatch) -> tuple[Tensor, Tensor | None]:
        """Return the learned vectors [B, d'] of items, and those of their pictures alone, where the model has them."""
        pooled, picture = self._read(tokens, batch)
        return self._embedding(pooled), None if picture is None else self._embedding(picture)

    def connector_input(self, batch: ItemBatch) -> ConnectorInput:
        """Return what the connector is given of B items: tokens standardised, agreement of picture and metadata."""
        mask = batch.visual_mask
        real = batch.has_picture[:, None] if mask is None else mask & batch.has_picture[:, None]
        visual = self.token_norm(batch.visual).mul_(real[..., None])
        vector = batch.vector.float() * batch.has_picture[:, None]
        agreement_map, agreement = self._agreement(visual, batch)
        return ConnectorInput(
            visual,
            vector,
            batch.has_picture,
            batch.metadata.float(),
            batch.metadata_mask,
            agreement_map,
            agreement,
            mask,
        )

    def _embedding(self, state: Tensor) -> Tensor:
        """Project a state [B, H] to [B, d], of unit length."""
        return F.normalize(self.projection(state).float(), dim=-1)

    def _read(self, tokens: Tensor, batch: ItemBatch) -> tuple[Tensor, Tensor | None]:
        """Return what the language model makes of visual tokens [B, K, D] and text: (item's state [B, H], picture's).

        Without a language model the mean of the tokens; all items without a picture share one place.
        """
        if self.language is None:
            mean = tokens.mean(1)
            return mean.where(batch.has_picture[:, None], torch.full_like(mean, mean.shape[1] ** -0.5)), None
        states, visual = (
            batch.states.float(),
            batch.states.new_zeros(batch.states.shape[0], 0, self.language.width).float(),
        )
        if self.to_language is not None:
            visual = self.to_language(tokens)
        if self.picture_head is not None:
            vector = batch.vector.float() * batch.has_picture[:, None]
            both: tuple[Tensor, Tensor] = self.picture_head(
                self.language, visual, batch.has_picture, states, batch.states_mask, vector
            )
            return both
        real = batch.has_picture[:, None].expand(-1, visual.shape[1])
        return self.language(visual, real, states, batch.states_mask), None

    @torch.inference_mode()
    def embed_items(self, items: Sequence[Item], root: Path | None = None) -> Tensor:
        """Embed B items at once, as in evaluation: [B, d] of unit length."""
        with evaluating(self):
            embedded: Embedded = self(self.features(items, root))
        return embedded.embedding

    def features(self, items: Sequence[Item], root: Path | None = None) -> ItemBatch:
        """Run the frozen encoders over raw items."""
        if self.encoders is None:
            raise TgqError("this model has no encoders, it embeds features only; load it with ItemEmbedder.load(path)")
        return self.encoders.features(items, self.language, root).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projection.weight.device

    @property
    def sees(self) -> bool:
        """Whether a picture makes a difference."""
        return (self.connector.tokens > 0 and self.share > 0) or (self.frozen is not None and self.frozen.sees)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters that training moves, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save(self, path: Path | str) -> None:
        """Write a folder that describes itself: config, safetensors, encoders, tokenizer, preprocessing, prompt.

        A saved model that stands there is replaced.
        """
        with atomic_folder(Path(path), "model", overwrite=True) as folder:
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write what `save` writes into a folder that is there."""
        if self.encoders is None:
            raise TgqError("a model without encoders cannot be saved whole")
        own = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith("language.")}
        config = {
            "format": FORMAT,
            "tgqformer": __version__,
            **self.recipe,
            "dim": self.projection.out_features,
            "share": self.share,
            "frozen": None if self.frozen is None else self.frozen.options,
            "widths": {**vars(self.widths), "grid": list(self.widths.grid)},
            "language": self.language is not None,
            "alignment": self.alignment is not None,
            "compatible": list(self.compatible),
            **({"cuts": list(self.cuts)} if self.cuts else {}),
        }
        write_json(folder / "config.json", config)
        save_file(own, folder / "model.safetensors")
        self.encoders.save(folder)
        if self.language is not None:
            self.language.save(folder / "language")
        write_json(folder / SENTENCE[0], MODULES)
        write_text(folder / CARD, self.card or card_of(self))
        mark(folder, "model", version=version_of(folder))

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", *, encoders: Encoders | None = None) -> ItemEmbedder:
        """Load what `save` wrote, ready to `encode`.

        Args:
            path: the folder. device: where the weights go.
            encoders: those that it was saved with, where they are at hand; reading them again is half of the work.

        Raises:
            TgqError: if the folder is not a saved model, is of a later format, or is damaged.
        """
        folder = Path(path)
        note = note_of(folder)
        with loading(folder) as (config, version):
            if note is not None and note.get("version", version) != version:
                raise TgqError(f"the model in {folder} is not as it was saved; train or copy it again")
            if "base" in config:
                model = load_packed(folder)
            else:
                encoders = encoders or Encoders.load(folder)
                language = load_language(folder / "language") if config["language"] else None
                model = assemble(config, encoders, language, load_file(folder / "model.safetensors"), version)
        model.card, model.source = read_card(folder), name_of(folder)
        return model.to(device)

    @classmethod
    def from_pretrained(
        cls,
        place: Path | str,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        device: str = "cpu",
    ) -> ItemEmbedder:
        """Load a saved model from a folder or from the Hugging Face Hub, ready to `encode`; nothing in it is run.

        `source` says which commit it is: `OWNER/NAME@COMMIT`.

        Args:
            place: a folder, `OWNER/NAME`, `OWNER/NAME@REVISION`, or the name of a pretrained model, such as `small`.
            revision: a branch, a tag or a commit; the newest of the main branch by default.
            local_files_only: take what the hub's cache holds, and ask nobody.

        Raises:
            TgqError: as `load`; if the hub does not give it, or the cache does not hold it.
        """
        return cls.load(locate_model(place, revision=revision, local_files_only=local_files_only), device)

    def push_to_hub(
        self, repo: str, *, revision: str | None = None, private: bool | None = None, token: str | None = None
    ) -> str:
        """Put the model with its card on the Hugging Face Hub; return its name there, `OWNER/NAME@COMMIT`.

        Args:
            repo: `OWNER/NAME`; made where it is not there. revision: a branch; made too.
            private: of a new repository. token: by default that of `hf auth login`, or of the variable HF_TOKEN.

        Raises:
            TgqError: if the hub refuses, or cannot be reached.
        """
        with TemporaryDirectory(prefix="tgq-") as place:
            self.save(Path(place) / "model")
            return push_folder(Path(place) / "model", repo, revision=revision, private=private, token=token)

    @classmethod
    def pretrained(cls, name: str = "small", device: str = "cpu") -> ItemEmbedder:
        """Load a pretrained model that is installed as a package: `small` is that of `tgqformer-small`.

        Raises:
            TgqError: for an unknown name, a package that is not installed, or a damaged file.
        """
        return load_pretrained(name).to(device)

    def _agreement(self, visual: Tensor, batch: ItemBatch) -> tuple[Tensor | None, Tensor | None]:
        """κ·a [B, P] and s [B]; zero where picture or text is missing, so that nothing guides."""
        if self.alignment is None:
            return None, None
        if isinstance(self.alignment, JointAlignment):
            picture = VisualFeatures(batch.visual.float(), batch.vector.float())
            text = TextFeatures(batch.metadata, batch.metadata_mask, batch.metadata_vector.float())
            agreement_map, agreement = self.alignment(picture, text)
        else:
            agreement_map, agreement = self.alignment(visual, batch.metadata_vector.float(), batch.visual_mask)
        both = batch.has_picture & batch.metadata_mask.any(1)
        return agreement_map * both[:, None], agreement * both


@contextmanager
def loading(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Give config and version of a model's folder to the block that loads it.

    Raises:
        TgqError: if it is none, is of another format, or what the block reads is damaged.
    """
    config = _config(folder)
    try:
        yield config, version_of(folder)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise TgqError(f"the model in {folder} is damaged: {why}; train or copy it again") from error


def assemble(
    config: dict[str, Any], encoders: Encoders, language: LanguageModel | None, weights: dict[str, Tensor], version: str
) -> ItemEmbedder:
    """Put a model together: its config, encoders and language model, and the weights of all else, by name.

    Raises:
        ValueError: if the weights do not fit the config.
    """
    widths = ConnectorWidths(**{**config["widths"], "grid": tuple(config["widths"]["grid"])})
    alignment: Alignment | JointAlignment | None = None
    if config["alignment"]:
        joint = encoders.space is not None
        alignment = encoders.alignment() if joint else Alignment(widths.visual, widths.metadata)
    connector, options, dim = config["connector"], config["options"], config["dim"]
    model = ItemEmbedder(connector, options, widths, language, alignment=alignment, encoders=encoders, dim=dim)
    if config["frozen"] is not None:
        model.begin_at(FrozenPart(widths, **config["frozen"]), config["share"])
    missing, unexpected = model.load_state_dict(weights, strict=False)
    absent = [name for name in missing if not name.startswith("language.")]
    if absent or unexpected:
        raise ValueError(f"the weights do not fit the config: missing {absent}, unknown {unexpected}")
    model.version, model.compatible = version, tuple(config.get("compatible", ()))
    model.cuts = tuple(config.get("cuts", ()))
    return model.eval()


def _config(folder: Path) -> dict[str, Any]:
    """Read what says how a saved model is built."""
    if not (folder / "config.json").is_file():
        raise TgqError(f"{folder} is not a saved model: no config.json; give the folder `model` of a run")
    try:
        config = read_json(folder / "config.json")
    except ValueError as error:
        raise TgqError(f"{folder / 'config.json'} is no JSON: {error}; train or copy the model again") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found is None:  # a model of others: transformers writes a config.json too
        raise TgqError(f"{folder} holds no model that tgqformer saved; give the folder `model` of a run")
    if found != FORMAT or "connector" not in config:
        other = "upgrade tgqformer" if isinstance(found, int) and found > FORMAT else "train the model again"
        raise TgqError(f"{folder} has model format {found}, this version reads {FORMAT}; {other}")
    return dict(config)


class LanguageEntry(nn.Module):
    """Visual tokens [B, K, D] -> the LM's width H, at the scale of the text states they join."""

    def __init__(self, width: int, language: LanguageModel) -> None:
        super().__init__()
        self.linear = nn.Linear(width, language.width)
        self.norm = nn.LayerNorm(language.width)
        nn.init.constant_(self.norm.weight, language.state_scale())

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (Tensor): [B, K, D]. Returns [B, K, H]."""
        normed: Tensor = self.norm(self.linear(tokens))
        return normed
