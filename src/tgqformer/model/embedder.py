"""The whole model: picture + metadata -> encoders -> connector -> language model -> one embedding per item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tgqformer.catalog.item import Item
from tgqformer.connectors import (
    ConnectorInput,
    ConnectorOutput,
    ConnectorWidths,
    make_connector,
    reads_field_maps,
    reads_fields,
    wanted_picture_word,
)  # fmt: skip
from tgqformer.encoders.alignment import Alignment, JointAlignment, TokenNorm
from tgqformer.encoders.base import TextFeatures, VisualFeatures
from tgqformer.errors import TgqError
from tgqformer.files import atomic_path, read_json, write_json
from tgqformer.model.batch import ItemBatch
from tgqformer.model.encoding import Encoders
from tgqformer.model.language import HuggingFaceLM, load_language
from tgqformer.model.picture_word import PictureHead
from tgqformer.progress import progress
from tgqformer.version import __version__


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


class ItemEmbedder(nn.Module):
    """Items -> embeddings of unit length.

    Args:
        connector: name and options of the connector, see `connectors.CONNECTORS`.
        widths: what the encoders give.
        language: the language model; None for a picture-only model, which pools the connector's tokens.
        alignment: where the named product is; used by connectors that are guided by text.
        encoders: the frozen encoders, for raw items; None where features are given.
        dim: d; the LM's width by default.
    """

    def __init__(
        self,
        connector: str,
        options: dict[str, Any],
        widths: ConnectorWidths,
        language: HuggingFaceLM | None,
        *,
        alignment: Alignment | JointAlignment | None = None,
        encoders: Encoders | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.recipe = {"connector": connector, "options": dict(options)}
        self.widths = widths
        self.token_norm = TokenNorm(widths.visual)
        self.alignment = alignment
        if alignment is not None:
            alignment.requires_grad_(False)
        self.connector: Any = cast(Any, make_connector(connector, widths, options))
        self.by_field = reads_fields(self.connector)
        self.encoders = encoders if encoders is None else replace(encoders, by_field=self.by_field)
        self.language = language
        width = int(self.connector.width if language is None else language.width)
        if language is None and not self.connector.tokens:
            raise TgqError("a model without language model needs a connector that gives visual tokens")
        joined = language is not None and self.connector.tokens
        self.to_language = _Entry(self.connector.width, cast(HuggingFaceLM, language)) if joined else None
        word = wanted_picture_word(self.connector)
        self.picture_weight = 0.0 if word is None else word.weight
        self.picture_head = None
        if word is not None:
            if language is None:
                raise TgqError(f"connector {connector!r} asks a language model for the picture's word; give it one")
            self.picture_head = PictureHead(word, language, widths.vector)
        self.dim = dim or width
        self.projection = nn.Linear(width, self.dim, bias=False)
        nn.init.eye_(self.projection.weight)  # an untrained projection keeps what the language model knows
        self.version = "unsaved"

    def forward(self, batch: ItemBatch) -> Embedded:
        """Embed B items from what the frozen encoders saw in them."""
        inputs = self.connector_input(batch)
        seen = self.connector(inputs)
        pooled, picture = self._read(seen.tokens, batch)
        alone = None if picture is None else self._embedding(picture)
        return Embedded(self._embedding(pooled), seen, inputs.agreement, inputs.agreement_map, alone)

    def connector_input(self, batch: ItemBatch) -> ConnectorInput:
        """What the connector is given of B items: tokens standardised, agreement of picture and metadata.

        Raises:
            TgqError: if the connector reads the metadata field by field, and the features do not have the fields.
        """
        if self.by_field and batch.fields is None:
            raise TgqError("the connector reads field by field, the features hold whole texts only; make them with "
                           "CatalogFeatures.with_fields, or embed items instead of features")  # fmt: skip
        fields = batch.fields if self.by_field else None
        visual = self.token_norm(batch.visual).mul_(batch.has_picture[:, None, None])
        agreement_map, agreement = self._agreement(visual, batch)
        return ConnectorInput(
            visual, batch.vector.float() * batch.has_picture[:, None], batch.has_picture, batch.metadata.float(),
            batch.metadata_mask, agreement_map, agreement, fields, self._field_maps(visual, batch, fields),
        )  # fmt: skip

    def _embedding(self, state: Tensor) -> Tensor:
        """Project a state [B, H] to [B, d], of unit length."""
        return F.normalize(self.projection(state).float(), dim=-1)

    def _read(self, tokens: Tensor, batch: ItemBatch) -> tuple[Tensor, Tensor | None]:
        """What the language model makes of visual tokens [B, K, D] and text: the item's state [B, H], the picture's.

        Without a language model the mean of the tokens; all items without a picture share one place.
        """
        if self.language is None:
            mean = tokens.mean(1)
            return mean.where(batch.has_picture[:, None], torch.full_like(mean, mean.shape[1] ** -0.5)), None
        states, visual = batch.states.float(), batch.states.new_zeros(len(batch), 0, self.language.width).float()
        if self.to_language is not None:
            visual = self.to_language(tokens)
        if self.picture_head is not None:
            both: tuple[Tensor, Tensor] = self.picture_head(
                self.language, visual, batch.has_picture, states, batch.states_mask,
                batch.vector.float() * batch.has_picture[:, None],
            )  # fmt: skip
            return both
        real = batch.has_picture[:, None].expand(-1, visual.shape[1])
        return self.language(visual, real, states, batch.states_mask), None

    @torch.inference_mode()
    def encode(
        self,
        items: Iterable[Item],
        batch_size: int = 32,
        show_progress_bar: bool = False,
        truncate_dim: int | None = None,
        root: Path | None = None,
    ) -> np.ndarray:
        """Embed items from their pictures and metadata.

        Args:
            items: any iterable; read batch by batch.
            batch_size: items at once. show_progress_bar: on standard error.
            truncate_dim: keep the first so many dimensions and normalise again (for models trained for it).
            root: folder against which relative picture paths are read.

        Returns:
            float32 [n, d], rows of unit length, in the order of the items.

        Raises:
            TgqError: if a picture cannot be read (naming the item), or the model was loaded without encoders.
        """
        was_training, found = self.training, []
        self.eval()
        total = len(items) if isinstance(items, Sequence) else None
        stream = iter(items)
        try:
            with progress("embedding", total, shown=show_progress_bar) as bar:
                while chunk := list(islice(stream, batch_size)):
                    found.append(self(self.features(chunk, root)).embedding.cpu())
                    bar.advance(len(chunk))
        finally:
            self.train(was_training)
        vectors = torch.cat(found) if found else torch.zeros(0, self.dim)
        return truncate(vectors, truncate_dim).numpy()

    def features(self, items: Sequence[Item], root: Path | None = None) -> ItemBatch:
        """Run the frozen encoders over raw items."""
        if self.encoders is None:
            raise TgqError("this model has no encoders, it embeds features only; load it with ItemEmbedder.load(path)")
        return self.encoders.features(items, self.language, root).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projection.weight.device

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters that training moves, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save(self, path: Path | str) -> None:
        """Write a folder that describes itself: config, safetensors, encoders, tokenizer, preprocessing, prompt."""
        if self.encoders is None:
            raise TgqError("a model without encoders cannot be saved whole")
        own = {k: v.contiguous() for k, v in self.state_dict().items() if not k.startswith("language.")}
        config = {
            "format": 1, "tgqformer": __version__, **self.recipe, "dim": self.dim,
            "widths": {**vars(self.widths), "grid": list(self.widths.grid)},
            "language": self.language is not None, "alignment": self.alignment is not None,
        }  # fmt: skip
        with atomic_path(Path(path)) as folder:
            folder.mkdir(parents=True)
            write_json(folder / "config.json", config)
            save_file(own, folder / "model.safetensors")
            self.encoders.save(folder)
            if self.language is not None:
                self.language.save(folder / "language")

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> ItemEmbedder:
        """Load what `save` wrote, ready to `encode`.

        Raises:
            TgqError: if the folder is not a saved model, is of a later format, or is damaged.
        """
        folder = Path(path)
        config = _config(folder)
        try:
            return cls._load(folder, config).to(device)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            why = " ".join(str(error).split())
            raise TgqError(f"the model in {folder} is damaged: {why}; train or copy it again") from error

    @classmethod
    def _load(cls, folder: Path, config: dict[str, Any]) -> ItemEmbedder:
        widths = ConnectorWidths(**{**config["widths"], "grid": tuple(config["widths"]["grid"])})
        encoders = Encoders.load(folder)
        alignment: Alignment | JointAlignment | None = None
        if config["alignment"]:
            joint = encoders.space is not None
            alignment = encoders.alignment() if joint else Alignment(widths.visual, widths.metadata)
        model = cls(
            config["connector"], config["options"], widths,
            load_language(folder / "language") if config["language"] else None,
            alignment=alignment, encoders=encoders, dim=config["dim"],
        )  # fmt: skip
        missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        absent = [name for name in missing if not name.startswith("language.")]
        if absent or unexpected:
            raise TgqError(
                f"{folder}/model.safetensors does not fit its config: missing {absent}, unknown {unexpected}"
            )
        model.version = version_of(folder)
        return model.eval()

    def _agreement(self, visual: Tensor, batch: ItemBatch) -> tuple[Tensor | None, Tensor | None]:
        """κ·a [B, P] and s [B]; zero where picture or text is missing, so that nothing guides."""
        if self.alignment is None:
            return None, None
        if isinstance(self.alignment, JointAlignment):
            picture = VisualFeatures(batch.visual.float(), batch.vector.float())
            text = TextFeatures(batch.metadata, batch.metadata_mask, batch.metadata_vector.float())
            agreement_map, agreement = self.alignment(picture, text)
        else:
            agreement_map, agreement = self.alignment(visual, batch.metadata_vector.float())
        both = batch.has_picture & batch.metadata_mask.any(1)
        return agreement_map * both[:, None], agreement * both

    def _field_maps(self, visual: Tensor, batch: ItemBatch, fields: TextFeatures | None) -> Tensor | None:
        """κ·a [B, F, P] of each field by itself, if the connector asks; zero where picture or field is missing."""
        if self.alignment is None or fields is None or not reads_field_maps(self.connector):
            return None
        if isinstance(self.alignment, JointAlignment):
            maps = self.alignment.maps(VisualFeatures(batch.visual.float(), batch.vector.float()), fields)
        else:
            maps = self.alignment.maps(visual, fields.vector.float())
        return maps * (batch.has_picture[:, None] & fields.mask.any(-1))[..., None]


def _config(folder: Path) -> dict[str, Any]:
    """Read what says how a saved model is built."""
    if not (folder / "config.json").is_file():
        raise TgqError(f"{folder} is not a saved model: no config.json; give a folder that `tgq train` wrote")
    try:
        config = read_json(folder / "config.json")
    except ValueError as error:
        raise TgqError(f"{folder / 'config.json'} is no JSON: {error}; train or copy the model again") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != 1 or "connector" not in config:
        raise TgqError(f"{folder} has model format {found}, this version reads 1; upgrade tgqformer")
    known: dict[str, Any] = config
    return known


class _Entry(nn.Module):
    """Visual tokens [B, K, D] -> the LM's width H, at the scale of the text states they join."""

    def __init__(self, width: int, language: HuggingFaceLM) -> None:
        super().__init__()
        self.linear = nn.Linear(width, language.width)
        self.norm = nn.LayerNorm(language.width)
        nn.init.constant_(self.norm.weight, language.state_scale())

    def forward(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.linear(tokens))
        return normed


def version_of(folder: Path) -> str:
    """Names a saved model by the content of its files: equal folders, equal versions."""
    digest = blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


def truncate(vectors: Tensor, dim: int | None) -> Tensor:
    """Keep the first `dim` dimensions of [n, d] and give them unit length again."""
    if dim is None or dim == vectors.shape[1]:
        return vectors
    if not 0 < dim < vectors.shape[1]:
        raise TgqError(f"truncate_dim is {dim}, the embeddings have {vectors.shape[1]} dimensions")
    return F.normalize(vectors[:, :dim], dim=-1)
