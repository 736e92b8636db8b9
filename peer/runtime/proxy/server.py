"""The proxy's door: listens, lets in as many connections as it bears, and stops in good order.

`ProxyServer` is what the daemon builds. It owns every task it starts and logs what goes wrong in
them; one connection's failure never touches another. What a request is, `exchange` knows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import structlog

from odonata.errors import CallerError, SettingsError
from odonata.listen import accept_no_more, check_tcp
from odonata.wire.message import Download
from peer.core.proxy_auth import ProxyLogin
from peer.core.proxy_header import HeaderList
from peer.core.proxy_rule import Address, ProxyPolicy, ProxyRouter
from peer.runtime.port import TaskHub
from peer.runtime.proxy.conversation import Conversation
from peer.runtime.proxy.direct import OriginClient
from peer.runtime.proxy.exchange import Exchange, refuse
from peer.runtime.proxy.gate import Gate
from peer.runtime.proxy.option import ProxyCounters, ProxyOptions
from peer.runtime.proxy.p2p import SwarmAnswer
from peer.runtime.proxy.wire import Wire

if TYPE_CHECKING:  # cryptography is 7 MB, for daemons that intercept
    from peer.runtime.proxy.authority import Certificates

# Connections that wait to be accepted; a pull of many images on one node opens some dozens at once.
_BACKLOG: Final = 1024
# Beyond the limit this many are told 503, the rest are dropped: telling costs a socket, too.
_REFUSED_MAX: Final = 256

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 47\r\nRetry-After: 1\r\nX-Dragonfly-Error-Type: proxy\r\n"
    b"Connection: close\r\n\r\nthe proxy has all the connections it can bear.\n"
)

_log = structlog.get_logger("proxy")


class ProxyServer:
    """The peer's HTTP proxy. `start`, then `stop`; or as an async context manager.

    `policy` decides what goes through the swarm (errors in it: SettingsError at construction);
    `login` is what clients have to send, if anything; `certificates` are shown for
    hosts that are intercepted.
    """

    def __init__(
        self,
        hub: TaskHub,
        policy: ProxyPolicy | None = None,
        options: ProxyOptions | None = None,
        *,
        login: ProxyLogin | None = None,
        certificates: Certificates | None = None,
        check: Callable[[Download], None] | None = None,
    ) -> None:
        """`check` raises ForbiddenError for a download that clients may not have."""
        self.options = options or ProxyOptions()
        self.counters = ProxyCounters()
        # Unknown to anyone else, so a request that carries it in Via has been here.
        pseudonym = f"odonata-{secrets.token_hex(8)}"
        via = f"1.1 {pseudonym}"
        router = ProxyRouter(policy or ProxyPolicy(), pseudonym=pseudonym)
        self._origin = OriginClient(self.options, self.counters, pseudonym=pseudonym)
        gate = Gate(self._origin, self.counters, enabled=self.options.authorize)
        headers, linger = _swarm_headers(self.options, via), self.options.finish_downloads
        swarm = SwarmAnswer(hub, gate, self.counters, headers, linger=linger)
        self._exchange = Exchange(
            router,
            swarm,
            self._origin,
            self.options,
            self.counters,
            login=login,
            check=check,
            certificates=certificates,
        )
        self._server: asyncio.Server | None = None
        self._address: Address | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def address(self) -> Address:
        """Where it listens: the port is the real one, also when 0 was asked for."""
        assert self._address is not None, "asked before start"
        return self._address

    async def start(self) -> None:
        """Listen. UnavailableError if the port is in use, SettingsError for another reason."""
        ip, port = self.options.ip, self.options.port
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Wire(self.counters, self._admit), ip, port, backlog=_BACKLOG
            )
        except OSError as cause:
            check_tcp(ip, port, "proxy.server.port")  # finds the cause again, and names the fix
            raise SettingsError(f"the proxy can't listen on {ip} port {port}: {cause}") from None
        name = self._server.sockets[0].getsockname()
        self._address = (name[0], name[1])
        await self._origin.start()
        _log.info("proxy_started", ip=name[0], port=name[1])

    async def stop(self) -> None:
        """Take no more requests, let answers end for the time of grace, then cut them off."""
        self._stopping = True
        if self._server is not None:
            await accept_no_more([self._server])
        for task in self._idle:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.options.stop_grace_s)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self._origin.close()
        _log.info("proxy_stopped", count=len(left))

    # --- connections ------------------------------------------------------------------------------

    def _admit(self, wire: Wire) -> None:
        counters, limit = self.counters, self.options.max_connections
        if counters.connections_open >= limit + _REFUSED_MAX or self._stopping:
            counters.connections_refused += 1
            wire.abort()
            return
        full = counters.connections_open >= limit
        work = self._refuse_connection(wire) if full else self._serve(wire)
        counters.connections_open += 1
        task = asyncio.get_running_loop().create_task(work, name="proxy connection")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.counters.connections_open -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("proxy_connection_failed", exc_info=error)

    async def _refuse_connection(self, wire: Wire) -> None:
        self.counters.connections_refused += 1
        try:
            await wire.write(_FULL, stall_s=1.0)
            await wire.linger(self.options.linger_s)
        except (ConnectionError, TimeoutError):
            wire.abort()

    async def _serve(self, wire: Wire) -> None:
        self.counters.connections += 1
        task = asyncio.current_task()
        assert task is not None, "runs in a task of its own"
        own = (self.address, wire.address("sockname"))
        await self._inside(Conversation(wire, self.options), own, task)

    async def _inside(
        self, conversation: Conversation, own: tuple[Address, ...], task: asyncio.Task[None]
    ) -> None:
        """A conversation to its end: of a connection, or of the TLS in an intercepted one."""
        try:
            await self._converse(conversation, own, task)
        finally:
            # On the way out of a bug or of a stop: never a clean end on a short answer.
            conversation.wire.abort(reset=conversation.status != 0)

    async def _converse(
        self, conversation: Conversation, own: tuple[Address, ...], task: asyncio.Task[None]
    ) -> None:
        wire = conversation.wire

        def cancel() -> None:
            task.cancel()

        while True:
            self._idle.add(task)
            try:
                head = await conversation.next_request()
            except CallerError as error:
                self.counters.requests_refused += 1
                _log.info("request_refused", code=error.code, error=error.detail)
                await refuse(conversation, error, "proxy")
                await wire.linger(self.options.linger_s)
                return
            finally:
                self._idle.discard(task)
            if head is None:
                await wire.close()
                return
            # A client that hangs up in mid-answer is gone, as Go's and nginx's servers see it too.
            wire.on_end = cancel
            goes_on = await self._exchange.run(head, conversation, own)
            wire.on_end = None
            if goes_on is not None and goes_on is not conversation:
                await self._inside(goes_on, own, task)
                return
            if goes_on is None or self._stopping or not await conversation.next_cycle():
                await wire.linger(self.options.linger_s)
                return


def _swarm_headers(options: ProxyOptions, via: str) -> HeaderList:
    server = () if options.server_ip is None else (("X-Dragonfly-Server-IP", options.server_ip),)
    return (*server, ("Via", via))
