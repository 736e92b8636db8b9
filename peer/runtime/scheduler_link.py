"""The schedulers: who is there, who answers, and which one a task belongs to.

Each known address has a keeper that asks its health, announces this host, and does so again every
announce interval, or soon (1 to 5 s) while it is unreachable. With a scheduler of ours it holds
contact (`contact`), so that each side notices within seconds when the other is gone. A task's
scheduler is the one that the hash ring names among those that answer, as every other peer computes
it. One that a download could not reach is in doubt until it has answered again: it stays on the
ring for that moment, lest the peers of a task part over a hiccup. No scheduler at all is a warning:
downloads go to their sources until one is found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from dragonfly_api import common_pb2, scheduler_pb2
from grpc_health.v1 import health_pb2

from odonata.errors import CapacityError, OdonataError, UnavailableError
from odonata.grpc_client import (
    CONNECT_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    closing_is_unavailable,
    open_channel,
)
from odonata.grpc_status import error_of
from odonata.grpc_stub import health_stub, scheduler_stub
from odonata.ring import Address, SchedulerRing
from odonata.tracing.span import carried
from odonata.wire.dragonfly import duration_to_wire
from odonata.wire.dragonfly.feature import (
    FEATURES_KEY,
    HOLDS_CONTACT,
    RESUMES,
    TAKES_PIECES_TOGETHER,
    TELLS_DIGESTS,
    UNSIZED_REGISTER,
    features_in,
)
from odonata.wire.message import HeldTask, TaskType
from peer.runtime.contact import Contact
from peer.runtime.conversation import Conversation
from peer.runtime.supervise import Supervised

FIRST_ROUND_S: Final = 3.0
"""How long a starting daemon waits for its schedulers before it serves without them."""

LEAVE_S: Final = 2.0
"""How long a stopping daemon waits for its schedulers to hear that it leaves."""

DEAD_AFTER_S: Final = 4.0
"""Silence of a scheduler of ours before it is taken for dead. With the health check that follows,
a task's next owner is asked within 8 s."""

_BACKOFF_FIRST_S: Final = 0.75
_BACKOFF_MAX_S: Final = 5.0
"""A restart takes a few seconds, and downloads wait for its end. Ten thousand hosts that look every
5 s are 2,000 connections a second on a machine where nobody listens, or three calls each on one
that has just come back."""

_ROUND_MIN_S: Final = 0.5
"""Between two looks at a scheduler: one that answers us and fails every download is suspected by
each of them, and must not be hammered for it."""

_log = structlog.get_logger("scheduler")

FindAddresses = Callable[[], Awaitable[tuple[Address, ...]]]


class Scheduler:
    """One scheduler, looked after by `keep`."""

    def __init__(
        self,
        address: Address,
        host: Callable[[], common_pb2.Host],
        announce_interval_s: float,
        on_change: Callable[[], None],
        on_found: Callable[[Scheduler], None],
        features: tuple[str, ...],
    ) -> None:
        self.address = address
        self.features = features
        self.healthy = False
        self.takes_unsized = False
        """A peer may register before it knows the content's length."""
        self.tells_digests = False
        """It takes strong digests of pieces, and questions for them."""
        self.takes_pieces_together = False
        """Pieces that parents brought may be told in one message."""
        self.in_doubt = False
        """A download could not reach it, and it has not answered since."""
        self.channel = open_channel(str(address))
        self._is_ours = False
        self._returns = False
        """It was found before, and is being looked for again."""
        self._holds_contact = False
        self._contact: Contact | None = None
        self._host = host
        self._interval_s = announce_interval_s
        self._on_change = on_change
        self._on_found = on_found
        self._suspected = asyncio.Event()
        self._announcing = asyncio.Lock()
        self.tried = asyncio.Event()
        """It was asked at least once."""

    async def keep(self) -> None:
        """Announce this host for ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        backoff_s = _BACKOFF_FIRST_S
        found = False
        while True:
            began_s = loop.time()
            self._suspected.clear()
            try:
                await self._check_health()
                await self.announce()
                await self._hold_contact()
                self._set_healthy(healthy=True)
                self._returns = False
                if not found:
                    self._on_found(self)
                found = True
                backoff_s = _BACKOFF_FIRST_S
                pause_s = self._interval_s
            except OdonataError as error:
                self._returns = self._returns or self.healthy
                self._set_healthy(healthy=False, why=error.detail)
                await self._drop_connection()
                found = False
                # Drawn, lest all peers come back to a restarted scheduler at one moment.
                pause_s = backoff_s * random.uniform(0.75, 1.25)  # noqa: S311  # no secret
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            self.tried.set()
            if await self._pause(pause_s):
                found = False
                self._doubt()
                await asyncio.sleep(began_s + _ROUND_MIN_S - loop.time())

    async def _pause(self, pause_s: float) -> bool:
        """Wait, but not when it seems to be gone or new. Whether that was so."""
        loop = asyncio.get_running_loop()
        lost = loop.create_task(self._connection_lost()) if self.healthy else None
        waiting: list[asyncio.Task[bool]] = []
        waiting.append(loop.create_task(self._until(self._suspected)))
        if lost is not None:
            waiting.append(lost)
        if self._contact is not None:
            waiting.append(loop.create_task(self._until(self._contact.ended)))
        try:
            done, _ = await asyncio.wait(
                waiting, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.wait(waiting)
        return bool(done)

    @staticmethod
    async def _until(event: asyncio.Event) -> bool:
        return await event.wait()

    async def _connection_lost(self) -> bool:
        """Return when the connection breaks: a scheduler that restarts has forgotten everybody."""
        while self.channel.get_state() is grpc.ChannelConnectivity.READY:
            await self.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        return True

    async def announce(self) -> None:
        """Say who this host is. Raises OdonataError."""
        async with self._announcing:
            request = scheduler_pb2.AnnounceHostRequest(
                host=self._host(), interval=duration_to_wire(self._interval_s)
            )
            able = (*self.features, *((RESUMES,) if self._returns else ()))
            call = scheduler_stub(self.channel).AnnounceHost(
                request,
                timeout=REQUEST_TIMEOUT_S,
                metadata=((FEATURES_KEY, ",".join(able)), *carried()),
            )
            await self._answer(call)
            features = features_in(await self._answer(call.initial_metadata()))
        self.takes_unsized = UNSIZED_REGISTER in features
        self.tells_digests = TELLS_DIGESTS in features
        self.takes_pieces_together = TAKES_PIECES_TOGETHER in features
        self._holds_contact = HOLDS_CONTACT in features

    async def _hold_contact(self) -> None:
        """Hold contact, if it is one of ours that takes that. Raises OdonataError.

        Then the connection is looked after closely, which another's would not bear.
        """
        if self._contact is not None and not self._contact.ended.is_set():
            return
        self._contact = None
        if self._holds_contact is not self._is_ours:
            self._is_ours = self._holds_contact
            await self._renew_channel()
        if self._is_ours:
            contact = Contact(self.channel, f"scheduler {self.address}", self._host().id)
            try:
                await contact.open()
            except CapacityError as error:  # it goes without
                _log.info("contact_refused", scheduler=str(self.address), error=error.detail)
                return
            self._contact = contact

    async def _drop_connection(self) -> None:
        """After a failure: the next attempt shall not wait for gRPC's own back-off."""
        if self._contact is not None:
            self._contact.close()
            self._contact = None
        if self.channel.get_state() is not grpc.ChannelConnectivity.READY:
            await self._renew_channel()

    async def _renew_channel(self) -> None:
        old = self.channel
        dead_after_s = DEAD_AFTER_S if self._is_ours else None
        self.channel = open_channel(str(self.address), dead_after_s=dead_after_s)
        await old.close()

    async def tell_held(self, held: Sequence[HeldTask]) -> bool:
        """Tell it what is held here, all at once; False if it must be told one by one.

        Raises OdonataError.
        """
        if self._contact is None:
            return False
        await self._contact.tell_held(held)
        return True

    async def leave(self, host_id: str) -> None:
        """Say that this host is going. Raises OdonataError."""
        request = scheduler_pb2.DeleteHostRequest(host_id=host_id)
        stub = scheduler_stub(self.channel)
        await self._answer(stub.DeleteHost(request, timeout=LEAVE_S, metadata=carried()))

    async def forget_task(self, host_id: str, task_id: str) -> None:
        """Say that this host does not hold the task any more. Raises OdonataError."""
        request = scheduler_pb2.DeleteTaskRequest(host_id=host_id, task_id=task_id)
        stub = scheduler_stub(self.channel)
        call = stub.DeleteTask(request, timeout=REQUEST_TIMEOUT_S, metadata=carried())
        await self._answer(call)

    async def stat_task(self, host_id: str, task_id: str) -> common_pb2.Task:
        """What the scheduler knows of a task. Raises NotFoundError and others."""
        request = scheduler_pb2.StatTaskRequest(host_id=host_id, task_id=task_id)
        stub = scheduler_stub(self.channel)
        call = stub.StatTask(request, timeout=REQUEST_TIMEOUT_S, metadata=carried())
        task: common_pb2.Task = await self._answer(call)
        return task

    async def stat_peer(self, host_id: str, task_id: str, peer_id: str) -> None:
        """Return if the scheduler knows this peer. Raises NotFoundError and others."""
        request = scheduler_pb2.StatPeerRequest(host_id=host_id, task_id=task_id, peer_id=peer_id)
        stub = scheduler_stub(self.channel)
        call = stub.StatPeer(request, timeout=REQUEST_TIMEOUT_S, metadata=carried())
        await self._answer(call)

    async def _answer(self, call: Awaitable[Any]) -> Any:  # the stubs carry no types
        """What `call` brings; every failure as one of our errors."""
        who = f"scheduler {self.address}"
        try:
            with closing_is_unavailable(who):
                return await call
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, who) from failure

    def suspect(self, reason: str) -> None:
        """It did not answer a download: ask it at once how it is."""
        _log.info("scheduler_suspected", scheduler=str(self.address), reason=reason)
        self._doubt()
        self._suspected.set()

    def _doubt(self) -> None:
        self.in_doubt = self._returns = True

    async def _check_health(self) -> None:
        request = health_pb2.HealthCheckRequest(service="")
        stub = health_stub(self.channel)
        answer = await self._answer(stub.Check(request, timeout=CONNECT_TIMEOUT_S))
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise UnavailableError(f"scheduler {self.address} is there, but not serving")

    def _set_healthy(self, *, healthy: bool, why: str = "") -> None:
        was_in_doubt, self.in_doubt = self.in_doubt, False
        if healthy is self.healthy and (healthy or self.tried.is_set()):
            if was_in_doubt:
                self._on_change()
            return
        self.healthy = healthy
        if healthy:
            _log.info("scheduler_found", scheduler=str(self.address))
        else:
            _log.warning("scheduler_unreachable", scheduler=str(self.address), error=why)
        self._on_change()


class SchedulerLink:
    """All schedulers of this daemon. `start`, then `leave` and `close`."""

    def __init__(
        self,
        *,
        find_addresses: FindAddresses,
        host: Callable[[], common_pb2.Host],
        announce_interval_s: float,
        refresh_interval_s: float,
        features: tuple[str, ...] = (),
    ) -> None:
        """`find_addresses` is asked again every `refresh_interval_s`; `host` builds the message.

        `features`: what our peers can do beyond the API, as told to each scheduler.
        """
        self._find_addresses = find_addresses
        self._host = host
        self._announce_interval_s = announce_interval_s
        self._refresh_interval_s = refresh_interval_s
        self._features = features
        self._schedulers: dict[Address, tuple[Scheduler, asyncio.Task[None]]] = {}
        self._ring = SchedulerRing(())
        self._members: frozenset[Address] = frozenset()
        self._work = Supervised("schedulers")
        self._looked_up = asyncio.Event()
        self._changed = asyncio.Event()
        self._lost_at_s: float | None = None
        self.on_moved: Callable[[], None] | None = None
        """Called when tasks may have another scheduler than before."""
        self.on_found: Callable[[Scheduler], None] | None = None
        """Called when a scheduler answers for the first time, or again: it may be a new one."""

    async def start(self) -> None:
        """Find the schedulers, and give them a moment to answer."""
        self._work.start("refresh", self._keep_refreshing())
        with suppress(TimeoutError):  # said below
            async with asyncio.timeout(FIRST_ROUND_S):
                await self._looked_up.wait()
                for scheduler, _ in tuple(self._schedulers.values()):
                    await scheduler.tried.wait()
        if not len(self._ring):
            named = ", ".join(str(address) for address in self._schedulers) or "none is named"
            _log.warning(
                "no_scheduler",
                addresses=named,
                reason="every download goes to its source until a scheduler answers; "
                "set scheduler.addrs, or start the scheduler",
            )

    async def leave(self, host_id: str) -> None:
        """Tell every scheduler that answers that this host leaves; bounded by LEAVE_S."""
        await self._work.close()
        leaving = [self._leave(one, host_id) for one, _ in self._schedulers.values() if one.healthy]
        if leaving:
            await asyncio.gather(*leaving)

    async def close(self) -> None:
        """Close the connections, after the last download."""
        await self._work.close()
        for scheduler, _ in self._schedulers.values():
            await scheduler.channel.close()

    async def _leave(self, scheduler: Scheduler, host_id: str) -> None:
        try:
            await scheduler.leave(host_id)
        except OdonataError as error:
            _log.info("leave_unheard", scheduler=str(scheduler.address), error=error.detail)

    async def leave_all(self, host_id: str) -> None:
        """Tell every scheduler that this host leaves, and go on (the DeleteHost rpc)."""
        for scheduler, _ in self._schedulers.values():
            if scheduler.healthy:
                await scheduler.leave(host_id)

    # --- for downloads ---

    def available(self, task_id: str) -> bool:
        """See `hub.Schedulers`."""
        return self.of_task(task_id) is not None

    def needs_size(self, task_id: str) -> bool:
        """See `hub.Schedulers`."""
        scheduler = self.of_task(task_id)
        return scheduler is not None and not scheduler.takes_unsized

    def tells_digests(self, task_id: str) -> bool:
        """See `hub.Schedulers`."""
        scheduler = self.of_task(task_id)
        return scheduler is not None and scheduler.tells_digests

    def of_task(self, task_id: str) -> Scheduler | None:
        """The scheduler of a task; None if none answers."""
        owner = self._ring.owner(task_id)
        return None if owner is None else self._schedulers[owner][0]

    def lost_s(self) -> float | None:
        """How long ago the last scheduler was lost; None if there was none, or one answers."""
        if self._lost_at_s is None or len(self._ring):
            return None
        return asyncio.get_running_loop().time() - self._lost_at_s

    async def find(self, task_id: str) -> Scheduler:
        """Wait until the scheduler of a task answers, for as long as that takes."""
        while True:
            scheduler = self.of_task(task_id)
            if scheduler is not None and not scheduler.in_doubt:
                return scheduler
            await self._changed.wait()

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        """Those that answer."""
        return tuple(one for one, _ in self._schedulers.values() if one.healthy)

    def converse(
        self, host_id: str, task_id: str, peer_id: str, kind: TaskType = TaskType.STANDARD
    ) -> Conversation:
        """A stream for one download. Raises UnavailableError if no scheduler answers."""
        scheduler = self.of_task(task_id)
        if scheduler is None:
            raise UnavailableError("no scheduler answers")
        return Conversation(scheduler, host_id, task_id, peer_id, kind)

    # --- membership ---

    async def _keep_refreshing(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            if await self._refresh():
                pause_s, backoff_s = self._refresh_interval_s, _BACKOFF_FIRST_S
            else:  # a name service may start after us: soon again, what was known stands
                pause_s = min(backoff_s, self._refresh_interval_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            self._looked_up.set()
            await asyncio.sleep(pause_s)

    async def _refresh(self) -> bool:
        """Whether the addresses could be found."""
        try:
            addresses = set(await self._find_addresses())
        except OdonataError as error:
            _log.warning("schedulers_not_found", error=error.detail)
            return False
        for address in self._schedulers.keys() - addresses:
            scheduler, keeper = self._schedulers.pop(address)
            keeper.cancel()
            self._work.start("close", _close(scheduler))
        for address in addresses - self._schedulers.keys():
            scheduler = Scheduler(
                address,
                self._host,
                self._announce_interval_s,
                on_change=self._rebuild,
                on_found=self._found,
                features=self._features,
            )
            keeper = self._work.start(f"scheduler {address}", scheduler.keep())
            self._schedulers[address] = (scheduler, keeper)
        self._rebuild()
        return True

    def _found(self, scheduler: Scheduler) -> None:
        if self.on_found is not None:
            self.on_found(scheduler)

    def _rebuild(self) -> None:
        members = frozenset(a for a, (one, _) in self._schedulers.items() if one.healthy)
        if self._members and not members:
            self._lost_at_s = asyncio.get_running_loop().time()
        moved = members != self._members
        self._members = members
        self._ring = SchedulerRing(members)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if moved and self.on_moved is not None:
            self.on_moved()


async def _close(scheduler: Scheduler) -> None:
    await scheduler.channel.close()
