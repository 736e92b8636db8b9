"""The server: which rpcs there are, where it listens, how it stops.

The same face as `odonata.grpc_server.GrpcServer`, which runs grpcio's stack and is the reference
for this one: one suite of tests holds both to the same behaviour.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from odonata.errors import SettingsError
from odonata.grpc_h2.call import (
    Call,
    ListeningCall,
    PlainCall,
    Route,
    TaskCall,
    refuse_unknown,
)
from odonata.grpc_h2.call_head import call_head_of, head_block
from odonata.grpc_h2.header import HeaderMemory
from odonata.grpc_h2.limits import H2Limits
from odonata.grpc_h2.protocol import H2Protocol
from odonata.grpc_h2.stream import H2Stream
from odonata.grpc_service import Form, Metadata, Rpc, Watch, rpcs_of
from odonata.listen import accept_no_more, check_tcp, prepare_unix

# After a call was cut: for its clean-up and its status to leave.
_LAST_WORDS_S: Final = 1.0

# Connections that wait to be accepted: all daemons of a cluster when the scheduler comes back.
_BACKLOG: Final = 4096

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# Messages of v1 and v1alpha are the same on the wire; newer tools ask for v1 first.
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

# Packages that ship without types.
_health_api: Any = health
_health_messages: Any = health_pb2
_reflection_messages: Any = reflection_pb2
_reflection_api: Any = reflection


class H2GrpcServer:
    """Add services, bind, start, stop. For the event loop it is made on."""

    def __init__(self, limits: H2Limits | None = None) -> None:
        self.limits = limits or H2Limits()
        self.memory = HeaderMemory(call_head_of, max_blocks=self.limits.remembered_header_blocks)
        self.connections: dict[int, H2Protocol] = {}
        self.calls = _Calls()
        self._routes: dict[str, Route] = {}
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME, _REFLECTION_V1]
        self._health = _health_api.aio.HealthServicer()
        self._sockets: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._servers: list[asyncio.Server] = []
        self._unix_path: Path | None = None
        self.has_stopped = False

    def add_service(
        self,
        descriptor: ServiceDescriptor,
        *parts: object,
        admit: Callable[[], None] | None = None,
        stream_metadata: Metadata = (),
        unary_metadata: Metadata = (),
        without_deadline: Collection[str] = (),
        watches: Sequence[Watch] = (),
    ) -> None:
        """Serve `descriptor` by the methods of `parts`; see `odonata.grpc_service` for their forms.

        `admit` is called before each call and refuses it by raising. Answers begin with
        `unary_metadata` or `stream_metadata`; those of streams are sent at once, refused ones too:
        clients wait for it 10 s and no longer (dfdaemon.md §0, trap 3). Rpcs named in
        `without_deadline` go on when the caller's deadline has passed: stock clients mean it for
        the beginning of the answer only (trap 4). Admitted calls go through `watches`.
        """
        for rpc in rpcs_of(descriptor, parts, watches):
            self._add(
                rpc,
                admit=admit,
                metadata=stream_metadata if rpc.server_streams else unary_metadata,
                has_deadline=rpc.name not in without_deadline,
            )
        self._names.append(descriptor.full_name)

    def _add(
        self,
        rpc: Rpc,
        *,
        admit: Callable[[], None] | None = None,
        metadata: Metadata = (),
        has_deadline: bool = True,
        is_ours: bool = True,
    ) -> None:
        self._routes[rpc.path] = Route(
            rpc=rpc,
            admit=admit,
            head_block=head_block(metadata),
            has_metadata=bool(metadata),
            has_deadline=has_deadline,
            is_ours=is_ours,
        )

    # --- listening --------------------------------------------------------------------------------

    def bind_tcp(self, ip: str, port: int, what: str, tls: ssl.SSLContext | None = None) -> int:
        """Listen on `ip`:`port` (0: any free one) and return the port. `what` names the setting.

        `tls`: a server's context, with its certificate; HTTP/2 is agreed upon by ALPN.
        Raises UnavailableError (in use) or SettingsError, each naming the port and the fix.
        """
        check_tcp(ip, port, what)
        listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ip == "::":
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((ip, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise SettingsError(f"can't listen on {ip} port {port}: change {what}") from error
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._sockets.append((listener, tls))
        bound: int = listener.getsockname()[1]
        return bound

    def bind_unix(self, path: Path, what: str, *, mode: int = 0o660) -> None:
        """Listen on a unix socket with file mode `mode`. `what` names the setting.

        A socket file that nobody listens on is replaced. Raises UnavailableError (in use) or
        SettingsError (path too long, folder not writable, something else stands there).
        """
        prepare_unix(path, what)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            path.chmod(mode)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise SettingsError(f"can't listen on {path}: choose another {what}") from error
        self._sockets.append((listener, None))
        self._unix_path = path

    async def start(self) -> None:
        """Begin to serve; from now on the health service says SERVING for "" and each service."""
        self._add_own_services()
        await self.set_serving(serving=True)
        loop = asyncio.get_running_loop()
        while self._sockets:
            listener, tls = self._sockets.pop()
            create = loop.create_unix_server if listener.family == socket.AF_UNIX else None
            options: dict[str, Any] = {"sock": listener, "ssl": tls, "backlog": _BACKLOG}
            server = await (create or loop.create_server)(lambda: H2Protocol(self), **options)
            self._servers.append(server)

    def _add_own_services(self) -> None:
        checks = _health_messages.DESCRIPTOR.services_by_name["Health"]
        for rpc in rpcs_of(checks, (self._health,)):
            self._add(rpc, is_ours=False)
        reflections = _reflection_messages.DESCRIPTOR.services_by_name["ServerReflection"]
        servicer = _reflection_api.aio.ReflectionServicer(self._names)
        for rpc in rpcs_of(reflections, (servicer,)):
            self._add(rpc, is_ours=False)
            route = self._routes[rpc.path]
            self._routes[f"/{_REFLECTION_V1}/{rpc.name}"] = route

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says for "" and for each service."""
        for name in ("", *self._names):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, give running ones `grace_s` seconds, cut them.

        Whoever is cut is told UNAVAILABLE. When this returns, no call of a service runs any more.
        """
        await self._health.enter_graceful_shutdown()
        self.has_stopped = True
        for listener, _ in self._sockets:
            listener.close()
        self._sockets.clear()
        await accept_no_more(self._servers)
        for connection in tuple(self.connections.values()):
            connection.leave()
        await self.calls.end(grace_s)
        await self._close_connections()
        if self._unix_path is not None:
            self._unix_path.unlink(missing_ok=True)

    async def _close_connections(self) -> None:
        for connection in tuple(self.connections.values()):
            connection.close()
        if self.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._all_gone()
        for connection in tuple(self.connections.values()):
            connection.abort()
        await asyncio.sleep(0)  # aborted transports say so with the loop's next turn

    async def _all_gone(self) -> None:
        left = asyncio.Semaphore(0)
        connections = tuple(self.connections.values())
        for connection in connections:
            connection.on_lost(left.release)
        for _ in connections:
            await left.acquire()

    # --- serving ----------------------------------------------------------------------------------

    def head_block_of(self, metadata: Metadata) -> bytes:
        """The headers of an answer with these initial metadata."""
        return head_block(metadata)

    def serve(self, carrier: H2Protocol, stream: H2Stream) -> None:
        """A call begins."""
        route = self._routes.get(stream.head.path)
        if route is None:
            refuse_unknown(stream, f"{stream.head.path} is not a method of this server")
        elif route.rpc.form is Form.AT_ONCE:
            PlainCall(carrier, stream, route)
        elif route.rpc.form is Form.LISTENER:
            ListeningCall(carrier, stream, route)
        elif route.rpc.form is Form.COROUTINE:
            TaskCall(carrier, stream, route)
        else:
            route.rpc.implementation(Call(carrier, stream, route))
            refuse_unknown(stream, route.rpc.missing)


class _Calls:
    """The calls that run now."""

    def __init__(self) -> None:
        self._running: set[TaskCall | ListeningCall] = set()
        self._changed = asyncio.Event()

    def add(self, call: TaskCall | ListeningCall) -> None:
        self._running.add(call)

    def discard(self, call: TaskCall | ListeningCall) -> None:
        self._running.discard(call)
        self._changed.set()

    async def end(self, grace_s: float) -> None:
        """Wait for those of services, then cut all."""
        await self._wait(grace_s, lambda: any(call.is_ours for call in self._running))
        for call in tuple(self._running):
            call.cut()
        await self._wait(_LAST_WORDS_S, lambda: bool(self._running))

    async def _wait(self, timeout_s: float, is_needed: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while is_needed():
                    self._changed.clear()
                    await self._changed.wait()
