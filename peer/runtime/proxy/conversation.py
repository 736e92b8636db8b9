"""HTTP/1.1 with one client, request after request, over one `Wire`; h11 is the grammar.

h11 takes a third of what a small request costs, so it is shown a plain one
(`peer.core.proxy_plain`) only if that is answered otherwise than by `send_whole`.

Pipelined requests wait inside h11, or in the wire, until the answer before them is complete. An
answer is either complete or visibly not: `cut` never lets a short body look whole. Decides nothing
about requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import ClassVar, Final, cast

import h11

from odonata.errors import CallerError, InternalError, OdonataError, SourceError
from peer.core.proxy_header import HeaderList
from peer.core.proxy_plain import PlainRequest, plain_answer_head, plain_request
from peer.core.proxy_rule import Address, RequestHead, absolute
from peer.core.proxy_syntax import (
    HeadTooLargeError,
    MalformedRequestError,
    UnknownCodingError,
    check_syntax,
)
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.proxy.wire import Wire

# What h11 is fed at once, so that its own limit on heads holds within a factor of two.
_FEED: Final = 64 * 1024
# A request body nobody wants is read up to this size to keep the connection, else it is closed.
_UNWANTED_BODY_MAX: Final = 256 * 1024
_UNWANTED_BODY_S: Final = 2.0
_PHRASES: Final = {one.value: one.phrase.encode() for one in HTTPStatus}


class RequestTimeoutError(CallerError):
    """A request did not come to its end."""

    code = "request_timeout"
    http_status: ClassVar[int] = 408


_BY_HINT: Final = {431: HeadTooLargeError, 501: UnknownCodingError}


class Conversation:
    """One client's requests and our answers, in turn."""

    def __init__(self, wire: Wire, options: ProxyOptions, *, inside: Address | None = None) -> None:
        """`inside`: the server that the client believes to speak with, in whose place we are."""
        self.wire = wire
        self.inside = inside
        self.status = 0
        """Of the current answer; 0 before its head was sent."""
        self.body_bytes = 0
        """Of the current answer's body, as sent so far."""
        self._options = options
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=options.head_bytes)
        self._old_client = False
        self._method = ""
        self._is_faulty = False
        """Nobody can rely on where the current request ends."""
        self._plain = b""
        """The head of the current request, if h11 has not seen it."""

    @property
    def has_more(self) -> bool:
        """The client has sent more than the current request, as far as anybody looked."""
        return bool(self._h11.trailing_data[0]) or self.wire.waiting_bytes > 0

    async def next_request(self) -> RequestHead | None:
        """The next request, None when the client has ended or been silent for long.

        Errors: MalformedRequestError, RequestTimeoutError; answer and close.
        """
        self.status, self.body_bytes, self._method = 0, 0, ""
        try:
            event = await self._head_event()
        except ConnectionError:
            return None
        if isinstance(event, PlainRequest):
            self._old_client, self._method = False, "GET"
            return self._head(event.target, event.headers)
        if not isinstance(event, h11.Request):
            return None
        self._old_client = event.http_version < b"1.1"
        self._method = event.method.decode("ascii")
        pairs = event.headers.raw_items()
        headers = tuple((name.decode("ascii"), _text(value)) for name, value in pairs)
        self._is_faulty = True
        check_syntax(event.http_version.decode(), headers)
        self._is_faulty = False
        return self._head(event.target.decode("ascii"), headers)

    def _head(self, target: str, headers: HeaderList) -> RequestHead:
        return RequestHead(
            method=self._method,
            target=target if self.inside is None else absolute(target, *self.inside),
            headers=headers,
            intercepted=self.inside is not None,
        )

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes; asks for it if the client waits to be asked."""
        self._show_plain()
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                self._h11.receive_data(await self._read_body())
            else:
                return

    async def send_head(self, status: int, headers: HeaderList, *, reason: bytes = b"") -> None:
        """Status line and headers; without Content-Length the body goes chunked.

        SourceError if HTTP does not allow such headers.
        """
        self._show_plain()
        try:
            response = h11.Response(
                status_code=status,
                headers=[(name.encode(), _bytes(value)) for name, value in headers],
                reason=reason,
            )
        except h11.LocalProtocolError as cause:
            raise SourceError(
                f"the origin answered with a header that HTTP forbids: {cause}"
            ) from None
        await self._write(response)
        self.status = status

    async def send(self, data: bytes | memoryview) -> None:
        """A part of the body, that may be overwritten afterwards; waits until it can be sent."""
        await self._write(h11.Data(data=cast("bytes", data)))
        self.body_bytes += len(data)

    async def end(self) -> None:
        """The answer is whole. InternalError if it is shorter than its Content-Length said."""
        await self._write(h11.EndOfMessage())

    async def send_whole(self, status: int, headers: HeaderList, body: bytearray) -> None:
        """A whole answer; `headers` tell the length of `body`. Errors: as of `send_head`."""
        head = plain_answer_head(status, headers) if self._plain else None
        if head is None:
            await self.send_head(status, headers)
            await self.send(memoryview(body))
            await self.end()
            return
        await self.wire.write(head + body, stall_s=self._options.write_stall_s)
        self.status, self.body_bytes = status, len(body)

    async def answer(self, status: int, text: str, headers: HeaderList = ()) -> None:
        """A whole answer of our own, in plain text.

        Go's clients show nothing but the first line of what refuses a CONNECT: it has words, too.
        """
        body = f"{text}\n".encode()
        own = (("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))))
        is_faulty = self._is_faulty or self._h11.their_state is h11.ERROR
        close = (("Connection", "close"),) if is_faulty else ()
        await self.send_head(status, (*headers, *own, *close), reason=_PHRASES.get(status, b""))
        if self._method != "HEAD":
            await self.send(body)
        await self.end()

    async def cut(self) -> None:
        """Give up on the answer so that nobody takes it for whole.

        Length and chunks tell an HTTP/1.1 client; what was handed over may still arrive, so that it
        can resume. HTTP/1.0 knows the end of some bodies by the end of the connection alone.
        """
        if self._old_client:
            self.wire.abort(reset=True)
        else:
            await self.wire.close()

    async def next_cycle(self) -> bool:
        """Make ready for the next request; False: the connection can't be used for one."""
        if self._plain:  # neither it nor its answer was h11's
            self._plain = b""
            return self.status != 0
        if self._h11.our_state is not h11.DONE:
            return False
        if self._h11.their_state is h11.SEND_BODY and not await self._skip_body():
            return False
        if self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def switch(self) -> bytes:
        """Answer a CONNECT with 200 and leave HTTP; returns what the client sent already.

        Errors: MalformedRequestError, before any answer.
        """
        while (event := self._next_event()) is not h11.PAUSED:
            if event is h11.NEED_DATA:
                raise MalformedRequestError(
                    "CONNECT came with a body: send the bytes after the 200"
                )
        await self._write(
            h11.Response(status_code=200, headers=[], reason=b"Connection established")
        )
        self.status = 200
        return self._h11.trailing_data[0]

    # --- h11 --------------------------------------------------------------------------------------

    async def _head_event(self) -> object:
        started = bool(self._h11.trailing_data[0])
        timeout_s = self._options.head_timeout_s if started else self._options.idle_timeout_s
        try:
            async with asyncio.timeout(timeout_s) as timer:
                event = self._next_event() if started else h11.NEED_DATA
                while event is h11.NEED_DATA:
                    data = await self.wire.read(_FEED)
                    if not started:
                        if plain := plain_request(data, self._options.head_bytes):
                            return self._take_plain(plain, data)
                        started = True
                        now = asyncio.get_running_loop().time()
                        timer.reschedule(now + self._options.head_timeout_s)
                    self._h11.receive_data(data)
                    event = self._next_event()
        except TimeoutError:
            if not started:
                return None
            raise RequestTimeoutError(
                f"the request's head was not complete after {self._options.head_timeout_s:g} s"
            ) from None
        return event

    def _take_plain(self, plain: PlainRequest, data: bytes) -> PlainRequest:
        self._plain = data[: plain.length]
        self.wire.unread(data[plain.length :])
        return plain

    def _show_plain(self) -> None:
        """Let h11 know of the request after all."""
        if self._plain:
            self._h11.receive_data(self._plain)
            self._plain = b""
            event = self._next_event()
            assert isinstance(event, h11.Request), "what is plain is a request of h11's, too"

    def _next_event(self) -> object:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as cause:
            kind = _BY_HINT.get(cause.error_status_hint, MalformedRequestError)
            raise kind(f"the request is not HTTP/1.1: {cause}") from None

    async def _read_body(self) -> bytes:
        silence_s = self._options.body_timeout_s
        try:
            async with asyncio.timeout(silence_s):
                return await self.wire.read(_FEED)
        except TimeoutError:
            raise RequestTimeoutError(
                f"nothing came of the request's body for {silence_s:g} s"
            ) from None

    async def _write(self, event: h11.Event) -> None:
        try:
            parts = self._h11.send_with_data_passthrough(event)
        except h11.LocalProtocolError as cause:
            raise InternalError(f"the answer broke off or overran: {cause}") from None
        chunks = [part for part in parts or () if part]
        if chunks:
            await self.wire.write(*chunks, stall_s=self._options.write_stall_s)

    async def _skip_body(self) -> bool:
        skipped = 0
        try:
            async with asyncio.timeout(_UNWANTED_BODY_S):
                async for data in self.body():
                    skipped += len(data)
                    if skipped > _UNWANTED_BODY_MAX:
                        return False
        except (TimeoutError, ConnectionError, OdonataError):
            return False
        return True


def origin_text(value: bytes) -> str:
    """A header's value that `send_head` writes again byte for byte."""
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
