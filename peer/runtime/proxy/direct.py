"""Pass a request to its origin and the origin's answer back, both as streams and both unchanged.

No redirect is followed, no body unpacked, no cookie kept, no answer stored, no status judged: the
client sees what it would see without a proxy, but for the headers of this hop. An answer that
breaks off at the origin breaks off here too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import ClassVar, Final, cast

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from odonata.errors import CallerError, OdonataError, SourceError
from peer.core.proxy_header import HOP_BY_HOP, HeaderList, forwarded, via
from peer.core.proxy_rule import RequestHead, loggable_url
from peer.runtime.host_trust import Trusts, context_trusting
from peer.runtime.http_response import HttpResponse
from peer.runtime.proxy.conversation import Conversation, origin_text
from peer.runtime.proxy.option import ProxyCounters, ProxyOptions

# Asked once more on a new connection if the kept one turns out to be closed (aiohttp does that).
_ASKED_AGAIN: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# What aiohttp would add of its own when the client did not send it.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# Where aiohttp stops reading until the client has taken some (it reads up to twice this ahead).
_READ_AHEAD: Final = 256 * 1024
# Of an origin's answer, in all and one by one; long Link and policy headers reach 16 KiB.
_HEAD_BYTES: Final = 64 * 1024
_HEADER_COUNT: Final = 256


class OriginTimeoutError(SourceError):
    """The origin was silent for too long."""

    code = "source_timeout"
    http_status: ClassVar[int] = 504


class OriginClient:
    """Connections to origins, shared by all requests. `start` before, `close` after use."""

    def __init__(self, options: ProxyOptions, counters: ProxyCounters, *, pseudonym: str) -> None:
        self._options = options
        self._counters = counters
        self._pseudonym = pseudonym
        self._trusts = Trusts(options.trust, _tls(options))
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._kept = self._session(fresh=False)
        # What changes something, or has a body, can be sent only once, so it must not meet a
        # connection that the origin has just closed: such requests get a new one each.
        self._fresh = self._session(fresh=True)

    async def close(self) -> None:
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    async def answer(self, url: str, head: RequestHead, conversation: Conversation) -> None:
        """Pass request and answer. SourceError if the origin can't be asked or breaks off."""
        if not head.has_body:
            await self._pass(url, head, conversation, None)
            return
        body = _Body(conversation)
        try:
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(body.feed())
                try:
                    await self._pass(url, head, conversation, body)
                finally:
                    feeding.cancel()
                    body.stop()
        except ExceptionGroup as errors:
            raise _explanation(errors) from None

    async def probe(self, url: str, head: RequestHead) -> tuple[int, dict[str, str]]:
        """Status and headers of the origin's answer; its body is not read. SourceError."""
        assert self._kept is not None, "used before start"
        address = _address(url)
        try:
            async with self._kept.request(
                head.method,
                address,
                headers=self._request_headers(head),
                allow_redirects=False,
                proxy=self._options.outgoing.for_host(address.host or ""),
                ssl=self._trusts.of(address.host or "", address.port),
            ) as response:
                return response.status, dict(response.headers)
        except aiohttp.ClientError as cause:
            raise _source_error(cause, url) from None
        except UnicodeError as cause:
            raise CallerError(f"{loggable_url(url)[:200]!r} names no host: {cause}") from None

    async def _pass(
        self, url: str, head: RequestHead, conversation: Conversation, body: _Body | None
    ) -> None:
        again = body is None and head.method in _ASKED_AGAIN
        session = self._kept if again else self._fresh
        assert session is not None, "used before start"
        address = _address(url)
        try:
            async with session.request(
                head.method,
                address,
                headers=self._request_headers(head),
                data=body.sent() if body else None,
                allow_redirects=False,
                proxy=self._options.outgoing.for_host(address.host or ""),
                ssl=self._trusts.of(address.host or "", address.port),
            ) as response:
                assert isinstance(response, HttpResponse), "the session's class"
                await self._send_answer(response, conversation)
        except aiohttp.ClientError as cause:
            raise _source_error(cause, url) from None
        except UnicodeError as cause:
            raise CallerError(f"{loggable_url(url)[:200]!r} names no host: {cause}") from None

    async def _send_answer(self, response: HttpResponse, conversation: Conversation) -> None:
        headers = tuple(
            (name.decode("latin-1"), origin_text(value)) for name, value in response.raw_headers
        )
        await conversation.send_head(
            response.status,
            (*_answer_headers(headers), ("Via", via(headers, self._pseudonym))),
            reason=(response.reason or "").encode("latin-1", "replace"),
        )
        async for data in response.content.iter_any():
            await conversation.send(data)
            self._counters.bytes_direct += len(data)
        if response.cut_off:
            raise aiohttp.ClientPayloadError("the connection was reset")
        await conversation.end()

    def _request_headers(self, head: RequestHead) -> CIMultiDict[str]:
        dropped = {"host", "expect", "via"}
        if not head.has_body and head.method in {"GET", "HEAD"}:
            dropped.add("content-length")
        headers = CIMultiDict(
            (name, value) for name, value in forwarded(head.headers) if name.lower() not in dropped
        )
        headers["Via"] = via(head.headers, self._pseudonym)
        return headers

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        options = self._options
        return aiohttp.ClientSession(
            # No limit of its own: every request here holds one of the proxy's own connections.
            connector=aiohttp.TCPConnector(limit=0, force_close=fresh),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=options.connect_timeout_s,
                sock_read=options.origin_timeout_s,
            ),
            response_class=HttpResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_NOT_ADDED,
            read_bufsize=_READ_AHEAD,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            max_headers=_HEADER_COUNT,
        )


class _Body:
    """A request's body on its way from the conversation to aiohttp's writer, one chunk at a time.

    The writer is aiohttp's own task and may outlive the request; only `feed`, which does not, reads
    from the client.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        # b"" is the end, None that there will be none.
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)

    async def feed(self) -> None:
        async for data in self._conversation.body():
            await self._chunks.put(data)
        await self._chunks.put(b"")

    def stop(self) -> None:
        """Nobody feeds any more: what was sent so far must not look like a whole body."""
        if not self._chunks.empty():
            self._chunks.get_nowait()
        self._chunks.put_nowait(None)

    async def sent(self) -> AsyncIterator[bytes]:
        while data := await self._chunks.get():
            yield data
        if data is None:
            raise ConnectionAbortedError("the client's body was not sent to its end")


def _address(url: str) -> URL:
    try:
        return URL(url, encoded=True)
    except ValueError:
        raise CallerError(f"the URL {loggable_url(url)[:200]!r} can't be asked for") from None


def _answer_headers(headers: HeaderList) -> HeaderList:
    """The origin's headers for the client; X-Dragonfly-* of another proxy behind us pass too."""
    named = {
        part.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for part in value.split(",")
    }
    chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
    dropped = HOP_BY_HOP | named | {"via"}
    if chunked:
        dropped |= {"content-length"}
    return tuple((name, value) for name, value in headers if name.lower() not in dropped)


def _tls(options: ProxyOptions) -> ssl.SSLContext | bool:
    if options.insecure:
        return False
    if options.ca_file is None:
        return True
    return context_trusting(options.ca_file, "the proxy's file of authorities")


def _source_error(cause: aiohttp.ClientError, url: str) -> OdonataError:
    place = loggable_url(url)
    host = place.partition("://")[2].partition("/")[0]
    if isinstance(cause, aiohttp.ServerTimeoutError):
        return OriginTimeoutError(f"the origin {host} was silent for too long")
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return SourceError(
            f"the certificate of the origin {host} is not trusted: {cause.certificate_error}; "
            "give the daemon its authority's certificate"
        )
    if isinstance(cause, aiohttp.ClientConnectorError):
        return SourceError(f"the origin {host} can't be reached: {cause.os_error}")
    if isinstance(cause, aiohttp.InvalidURL):
        return CallerError(f"the URL {place[:200]!r} can't be asked for")
    return SourceError(f"the origin {host} broke off: {type(cause).__name__} {cause}".rstrip())


def _explanation(errors: ExceptionGroup[Exception]) -> Exception:
    """The client's own mistake explains the origin's failure, not the other way round."""
    told, _ = errors.split(OdonataError)
    error: Exception = told or errors
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
