"""Micro-batching: what is answered together, what waits, and what a failure touches."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from export.serving import batcher as module
from export.serving.admission import Admission
from export.serving.batcher import MicroBatcher
from export.serving.responses import RequestError
from export.serving.settings import Settings

Batches = list[list[int]]


async def settle() -> None:
    """Lets every task of the loop run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def run(
    thread: ThreadPoolExecutor,
    scenario: Callable[[MicroBatcher[int, int]], Awaitable[None]],
    *,
    answer: Callable[[list[int]], list[int]] = lambda items: [10 * item for item in items],
    max_wait_ms: float = 5.0,
) -> Batches:
    """The batches that were made."""
    batches: Batches = []

    def noted(items: list[int]) -> list[int]:
        batches.append(items)
        return answer(items)

    async def main() -> None:
        batcher = MicroBatcher[int, int](noted, thread, max_batch=4, max_wait_ms=max_wait_ms)
        server = asyncio.create_task(batcher.serve())
        async with asyncio.timeout(60):
            await scenario(batcher)
        server.cancel()

    asyncio.run(main())
    return batches


def test_what_is_there_together_is_answered_together(thread: ThreadPoolExecutor) -> None:
    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        assert await asyncio.gather(*(batcher.submit(item) for item in range(6))) == [0, 10, 20, 30, 40, 50]

    assert run(thread, scenario) == [[0, 1, 2, 3], [4, 5]]


def test_what_is_alone_does_not_wait(thread: ThreadPoolExecutor) -> None:
    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        assert await batcher.submit(1) == 10

    assert run(thread, scenario, max_wait_ms=1e9) == [[1]]


def test_what_is_there_waits_for_what_has_arrived(thread: ThreadPoolExecutor) -> None:
    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        batcher.arriving = 1
        first = batcher.submit(1)
        await settle()
        second = batcher.submit(2)
        batcher.arrived()
        assert await asyncio.gather(first, second) == [10, 20]

    assert run(thread, scenario, max_wait_ms=1e9) == [[1, 2]]


def test_nothing_waits_for_longer_than_it_may(thread: ThreadPoolExecutor) -> None:
    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        batcher.arriving = 1  # and never comes
        assert await batcher.submit(1) == 10

    assert run(thread, scenario, max_wait_ms=10) == [[1]]


def test_while_a_batch_runs_the_next_gathers(thread: ThreadPoolExecutor) -> None:
    runs = threading.Event()

    def answer(items: list[int]) -> list[int]:
        runs.wait(60)
        return items

    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        first = batcher.submit(0)
        await settle()
        others = [batcher.submit(item) for item in (1, 2, 3)]
        runs.set()
        await asyncio.gather(first, *others)

    assert run(thread, scenario, answer=answer) == [[0], [1, 2, 3]]


def test_an_answer_that_nobody_wants_is_not_made(thread: ThreadPoolExecutor) -> None:
    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        gone, wanted = batcher.submit(1), batcher.submit(2)
        gone.cancel()
        assert await wanted == 20

    assert run(thread, scenario) == [[2]]


def test_one_failure_leaves_the_others_their_answers(thread: ThreadPoolExecutor) -> None:
    def answer(items: list[int]) -> list[int]:
        if 2 in items:
            raise ArithmeticError("on purpose")
        return items

    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        found = await asyncio.gather(*(batcher.submit(item) for item in (1, 2, 3)), return_exceptions=True)
        assert (found[0], found[2]) == (1, 3)
        assert isinstance(found[1], ArithmeticError)

    assert run(thread, scenario, answer=answer) == [[1, 2, 3], [1], [2], [3]]


def test_after_a_failure_nobody_is_answered_who_has_left(thread: ThreadPoolExecutor) -> None:
    fails = threading.Event()

    def answer(items: list[int]) -> list[int]:
        if len(items) > 1:
            fails.wait(60)
            raise ArithmeticError("on purpose")
        return items

    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        gone, wanted = batcher.submit(1), batcher.submit(2)
        await settle()
        gone.cancel()
        fails.set()
        assert await wanted == 2

    assert run(thread, scenario, answer=answer) == [[1, 2], [2]]


def test_what_is_large_does_not_make_others_as_large(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ELEMENTS", 10)

    async def scenario(batcher: MicroBatcher[int, int]) -> None:
        await asyncio.gather(*(batcher.submit(item, size) for item, size in ((1, 2), (2, 2), (3, 9), (4, 100))))

    assert run(thread, scenario) == [[1, 2], [3], [4]]


def test_a_full_queue_lets_nobody_in_and_says_for_how_long() -> None:
    admission = Admission(max_records=2, max_bytes=100)
    admission.observe(1, 3.0)
    with admission.admit(10) as permit:
        permit.grow(2)
        with pytest.raises(RequestError, match="2 records are waiting") as error, admission.admit(10):
            pass
    assert (error.value.status, error.value.retry_after) == (429, 6)
    assert (admission.records, admission.bytes) == (0, 0)


def test_bytes_are_bounded_but_for_one_request() -> None:
    admission = Admission(max_records=9, max_bytes=100)
    with (
        admission.admit(200),
        pytest.raises(RequestError, match="no more are admitted"),
        admission.admit(1),
    ):
        pass


def test_more_records_than_are_ever_taken_are_told_so() -> None:
    admission = Admission(max_records=2, max_bytes=100)
    with admission.admit(1) as permit, pytest.raises(RequestError, match="has 3 records; at most 2") as error:
        permit.grow(3)
    assert error.value.status == 413
    with admission.admit(1) as one, admission.admit(1), pytest.raises(RequestError, match="are waiting"):
        one.grow(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0; give at least 1"),
        ({"max_wait_ms": -1.0}, "max_wait_ms is -1.0; give at least 0"),
        ({"timeout_seconds": 0.0}, "timeout_seconds is 0.0; give seconds above 0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is nan; give seconds above 0"),
        ({"drain_seconds": float("inf")}, "drain_seconds is inf; give at least 0, and a finite number"),
        ({"token": "short"}, "the token has 5 characters; give at least 16 of ASCII"),
        ({"token": "sixteen and more\n"}, "the token has 17 characters; .* without white space around them"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**changes)  # type: ignore[arg-type]
