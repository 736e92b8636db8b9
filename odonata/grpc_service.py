"""What a service looks like to our gRPC servers, whichever of them carries it.

A service is an object whose methods are named like the rpcs of its descriptor. There are four
forms of a method, told apart by how it is written:

- `async def rpc(request, context)`: a coroutine, in a task of its own. A client's stream is an
  async iterator as `request`; a stream of answers is written to the context;
- the same with `yield`: an async generator of answers;
- `def rpc(request, context)`, for one request and one answer: answers at once;
- `def rpc(outlet) -> Listener`, for a stream in both directions: is told of the messages as they
  arrive, all those of one read together, and answers when it likes. No task is switched to.

No transport is named here, and nothing is served.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from odonata.errors import CapacityError, OdonataError

Metadata = tuple[tuple[str, str | bytes], ...]

Watched: TypeAlias = AbstractContextManager[Any]
"""Around one call. What it enters with takes the place of the request; an error ends it."""
Watch: TypeAlias = Callable[[MethodDescriptor], Callable[[Any, Any], Watched]]
"""Asked once for each rpc for what its calls go through: (request, context) -> `Watched`. Of a
method that makes a listener the request is None and the context the outlet."""

MAX_QUEUED_RESPONSES: Final = 64
"""Of one outlet. A stock peer gets one answer for each register or reschedule and leaves after
five; our own get a few more as others join. Whoever has 64 unread does not read (about 10 KiB
each)."""
WRITE_TIMEOUT_S: Final = 10.0
"""The same as a stock client allows for one send. A response that was not taken by then never will
be."""


class ClientConnection(Protocol):
    """The connection that a call came over, where the server knows it."""

    @property
    def id(self) -> int:
        """Unique among the connections of this process."""
        ...

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the connection is gone (at once, if it is)."""
        ...


class Outlet(Protocol):
    """The answering side of a call that a `Listener` listens to."""

    @property
    def connection(self) -> ClientConnection | None:
        """What the call came over; None where that can't be told."""
        ...

    def invocation_metadata(self) -> Metadata:
        """What the client's headers say."""
        ...

    def write(self, response: Any) -> bool:
        """Send a response; False if the call is over instead, or ends since nobody reads."""
        ...

    def end(self, error: OdonataError | None = None) -> None:
        """End the call after the responses so far: OK, or with `error`. The first end counts."""
        ...


class Listener(Protocol):
    """The listening side of a call. An OdonataError that it raises ends the call."""

    def on_messages(self, requests: Sequence[Any]) -> None:
        """Requests in their order. None come once the outlet was ended."""

    def on_end(self) -> None:
        """The client says no more."""

    def on_close(self) -> None:
        """The call is over, however it came about. Always the last to be called, and once."""


class Form(Enum):
    """How a method is written."""

    ABSENT = auto()
    COROUTINE = auto()
    AT_ONCE = auto()
    LISTENER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One rpc of a service. `implementation` is a coroutine function where the form says so.

    Of an absent one it is told of each call that is refused for it, with the context.
    """

    service: str
    name: str
    form: Form
    implementation: Any
    client_streams: bool
    server_streams: bool
    parse: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    @property
    def missing(self) -> str:
        """What the caller of an rpc without implementation is told."""
        return f"{self.service}/{self.name} is not implemented by this server"


def rpcs_of(
    descriptor: ServiceDescriptor, parts: Sequence[object], watches: Sequence[Watch] = ()
) -> list[Rpc]:
    """Describe all rpcs of a service; each is implemented by the first part that has it.

    Its calls go through `watches`, the first of them outermost.
    """
    return [_rpc(method, _method_of(parts, method.name), watches) for method in descriptor.methods]


def _method_of(parts: Sequence[object], name: str) -> Any:
    return next((getattr(part, name) for part in parts if hasattr(part, name)), None)


def _rpc(method: MethodDescriptor, implementation: Any, watches: Sequence[Watch]) -> Rpc:
    form = Form.COROUTINE
    if implementation is None:
        form = Form.ABSENT
    elif inspect.isasyncgenfunction(implementation):
        implementation = written(implementation)
    elif not inspect.iscoroutinefunction(implementation):
        form = Form.LISTENER if method.client_streaming else Form.AT_ONCE
        if method.client_streaming is not method.server_streaming:
            raise TypeError(f"{method.full_name}: a plain method has to be a coroutine here")
    if watches or form is Form.ABSENT:
        around = [watch(method) for watch in watches]
        implementation = _WATCHED[form](implementation, around)
    return Rpc(
        service=method.containing_service.full_name,
        name=method.name,
        form=form,
        implementation=implementation,
        client_streams=method.client_streaming,
        server_streams=method.server_streaming,
        parse=GetMessageClass(method.input_type).FromString,
        serialize=GetMessageClass(method.output_type).SerializeToString,
    )


def written(generator: Callable[[Any, Any], AsyncGenerator[Any]]) -> Any:
    """An async generator as a coroutine that writes to its context."""

    async def write_all(request: Any, context: Any) -> None:
        async with aclosing(generator(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    write_all.__qualname__ = generator.__qualname__
    return write_all


def _watched_coroutine(implementation: Any, watches: Sequence[Callable[..., Watched]]) -> Any:
    async def watched(request: Any, context: Any) -> Any:
        with ExitStack() as stack:
            for watch in watches:
                request = stack.enter_context(watch(request, context))
            return await implementation(request, context)

    watched.__qualname__ = implementation.__qualname__
    return watched


def _watched_at_once(implementation: Any, watches: Sequence[Callable[..., Watched]]) -> Any:
    def watched(request: Any, context: Any) -> Any:
        with ExitStack() as stack:
            for watch in watches:
                request = stack.enter_context(watch(request, context))
            return implementation(request, context)

    return watched


def _watched_absence(_: None, watches: Sequence[Callable[..., Watched]]) -> Any:
    def refused(context: Any) -> None:
        for watch in watches:
            with suppress(NotImplementedError), watch(None, context):
                raise NotImplementedError

    return refused


def _watched_listener(implementation: Any, watches: Sequence[Callable[..., Watched]]) -> Any:
    def watched(outlet: Outlet) -> Listener:
        return _WatchedListener(implementation, outlet, watches)

    return watched


_WATCHED: Final[dict[Form, Callable[[Any, Sequence[Callable[..., Watched]]], Any]]] = {
    Form.ABSENT: _watched_absence,
    Form.COROUTINE: _watched_coroutine,
    Form.AT_ONCE: _watched_at_once,
    Form.LISTENER: _watched_listener,
}


class _WatchedListener:
    """A listener between its watches and its outlet: it is both sides, to hear how the call ends.

    It is called in contexts of whoever reads the connection; what a watch sets (a span that is
    current) holds in one of its own, where all of the listener's work is done.
    """

    __slots__ = ("_context", "_error", "_has_ended", "_listener", "_outlet", "_stack")

    def __init__(
        self, implementation: Any, outlet: Outlet, watches: Sequence[Callable[..., Watched]]
    ) -> None:
        self._outlet = outlet
        self._error: BaseException | None = asyncio.CancelledError()  # unless it ends otherwise
        self._has_ended = False
        self._context = copy_context()
        self._stack = ExitStack()
        for watch in watches:
            self._context.run(self._stack.enter_context, watch(None, outlet))
        self._listener: Listener = self._context.run(implementation, self)

    @property
    def connection(self) -> ClientConnection | None:
        return self._outlet.connection

    def invocation_metadata(self) -> Metadata:
        return self._outlet.invocation_metadata()

    def write(self, response: Any) -> bool:
        return self._outlet.write(response)

    def end(self, error: OdonataError | None = None) -> None:
        self._note_end(error)
        self._outlet.end(error)

    def _note_end(self, error: OdonataError | None) -> None:
        if not self._has_ended:
            self._has_ended, self._error = True, error

    def on_messages(self, requests: Sequence[Any]) -> None:
        try:
            self._context.run(self._listener.on_messages, requests)
        except OdonataError as error:
            self._note_end(error)
            raise

    def on_end(self) -> None:
        self._context.run(self._listener.on_end)

    def on_close(self) -> None:
        try:
            self._context.run(self._listener.on_close)
        finally:
            error = self._error
            kind = None if error is None else type(error)
            self._context.run(self._stack.__exit__, kind, error, None)


def too_many_unread() -> CapacityError:
    """What ends a call whose client asks and does not read."""
    return CapacityError(
        f"{MAX_QUEUED_RESPONSES} answers wait to be read: read the stream as they come"
    )


def not_read_in_time() -> CapacityError:
    """What ends a call whose client does not read."""
    return CapacityError(
        f"an answer was not read within {WRITE_TIMEOUT_S:g} s: read the stream as they come"
    )
