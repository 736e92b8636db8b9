"""An HTTP/1.1 client made of a socket, for tests that care what exactly goes over the wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Self

TIMEOUT_S = 10.0


@dataclass
class Answer:
    """What came back. `header` has lower-case names; duplicates are in `headers`."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    header: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.header = dict(self.headers)


class HttpClient:
    """One connection. Every wait ends after TIMEOUT_S with an error."""

    def __init__(self, address: tuple[str, int], *, limit: int = 1 << 16) -> None:
        self._address = address
        self._limit = limit

    async def __aenter__(self) -> Self:
        host, port = self._address
        self.reader, self.writer = await asyncio.open_connection(host, port, limit=self._limit)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()

    async def send(self, text: str | bytes) -> None:
        """Bytes as they are; in text, line ends become CRLF."""
        data = text.replace("\n", "\r\n").encode() if isinstance(text, str) else text
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, target: str, *lines: str, method: str = "GET") -> Answer:
        """Ask with the given header lines and read the whole answer."""
        await self.send(request(target, *lines, method=method))
        return await self.answer(method)

    async def head(self) -> Answer:
        """Status line and headers of the next answer."""
        async with asyncio.timeout(TIMEOUT_S):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")[:-2]
        _, status, reason = lines[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in lines[1:]]
        headers = [(name.lower(), value.strip()) for name, value in pairs]
        return Answer(int(status), reason, headers)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, whole. asyncio.IncompleteReadError if it breaks off."""
        answer = await self.head()
        if method == "HEAD" or answer.status in {204, 304}:
            return answer
        async with asyncio.timeout(TIMEOUT_S):
            if answer.header.get("transfer-encoding") == "chunked":
                answer.body = await self._chunks()
            elif "content-length" in answer.header:
                answer.body = await self.reader.readexactly(int(answer.header["content-length"]))
            else:
                answer.body = await self.reader.read()
        return answer

    async def rest(self) -> bytes:
        """All that comes until the connection ends; ConnectionError if it ends by a reset."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).strip() or b"x", 16)
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if size == 0:
                return body


def request(target: str, *lines: str, method: str = "GET") -> str:
    """A request without a body, as text."""
    host = "" if any(line.lower().startswith("host:") for line in lines) else "Host: x.test\n"
    return f"{method} {target} HTTP/1.1\n{host}" + "".join(f"{line}\n" for line in lines) + "\n"
