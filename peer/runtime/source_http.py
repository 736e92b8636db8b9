"""The source for http:// and https://: one GET with a Range, its answer checked, its body counted.

The Range is always sent, also for the whole content: a 206 with a Content-Range tells the total and
that ranges work, in the one request that brings the bytes as well. Every answer is held against
what was asked; a body that is shorter than promised is an error, never an end.

Bytes are taken as they are stored: no decompression (a content is what its digest says).
A redirect to another origin carries none of the request's headers there but harmless ones, and no
message here shows a query or a header value, since both may hold secrets. It does not retry, and it
knows no piece. Whether a known content is still the origin's, a conditional request tells (RFC 9110
§13). A folder can't be listed: HTTP has none, and an index page is a text for people.

Origins are asked directly, or through the proxy that the settings name; the environment's proxies
don't count (see `outgoing_proxy`). A request may bring authorities of its own to trust
(`certificate_chain`); nothing that a request says takes trust checks away.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp
from yarl import URL

from odonata import __version__
from odonata.errors import CallerError, SourceError
from odonata.wire.message import Value
from odonata.wire.origin import NO_OPTIONS, Entry, OriginOptions
from peer.runtime.host_trust import HostTrust, Trusts, context_trusting
from peer.runtime.http_response import HttpResponse
from peer.runtime.outgoing_proxy import NO_PROXY, OutgoingProxy
from peer.runtime.port import KnownContent

REDIRECTS_MAX = 10  # what curl and browsers are near; a loop ends here
CONNECTIONS_MAX = 256  # to all origins; a task needs one to eight, and file descriptors are finite
READ_BUFFER_BYTES = 256 * 1024
"""aiohttp stops reading the socket at twice this: two large reads may wait, no more."""
HEADER_LINE_BYTES = 32 * 1024  # redirects to signed URLs run to several KiB
TRUSTS_MAX = 16  # sets of authorities that requests brought; each context holds some 100 KiB
CHAIN_BYTES_MAX = 256 * 1024  # of one request's authorities: a hundred of them

_REDIRECT = frozenset({301, 302, 303, 307, 308})
# What another origin may see after a redirect; tokens come under any name. Via finds proxy loops.
_HARMLESS = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "cache-control", "if-modified-since",
        "if-none-match", "range", "user-agent", "via",
    }
)  # fmt: skip
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
# Set by this module, or fit only for the connection the request came by.
_OWN_REQUEST = _HOP_BY_HOP | {
    "host", "range", "accept-encoding", "content-length", "expect", "if-range", "if-match",
    "if-none-match", "if-modified-since", "if-unmodified-since",
}  # fmt: skip
# Of one answer, not of the content; and nobody else's cookies.
_OWN_RESPONSE = _HOP_BY_HOP | {"content-range", "content-length", "set-cookie", "set-cookie2"}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)
_PLAIN_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.ASCII)  # already encoded: signatures stay intact


class HttpOptions(Value, frozen=True, kw_only=True):
    """How origins are asked. `header` is added to each request unless the request names it."""

    header: Mapping[str, str] = {}
    ca_file: Path | None = None  # PEM, besides the system's authorities
    insecure: bool = False  # accept any certificate
    trust: tuple[HostTrust, ...] = ()  # origins whose certificates are checked in another way
    proxy: OutgoingProxy = NO_PROXY
    connect_timeout_s: float = 10.0  # name, TCP and TLS; curl's users wait no longer either
    read_timeout_s: float = 30.0  # between two reads: a silent origin is a dead one


class HttpSource:
    """A `Source` for http and https. Close it when the daemon ends."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._tls = _tls_context(options)
        self._hosts = Trusts(options.trust, self._tls)
        self._trusts: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def open(
        self,
        url: str,
        header: Mapping[str, str],
        *,
        offset: int = 0,
        end: int | None = None,
        options: OriginOptions = NO_OPTIONS,
    ) -> HttpStream:
        """See `Source.open`: bytes [offset, end) of what `url` names."""
        target = _parse(url)
        if offset < 0 or (end is not None and end <= offset):
            raise CallerError(f"can't ask for bytes {offset} to {end}: the range is empty")
        asked = _request_header({**self._options.header, **header})
        span = f"bytes={offset}-" if end is None else f"bytes={offset}-{end - 1}"
        trust = self._trust(options)
        response = await self._get(target, {**asked, "Range": span}, trust)
        if offset == 0 and _wants_plain(response, end):
            response.close()
            response = await self._get(target, asked, trust)
        try:
            return _checked(response, offset, end, self._options.read_timeout_s)
        except SourceError:
            response.close()
            raise

    async def list(
        self, url: str, header: Mapping[str, str], options: OriginOptions = NO_OPTIONS
    ) -> tuple[Entry, ...]:
        """See `Source.list`: one content; a URL that ends in "/" is a CallerError."""
        if _parse(url).path.endswith("/"):
            raise CallerError(
                "an http or https folder can't be listed: name a file, or use the URL scheme of "
                "the store behind it (s3, gs, abs, oss, hdfs, ftp, hf)"
            )
        async with await self.open(url, header, end=1, options=options) as stream:
            return (Entry(url=url, content_length=stream.content_length),)

    async def compare(
        self,
        url: str,
        header: Mapping[str, str],
        known: KnownContent,
        options: OriginOptions = NO_OPTIONS,
    ) -> str | None:
        """See `Source.compare`: by a conditional request for the first byte.

        The same are: 304; the same strong ETag and length; no bytes now and none before.
        """
        asked = _request_header({**self._options.header, **header})
        conditions = {"Range": "bytes=0-0"}
        for name, value in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")):
            if value in known.response_header:
                conditions[name] = known.response_header[value]
        response = await self._get(_parse(url), {**asked, **conditions}, self._trust(options))
        try:
            return _difference(response, known)
        finally:
            response.close()

    async def read(
        self,
        url: str,
        header: Mapping[str, str],
        max_bytes: int,
        options: OriginOptions = NO_OPTIONS,
    ) -> tuple[bytes, Mapping[str, str]]:
        """A whole small content, and its header. Errors: as `open`."""
        async with await self.open(url, header, options=options) as stream:
            buffer = memoryview(bytearray(max_bytes + 1))
            filled = 0
            while filled <= max_bytes and (count := await stream.read_into(buffer[filled:])):
                filled += count
            if filled > max_bytes:
                raise SourceError(f"{_show(_parse(url))}: answers with more than {max_bytes} bytes")
            return bytes(buffer[:filled]), stream.response_header

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(
        self, url: URL, header: dict[str, str], trust: ssl.SSLContext | None
    ) -> HttpResponse:
        """Follow redirects to the answer that is none."""
        for _ in range(REDIRECTS_MAX + 1):
            response = await self._get_once(url, header, trust)
            location = response.headers.get("Location")
            if response.status not in _REDIRECT or location is None:
                return response
            response.release()
            following = _follow(url, location)
            if following.origin() != url.origin():
                header = {key: header[key] for key in header if key.lower() in _HARMLESS}
            url = following
        raise SourceError(f"{_show(url)}: more than {REDIRECTS_MAX} redirects, probably a loop")

    async def _get_once(
        self, url: URL, header: dict[str, str], trust: ssl.SSLContext | None
    ) -> HttpResponse:
        try:
            session = self._open_session()
            response = await session.get(
                url,
                headers=header,
                allow_redirects=False,
                proxy=self._options.proxy.for_host(url.host or ""),
                ssl=trust or self._hosts.of(url.host or "", url.port),
            )
        except TimeoutError as error:
            raise SourceError(f"{_show(url)}: {_timeout_text(error, self._options)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SourceError(f"{_show(url)}: {_error_text(error)}") from error
        assert isinstance(response, HttpResponse), "the session's class"
        return response

    def _trust(self, options: OriginOptions) -> ssl.SSLContext | None:
        """For a request that brings authorities of its own; None: as everyone."""
        chain = options.certificate_chain
        if not chain:
            return None
        if sum(map(len, chain)) > CHAIN_BYTES_MAX:
            raise CallerError(f"certificate_chain is larger than {CHAIN_BYTES_MAX} bytes")
        key = hashlib.sha256(b"".join(chain)).digest()
        context = self._trusts.pop(key, None)
        if context is None:
            context = _tls_context(self._options)
            try:
                context.load_verify_locations(cadata=b"".join(chain))
            except ssl.SSLError:
                raise CallerError(
                    "certificate_chain is no list of certificates: give each in DER"
                ) from None
        self._trusts[key] = context
        if len(self._trusts) > TRUSTS_MAX:
            self._trusts.popitem(last=False)
        return context

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            options = self._options
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=CONNECTIONS_MAX),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=options.connect_timeout_s,
                    sock_read=options.read_timeout_s,
                ),
                response_class=HttpResponse,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=HEADER_LINE_BYTES,
                max_field_size=HEADER_LINE_BYTES,
            )
        return self._session


class HttpStream:
    """A `SourceStream` of one HTTP answer."""

    def __init__(
        self,
        response: HttpResponse,
        *,
        offset: int,
        content_length: int | None,
        body_length: int | None,
        wanted_length: int | None,
        ranges: bool,
        read_timeout_s: float,
    ) -> None:
        """`body_length`: what the origin will send; `wanted_length`: where to stop before that."""
        self._response = response
        self._offset = offset
        self._content_length = content_length
        self._body_length = body_length
        self._wanted_length = wanted_length
        self._ranges = ranges
        self._read_timeout_s = read_timeout_s
        self._received = 0  # from the connection
        self._given = 0  # to the caller
        self._chunk = memoryview(b"")
        self._header = _response_header(response, content_length)

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def content_length(self) -> int | None:
        return self._content_length

    @property
    def ranges(self) -> bool:
        return self._ranges

    @property
    def response_header(self) -> Mapping[str, str]:
        return self._header

    async def read_into(self, buffer: memoryview) -> int:
        """See `SourceStream.read_into`."""
        room = len(buffer)
        if self._wanted_length is not None:
            room = min(room, self._wanted_length - self._given)
        if room == 0:
            return 0
        if not self._chunk and not await self._receive():
            return 0
        count = min(room, len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self._given += count
        return count

    async def _receive(self) -> bool:
        """Take what the connection has; False at an end that is where it was promised."""
        try:
            chunk = await self._response.content.readany()
        except TimeoutError as error:
            raise self._broken(f"silent for {self._read_timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(_error_text(error)) from error
        self._chunk = memoryview(chunk)
        self._received += len(chunk)
        promised = self._body_length
        if promised is not None and self._received > promised:
            raise self._broken("more came than was promised")
        early = promised is not None and self._received < promised
        if not chunk and (early or self._response.cut_off):
            raise self._broken("the connection ended early")
        return bool(chunk)

    def _broken(self, reason: str) -> SourceError:
        promised = "unknown" if self._body_length is None else self._body_length
        return SourceError(
            f"{_show(self._response.url)}: the body broke after {self._received} of {promised} "
            f"bytes: {reason}"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._chunk = memoryview(b"")
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


# --- the request ---


def _parse(url: str) -> URL:
    """The URL as given where it is encoded already (a signature covers its very bytes)."""
    try:
        target = URL(url, encoded=_PLAIN_URL.fullmatch(url) is not None)
        usable = target.scheme in {"http", "https"} and bool(target.host)
        port_ok = target.port is not None
    except ValueError as error:
        raise CallerError(f"not a URL: {error}") from error
    if not usable or not port_ok or any(ord(letter) < 32 for letter in url):
        raise CallerError("not an http or https URL with a host: check the URL")
    return target


def _follow(url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location, encoded=_PLAIN_URL.fullmatch(location) is not None))
        usable = target.scheme in {"http", "https"} and bool(target.host)
    except ValueError:
        usable = False
        target = url
    if not usable:
        raise SourceError(f"{_show(url)}: redirects to something that is no http or https URL")
    return target


def _request_header(header: Mapping[str, str]) -> dict[str, str]:
    """The caller's header without what this module decides. Refuses line breaks."""
    kept = {key: value for key, value in header.items() if key.lower() not in _OWN_REQUEST}
    for key, value in kept.items():
        if any(letter in "\r\n\0" for letter in key + value):
            raise CallerError(f"request header {key!r} holds a line break or a zero byte")
    if not any(key.lower() == "user-agent" for key in kept):
        kept["User-Agent"] = f"odonata/{__version__}"
    return {**kept, "Accept-Encoding": "identity"}


def _tls_context(options: HttpOptions) -> ssl.SSLContext:
    return context_trusting(options.ca_file, "the file of authorities", insecure=options.insecure)


# --- the answer ---


def _wants_plain(response: HttpResponse, end: int | None) -> bool:
    """Whether to ask once more without a Range.

    416 at offset 0 is an empty content. A 206 that is encoded (stored compressed, or compressed on
    the way) can't be joined safely from parts, and one without a total may be only a part of what
    was asked; as one body both can be taken as they are.
    """
    if response.status == 206:
        no_total = response.headers.get("Content-Range", "").strip().endswith("/*")
        return _encoding(response) != "identity" or (no_total and end is None)
    return response.status == 416


def _checked(
    response: HttpResponse, offset: int, end: int | None, read_timeout_s: float
) -> HttpStream:
    """The stream, if the answer is one to what was asked; SourceError otherwise."""
    content_length: int | None
    body_length: int | None
    if response.status == 206:
        content_length, body_length = _partial(response, offset, end)
        ranges = True
    elif response.status == 200:
        if offset > 0:
            raise _refused(response, "ignores the range that was asked: it can't be resumed")
        content_length = body_length = _length(response)
        ranges = response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        ranges = ranges and _encoding(response) == "identity"
        # Whatever it says: it was asked for less than it sends.
        ranges = ranges and (end is None or (content_length is not None and content_length <= end))
    else:
        raise _refused(response, _status_text(response))
    wanted_length = None if end is None or response.status == 200 else end - offset
    if wanted_length is not None and body_length is not None:
        wanted_length = min(wanted_length, body_length)
    return HttpStream(
        response,
        offset=offset,
        content_length=content_length,
        body_length=body_length,
        wanted_length=wanted_length,
        ranges=ranges,
        read_timeout_s=read_timeout_s,
    )


def _difference(response: HttpResponse, known: KnownContent) -> str | None:
    """Why an answer to a conditional request for byte 0 says that the content is another one."""
    if response.status == 304:
        return None
    if response.status == 416:  # not even a first byte
        before = known.content_length
        return None if before == 0 else f"the source has no bytes now, and {before} before"
    if response.status not in {200, 206}:
        raise _refused(response, _status_text(response))
    length = _length(response)
    if response.status == 206:
        length, _ = _partial(response, 0, 1)
    before = known.content_length
    if length is not None and before is not None and length != before:
        return f"the source has {length} bytes now, and {before} before"
    header = _response_header(response, None)
    old_tag, new_tag = (strong_etag(one) for one in (known.response_header, header))
    if old_tag is None or new_tag is None:
        return "the source does not say that it is the same"
    return None if old_tag == new_tag else f"its ETag is {new_tag} now, and {old_tag} before"


def strong_etag(header: Mapping[str, str]) -> str | None:
    """The ETag, if equal ones mean equal bytes (RFC 9110 §8.8.1); names in lower case."""
    tag = header.get("etag")
    return None if tag is None or tag.startswith("W/") else tag


def _partial(response: HttpResponse, offset: int, end: int | None) -> tuple[int | None, int]:
    """(total, bytes in this answer) of a 206 that answers exactly what was asked."""
    text = response.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if found is None:
        raise _refused(response, f"answers 206 with a Content-Range that says {text[:80]!r}")
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if _encoding(response) != "identity":
        raise _refused(response, f"answers a range of an encoded body ({_encoding(response)})")
    asked_end = total if end is None else end if total is None else min(end, total)
    if first != offset or last < first or last + 1 != asked_end:
        raise _refused(
            response,
            f"was asked for bytes {offset} to {'the end' if end is None else end - 1} and "
            f"answers {text[:80]!r}",
        )
    body_length = last + 1 - first
    length = _length(response)
    if length is not None and length != body_length:
        raise _refused(response, f"says {text[:80]!r}, but Content-Length {length}")
    return total, body_length


def _length(response: HttpResponse) -> int | None:
    if "Transfer-Encoding" in response.headers:
        return None
    return response.content_length


def _encoding(response: HttpResponse) -> str:
    return response.headers.get("Content-Encoding", "").strip().lower() or "identity"


def _refused(response: HttpResponse, reason: str) -> SourceError:
    return SourceError(
        f"{_show(response.url)}: the source {reason}",
        status_code=response.status,
        header=_response_header(response, None),
    )


def _status_text(response: HttpResponse) -> str:
    hint = {
        401: "; it wants credentials: pass them as a request header",
        403: "; check the credentials, or whether a signed URL has expired",
        404: "; check the URL",
        416: "; the range lies beyond the end of the content",
        429: "; it is overloaded: try later",
    }.get(response.status, "")
    return f"answers {response.status} {response.reason or ''}".rstrip() + hint


def _response_header(response: HttpResponse, total: int | None) -> dict[str, str]:
    """What belongs to the content, names in lower case (as Dragonfly's peers pass them on)."""
    header: dict[str, str] = {}
    for raw_key, raw_value in response.raw_headers:
        name, value = _text(raw_key).lower(), _text(raw_value)
        if name not in _OWN_RESPONSE:
            header[name] = f"{header[name]}, {value}" if name in header else value
    if total is not None:
        header["content-length"] = str(total)
    return header


def _text(raw: bytes) -> str:
    """UTF-8 or else Latin-1: text that can be written as UTF-8 wherever it is kept or sent on."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


# --- messages ---


def _show(url: URL) -> str:
    """The URL as far as it is safe to print: no user, no query."""
    return f"{url.scheme}://{url.host}:{url.port}{url.raw_path}"


def _timeout_text(error: TimeoutError, options: HttpOptions) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"can't connect within {options.connect_timeout_s:g} s"
    return f"no answer within {options.read_timeout_s:g} s"


def _error_text(error: BaseException) -> str:
    """A reason without the request in it (some of aiohttp's texts repeat headers or URLs)."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            "the certificate is not trusted: set backend.caCert to its authority "
            f"({error.certificate_error})"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the source closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
