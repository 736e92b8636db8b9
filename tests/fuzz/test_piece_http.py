"""Plain HTTP on the piece port: heads and ranges, whole and damaged, one after the other.

Every answer is an answer, with the bytes that it says; or the connection ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NamedTuple

from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.content import cut, make_content, make_download, make_task_id
from support.eventually import eventually
from support.fuzzing import Campaign, Edit, ask, cut_up, damage, edits, open_descriptors
from support.memory_storage import MemoryStorage

from peer.runtime.piece_server import PieceServer

PIECE: Final = 4096
CONTENT: Final = make_content(3 * PIECE + 17)
LENGTH: Final = len(CONTENT)
WHOLE, PARTLY, EMPTY, UNKNOWN = (make_task_id(name) for name in ("whole", "partly", "empty", "new"))
LACKED: Final = 2
"""The piece of `PARTLY` that nobody brings."""
SHORT_S: Final = 0.02
"""The server's patience: with a request, and with a piece that does not come."""
PATIENCE_S: Final = 10.0

_HEAD = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]+\r\n((?:[A-Za-z-]+: [ -~]*\r\n)*)\r\n")
_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")


class Answer(NamedTuple):
    status: int
    header: dict[str, str]
    body: bytes
    lacks: int
    """Bytes of the body that did not come."""


async def filled() -> MemoryStorage:
    storage = MemoryStorage()
    for name, lacked in ((WHOLE, None), (PARTLY, LACKED)):
        task = await storage.create(name, make_download())
        await task.learn(LENGTH, PIECE, {})
        for piece, data in cut(CONTENT, PIECE):
            if piece.number != lacked:
                await task.store(piece, data)
        if lacked is None:
            await task.finish()
    empty = await storage.create(EMPTY, make_download())
    await empty.learn(0, PIECE, {})
    await empty.finish()
    await storage.create(UNKNOWN, make_download())
    return storage


@contextmanager
def served(runner: asyncio.Runner) -> Generator[int]:
    """The port of a server; it must get through without a crash, and leave nothing open."""
    crashes: list[dict[str, object]] = []
    runner.get_loop().set_exception_handler(lambda _, context: crashes.append(context))
    storage = runner.run(filled())
    server = PieceServer(
        storage, request_timeout_s=SHORT_S, piece_wait_s=SHORT_S, stall_timeout_s=1.0
    )
    runner.run(server.listen("127.0.0.1", 0))
    before = open_descriptors()
    try:
        with capture_logs() as logs:
            yield server.port
            runner.run(eventually(lambda: server.connections == 0))
        assert (server.uploading, server.waiting) == (0, 0)
        assert open_descriptors() <= before
    finally:
        runner.run(server.close())
        storage.close()
    assert crashes == []
    assert [log for log in logs if log["log_level"] in {"error", "critical"}] == []


def said_to(runner: asyncio.Runner, port: int, parts: list[bytes]) -> tuple[bytes, bool]:
    async def bounded() -> tuple[bytes, bool]:
        async with asyncio.timeout(PATIENCE_S):
            return await ask(port, parts, ends=False)

    return runner.run(bounded())


def answers_in(said: bytes, *, is_clean: bool) -> list[Answer]:
    """All answers, each checked to be one; the last of them may have broken off."""
    found: list[Answer] = []
    while said:
        match = _HEAD.match(said)
        if match is None:
            assert not is_clean, f"no answer: {said[:200]!r}"
            return found
        lines = match[2].decode("ascii").split("\r\n")[:-1]
        header = dict(line.lower().split(": ", 1) for line in lines)
        assert len(header) == len(lines), f"a field comes twice: {lines}"
        rest, length = said[match.end() :], int(header["content-length"])
        if not rest or rest.startswith(b"HTTP/1.1 "):  # to HEAD, or it broke off at once
            length = 0
        found.append(Answer(int(match[1]), header, rest[:length], max(0, length - len(rest))))
        said = rest[length:]
    return found


def is_honest(answer: Answer) -> None:
    """Its bytes are those that it says, and no body that fails is of content."""
    assert answer.status in {200, 206, 403, 404, 416, 429}, answer
    if answer.status == 206:
        match = _RANGE.fullmatch(answer.header["content-range"])
        assert match is not None, answer.header
        first, last, total = map(int, match.groups())
        assert 0 <= first <= last < total == LENGTH
        assert int(answer.header["content-length"]) == last + 1 - first
        assert CONTENT[first : last + 1].startswith(answer.body)
    elif answer.status == 416:
        assert answer.header["content-range"] in {f"bytes */{LENGTH}", "bytes */0"}
    elif answer.status == 200 and answer.header["content-type"] == "application/octet-stream":
        assert int(answer.header["content-length"]) in {0, LENGTH}
        assert CONTENT.startswith(answer.body)
    else:
        assert b"Traceback" not in answer.body


# --- ranges that are well formed ------------------------------------------------------------------

_BORDERS: Final = (0, PIECE, LACKED * PIECE, 3 * PIECE, LENGTH)
_edges = st.sampled_from([max(0, at + by) for at in _BORDERS for by in (-1, 0, 1)])
_positions = st.one_of(st.none(), _edges, st.integers(0, 2 * LENGTH), st.just(10**30))


def expected(first: int | None, last: int | None) -> bytes | None:
    """What RFC 9110 has a server send; None: 416."""
    if last is None and first is None:
        return CONTENT  # malformed, and ignored
    if first is not None and last is not None and last < first:
        return CONTENT
    if first is None:
        return CONTENT[-last:] if last else None
    return CONTENT[first : LENGTH if last is None else last + 1] or None


def test_ranges_are_those_of_the_content(campaign: Campaign) -> None:
    with asyncio.Runner() as runner, served(runner) as port:

        def check(first: int | None, last: int | None, is_whole: bool) -> None:
            text = f"{'' if first is None else first}-{'' if last is None else last}"
            task = WHOLE if is_whole else PARTLY
            request = f"GET /download/{task} HTTP/1.1\r\nHost: x\r\nRange: bytes={text}\r\n\r\n"
            said, is_clean = said_to(runner, port, [request.encode()])
            assert is_clean
            (answer,) = answers_in(said, is_clean=True)
            is_honest(answer)
            body = expected(first, last)
            if body is None:
                assert answer.status == 416
            elif is_whole:
                assert (answer.body, answer.lacks) == (body, 0), answer.status
            else:
                assert body.startswith(answer.body) or answer.status == 404

        campaign.run(check, _positions, _positions, st.booleans(), examples=80)


# --- requests of any kind -------------------------------------------------------------------------

_methods = st.sampled_from(["GET", "HEAD", "GET", "HEAD", "POST", "CONNECT", "OPTIONS", "PRI", ""])
_targets = st.one_of(
    st.sampled_from(
        [
            *(f"/download/{task}" for task in (WHOLE, PARTLY, EMPTY, UNKNOWN, "0" * 64)),
            f"/download/{WHOLE[:3]}/{WHOLE}?peerId=x",
            f"http://x/download/{WHOLE}",
            "/children",
            "/download//",
            f"/download/{'x' * 300}",
            "*",
            "",
        ]
    ),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20),
)
_versions = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1", ""])
_units = st.sampled_from(["bytes=", "Bytes = ", "items=", "bytes=0-1,"])
_numbers = st.one_of(_edges.map(str), st.sampled_from(["", "9" * 30, "-1", "x", "1_0", " 3"]))


def _range_line(unit: str, first: str, last: str) -> str:
    return f"Range: {unit}{first}-{last}\r\n"


_lines = st.one_of(
    st.builds(_range_line, _units, _numbers, _numbers),
    st.sampled_from(
        [
            "Host: x\r\n",
            "Connection: close\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "Range: \r\n folded\r\n",
            f"X: {'y' * 20_000}\r\n",
        ]
    ),
)  # fmt: skip
_bodies = st.sampled_from(["", "", "", "hello", "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "\x00\xff"])


def _request(
    method: str, target: str, version: str, lines: list[str], body: str, changes: list[Edit]
) -> bytes:
    head = f"{method} {target} {version}\r\nHost: x\r\n{''.join(lines)}\r\n{body}"
    return damage(head.encode("latin-1"), changes)


_requests = st.builds(
    _request,
    _methods, _targets, _versions, st.lists(_lines, max_size=3), _bodies, st.just([]) | edits,
)  # fmt: skip


def test_requests_of_any_kind(campaign: Campaign) -> None:
    with asyncio.Runner() as runner, served(runner) as port:

        def check(requests: list[bytes], sizes: list[int]) -> None:
            parts = cut_up(b"".join(requests), sizes)
            said, is_clean = said_to(runner, port, parts)
            if not said.startswith(b"HTTP") and not is_http(requests[0]):
                return  # to the piece server it was a frame
            answers = answers_in(said, is_clean=is_clean)
            for answer in answers:
                is_honest(answer)
            assert all(answer.lacks == 0 for answer in answers[:-1])

        sizes = st.lists(st.integers(1, 200), max_size=3)
        requests = st.lists(_requests, min_size=1, max_size=3)
        campaign.run(check, requests, sizes, examples=200)
        wanted = f"GET /download/{WHOLE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        (answer,) = answers_in(said_to(runner, port, [wanted])[0], is_clean=True)
        assert (answer.status, answer.body) == (200, CONTENT), "it serves as before"


def is_http(request: bytes) -> bool:
    return request.startswith((b"GET ", b"HEAD "))
