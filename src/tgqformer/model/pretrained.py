"""Pretrained models that come as packages: what was trained alone, upon encoders and language model of other packages.

What stands in the folder of one: `config.json`, as of a saved model, and `base`, the names of what it stands upon;
`model.safetensors` with connector, heads and alignment; `language.safetensors` with what training changed in the
language model, as factors `up` [out, r] and `down` [r, in] of each matrix. All weights are float16.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tgqformer.config import parse, plain
from tgqformer.encoders import make_text, make_vision
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json
from tgqformer.model.encoding import Encoders
from tgqformer.model.language import LanguageModel, LoRA, load_language, make_language
from tgqformer.model.prompt import Prompt
from tgqformer.packages import pretrained_folder

if TYPE_CHECKING:
    from tgqformer.model.embedder import ItemEmbedder

BASE = {"vision": "efficientnet-lite0", "text": "minilm", "language": "minilm"}
"""What a pretrained model may stand upon: all of it comes as packages."""
SAFE = 0.5
"""How much of a packed model's cosine is learned, and of its frozen part is the text's: what validation chose where it
was trained says nothing of other shops."""
RANK = 64
"""Factors of a matrix are kept up to this rank, and refused where that is not enough."""


def pack(saved: Path, to: Path) -> None:
    """Write what was trained of a saved model into a new folder.

    Raises:
        TgqError: if the model does not stand upon `BASE`, or what changed in its language model is no low-rank change.
    """
    from tgqformer.model.embedder import ItemEmbedder

    model = ItemEmbedder.load(saved)
    assert model.encoders is not None
    here = _encoders(model.encoders.prompt)
    seen = [encoders.vision.fingerprint + encoders.text.fingerprint for encoders in (model.encoders, here)]
    if model.language is None or seen[0] != seen[1]:
        raise TgqError(f"{saved} does not stand upon {', '.join(BASE.values())}; only such a model can be packed")
    settings = read_json(saved / "language" / "language.json")
    trained = load_language(saved / "language").state_dict()
    changes = dict[str, Tensor]()
    for key, before in _language(settings).state_dict().items():
        changes |= _factors(key, trained[key] - before) if before.is_floating_point() else {}
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("language.")}
    to.mkdir(parents=True)
    save_file(_halves(own), to / "model.safetensors")
    save_file(_halves(changes), to / "language.safetensors")
    write_json(to / "prompt.json", plain(model.encoders.prompt))
    config = read_json(saved / "config.json")
    frozen = {"frozen": {**config["frozen"], "text_share": SAFE}, "share": SAFE} if config["frozen"] else {}
    write_json(to / "config.json", config | frozen | {"base": BASE | {"settings": settings}})


def load_pretrained(name: str, encoders: Encoders | None = None, language: LanguageModel | None = None) -> ItemEmbedder:
    """Load a pretrained model, ready to `encode`.

    Args:
        name: of `packages.PRETRAINED`. encoders, language: others in the place of its own, which see the same: with
            another prompt, or none that is trained.

    Raises:
        TgqError: for an unknown name, a package that is not installed, a damaged file, or encoders that see otherwise.
    """
    model = load_packed(pretrained_folder(name))
    if encoders is not None:
        own, what = model.encoders, "encoders efficientnet-lite0 and minilm and the language model minilm"
        assert own is not None and model.language is not None
        pairs: list[tuple[Any, Any]] = [
            (encoders.vision, own.vision),
            (encoders.text, own.text),
            (language, model.language),
        ]
        if any(getattr(one, "fingerprint", None) != other.fingerprint for one, other in pairs):
            raise TgqError(f"the pretrained model {name!r} stands upon the {what}; set them in the recipe")
        model.encoders = encoders
    return model


def load_packed(folder: Path) -> ItemEmbedder:
    """Load what `pack` wrote. Raise TgqError where it is not that."""
    from tgqformer.model.embedder import assemble, loading

    with loading(folder) as (config, version):
        prompt = parse(Prompt, read_json(folder / "prompt.json"), str(folder / "prompt.json"))
        language = _language(config["base"]["settings"])
        _change(language, load_file(folder / "language.safetensors"))
        own = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
        return assemble(config, _encoders(prompt), language, own, version)


def _encoders(prompt: Prompt) -> Encoders:
    return Encoders(make_vision(BASE["vision"]), make_text(BASE["text"]), prompt)


def _language(settings: dict[str, Any]) -> LanguageModel:
    return make_language(BASE["language"], lora=LoRA(rank=0), **settings)


def _factors(key: str, change: Tensor) -> dict[str, Tensor]:
    """Return the factors of a changed matrix; nothing where it did not change."""
    if not change.any():
        return {}
    if change.dim() != 2:
        raise TgqError(f"{key} was trained as a whole; only low-rank changes can be packed")
    left, size, right = torch.linalg.svd(change.double(), full_matrices=False)
    rank = int((size > 1e-4 * size[0]).sum())
    if rank > RANK:
        raise TgqError(f"{key} changed by rank {rank}; at most {RANK} can be packed")
    root = size[:rank].sqrt()
    return {f"{key}.up": left[:, :rank] * root, f"{key}.down": root[:, None] * right[:rank]}


@torch.no_grad()
def _change(language: LanguageModel, factors: dict[str, Tensor]) -> None:
    weights = dict(language.named_parameters())
    for key in factors:
        name, _, side = key.rpartition(".")
        if side == "up":
            weights[name].add_(factors[key].float() @ factors[f"{name}.down"].float())


def _halves(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half().contiguous() if value.is_floating_point() else value for key, value in weights.items()}
