"""What the service stands on: a store, the version of it that is served, and the swap to another without a pause."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from PIL.Image import Image

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.pictures import PictureError, decode
from tgqformer.errors import TgqError
from tgqformer.service.answers import Answers
from tgqformer.service.batching import Pool
from tgqformer.service.errors import ApiError
from tgqformer.service.events import Journal
from tgqformer.service.indexing import Indexing
from tgqformer.service.items import Items
from tgqformer.service.memory import give_back
from tgqformer.service.models import EXPORT, Models
from tgqformer.service.places import Places
from tgqformer.service.precomputed import Precomputed, find_neighbours, stamp
from tgqformer.service.served import Answer, Served, key_of
from tgqformer.service.settings import ServiceSettings
from tgqformer.service.sharing import LONGEST, Sharing
from tgqformer.service.shelf import Shelf
from tgqformer.service.telemetry import Telemetry
from tgqformer.service.uploads import Uploads
from tgqformer.service.writer import Write, Writer, carry_over
from tgqformer.store import open_store
from tgqformer.store.base import Filter, Store, Unreachable, trouble_of
from tgqformer.store.ledger import Version
from tgqformer.store.rules import Rules

T = TypeVar("T")
log = logging.getLogger("tgqformer.service")
KEPT = 4  # versions that are open beside the served one, and models in memory
TRIM_EVERY = 20.0  # seconds
FILL = 0.2  # seconds for which lists by rules are worked out beforehand without a look at the store
LOOK = 2.0  # seconds that an answer about health waits for a store that was lost


@dataclass(frozen=True)
class Refusal:
    """A version that could not be taken into service: tried `tries` times, and again at `due` (monotonic)."""

    key: str
    name: str
    tries: int
    due: float


class Site:
    """A store with its models, catalogue and neighbours, open and kept up to date. Made by `open_site`."""

    def __init__(self, store: Store, places: Places, settings: ServiceSettings, shelf: Shelf) -> None:
        self.store, self.places, self.settings = store, places, settings
        self.folder, self.telemetry = places.state, Telemetry()
        self.pool = Pool(settings.threads, settings.waiting, "searching")
        self.uploads = Uploads(settings)
        self.exploring = Pool(settings.explorer_threads, settings.waiting, "exploring")
        self.shelf, self.answers, self.journal = shelf, Answers(places.state), Journal(places.state)
        self._models = Models(places.models, KEPT, places.runtime)
        self._beside: OrderedDict[str, Served] = OrderedDict()
        self._opening = threading.RLock()
        self._showing = threading.Lock()
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="looking")
        self._refusal: Refusal | None = None
        self._sharing = Sharing(self._open, self._freshen)
        self._lost: Unreachable | None = None
        self._looks: asyncio.Task[bool] | None = None
        self._trimmed = monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        version = store.served
        if version is None:
            raise TgqError(f"{store.where} serves no version yet; see `tgq store versions` and `tgq store serve`")
        self.items = Items(self.shelf, places.catalog_of(version))
        self._seen = self._stamps()
        self._served = self._open(version)
        if places.runtime == "onnx" and self._served.embedder is None:
            raise TgqError(f"no folder holds the exported form of model {version.latest}; {EXPORT}")
        if places.models and self._served.embedder is None:
            log.warning("no folder of --model holds model %s, which is served: nothing can be embedded", version.latest)
        self.writer = Writer(self.shelf, lambda: self._served, store.begun, settings)
        self._indexing = Indexing(places.state, self.writer.held, store) if settings.memory_index else None
        self._carry_over(self._served)
        self._sharing.look(self.store)
        self._announce(self._served)

    # --- what is served -----------------------------------------------------------------------------------------------

    @property
    def served(self) -> Served:
        """The snapshot that is served now; take it once for an answer."""
        return self._served

    @property
    def refusal(self) -> Refusal | None:
        """The version that should be served and could not be opened at the last try; None where there is none."""
        return self._refusal

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """Hold the served snapshot while the block runs: what it needs to embed stays. For the thread of the loop."""
        served = self._served
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1

    def versions(self) -> list[Version]:
        """List the versions of the store, oldest first. Blocking for a few milliseconds."""
        return self.store.versions()

    def open_version(self, name: str) -> Served:
        """Open a version beside the served one, by its name or model version; a few stay open. Blocking.

        Raises: ApiError 404 where there is none.
        """
        served = self._served
        if name in (served.version.name, served.model_version):
            return served
        with self._opening:
            known = [one for one in self.store.versions() if name in (one.name, one.model_version)]
            if not known:
                raise ApiError(404, f"there is no version {name!r}", "ask for one that the store lists")
            key = key_of(known[-1])
            if key not in self._beside:
                self._beside[key] = self._open(known[-1])
            self._beside.move_to_end(key)
            while len(self._beside) > KEPT:
                self._beside.popitem(last=False)
            beside = self._beside[key]
            if beside.neighbours is not None:
                beside.neighbours.refresh()
            return beside

    async def similar(
        self,
        served: Served,
        item_id: str,
        k: int,
        where: Filter | None = None,
        rules: Rules | None = None,
        *,
        facts: bool = True,
    ) -> Answer:
        """Find similar items: looked up at once where they are precomputed, else searched in a thread."""
        answer = served.precomputed(item_id, k, where, rules)
        if answer is None:
            answer = await self.pool.run(lambda: served.live(item_id, k, where, rules, facts=facts))
        self.telemetry.answers.labels(answer.source).inc()
        return answer

    def chosen(self, who: str) -> Served:
        """Return the version that answers who asks: always the same, while the shares stay."""
        return self._sharing.chosen(self._served, who)

    # --- items --------------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue as it is on disk now; None where the service has none."""
        return self.items.catalog

    def item(self, item_id: str) -> Item | None:
        """Return an item of the served version with its pictures; None where it has not. Blocking."""
        return self.items.item(self._served, item_id)

    def picture(self, item_id: str) -> bytes | None:
        """Return the encoded bytes of an item's first picture; None where it has none. Blocking."""
        return self.items.picture(self._served, item_id)

    def stored(self, data: bytes) -> Image:
        """Decode a picture of the catalogue or of the shelf, one at a time; blocking.

        Raises: ApiError 500 where it is damaged.
        """
        try:
            with self._showing:
                return decode(data, self.settings.max_pixels)
        except PictureError as error:
            raise ApiError(500, "the picture of this item cannot be read", "import the catalogue again") from error

    async def write(self, write: Write) -> str:
        """Put or delete an item; return the model version that has the write. Durable when it returns."""
        return await self.writer.write(write)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Have blocking work done in a thread; raises ApiError 503 where too much waits."""
        return await self.pool.run(work, *arguments)

    async def explore(self, work: Callable[..., T], *arguments: object) -> T:
        """Do the same in the threads of the explorer, for which no answer of the API waits."""
        return await self.exploring.run(work, *arguments)

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for swaps and writes by others."""
        self._keep(self._watch())

    async def close(self) -> None:
        """Finish what is in work, then let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._looks is not None:
            await asyncio.wait([self._looks])
        await self.writer.close()
        for served in (self._served, *self._beside.values(), *self._sharing.versions):
            await served.batcher.close()
        self._looking.shutdown(wait=True)
        if self._indexing is not None:
            await asyncio.to_thread(self._indexing.close, (self._served, *self._sharing.versions))
        self.pool.close()
        self.exploring.close()
        self.uploads.close()
        self.journal.close()
        self.shelf.close()

    async def refresh(self) -> bool:
        """Look now what others did to the store; return whether another version was taken into service."""
        before = self._served
        try:
            await asyncio.wrap_future(self._looking.submit(self._look))
            self._lost = None
        except Unreachable as error:
            self._lost = error
            raise
        finally:
            for left in (*self._sharing.left(), *([before] if self._served is not before else [])):
                self._keep(_retire(left))
        return self._served is not before

    async def trouble(self) -> str | None:
        """Say why the service is not ready: the store is gone, or cannot be written; None where all is well.

        A store that was lost is looked at anew.
        """
        if (found := self.store.trouble() or trouble_of(self.places.state, "what comes in over HTTP")) is not None:
            return found
        for _ in range(2):  # a look that is at work may have begun before the store was back
            if self._lost is not None:
                await asyncio.wait([self._look_once()], timeout=LOOK)
        return None if self._lost is None else "the store cannot be reached"

    async def _watch(self) -> None:
        while True:
            due = monotonic() + self.settings.refresh
            while monotonic() < due and await asyncio.wrap_future(self._looking.submit(self._fill)):
                pass
            await asyncio.sleep(max(0.0, due - monotonic()))
            await asyncio.wait([self._look_once()])

    def _fill(self) -> bool:
        """Work out some lists by the rules; say whether more are left. Blocking."""
        served = self._served
        neighbours = served.neighbours
        if neighbours is not None and (neighbours.ruled.ready < 1 or served.index is not None):
            neighbours.fill(FILL, None if served.index is None else served.completed)
        ready = 1.0 if neighbours is None else neighbours.ruled.ready
        self.telemetry.ready.set(ready)
        return ready < 1

    def _look_once(self) -> asyncio.Task[bool]:
        """Return the look that is at work; begin one where there is none."""
        if self._looks is None or self._looks.done():
            self._looks = asyncio.get_running_loop().create_task(self.refresh())
            self._looks.add_done_callback(_log_failure)
        return self._looks

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look(self) -> None:
        self.store.refresh()
        version, served = self.store.served, self._served
        if version is None or (key_of(version) == served.key and version.latest == served.version.latest):
            self._refusal = None  # one that is served anew is tried anew
            self._renew(served)
        elif self._refusal is None or self._refusal.key != key_of(version) or self._refusal.due <= monotonic():
            self._swap(version)
        else:
            self._renew(served)
        self._sharing.look(self.store)
        self.telemetry.index.set(self._served.index is not None)
        self.telemetry.stale.set(len(self._served.neighbours.stale) if self._served.neighbours else 0)
        if monotonic() - self._trimmed > TRIM_EVERY:
            give_back()
            self._trimmed = monotonic()
        self.items.refresh()  # last: where the catalogue is gone, the store is looked at all the same

    def _freshen(self, served: Served) -> None:
        """Bring what was written over HTTP into a version, and take in what others wrote to it."""
        self._carry_over(served)
        if self._indexing is not None:
            self._indexing.look(served)
        if served.neighbours is not None:
            served.neighbours.refresh()

    def _swap(self, version: Version) -> None:
        """Open a version beside the served one; switch when it is ready and has every write."""
        seen = self._stamps()
        try:
            ready = self._open(version)
            if self._served.embedder is not None and ready.embedder is None:
                raise TgqError(f"no folder holds its model {version.latest}; name it with --model")
            self._carry_over(ready)
        except (TgqError, OSError, RuntimeError, ValueError) as error:
            self._refuse(version, error)
            return
        with self.writer.held():
            self._carry_over(ready)  # what was written meanwhile
            self._served, self._seen, self._refusal = ready, seen, None
        self.items.follow(self.places.catalog_of(version))
        self._announce(ready)

    def _carry_over(self, served: Served) -> None:
        carry_over(self.shelf, served, self.store.begun()[0])

    def _refuse(self, version: Version, error: Exception) -> None:
        """Go on with what is served; try this version again after pauses that grow: what is missing may come."""
        before = self._refusal
        tries = before.tries + 1 if before is not None and before.key == key_of(version) else 1
        pause = min(self.settings.refresh * 2**tries, LONGEST)
        self._refusal = Refusal(key_of(version), version.name, tries, monotonic() + pause)
        words = "version %s is not taken into service (tried %d times, again in %.0f s): %s"
        log.error(words, version.name, tries, pause, error, exc_info=_unless_expected(error))

    def _renew(self, served: Served) -> None:
        """Take in what others wrote to the served version, and a new table of neighbours."""
        if self._indexing is not None:
            self._indexing.look(served)
        if (seen := self._stamps()) != self._seen:
            anew = self._neighbours(served)
            with self.writer.held():
                if anew is not None:
                    anew.refresh()  # what was written meanwhile
                served.neighbours, self._seen = anew, seen
            with self._opening:
                beside = list(self._beside.values())
            for other in (*self._sharing.versions, *beside):
                other.neighbours = self._neighbours(other)
        elif served.neighbours is not None:
            served.neighbours.refresh()

    def _open(self, version: Version) -> Served:
        with self._opening:
            table, model = self.store.table(version.name), self._models.of(version)
        seen, rules = self.telemetry.batches.observe, self.places.rules
        served = Served(table, model, None, pool=self.uploads.pool, settings=self.settings, rules=rules, seen=seen)
        served.neighbours = self._neighbours(served)
        if served.embedder is not None:
            served.embed_now([Item("warm", title="warm")], [None])
        return served

    def _neighbours(self, served: Served) -> Precomputed | None:
        found = find_neighbours(self.places.neighbours, served.model_version)
        if found is None and any(self._stamps()):
            log.warning("no table of neighbours was made by model %s; all is searched live", served.model_version)
        return None if found is None else Precomputed(found, served.table, self.folder, served.rules)

    def _stamps(self) -> list[str]:
        """What tells that a table of neighbours was made anew."""
        return [stamp(path) for path in self.places.neighbours]

    def _announce(self, served: Served) -> None:
        self.telemetry.info.clear()
        self.telemetry.info.labels(served.version.name, served.model_version).set(1)
        self.telemetry.swaps.inc()
        log.info("serving", extra={"about": served.about()})


def open_site(places: Places, settings: ServiceSettings) -> Site:
    """Open what is to be served; blocking, some seconds.

    Raises: TgqError where something is missing or damaged, saying what.
    """
    store, shelf = open_store(places.store, index_cache=settings.index_cache), Shelf(places.state / "shelf.sqlite")
    try:
        return Site(store, places, settings, shelf)
    except BaseException:
        shelf.close()
        raise


async def _retire(served: Served) -> None:
    """Let go of a version once nobody uses it."""
    while served.users:
        await asyncio.sleep(0.05)
    await served.batcher.close()


def _log_failure(look: asyncio.Task[bool]) -> None:
    if not look.cancelled() and (error := look.exception()) is not None:
        log.error("looking at the store failed: %s", error, exc_info=_unless_expected(error))


def _unless_expected(error: BaseException) -> BaseException | None:
    return None if isinstance(error, TgqError) else error
