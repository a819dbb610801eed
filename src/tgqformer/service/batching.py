"""Work that is cheaper together: requests wait a few milliseconds for each other and are worked on as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from tgqformer.service.errors import overloaded

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """A bounded queue of jobs, taken in batches by threads.

    Args:
        work: takes up to `size` jobs and gives a result for each, in order; called in a thread.
        size: jobs of one batch. wait: seconds that the first job waits for more. queue: jobs that may wait.
        workers: batches at once. name: for messages and threads.
        seen: told the size of every batch.
    """

    def __init__(
        self,
        work: Callable[[list[In]], Sequence[Out]],
        *,
        size: int,
        wait: float,
        queue: int,
        workers: int = 1,
        name: str = "batch",
        seen: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._size, self._wait, self._limit = work, size, wait, queue
        self._workers, self._name, self._seen = workers, name, seen
        self._queue: asyncio.Queue[tuple[In, asyncio.Future[Out]]] = asyncio.Queue()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._queue.qsize()

    async def submit(self, job: In) -> Out:
        """Have a job done; raises ApiError 503 where too many wait already, and whatever `work` raised for it."""
        if self._queue.qsize() >= self._limit:
            raise overloaded(f"{self._limit} wait for {self._name}")
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._run()) for _ in range(self._workers)]
        done: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((job, done))
        return await done

    async def close(self) -> None:
        """Finish what waits, then stop the threads."""
        if self._tasks:
            await self._queue.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            taken = await self._take()
            wanted = [(job, done) for job, done in taken if not done.done()]  # the others gave up waiting
            if wanted:
                self._seen(len(wanted))
                await self._finish(wanted)
            for _ in taken:
                self._queue.task_done()

    async def _take(self) -> list[tuple[In, asyncio.Future[Out]]]:
        loop, taken = asyncio.get_running_loop(), [await self._queue.get()]
        until = loop.time() + self._wait
        while len(taken) < self._size:
            if self._queue.empty():
                if (left := until - loop.time()) <= 0:
                    break
                await asyncio.sleep(min(left, 0.001))
            else:
                taken.append(self._queue.get_nowait())
        return taken

    async def _finish(self, wanted: list[tuple[In, asyncio.Future[Out]]]) -> None:
        """Work on a batch; where that fails, on each job alone, so that one bad job spoils no other."""
        finished = asyncio.wrap_future(self._pool.submit(self._work, [job for job, _ in wanted]))
        await asyncio.wait([finished])
        error = finished.exception()
        if error is None:
            for (_, done), result in zip(wanted, finished.result(), strict=True):
                if not done.done():
                    done.set_result(result)
        elif len(wanted) == 1:
            if not wanted[0][1].done():
                wanted[0][1].set_exception(error)
        else:
            for one in wanted:
                await self._finish([one])


class Pool:
    """Threads for blocking work, with a bounded number of jobs waiting."""

    def __init__(self, threads: int, waiting: int, name: str = "work") -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._limit, self._name, self.jobs = threads + waiting, name, 0

    @property
    def full(self) -> bool:
        """Whether no more jobs may wait."""
        return self.jobs >= self._limit

    async def run(self, work: Callable[..., Out], *arguments: object) -> Out:
        """Have `work(*arguments)` done in a thread; raises ApiError 503 where too many jobs wait."""
        if self.full:
            raise overloaded(f"{self._limit} wait for {self._name}")
        self.jobs += 1
        loop = asyncio.get_running_loop()
        job = self._pool.submit(work, *arguments)
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))  # also where nobody waits any more
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Let running jobs end; drop those that wait."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self) -> None:
        self.jobs -= 1
