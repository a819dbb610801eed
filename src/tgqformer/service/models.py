"""The models of a service, found by version: saved ones, run by PyTorch, or exported ones, run by ONNX Runtime."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL.Image import Image

from tgqformer.catalog.item import Item
from tgqformer.errors import TgqError
from tgqformer.model.hub import known_place
from tgqformer.model.onnx import OnnxEmbedder, exported_version
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import version_of
from tgqformer.store.ledger import Version
from tgqformer.types import Vectors

Runtime = Literal["torch", "onnx"]
"""What runs the models: PyTorch those that a training saved, ONNX Runtime those that `tgq export` wrote."""
EXPORT = "write it with `tgq export MODEL --onnx --to FOLDER`, and name the folder by --model"


class Model(Protocol):
    """What a service asks of a model; `OnnxEmbedder` is one."""

    prompt: Prompt

    def prepared(self, picture: Image) -> Any:
        """Return the model's input of a picture."""
        ...

    def embed_prepared(self, items: Sequence[Item], pixels: Sequence[Any]) -> Vectors:
        """Embed items [n, d] whose pictures are prepared; None for an item without one."""
        ...


class TorchModel:
    """A saved model, run by PyTorch, which is imported when the first is read. `model` says what it looked at."""

    def __init__(self, folder: Path) -> None:
        from tgqformer.model.embedder import ItemEmbedder
        from tgqformer.store.embed import embed_prepared

        self.model, self._embed = ItemEmbedder.load(folder), embed_prepared
        if self.model.encoders is None:
            raise TgqError(f"the model in {folder} has no encoders; train it again")
        self.prompt, self._vision = self.model.encoders.prompt, self.model.encoders.vision

    def prepared(self, picture: Image) -> Any:
        """Return the model's input of a picture."""
        return self._vision.preprocess(picture)

    def embed_prepared(self, items: Sequence[Item], pixels: Sequence[Any]) -> Vectors:
        """Embed items [n, d] whose pictures are prepared."""
        found: Vectors = self._embed(self.model, items, pixels).numpy()
        return found


class Models:
    """The models of versions, read from the folders that are named or known; `most` stay in memory."""

    def __init__(self, folders: Sequence[Path], most: int, runtime: Runtime) -> None:
        self._folders, self._most, self._runtime = folders, most, runtime
        self._known: OrderedDict[str, Model] = OrderedDict()

    def of(self, version: Version) -> Model | None:
        """Return the model of a version; None where no folder holds it."""
        name = version.latest
        if name not in self._known:
            known = [version.model] if version.model and self._runtime == "torch" else []
            found = find_model(name, [*self._folders, *known], self._runtime)
            if found is None:
                return None
            self._known[name] = found
        self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return self._known[name]


def find_model(model_version: str, places: Iterable[Path | str], runtime: Runtime = "torch") -> Model | None:
    """Load the model of this version from the first place, a folder or a hub id, that holds it; else None."""
    for place in places:
        folder = place if isinstance(place, Path) else known_place(place)
        if _kind_of(folder) == runtime and _VERSIONS[runtime](folder) == model_version:
            return TorchModel(folder) if runtime == "torch" else OnnxEmbedder(folder, threads=1)
    return None


def check_runs(folder: Path, runtime: Runtime) -> None:
    """Raise TgqError for the folder of a model that the other runtime runs."""
    if _kind_of(folder) not in (None, runtime):
        raise TgqError(_WRONG[runtime].format(folder=folder))


def _kind_of(folder: Path) -> Runtime | None:
    """Say what runs the model in a folder; None where there is none."""
    if (folder / "onnx.json").is_file():
        return "onnx"
    return "torch" if (folder / "config.json").is_file() else None


_VERSIONS: dict[Runtime, Callable[[Path], str]] = {"torch": version_of, "onnx": exported_version}
_WRONG: dict[Runtime, str] = {
    "torch": "{folder} is an exported model; serve it with --runtime onnx",
    "onnx": f"{{folder}} is a saved model, which needs PyTorch; {EXPORT}",
}
