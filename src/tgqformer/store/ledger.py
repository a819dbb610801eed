"""What a version of a store is, and the ledger: which versions there are, which were served. Plain data.

Every change gives a new ledger; a back end replaces the old one by it atomically.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args
from uuid import uuid4

from tgqformer.errors import TgqError, nearest

FORMAT = 3
NAMED = re.compile(r"v[1-9]\d*")
"""How versions are named."""
Dtype = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class VersionSpec:
    """What a version is made of.

    model_version: digest of the model's files (`ItemEmbedder.version`); every row and query comes from this model.
    dim: width d of the vectors kept. Where it is less than the model's, vectors are cut and normalised again:
        `model.encode(items, truncate_dim=spec.dim)` fits in both cases.
    dtype: how a vector is kept. label: a name for people ("TGQ-Former").
    model, catalog: where the saved model (a folder, or `OWNER/NAME@COMMIT` of the hub) and the catalogue lie, if known.
    """

    model_version: str
    dim: int
    dtype: Dtype = "float32"
    label: str = ""
    model: str | None = None
    catalog: str | None = None

    def __post_init__(self) -> None:
        if self.dim < 1 or self.dtype not in get_args(Dtype):
            known = ", ".join(get_args(Dtype))
            raise TgqError(f"a version has dim >= 1 and a dtype of {known}; got {self.dim} and {self.dtype!r}")


@dataclass(frozen=True, kw_only=True)
class Version(VersionSpec):
    """A version of a store. `name` (v1, v2, ...) is never given twice; `created` is ISO 8601, UTC.

    also: versions of models that came later and are compatible with all before them: their vectors may stand here too.
    """

    name: str
    created: str
    also: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose vectors may stand in it, the latest last."""
        return (self.model_version, *self.also)

    @property
    def latest(self) -> str:
        """The model that embeds what is new, and queries."""
        return self.models[-1]

    @property
    def number(self) -> int:
        """Which version of its store it is, counted from 1."""
        return int(self.name[1:])


@dataclass(frozen=True)
class Ledger:
    """Versions that are whole and unfinished, oldest first; the names served, the present one last.

    `begun` counts all versions that there ever were, so that no name is given twice. `identity` tells one store from
    another that was made in its place. `shares` are parts of the answers that other versions than the served one give.
    """

    whole: tuple[Version, ...] = ()
    unfinished: tuple[Version, ...] = ()
    history: tuple[str, ...] = ()
    begun: int = 0
    identity: str = ""
    shares: tuple[tuple[str, float], ...] = ()

    @classmethod
    def new(cls) -> Ledger:
        """Return the ledger of a new store."""
        return cls(identity=uuid4().hex)

    @property
    def served(self) -> Version | None:
        """The version that is served."""
        return self.find(self.history[-1]) if self.history else None

    @property
    def names(self) -> set[str]:
        """The names of all versions."""
        return {version.name for version in (*self.whole, *self.unfinished)}

    def find(self, name: str, *, unfinished: bool = False) -> Version:
        """Return a version by name; raises TgqError where there is none."""
        for version in (*self.whole, *(self.unfinished if unfinished else ())):
            if version.name == name:
                return version
        known = [version.name for version in self.whole]
        if name in self.names:
            raise TgqError(f"version {name} is not finished; run the job that builds it again, or drop it")
        raise TgqError(f"the store has no version {name!r}; {nearest(name, known, 'it has')}")

    def start(self, spec: VersionSpec, created: str) -> Ledger:
        """Add an unfinished version."""
        version = Version(**asdict(spec), name=f"v{self.begun + 1}", created=created)
        return replace(self, unfinished=(*self.unfinished, version), begun=self.begun + 1)

    def finish(self, name: str) -> Ledger:
        """Move an unfinished version to those that are whole; one that is whole stays so."""
        version = self.find(name, unfinished=True)
        if version in self.whole:
            return self
        rest = tuple(one for one in self.unfinished if one.name != name)
        return replace(self, whole=(*self.whole, version), unfinished=rest)

    def admit(self, name: str, model_version: str, model: str | None) -> Ledger:
        """Let a version hold vectors of one more model; what is new is embedded by it. model: where it lies."""
        version = self.find(name)
        if model_version in version.models:
            return self
        more = replace(version, also=(*version.also, model_version), model=model or version.model)
        return replace(self, whole=tuple(more if one.name == name else one for one in self.whole))

    def serve(self, name: str) -> Ledger:
        """Serve a version that is whole."""
        version = self.find(name)
        history = (*(one for one in self.history if one != version.name), version.name)
        return replace(self, history=history, shares=())

    def share(self, shares: Mapping[str, float]) -> Ledger:
        """Let other versions give parts of the answers, the served one the rest; none ends that."""
        for name, part in shares.items():
            version = self.find(name)
            if version == self.served:
                raise TgqError(
                    f"version {name} is served: it gives what the others leave; give the shares of the others"
                )
            if not 0 < part < 1:
                raise TgqError(f"the share of {name} is {part:g}; a share lies between 0 and 1")
        if sum(shares.values()) >= 1:
            raise TgqError(
                "the shares leave nothing to the served version; give less, or `tgq store serve` another one"
            )
        return replace(self, shares=tuple(shares.items()))

    def rollback(self) -> Ledger:
        """Serve the version that was served before this one."""
        if len(self.history) < 2:
            raise TgqError(
                "no version was served before the present one, or it was dropped; `tgq store versions` lists all"
            )
        return replace(self, history=self.history[:-1], shares=())

    def drop(self, name: str) -> Ledger:
        """Forget a version that is not served."""
        self.find(name, unfinished=True)
        if self.history[-1:] == (name,):
            raise TgqError(f"version {name} is served; serve another one before you drop it")
        if name in dict(self.shares):
            raise TgqError(f"version {name} gives a share of the answers; end that by `tgq store share STORE`")
        return replace(
            self,
            whole=tuple(one for one in self.whole if one.name != name),
            unfinished=tuple(one for one in self.unfinished if one.name != name),
            history=tuple(one for one in self.history if one != name),
        )

    def droppable(self, keep: int) -> list[str]:
        """Name the oldest whole versions beyond `keep`, but for the one served and the one before it."""
        needed = {*self.history[-2:], *dict(self.shares)}
        spare = [version.name for version in self.whole if version.name not in needed]
        return spare[: max(0, len(self.whole) - max(keep, 1))]

    def to_json(self) -> str:
        """Write the ledger as one line."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        """Read what `to_json` wrote; raises TgqError for a later format."""
        content: dict[str, Any] = json.loads(text)
        if content.pop("format") != FORMAT:
            raise TgqError("the store was written by another version of tgqformer; build it anew with `tgq index`")
        whole, unfinished = (
            tuple(Version(**{**one, "also": tuple(one.get("also", ()))}) for one in content[key])
            for key in ("whole", "unfinished")
        )
        shares = tuple((name, part) for name, part in content.get("shares", ()))
        return cls(whole, unfinished, tuple(content["history"]), content["begun"], content.get("identity", ""), shares)


def alike(one: VersionSpec, other: VersionSpec) -> bool:
    """Say whether two versions hold the same vectors: of one model, one width, one dtype."""
    return (one.model_version, one.dim, one.dtype) == (other.model_version, other.dim, other.dtype)
