"""Calls at work: each form of a method served over one HTTP/2 stream.

A call is a stream's sink and the handler's context in one. Errors become statuses here, and a
handler's bug is logged here; which methods there are, `server` knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from odonata.errors import InternalError, OdonataError, UnavailableError
from odonata.grpc_h2.call_head import OK, UNIMPLEMENTED, status_block
from odonata.grpc_h2.frame import Code
from odonata.grpc_service import (
    MAX_QUEUED_RESPONSES,
    WRITE_TIMEOUT_S,
    Listener,
    Metadata,
    Rpc,
    not_read_in_time,
    too_many_unread,
)
from odonata.grpc_status import status_of

if TYPE_CHECKING:
    from odonata.grpc_h2.protocol import H2Protocol
    from odonata.grpc_h2.stream import H2Stream

# What a message costs besides its bytes, while it waits for its handler.
_MESSAGE_OVERHEAD_BYTES = 64

_INTERNAL: Final = 13
_DEADLINE_EXCEEDED: Final = 4

_OK_BLOCK = status_block(OK)
_OK_ALONE = status_block(OK, alone=True)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An rpc as the server serves it.

    `head_block` begins its answers; `has_metadata`: with initial metadata of ours in it. `is_ours`:
    a service of the programs, whose calls get grace when the server stops; else health or
    reflection.
    """

    rpc: Rpc
    admit: Callable[[], None] | None
    head_block: bytes
    has_metadata: bool
    has_deadline: bool
    is_ours: bool


class Aborted(Exception):  # noqa: N818  # not an error of ours: how `abort` leaves a handler
    """A handler ended its call with a status."""


class Call:
    """What all forms share: the context's questions, and how a call ends."""

    __slots__ = ("_carrier", "_route", "_stream", "_timer")

    def __init__(self, carrier: H2Protocol, stream: H2Stream, route: Route) -> None:
        self._carrier = carrier
        self._stream = stream
        self._route = route
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the server waits for this call when it stops."""
        return self._route.is_ours

    @property
    def connection(self) -> H2Protocol:
        """The connection it came over."""
        return self._carrier

    def invocation_metadata(self) -> Metadata:
        """What the client's headers say, binary values as bytes."""
        return self._stream.head.metadata

    def peer(self) -> str:
        """Who calls, as gRPC writes it: "ipv4:10.0.0.1:4711"."""
        return self._carrier.peer

    def _begin(self) -> bool:
        """Send early metadata and ask for admission; False if the call was refused."""
        route = self._route
        if route.rpc.server_streams:
            self._stream.send_headers(route.head_block)
        if route.admit is not None:
            try:
                route.admit()
            except OdonataError as error:
                self._fail(error)
                return False
        return True

    def _start_timer(self) -> None:
        timeout_s = self._stream.head.timeout_s
        if timeout_s is not None and self._route.has_deadline:
            self._timer = self._carrier.loop.call_later(timeout_s, self._expire)

    def _expire(self) -> None:
        self._finish(_DEADLINE_EXCEEDED, "the caller's deadline has passed")

    def _fail(self, error: OdonataError) -> None:
        status, detail, trailers = status_of(error)
        self._finish(status.value[0], detail, trailers)

    def _crash(self) -> None:
        """For an `except Exception`: a bug must be seen, and is told without its innards."""
        rpc = self._route.rpc
        _log.exception("call_crashed", rpc=f"{rpc.service}/{rpc.name}")

    def _finish(self, status: int, message: str = "", trailers: Metadata = ()) -> None:
        self._end_timer()
        stream = self._stream
        if self._route.has_metadata:
            stream.send_headers(self._route.head_block)  # whoever is refused is told too
        if status == OK and not message and not trailers:
            stream.end(_OK_BLOCK if stream.headers_sent else _OK_ALONE)
        else:
            stream.end(status_block(status, message, trailers, alone=not stream.headers_sent))

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_end(self) -> None:
        """See Sink."""

    def on_sent(self) -> None:
        """See Sink."""

    def on_reset(self) -> None:
        """See Sink."""
        self._end_timer()

    def on_fault(self, status: int, reason: str) -> None:
        """See Sink."""
        self._finish(status, reason)

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """See Sink."""


def refuse_unknown(stream: H2Stream, what: str) -> None:
    """Answer UNIMPLEMENTED: there is no such rpc, or nobody serves it."""
    stream.end(status_block(UNIMPLEMENTED, what, alone=True))


class PlainCall(Call):
    """One request, answered at once by a plain method."""

    __slots__ = ("_request",)

    def __init__(self, carrier: H2Protocol, stream: H2Stream, route: Route) -> None:
        super().__init__(carrier, stream, route)
        self._request: bytes | None = None
        stream.sink = self
        self._begin()

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """See Sink."""
        if self._request is not None or len(messages) > 1:
            self._finish(_INTERNAL, "more than one message for an rpc that takes one")
            return
        self._request = messages[0]

    def on_end(self) -> None:
        """See Sink."""
        if self._request is None:
            self._finish(_INTERNAL, "no message for an rpc that takes one")
            return
        rpc, stream = self._route.rpc, self._stream
        try:
            payload = rpc.serialize(rpc.implementation(rpc.parse(self._request), self))
        except OdonataError as error:
            self._fail(error)
        except DecodeError:
            self._finish(_INTERNAL, "the request is not a message of the rpc's type")
        except Exception as error:  # noqa: BLE001  # supervises every call: a bug must be seen
            self._crash()
            self._fail(_bug(error))
        else:
            stream.send_headers(self._route.head_block)
            stream.send_message(payload)
            self._finish(OK)


class TaskCall(Call):
    """A coroutine in a task of its own, with grpc.aio's context for what our handlers use."""

    __slots__ = ("_cut_by", "_has_ended", "_inbox", "_news", "_sent", "_task", "_trailers")

    def __init__(self, carrier: H2Protocol, stream: H2Stream, route: Route) -> None:
        super().__init__(carrier, stream, route)
        self._inbox: deque[bytes] = deque()
        self._has_ended = False
        self._news: asyncio.Future[None] | None = None
        self._sent: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._trailers: Metadata = ()
        self._cut_by: OdonataError | None = None
        stream.sink = self
        if not self._begin():
            return
        self._start_timer()
        if route.rpc.client_streams:
            self._start(self._requests())

    # --- the context ---

    async def write(self, response: Any) -> None:
        """Send one answer of a stream; returns when it has left, or the client's window is full."""
        stream = self._stream
        if stream.send_message(self._route.rpc.serialize(response)):
            return
        self._sent = self._carrier.loop.create_future()
        await self._sent

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Begin the answer now, unless that was done already (as for every stream)."""
        self._stream.send_headers(self._carrier.head_block_of(metadata))

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What the end of the call shall carry."""
        self._trailers = metadata

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> None:
        """End the call with a status; leaves the handler."""
        self._finish(code.value[0], details, trailing_metadata or self._trailers)
        raise Aborted

    # --- the sink ---

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """See Sink."""
        if self._cut_by is not None:
            return
        size = sum(map(len, messages)) + _MESSAGE_OVERHEAD_BYTES * len(messages)
        self._stream.hold(size)
        self._inbox += messages
        _wake(self._news)

    def on_end(self) -> None:
        """See Sink."""
        self._has_ended = True
        _wake(self._news)
        if self._task is not None or self._route.rpc.client_streams:
            return
        if len(self._inbox) != 1:
            text = f"{len(self._inbox)} messages for an rpc that takes one"
            self._finish(_INTERNAL, text)
            return
        try:
            request = self._next()
        except Aborted:
            return
        self._start(request)

    def on_sent(self) -> None:
        """See Sink."""
        _wake(self._sent)

    def on_reset(self) -> None:
        """See Sink."""
        super().on_reset()
        self._stop()

    def on_fault(self, status: int, reason: str) -> None:
        """See Sink."""
        super().on_fault(status, reason)
        self._stop()

    # --- running ---

    def cut(self) -> None:
        """The server stops: cancel the handler, tell the caller."""
        self._cut_by = UnavailableError("this server shuts down")
        self._stop()

    def _expire(self) -> None:
        super()._expire()
        self._stop()

    def _start(self, request: Any) -> None:
        self._carrier.calls.add(self)
        self._task = self._carrier.loop.create_task(self._run(request))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, request: Any) -> None:
        rpc = self._route.rpc
        try:
            response = await rpc.implementation(request, self)
            if not rpc.server_streams:
                self._stream.send_headers(self._route.head_block)
                self._stream.send_message(rpc.serialize(response))
            self._finish(OK, trailers=self._trailers)
        except OdonataError as error:
            self._fail(error)
        except Aborted:
            pass
        except asyncio.CancelledError:
            if self._cut_by is not None:
                self._fail(self._cut_by)
            # Else the client went, or its deadline came: nobody is left to be told.
        except Exception as error:  # noqa: BLE001  # supervises every call: a bug must be seen
            self._crash()
            self._fail(_bug(error))
        finally:
            self._end_timer()
            self._carrier.calls.discard(self)

    async def _requests(self) -> AsyncIterator[Any]:
        while True:
            if self._inbox:
                yield self._next()
            elif self._has_ended:
                return
            else:
                self._news = self._carrier.loop.create_future()
                await self._news

    def _next(self) -> Any:
        message = self._inbox.popleft()
        self._stream.hold(-len(message) - _MESSAGE_OVERHEAD_BYTES)
        try:
            return self._route.rpc.parse(message)
        except DecodeError:
            self._finish(_INTERNAL, "a request is not a message of the rpc's type")
            raise Aborted from None


class ListeningCall(Call):
    """A listener that is told of messages as they arrive; no task, no queue of requests."""

    __slots__ = ("_has_ended", "_listener", "_write_timer")

    def __init__(self, carrier: H2Protocol, stream: H2Stream, route: Route) -> None:
        super().__init__(carrier, stream, route)
        self._has_ended = False
        self._listener: Listener | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        stream.sink = self
        if not self._begin():
            return
        self._start_timer()
        try:
            self._listener = route.rpc.implementation(self)
        except OdonataError as error:
            self.end(error)
        except Exception as error:  # noqa: BLE001  # supervises every call: a bug must be seen
            self._crash()
            self.end(_bug(error))
        else:
            carrier.calls.add(self)

    # --- the outlet ---

    def write(self, response: Any) -> bool:
        """See Outlet."""
        if self._has_ended or self._stream.closed:
            return False
        stream = self._stream
        if len(stream.pending) >= MAX_QUEUED_RESPONSES:
            self._cut_short(too_many_unread())
            return False
        if not stream.send_message(self._route.rpc.serialize(response)):
            self._await_reader()
        return True

    def end(self, error: OdonataError | None = None) -> None:
        """See Outlet."""
        if self._has_ended:
            return
        self._has_ended = True
        if error is None:
            self._finish(OK)
        else:
            self._fail(error)
        # Not now: whoever ends a call is in the middle of something.
        self._carrier.loop.call_soon(self._close)

    # --- the sink ---

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """See Sink."""
        if self._has_ended or self._listener is None:
            return
        parse = self._route.rpc.parse
        try:
            self._listener.on_messages([parse(message) for message in messages])
        except OdonataError as error:
            self.end(error)
        except DecodeError:
            self._has_ended = True
            self._finish(_INTERNAL, "a request is not a message of the rpc's type")
            self._close()
        except Exception as error:  # noqa: BLE001  # supervises every call: a bug must be seen
            self._crash()
            self.end(_bug(error))

    def on_end(self) -> None:
        """See Sink."""
        if self._listener is not None and not self._has_ended:
            self._listener.on_end()

    def on_sent(self) -> None:
        """See Sink."""
        self._end_write_timer()

    def on_reset(self) -> None:
        """See Sink."""
        super().on_reset()
        self._has_ended = True
        self._close()

    def on_fault(self, status: int, reason: str) -> None:
        """See Sink."""
        self._has_ended = True
        super().on_fault(status, reason)
        self._close()

    def cut(self) -> None:
        """The server stops."""
        self.end(UnavailableError("this server shuts down"))
        self._close()

    def _expire(self) -> None:
        self._has_ended = True
        super()._expire()
        self._close()

    def _await_reader(self) -> None:
        if self._write_timer is None:
            call_later = self._carrier.loop.call_later
            self._write_timer = call_later(WRITE_TIMEOUT_S, self._reader_is_late)

    def _reader_is_late(self) -> None:
        self._write_timer = None
        if self._has_ended:
            self._stream.reset(Code.CANCEL)
            self._close()
        else:
            self._cut_short(not_read_in_time())

    def _cut_short(self, error: OdonataError) -> None:
        """End without the responses that wait: nobody reads them."""
        if not self._stream.drop_pending():
            self._stream.reset(Code.CANCEL)  # a message is out in part: no status may follow it
        self.end(error)

    def _end_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        self._end_timer()
        if self._stream.closed:
            self._end_write_timer()
        if listener is not None:
            self._carrier.calls.discard(self)
            try:
                listener.on_close()
            except Exception:  # noqa: BLE001  # supervises every call: a bug must be seen
                self._crash()


def _bug(error: Exception) -> InternalError:
    return InternalError(f"a bug here ({type(error).__name__}): its log says more")


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
