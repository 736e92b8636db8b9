"""An origin that is thin, as a process of its own: in all, or connection by connection.

    async with AsyncExitStack() as stack:
        origin = await start(content_file, stack, in_all=50e6)            # bytes per second
        origin = await start(content_file, stack, per_connection=8e6)
        url = origin.url(7)        # the content of the file with 7 as its last eight bytes
    url = origin.url(7, MIB)   # no more than the first MiB of the file, and those

Contents differ in those bytes alone. Ranges work; a connection serves one request. No benchmark of
its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # runnable as it lies there

from bench.cold import TAIL_BYTES, TIMEOUT_S, Uplink, send_body  # noqa: E402  # after the path
from bench.yardstick import say  # noqa: E402


class LimitedOrigin(NamedTuple):
    """A running one."""

    address: str

    def url(self, number: int, first_bytes: int | None = None) -> str:
        """Of one of many contents."""
        part = "blob" if first_bytes is None else f"first-{first_bytes}"
        return f"http://{self.address}/{number}/{part}"


async def start(
    content_file: Path,
    stack: AsyncExitStack,
    *,
    in_all: float = inf,
    per_connection: float = inf,
) -> LimitedOrigin:
    """Runs until the stack is left. Rates in bytes per second."""
    words = [__file__, str(content_file), str(in_all), str(per_connection)]
    origin = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    stack.callback(origin.kill)
    assert origin.stdout is not None
    said = json.loads(await asyncio.wait_for(origin.stdout.readline(), TIMEOUT_S))
    return LimitedOrigin(f"127.0.0.1:{said['port']}")


def check(output: Path, content: bytes, number: int) -> None:
    """Every byte must be right, or the figures mean nothing; `output` is removed then."""
    assert output.read_bytes() == content + number.to_bytes(TAIL_BYTES), f"{output} is wrong"
    output.unlink()


async def serve(content_file: Path, in_all: float, per_connection: float) -> None:
    """Say the port, end with stdin."""
    content = await asyncio.to_thread(content_file.read_bytes)
    shared = Uplink(in_all)

    class Both(Uplink):
        """What one connection may send, of what all may."""

        async def carry(self, n_bytes: int) -> None:
            await shared.carry(n_bytes)
            await super().carry(n_bytes)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            _, number, part, *_ = head.split(" ")[1].split("/")
            tail = int(number).to_bytes(TAIL_BYTES)
            length = int(part.partition("-")[2] or len(content))
            body = memoryview(content)[:length], memoryview(tail)
            await send_body(writer, head, body, Both(per_connection))
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
