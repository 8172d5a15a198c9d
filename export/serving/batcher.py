"""Batching of records of different requests that wait at the same time."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

MAX_ELEMENTS = 16_000_000
"""Of a batch's padded arrays: one long clip must not pad 31 short ones to its length."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    size: int
    """Elements of its arrays."""
    future: "asyncio.Future[Result]"
    since: float = field(default_factory=time.monotonic)


class MicroBatcher(Generic[Item, Result]):
    """Collects items into batches, one batch at a time.

    An item waits while the batch before it runs; then for at most ``max_wait_ms``, and only while other requests
    are ``arriving``, which are here whole and being read: a single item runs at once. If a batch fails, its items run
    one by one, so that one of them does not spoil the others.

    Args:
        run: items of a batch -> their results; called in the executor.
        executor: with one thread.
        max_wait_ms: of the first item of a batch.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        executor: Executor,
        *,
        max_batch: int,
        max_wait_ms: float,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.arriving = 0
        """Number of requests that are here whole, and whose items are not in the queue yet."""
        self._run = run
        self._executor = executor
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._observe = observe
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._changed = asyncio.Event()

    def submit(self, item: Item, size: int = 1) -> "asyncio.Future[Result]":
        """Future result; cancelling it removes the item from the queue."""
        waiting = _Waiting[Item, Result](item, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._changed.set()
        return waiting.future

    def arrives(self) -> None:
        """Begins the arrival of a request: its items will soon be in the queue."""
        self.arriving += 1

    def arrived(self) -> None:
        """Ends the arrival of a request: its items are in the queue, or will not come."""
        self.arriving -= 1
        self._changed.set()

    async def serve(self) -> None:
        """Runs batches until it is cancelled."""
        while True:
            while not self._queue:
                await self._wait(None)
            await self._gather()
            batch = self._take()
            if batch:
                await self._run_batch(batch)

    async def _wait(self, timeout: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _gather(self) -> None:
        """Waits for items that are arriving."""
        while self.arriving and len(self._queue) < self._max_batch:
            left = self._queue[0].since + self._max_wait - time.monotonic()
            if left <= 0:
                return
            await self._wait(left)

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Oldest items that are not cancelled and fit into one batch; at least one, if there is any."""
        batch: list[_Waiting[Item, Result]] = []
        largest = 0
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue[0]
            largest = max(largest, waiting.size)
            if batch and largest * (len(batch) + 1) > MAX_ELEMENTS:
                break
            self._queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    async def _run_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        self._observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._run, [waiting.item for waiting in batch])
        except Exception as error:  # whatever the model raises belongs to the item
            if len(batch) == 1:
                if not batch[0].future.done():
                    batch[0].future.set_exception(error)
                return
            for waiting in batch:
                if not waiting.future.done():
                    await self._run_batch([waiting])
            return
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
