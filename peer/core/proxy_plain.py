"""The plain form of a request, and of an answer's head: most of what a proxy of blobs sees.

A plain request is a GET without a body, in HTTP/1.1, that asks nothing of its connection, in
printable ASCII, each line as RFC 9112 writes it. Its grammar is one regular expression, which costs
a tenth of a parser for everything; whatever is not plain, right or wrong, is that parser's (h11).
So this must take nothing that h11 would refuse or understand in another way: a test holds it to
that. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from odonata.wire.message import Value
from peer.core.proxy_header import HeaderList

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST: Final = re.compile(
    rf"GET ([!-~]+) HTTP/1\.1\r\n((?:{_NAME}:[ -~]*\r\n)+)\r\n".encode("ascii")
)
_FIELD: Final = re.compile(rf"{_NAME}\n[!-~](?:[ -~]*[!-~])?")
"""Name and value, which must be what they are without the line that they become."""
_NOT_PLAIN: Final = frozenset(
    {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers about the connection or a body."""


class PlainRequest(Value, frozen=True, kw_only=True):
    """A request's head, `length` bytes long."""

    target: str
    headers: HeaderList
    length: int


def plain_request(data: bytes, bytes_max: int) -> PlainRequest | None:
    """The request that `data` begins with, if it is a plain one of at most `bytes_max` bytes."""
    match = _REQUEST.match(data)
    if match is None or match.end() > bytes_max:
        return None
    lines = match[2].decode("ascii").split("\r\n")
    parted = [line.partition(":") for line in lines[:-1]]
    headers = tuple((name, value.strip(" ")) for name, _, value in parted)
    names = [name.lower() for name, _ in headers]
    if names.count("host") != 1 or not _NOT_PLAIN.isdisjoint(names):
        return None
    return PlainRequest(target=match[1].decode("ascii"), headers=headers, length=match.end())


def plain_answer_head(status: int, headers: HeaderList) -> bytes | None:
    """Status line and headers as they are sent; None if a header is not plain."""
    lines = [f"HTTP/1.1 {status} \r\n"]
    for name, value in headers:
        if _FIELD.fullmatch(f"{name}\n{value}") is None:
            return None
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("ascii")
