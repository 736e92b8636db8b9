"""The stream by which this host holds contact with one scheduler of ours (`odonata.wire.contact`).

It is open as long as this host lives, so that the scheduler sees at once when it dies, and this
host when the scheduler does. It also carries what is held here, many tasks in one message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from odonata.errors import UnavailableError
from odonata.grpc_client import closing_is_unavailable
from odonata.grpc_status import error_of
from odonata.wire.contact import HELD_PER_REQUEST, HoldResponse, hold_stub, request_to_wire
from odonata.wire.message import HeldTask

ANSWER_S: Final = 10.0
"""For one request: the time Dragonfly's clients give a call."""


class Contact:
    """`open` it once; `ended` is set when it is no more. `close` it."""

    def __init__(self, channel: grpc.aio.Channel, who: str, host_id: str) -> None:
        self._call: Any = hold_stub(channel)()
        self._who = who
        self._host_id = host_id
        self._asking = asyncio.Lock()
        self.ended = asyncio.Event()
        self._call.add_done_callback(self._ended)

    def _ended(self, _call: object) -> None:
        self.ended.set()

    async def open(self) -> None:
        """Say who holds it. Raises OdonataError."""
        await self._ask(request_to_wire(self._host_id))

    async def tell_held(self, held: Sequence[HeldTask]) -> None:
        """Return when the scheduler knows that these tasks are here. Raises OdonataError."""
        for first in range(0, len(held), HELD_PER_REQUEST):
            await self._ask(request_to_wire("", held[first : first + HELD_PER_REQUEST]))

    async def _ask(self, request: Any) -> None:
        try:
            with closing_is_unavailable(self._who):
                async with self._asking, asyncio.timeout(ANSWER_S):
                    await self._call.write(request)
                    answer = await self._call.read()
        except TimeoutError:
            self.close()
            raise UnavailableError(f"{self._who} did not answer within {ANSWER_S:g} s") from None
        except asyncio.InvalidStateError:
            raise UnavailableError(f"the contact with {self._who} is lost") from None
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, self._who) from failure
        if not isinstance(answer, HoldResponse):  # the end of the stream
            raise UnavailableError(f"{self._who} ended the contact")

    def close(self) -> None:
        """Hold it no longer."""
        self._call.cancel()
