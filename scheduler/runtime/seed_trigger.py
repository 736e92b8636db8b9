"""Asks a seed to fetch a task from the source, and waits until it has: DfdaemonUpload.DownloadTask.

The stream is only drained: children get the pieces from the seed themselves. Which seed, and when,
is the core's decision; this module reports how it went, and never raises.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from odonata.errors import CapacityError, OdonataError, SourceError, UnavailableError
from odonata.grpc_client import CONNECT_TIMEOUT_S, open_channel, target_of
from odonata.grpc_status import error_of
from odonata.grpc_stub import upload_stub
from odonata.tracing.span import NO_TRACER, Span, Tracer, carried, spanning
from odonata.wire.dragonfly import download_request_to_wire
from odonata.wire.dragonfly.feature import share_to_metadata
from odonata.wire.message import Download, SourceAnswer
from scheduler.core.effect import TriggerSeed
from scheduler.core.event import SeedFailed, SeedFinished

# Connections kept to idle seeds. A cluster has a few seeds, and a new connection costs
# milliseconds.
MAX_IDLE_CHANNELS = 64

# A seed that vanished while it was connected is found out after so much silence; one that is slow
# answers pings all the same.
DEAD_AFTER_S = 4.0

# The deadline of the call is later than our own: a seed that is slow is not one that is gone, and
# at the very deadline both sides may end the stream, in either's words.
_BACKSTOP_S = 30.0


class SeedTrigger:
    """Runs triggers, with one connection for each seed. `timeout_s` bounds one whole download."""

    def __init__(self, timeout_s: float, tracer: Tracer = NO_TRACER) -> None:
        self._timeout_s = timeout_s
        self._tracer = tracer
        self._channels = _Channels()

    async def run(self, effect: TriggerSeed) -> SeedFinished | SeedFailed:
        """Trigger the seed and wait until its stream ends."""
        about = {"task_id": effect.task_id, "host_id": effect.host.id}
        with spanning(self._tracer.start("trigger_seed", about)) as span:
            outcome = await self._run(effect)
            _tell(span, outcome)
        return outcome

    async def _run(self, effect: TriggerSeed) -> SeedFinished | SeedFailed:
        host = effect.host
        target = target_of(host.ip, host.port)
        try:
            async with self.connected(target, f"seed {target}") as channel:
                await self._download(channel, target, effect.download)
        except SourceError as error:
            reason = f"the source answered {error.status_code or 'nothing'}: {error.detail}"
            return _failed(effect, reason, answer=_answer_of(error))
        except OdonataError as error:
            unreachable = isinstance(error, UnavailableError)
            return _failed(effect, error.detail, unreachable=unreachable)
        return SeedFinished(task_id=effect.task_id, host_id=host.id)

    @asynccontextmanager
    async def connected(self, target: str, who: str) -> AsyncGenerator[grpc.aio.Channel]:
        """A channel to the daemon `who` at `target` that has just proved to be alive.

        Raises UnavailableError if nobody answers there.
        """
        async with self._channels.use(target) as channel:
            await _connect(channel, who)
            yield channel

    async def _download(self, channel: grpc.aio.Channel, target: str, download: Download) -> None:
        request = download_request_to_wire(download)
        call = upload_stub(channel).DownloadTask(
            request,
            timeout=self._timeout_s + _BACKSTOP_S,
            metadata=(*share_to_metadata(download.source_share), *carried()),
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                async for _ in call:
                    pass
        except TimeoutError:
            raise CapacityError(
                f"seed {target} did not finish within {self._timeout_s:g} s "
                "(seedPeer.taskDownloadTimeout)"
            ) from None
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, f"seed {target}") from failure

    @property
    def connection_count(self) -> int:
        """Connections that are open, in use or kept for the next time."""
        return len(self._channels)

    async def close(self) -> None:
        """Close all connections."""
        await self._channels.close()


def _tell(span: Span, outcome: SeedFinished | SeedFailed) -> None:
    if isinstance(outcome, SeedFailed):
        span.fail(outcome.reason)


def _failed(
    effect: TriggerSeed,
    reason: str,
    *,
    unreachable: bool = False,
    answer: SourceAnswer | None = None,
) -> SeedFailed:
    return SeedFailed(
        task_id=effect.task_id,
        host_id=effect.host.id,
        reason=reason,
        unreachable=unreachable,
        answer=answer,
    )


def _answer_of(error: SourceError) -> SourceAnswer | None:
    # Without a status the source said nothing: that may be the seed's own network or resolver.
    if error.status_code is None:
        return None
    return SourceAnswer(message=error.detail, status_code=error.status_code, header=error.header)


async def _connect(channel: grpc.aio.Channel, who: str) -> None:
    # By itself gRPC would try for 20 s. The head of the answer is no sign of life either: a seed
    # asks the source before it sends one.
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise UnavailableError(f"{who} refuses connections")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise UnavailableError(f"{who} does not answer within {CONNECT_TIMEOUT_S:g} s") from None


@dataclass(slots=True)
class _Entry:
    channel: grpc.aio.Channel
    users: int = 0


class _Channels:
    """Connections by target; the longest idle ones go first, one in use never."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def use(self, target: str) -> AsyncGenerator[grpc.aio.Channel]:
        entry = self._entries.get(target)
        if entry is None:
            entry = self._entries[target] = _Entry(open_channel(target, dead_after_s=DEAD_AFTER_S))
        self._entries.move_to_end(target)
        entry.users += 1
        try:
            yield entry.channel
        except UnavailableError:
            # A broken channel waits before it tries again: a seed that comes back shall not.
            if self._entries.get(target) is entry:
                del self._entries[target]
            raise
        finally:
            entry.users -= 1
            if self._entries.get(target) is not entry and entry.users == 0:
                await entry.channel.close()
            await self._shrink()

    async def _shrink(self) -> None:
        idle = [target for target, entry in self._entries.items() if entry.users == 0]
        for target in idle[: max(0, len(idle) - MAX_IDLE_CHANNELS)]:
            await self._entries.pop(target).channel.close()

    async def close(self) -> None:
        while self._entries:
            _, entry = self._entries.popitem()
            await entry.channel.close()
