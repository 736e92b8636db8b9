"""Spans as the rest of the house sees them, and how their context travels between programs.

The span that work belongs to is in a context variable: whatever a coroutine or a task does, and the
tasks that it starts, belong to it. `carried()` is what a call to another program has to take along
for its spans to become children of ours (W3C trace context, as gRPC metadata). Without tracing all
of this is one look at an empty variable.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Attribute: TypeAlias = str | int | float | bool | tuple[str, ...]
Attributes: TypeAlias = Mapping[str, Attribute]

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"


class Span(Protocol):
    """Something that takes time. It is over when `end` was called; the first call counts."""

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will see it: if not, spare the trouble of finding out attributes."""
        ...

    @property
    def metadata(self) -> Metadata:
        """Its context, for calls to other programs."""
        ...

    def tell(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...

    def note(self, name: str, attributes: Attributes) -> None:
        """Something happened at this moment."""
        ...

    def fail(self, reason: str) -> None:
        """It did not go well."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


class Tracer(Protocol):
    """Starts spans, and sends those that are over to a collector, in the background."""

    @property
    def is_on(self) -> bool:
        """False: nothing of it is ever seen."""
        ...

    def start(self, name: str, attributes: Attributes | None = None) -> Span:
        """Start a child of the span that this work belongs to; a root if it belongs to none."""
        ...

    def serve(self, name: str, metadata: Metadata, attributes: Attributes) -> Span:
        """Start the span of a call that came with `metadata`: a child of the caller's, if any."""
        ...

    async def close(self) -> None:
        """Send what is over, for a moment; what is left then is lost."""
        ...


class NoSpan:
    """Nothing."""

    is_recorded = False
    metadata: Metadata = ()

    def tell(self, attributes: Attributes) -> None: ...
    def note(self, name: str, attributes: Attributes) -> None: ...
    def fail(self, reason: str) -> None: ...
    def end(self) -> None: ...


NO_SPAN: Final = NoSpan()


class NoTracer:
    """Tracing is off."""

    is_on = False

    def start(self, name: str, attributes: Attributes | None = None) -> Span:
        del name, attributes
        return NO_SPAN

    def serve(self, name: str, metadata: Metadata, attributes: Attributes) -> Span:
        del name, metadata, attributes
        return NO_SPAN

    async def close(self) -> None: ...


NO_TRACER: Final = NoTracer()

_CURRENT: Final[ContextVar[Span]] = ContextVar("span", default=NO_SPAN)


def current() -> Span:
    """The span that this work belongs to."""
    return _CURRENT.get()


def carried() -> Metadata:
    """What a call to another program takes along."""
    return _CURRENT.get().metadata


@contextmanager
def within(span: Span) -> Generator[None]:
    """What is done here belongs to `span`. It ends elsewhere."""
    token = _CURRENT.set(span)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def spanning(span: Span) -> Generator[Span]:
    """What is done here is `span`: it fails with an exception, and ends."""
    with within(span):
        try:
            yield span
        except BaseException as error:
            span.fail(getattr(error, "detail", "") or type(error).__name__)
            raise
        finally:
            span.end()
