"""The answering side of a call on grpcio's stack: order, bounds, and the one way it ends."""

from __future__ import annotations

import asyncio

from odonata.errors import CapacityError, NotFoundError
from odonata.grpc_outlet import QueuedOutlet
from odonata.grpc_service import MAX_QUEUED_RESPONSES


async def test_responses_leave_in_order_and_before_the_end() -> None:
    outlet = QueuedOutlet()
    sent: list[int] = []

    async def write(response: int) -> None:
        sent.append(response)

    for number in range(5):
        assert outlet.write(number)
    outlet.end()
    assert await outlet.drain(write) is None
    assert sent == [0, 1, 2, 3, 4]


async def test_an_error_comes_after_the_responses_and_the_first_end_counts() -> None:
    outlet = QueuedOutlet()
    sent: list[str] = []

    async def write(response: str) -> None:
        sent.append(response)

    error = NotFoundError("gone")
    draining = asyncio.ensure_future(outlet.drain(write))
    outlet.write("one")
    outlet.end(error)
    outlet.end()
    assert not outlet.write("two")
    assert await asyncio.wait_for(draining, 20) is error
    assert sent == ["one"]


async def test_a_client_that_reads_nothing_is_cut_instead_of_filling_the_memory() -> None:
    outlet = QueuedOutlet()
    entered, blocked = asyncio.Event(), asyncio.Event()

    async def write(_response: str) -> None:
        entered.set()
        await blocked.wait()

    draining = asyncio.ensure_future(outlet.drain(write))
    assert outlet.write("first")
    await asyncio.wait_for(entered.wait(), 20)
    assert all(outlet.write("more") for _ in range(MAX_QUEUED_RESPONSES))
    assert not outlet.write("too much")
    assert outlet.has_ended
    blocked.set()
    assert isinstance(await asyncio.wait_for(draining, 20), CapacityError)


async def test_a_response_that_is_never_taken_ends_the_call() -> None:
    outlet = QueuedOutlet()

    async def write(_response: str) -> None:
        await asyncio.Event().wait()

    outlet.write("one")
    draining = outlet.drain(write, timeout_s=0.01)
    assert isinstance(await asyncio.wait_for(draining, 20), CapacityError)
