"""An origin that reads what a proxy passes on by the letter of RFC 9112, and keeps what was wrong.

    async with StrictOrigin() as origin:
        ...
        assert origin.wrong == []
        assert [seen.target for seen in origin.requests] == ["/x"]

A request whose length could be read in two ways, or whose lines are not those of the grammar, is
wrong, whatever it says: behind a proxy it may be half of another one. Each request is answered with
a short 200; a connection with something wrong on it is closed.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final, NamedTuple, Self

_HEAD: Final = re.compile(
    rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*\r\n)*\r\n"
)
_CHUNK: Final = re.compile(rb"[0-9A-Fa-f]{1,8}\r\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class SeenRequest(NamedTuple):
    """One that came as it should; names in lower case."""

    target: str
    headers: list[tuple[str, str]]
    body_bytes: int

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class StrictOrigin:
    """A server on loopback."""

    def __init__(self) -> None:
        self.requests: list[SeenRequest] = []
        self.wrong: list[str] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None, "left before it was entered"
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    @property
    def base_url(self) -> str:
        assert self._server is not None, "asked before it was entered"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._next(reader):
                    writer.write(_ANSWER)
                    await writer.drain()
        finally:
            self._open.discard(writer)
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if _HEAD.fullmatch(head) is None:
            return self._complain("a head", head)
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        headers = [(name.lower(), value) for name, value in pairs]
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value for name, value in headers if name == "transfer-encoding"]
        hosts = [value for name, value in headers if name == "host"]
        framed_once = len(lengths) + len(codings) <= 1 and codings in ([], ["chunked"])
        if not framed_once or len(hosts) != 1 or not all(map(_LENGTH.fullmatch, lengths)):
            return self._complain("headers", head)
        if codings:
            body_bytes = await self._chunks(reader)
        else:
            body_bytes = len(await reader.readexactly(int(lengths[0]) if lengths else 0))
        if body_bytes < 0:
            return False
        self.requests.append(SeenRequest(first.split(" ")[1], headers, body_bytes))
        return True

    async def _chunks(self, reader: asyncio.StreamReader) -> int:
        """How long they are together; less than nothing if something is wrong."""
        total = 0
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16) if _CHUNK.fullmatch(line) else -1
            end = (await reader.readexactly(size + 2))[size:] if size >= 0 else b""
            if end != b"\r\n":
                self._complain("a chunk", line + end)
                return -1
            if size == 0:
                return total
            total += size

    def _complain(self, what: str, data: bytes) -> bool:
        self.wrong.append(f"{what}: {data[:500]!r}")
        return False
