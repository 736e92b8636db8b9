"""Answer a GET from the swarm: the hub brings the content, the client gets it while it arrives.

The head is sent when the first bytes are here, so that whatever fails before them still becomes a
status of its own; after that a failure ends the connection. What is small is sent with its
head, once all of it is here. Does not decide what goes this way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Final

import msgspec

from odonata.wire.message import ByteRange, Download, Value
from peer.core.proxy_header import HeaderList, shared_answer_header, value_of
from peer.core.proxy_range import (
    Multipart,
    content_range,
    content_range_unsatisfied,
    multipart,
    parts_within,
)
from peer.core.proxy_rule import RequestHead, Swarm
from peer.runtime.port import Segment, TaskHub, TaskView
from peer.runtime.proxy.content import SLICE, slices, whole
from peer.runtime.proxy.conversation import Conversation
from peer.runtime.proxy.gate import Gate
from peer.runtime.proxy.option import ProxyCounters

SMALL: Final = 256 * 1024
"""Content up to here is sent in one piece with its head."""


class _Plan(Value, frozen=True, kw_only=True):
    """The answer's head, and which bytes follow: `part` (None: all of them) unless not `body`."""

    status: int
    headers: HeaderList = ()
    length: int | None = None
    """Of the body; None: nobody knows, or there is none."""
    part: ByteRange | None = None
    parts: Multipart | None = None
    """Several parts instead."""
    body: bool = True


class SwarmAnswer:
    """Answers by the hub. `headers` go with every answer. `linger`: of downloads."""

    def __init__(
        self,
        hub: TaskHub,
        gate: Gate,
        counters: ProxyCounters,
        headers: HeaderList,
        *,
        linger: bool,
    ) -> None:
        self._linger = linger
        self._hub = hub
        self._gate = gate
        self._counters = counters
        self._headers = headers

    async def answer(self, swarm: Swarm, head: RequestHead, conversation: Conversation) -> str:
        """Returns the task's id. Errors are the hub's, and come before the head or after it.

        The origin's word that this client may not have it comes before.
        """
        url = swarm.download.url
        if self._gate.is_open(url, head):
            view = await self._open(swarm.download)
        else:
            view = await self._open_if(self._gate.ask(url, head), swarm.download)
        try:
            await self._send(view, _plan(view, swarm), conversation)
            return view.task_id
        finally:
            await view.close()

    async def _open(self, download: Download) -> TaskView:
        view = await self._hub.open(download, linger=self._linger)
        if view.content_length is None and download.range is not None:
            # Nobody can say what part of an unknown length was asked for: everything is allowed.
            await view.close()
            view = await self._hub.open(_without_range(download), linger=self._linger)
        return view

    async def _open_if(self, permission: Coroutine[Any, Any, None], download: Download) -> TaskView:
        """Look for the content while the permission is asked for; its error comes first."""
        opening = asyncio.ensure_future(self._open(download))
        asking = asyncio.ensure_future(permission)
        try:
            await asyncio.wait({opening, asking}, return_when=asyncio.FIRST_EXCEPTION)
            await asking
            return await opening
        except BaseException:
            for task in (opening, asking):
                task.cancel()
            await asyncio.wait({opening, asking})
            errors = [task.cancelled() or task.exception() for task in (opening, asking)]
            if errors[0] is None:
                await opening.result().close()
            raise

    async def _send(self, view: TaskView, plan: _Plan, conversation: Conversation) -> None:
        headers = (*plan.headers, *self._headers, *_task_headers(view))
        if not plan.body:
            await conversation.send_head(plan.status, headers)
            await conversation.end()
            return
        if plan.parts is not None:
            await self._send_parts(view, plan.parts, headers, conversation)
            return
        async with aclosing(view.read(plan.part)) as segments:
            segment = await anext(segments, None)
            if segment is not None and plan.length == segment.length <= SMALL:
                await self._send_whole(segment, segments, plan.status, headers, conversation)
                return
            await conversation.send_head(plan.status, headers)
            buffer = _buffer()
            while segment is not None:
                await self._send_segment(segment, buffer, conversation)
                segment = await anext(segments, None)
        await conversation.end()

    async def _send_whole(
        self,
        segment: Segment,
        segments: AsyncGenerator[Segment],
        status: int,
        headers: HeaderList,
        conversation: Conversation,
    ) -> None:
        data = await whole(segment)
        await anext(segments, None)  # its end says that the content is proved
        await conversation.send_whole(status, headers, data)
        self._counters.bytes_p2p += len(data)
        if conversation.has_more:
            await asyncio.sleep(0)  # nor must one that asks many times without waiting

    async def _send_parts(
        self, view: TaskView, several: Multipart, headers: HeaderList, conversation: Conversation
    ) -> None:
        buffer = _buffer()
        for place, (head, part) in enumerate(several.parts):
            async with aclosing(view.read(part)) as segments:
                segment = await anext(segments, None)
                if place == 0:
                    await conversation.send_head(206, headers)
                await conversation.send(head)
                while segment is not None:
                    await self._send_segment(segment, buffer, conversation)
                    segment = await anext(segments, None)
        await conversation.send(several.end)
        await conversation.end()

    async def _send_segment(
        self, segment: Segment, buffer: memoryview, conversation: Conversation
    ) -> None:
        async for data in slices(segment, buffer):
            await conversation.send(data)
            self._counters.bytes_p2p += len(data)
            await asyncio.sleep(0)  # a fast client must not keep the loop from all others


def _buffer() -> memoryview:
    return memoryview(bytearray(SLICE))


def _plan(view: TaskView, swarm: Swarm) -> _Plan:
    kept = shared_answer_header(view.response_header)
    length = view.content_length
    etag = value_of(kept, "etag")
    if etag is not None and _lists(swarm.if_none_match, etag):
        return _Plan(status=304, headers=kept, body=False)
    if length is None:
        return _Plan(status=200, headers=kept)
    kept = (*kept, ("Accept-Ranges", "bytes"))
    everything = _Plan(status=200, headers=(*kept, ("Content-Length", str(length))), length=length)
    wishes = swarm.parts or (() if swarm.wanted is None else (swarm.wanted,))
    if wishes and _same_content(swarm.if_range, kept):
        return _ranged(parts_within(wishes, length), length, kept) or everything
    return everything


def _ranged(parts: list[ByteRange] | None, length: int, kept: HeaderList) -> _Plan | None:
    """The answer to ranges of a content of that length; None: everything."""
    if parts is None:
        return None
    if not parts:
        unsatisfied = ("Content-Range", content_range_unsatisfied(length))
        return _Plan(status=416, headers=(unsatisfied, ("Content-Length", "0")), body=False)
    if len(parts) > 1:
        return _several(parts, length, kept)
    (part,) = parts
    about = (
        ("Content-Range", content_range(part, length)),
        ("Content-Length", str(part.length)),
    )
    return _Plan(status=206, headers=(*kept, *about), length=part.length, part=part)


def _several(parts: list[ByteRange], length: int, kept: HeaderList) -> _Plan:
    content_type = value_of(kept, "content-type")
    # Drawn, so that no content can have been made to hold it.
    body = multipart(parts, length, content_type, boundary=secrets.token_hex(16))
    others = (pair for pair in kept if pair[0].lower() != "content-type")
    about = (("Content-Type", body.content_type), ("Content-Length", str(body.length)))
    return _Plan(status=206, headers=(*others, *about), parts=body)


def _task_headers(view: TaskView) -> HeaderList:
    task = (("X-Dragonfly-Task-ID", view.task_id),)
    finished = (("X-Dragonfly-Task-Download-Finished", "true"),)
    return (*task, *finished) if view.was_local else task


def _without_range(download: Download) -> Download:
    return msgspec.structs.replace(download, range=None, prefetch=False)


def _lists(condition: str | None, etag: str) -> bool:
    """If-None-Match: weak comparison with any of the tags."""
    if condition is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in condition.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags


def _same_content(if_range: str | None, headers: HeaderList) -> bool:
    """If-Range: strong comparison with the tag, or the very date."""
    if if_range is None:
        return True
    etag = value_of(headers, "etag")
    if if_range.startswith(('"', "W/")):
        return etag == if_range and not if_range.startswith("W/")
    return value_of(headers, "last-modified") == if_range
