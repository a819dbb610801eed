"""Filling the token cache of a catalogue, piece by piece: by one process, by shards, by a cluster.

What is to be encoded stands in one list: the pictures of each view, then the texts, then the prompts of the language
model, each content once, in the order of the catalogue, without what the cache held when the filling began. It is cut
into pieces; each becomes files of its own, with the same bytes whoever writes them. `filling-….json` in the folder of
the cache says what it held at the beginning. It is there until all pieces are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL.Image import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item, Picture
from tgqformer.catalog.pictures import PictureError, read_picture
from tgqformer.cluster.work import Maker, fill_here, listed
from tgqformer.encoders.cache import Load, TextCache, VisualCache
from tgqformer.encoders.parts import MOST_BUFFERED, digests_of
from tgqformer.errors import TgqError
from tgqformer.files import read_json, write_json_once
from tgqformer.model.encoding import Encoders
from tgqformer.model.features import CatalogFeatures
from tgqformer.model.language import LanguageModel
from tgqformer.synthetic.noise import NoiseView
from tgqformer.types import Array, Hashes, Ints

PIECE = 1024
"""Pictures or texts of a partition, by default; fewer pictures where their tokens are wide."""
PICTURES, TEXTS = 32, 64
"""How many are encoded at once: other batches give other bits."""


@dataclass(frozen=True)
class _Listed:
    """Contents that are to be in one of the caches, each once: their digests [n, 2], and where they are cut."""

    cache: VisualCache | TextCache
    digests: Hashes
    cuts: Sequence[int]
    size: int

    def pieces(self, base: set[str]) -> list[Ints]:
        """Cut what is not in these files of the cache into pieces: places in the list."""
        fresh, found = np.flatnonzero(~self.cache.holds(self.digests, base)), list[Ints]()
        for part in np.split(fresh, np.searchsorted(fresh, self.cuts)):
            found += [part[first : first + self.size] for first in range(0, len(part), self.size)]
        return found


class CacheWork:
    """The `Work` of encoding what the models of a run read of a catalogue, in every view.

    size: pictures or texts of a piece, at most. workers: threads that encode; one per processor by default.
    """

    title = "encoding"

    def __init__(
        self,
        catalog: Catalog,
        encoders: Encoders,
        language: LanguageModel | None,
        views: Sequence[NoiseView],
        folder: Path,
        *,
        size: int = PIECE,
        workers: int | None = None,
    ) -> None:
        self.catalog, self.path, self._prompt, self._size = catalog, folder, encoders.prompt, size
        self._views, self._workers = {view.name: view for view in views}, workers
        self._visual = VisualCache(folder / "visual", encoders.vision)
        self._metadata = TextCache(folder / "text", encoders.text)
        self._states = TextCache(folder / "states", language) if language is not None else None
        self._texts, self._keys = list[str](), {name: list[list[str]]() for name in self._views}
        for item in catalog.items(pictures=False):
            seen = self._prompt.seen(item)
            self._texts.append(self._prompt.metadata(item))
            for name, view in self._views.items():
                self._keys[name].append(view.keys(item, seen))
        self._read = [*dict.fromkeys([*self._texts, ""])]
        prompts = [] if language is None else encoders.prompt.asked(self._read, language.fits)
        self._asked = dict(zip(self._read, prompts, strict=False))
        self._prompts = [*dict.fromkeys(prompts)]
        self._lists = self._listed()
        self._pieces = list[tuple[int, Ints]]()

    def _listed(self) -> dict[str, _Listed]:
        """List what is to be encoded, by the folder of its cache; of the pictures, note where each is."""
        first, cuts = dict[str, tuple[str, int, int]](), list[int]()
        for name, keys in self._keys.items():
            for at, own in enumerate(keys):
                for place, key in enumerate(own):
                    first.setdefault(key, (name, at, place))
            cuts.append(len(first))
        self._places = list(first.items())
        size = max(1, min(self._size, MOST_BUFFERED // self._visual.row_bytes))
        found = {"visual": _Listed(self._visual, digests_of(list(first)), cuts[:-1], size)}
        texts = {"text": (self._metadata, self._read)}
        if self._states is not None:
            texts["states"] = self._states, self._prompts
        return found | {name: _Listed(cache, digests_of(own), (), self._size) for name, (cache, own) in texts.items()}

    # --- beginning and ending -----------------------------------------------------------------------------------------

    def begin(self, *, alone: bool = True) -> CacheWork:
        """Begin a filling, or take up the one that another job began of the same contents and encoders.

        alone: whether this process does all of it; it may then take the place of another filling.

        Raises: TgqError where another filling was begun and not ended, unless this is done `alone`.
        """
        for other in self.path.glob("filling-*.json"):
            if other == self._note:
                continue
            if not alone:
                raise TgqError(
                    f"{self.path} is being filled by other settings, with another --partition-size or of another"
                    f" catalogue ({other.name}); shards of two must not be mixed: end that one with --finish, or let"
                    " one process go on alone (no --shard)"
                )
            other.unlink(missing_ok=True)
        held = {name: one.cache.files for name, one in self._lists.items()}
        if not self._is_whole():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json_once(self._note, held)
        return self._cut(held)

    def open(self) -> CacheWork:
        """Take up a filling that was begun, on whatever machine.

        Raises: TgqError where none was begun, or what is to be encoded is not the same here.
        """
        if not self._note.exists() and not self._is_whole():
            if not any(self.path.glob("filling-*.json")):
                raise TgqError(f"nothing was begun in {self.path}: fill it with --shard first")
            raise TgqError(
                f"{self.path} was begun with another --partition-size, by other encoders or of another catalogue:"
                " all machines need the same"
            )
        return self._cut({})

    def _cut(self, held: Mapping[str, list[str]]) -> CacheWork:
        try:
            base = read_json(self._note)
        except FileNotFoundError:  # another job has ended it: all is there
            base = held
        self._pieces = [
            (number, piece)
            for number, (name, one) in enumerate(self._lists.items())
            for piece in (one.pieces(set(base[name])) if name in base else [])
        ]
        return self

    @cached_property
    def _note(self) -> Path:
        """The file that says what the cache held when this filling began, named by all that decides its pieces."""
        whole = blake2b(json.dumps([PICTURES, TEXTS]).encode(), digest_size=8)
        for name, one in self._lists.items():
            whole.update(f"{name}\x1f{one.cache.fingerprint}\x1f{one.size}\x1f{list(one.cuts)}\x1f".encode())
            whole.update(one.digests.tobytes())
        return self.path / f"filling-{whole.hexdigest()}.json"

    def _is_whole(self) -> bool:
        for one in self._lists.values():
            _ = one.cache.files  # what others wrote meanwhile
        return all(one.cache.holds(one.digests).all() for one in self._lists.values())

    def finish(self) -> CatalogFeatures:
        """End the filling; return where everything is.

        Raises: TgqError where something is missing.
        """
        if missing := self.missing():
            raise TgqError(f"{self.path} is not finished: {listed(missing)}")
        if not self._is_whole():
            raise TgqError(f"{self.path}: files went while it was filled; call the same again")
        self._note.unlink(missing_ok=True)
        most = max((len(own) for keys in self._keys.values() for own in keys), default=1) or 1
        rows = {
            name: self._visual.rows([key for own in keys for key in (*own, *[None] * (most - len(own)))])
            for name, keys in self._keys.items()
        }
        texts = [*self._texts, ""]
        metadata = self._metadata.rows(texts)
        states = np.full(len(texts), -1)
        if self._states is not None:
            states = self._states.rows([self._asked[text] for text in texts])
        return CatalogFeatures(
            self._visual,
            self._metadata,
            self._states,
            {name: found.reshape(-1, most) for name, found in rows.items()},
            metadata[:-1],
            states[:-1],
            np.array([len(text) for text in self._texts]),
            int(metadata[-1]),
            int(states[-1]),
            self._prompt.pictures,
        )

    # --- pieces -------------------------------------------------------------------------------------------------------

    def missing(self) -> list[int]:
        """List the pieces of which something is not yet written."""
        lists, there = list(self._lists.values()), list[Array]()
        for one in lists:
            _ = one.cache.files
            there.append(one.cache.holds(one.digests))
        return [at for at, (number, piece) in enumerate(self._pieces) if not there[number][piece].all()]

    def rows(self, partition: int) -> int:
        """Return how many pictures or texts a piece has."""
        return len(self._pieces[partition][1])

    def fill(self, partitions: Sequence[int]) -> Iterator[int]:
        """Encode pieces; yield numbers of pictures or texts as they are done."""
        if not self._pieces:  # another job has ended the filling
            return
        asked = [self._pieces[partition] for partition in partitions]
        skipped = list[int]()
        for number, one in enumerate(self._lists.values()):
            own = [piece for of, piece in asked if of == number]
            if isinstance(one.cache, VisualCache):
                work = one.cache.filling(map(self._jobs, own), PICTURES, self._workers, skipped=skipped.append)
            else:
                texts = self._read if one.cache is self._metadata else self._prompts
                parts = ([texts[at] for at in piece] for piece in own)
                work = one.cache.filling(parts, TEXTS, self._workers, skipped=skipped.append)
            yield from work if own else ()
        yield sum(skipped)

    def _jobs(self, piece: Ints) -> Iterator[tuple[str, Load]]:
        """Return (key, what opens it) of the pictures of a piece; they are of one view, in the order of the items."""
        wanted = [(key, *place) for key, place in (self._places[at] for at in piece)]
        view, start = self._views[wanted[0][1]], wanted[0][2]
        items = enumerate(self.catalog.items(start, wanted[-1][2] + 1), start)
        position, item = next(items)
        for key, _, at, place in wanted:
            while position < at:
                position, item = next(items)
            yield key, partial(_picture, view, item, self._prompt.seen(item)[place])


def cache_features(
    catalog: Catalog,
    encoders: Encoders,
    language: LanguageModel | None,
    views: Sequence[NoiseView],
    folder: Path,
    *,
    make: Maker | None = None,
    shown: bool = True,
) -> CatalogFeatures:
    """Encode what is not in the cache yet, and say where everything is.

    Pictures are encoded once for each different content: an item that a view leaves as it is costs nothing more.
    Restartable: what a killed call has encoded is not encoded again. Streams the catalogue.

    make: makes what is missing; this process, by default.
    """
    work = CacheWork(catalog, encoders, language, views, folder).begin()
    if make is None:
        fill_here(work, shown=shown)
    else:
        make(work)
    return work.finish()


def _picture(view: NoiseView, item: Item, picture: Picture) -> Image:
    try:
        if picture.digest != item.pictures[0].digest:  # noise is laid on the first one alone
            return read_picture(picture, view.catalog.root)
        shown = view.render(item)
    except PictureError as error:
        raise TgqError(f"item {item.id!r}, view {view.name!r}: {error}") from error
    if shown is None:
        raise TgqError(f"item {item.id!r} has a key but no picture in the view {view.name!r}")
    return shown.picture
