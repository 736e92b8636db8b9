"""The answering side of a stream: order, bounds, and the one way it ends."""

from __future__ import annotations

import asyncio

import pytest

from odonata.errors import CapacityError, NotFoundError
from odonata.wire.message import EmptyTask, NeedBackToSource, SchedulerAnswer
from scheduler.runtime import stream as stream_module
from scheduler.runtime.stream import MAX_QUEUED_ANSWERS, PeerStream


async def test_answers_leave_in_order_and_before_the_end() -> None:
    stream = PeerStream()
    sent: list[SchedulerAnswer] = []

    async def write(answer: SchedulerAnswer) -> None:
        sent.append(answer)

    answers = [NeedBackToSource(description=str(number)) for number in range(5)]
    for answer in answers:
        assert stream.answer(answer)
    stream.close()
    assert await stream.drain(write) is None
    assert sent == answers


async def test_an_error_comes_after_the_answers_and_the_first_end_counts() -> None:
    stream = PeerStream()
    sent: list[SchedulerAnswer] = []

    async def write(answer: SchedulerAnswer) -> None:
        sent.append(answer)

    error = NotFoundError("gone")
    draining = asyncio.ensure_future(stream.drain(write))
    stream.answer(EmptyTask())
    stream.close(error)
    stream.close()
    assert not stream.answer(EmptyTask())
    assert await asyncio.wait_for(draining, 20) is error
    assert sent == [EmptyTask()]


async def test_a_client_that_reads_nothing_is_cut_instead_of_filling_the_memory() -> None:
    stream = PeerStream()
    blocked = asyncio.Event()

    async def write(_answer: SchedulerAnswer) -> None:
        await blocked.wait()

    draining = asyncio.ensure_future(stream.drain(write))
    assert stream.answer(EmptyTask())
    await asyncio.sleep(0)
    assert [stream.answer(EmptyTask()) for _ in range(MAX_QUEUED_ANSWERS)] == [
        True
    ] * MAX_QUEUED_ANSWERS
    assert not stream.answer(EmptyTask())
    assert stream.closed
    blocked.set()
    assert isinstance(await asyncio.wait_for(draining, 20), CapacityError)


async def test_an_answer_that_is_never_taken_ends_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "WRITE_TIMEOUT_S", 0.01)
    stream = PeerStream()

    async def write(_answer: SchedulerAnswer) -> None:
        await asyncio.Event().wait()

    stream.answer(EmptyTask())
    assert isinstance(await asyncio.wait_for(stream.drain(write), 20), CapacityError)
