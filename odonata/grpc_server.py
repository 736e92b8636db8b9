"""What all our gRPC servers share: options, health, reflection, statuses, binding, a clean stop.

This server runs grpcio's stack. `odonata.grpc_h2` has the same face on a stack of our own, for
which this one is the reference. What a service lacks is answered UNIMPLEMENTED with the rpc's
name. Errors cross the boundary here and only here. No service of any program lives in this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from odonata.errors import InternalError, OdonataError, SettingsError, UnavailableError
from odonata.grpc_client import target_of
from odonata.grpc_outlet import listened
from odonata.grpc_service import Form, Metadata, Rpc, Watch, rpcs_of
from odonata.grpc_status import status_of
from odonata.listen import check_tcp, prepare_unix

SERVER_OPTIONS: Final = (
    # Dragonfly's limits: none. A NormalTask with 8 full parents of many pieces has no natural
    # bound.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Rust clients ping every 300 s, others as often as 10 s, also with no call open. gRPC's default
    # would call that abuse and drop the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # A host that vanished without a word (power, cable) is noticed after 80 s, not two hours.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # One stream for each download of a daemon, and a daemon may use one connection for all.
    ("grpc.max_concurrent_streams", 65_536),
    # Two servers on one port would silently share its connections.
    ("grpc.so_reuseport", 0),
)

Context = Any  # grpc.aio.ServicerContext, which ships without types

# Packages that ship without types.
_health_api: Any = health
_health_stubs: Any = health_pb2_grpc
_reflection_api: Any = reflection

_log = structlog.get_logger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# After a call was cut: for its clean-up and its status to leave.
_LAST_WORDS_S = 1.0

# Messages of v1 and v1alpha are the same on the wire; newer tools ask for v1 first.
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class GrpcServer:
    """A grpc.aio server: add services, bind, start, stop. For the event loop it is made on."""

    def __init__(self, *, dead_after_s: float | None = None) -> None:
        """None: a connection is taken for dead, and its calls are cancelled, after 80 s of silence.

        `dead_after_s`: after so many seconds, if it carries a call.
        """
        self._server = grpc.aio.server(options=_options(dead_after_s))
        self._health = _health_api.aio.HealthServicer()
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME, _REFLECTION_V1]
        self._unix_path: Path | None = None
        self._calls = _Calls()
        _health_stubs.add_HealthServicer_to_server(self._health, self._server)

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
        clients wait for it 10 s and no longer (dfdaemon.md §0, trap 3). `without_deadline` has no
        effect: grpcio enforces every deadline (trap 4). Admitted calls go through `watches`.
        """
        del without_deadline
        boundary = _Boundary(self._calls, admit)
        handlers = {
            rpc.name: boundary.handler(
                rpc, stream_metadata if rpc.server_streams else unary_metadata
            )
            for rpc in rpcs_of(descriptor, parts, watches)
        }
        self._add(descriptor.full_name, handlers)

    def _add(self, name: str, handlers: dict[str, Any]) -> None:
        generic = grpc.method_handlers_generic_handler(name, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._names.append(name)

    def bind_tcp(self, ip: str, port: int, what: str) -> int:
        """Listen on `ip`:`port` (0: any free one) and return the port. `what` names the setting.

        Raises UnavailableError (in use) or SettingsError, each naming the port and the fix.
        """
        check_tcp(ip, port, what)
        try:
            bound: int = self._server.add_insecure_port(target_of(ip, port))
        except RuntimeError as error:
            raise SettingsError(f"can't listen on {ip} port {port}: change {what}") from error
        return bound

    def bind_unix(self, path: Path, what: str, *, mode: int = 0o660) -> None:
        """Listen on a unix socket with file mode `mode`. `what` names the setting.

        A socket file that nobody listens on is replaced. Raises UnavailableError (in use) or
        SettingsError (path too long, folder not writable, something else stands there).
        """
        prepare_unix(path, what)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise SettingsError(f"can't listen on {path}: choose another {what}") from error
        self._unix_path = path
        path.chmod(mode)

    async def start(self) -> None:
        """Begin to serve; from now on the health service says SERVING for "" and each service."""
        servicer = _reflection_api.aio.ReflectionServicer(self._names)
        rpc = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in (reflection.SERVICE_NAME, _REFLECTION_V1):
            generic = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": rpc})
            self._server.add_generic_rpc_handlers((generic,))
        await self._server.start()
        await self.set_serving(serving=True)

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service says for "" and for each service."""
        for name in ("", *self._names):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, give running ones `grace_s` seconds, cut them.

        Whoever is cut is told UNAVAILABLE. When this returns, no call of a service runs any more.
        """
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.stop(grace_s + _LAST_WORDS_S))
            tasks.create_task(self._calls.end(grace_s))
        if self._unix_path is not None:
            self._unix_path.unlink(missing_ok=True)


def _options(dead_after_s: float | None) -> tuple[tuple[str, int], ...]:
    if dead_after_s is None:
        return SERVER_OPTIONS
    half_ms = int(dead_after_s * 500)
    quick = {
        "grpc.keepalive_time_ms": half_ms,
        "grpc.keepalive_timeout_ms": half_ms,
        # A ping of another kind may be under way (one for flow control, at just the wrong moment);
        # then this is what bounds the wait, not the above.
        "grpc.http2.ping_timeout_ms": half_ms,
        # Idle connections are left alone: a stock client keeps up to ten.
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.http2.max_pings_without_data": 0,
    }
    return tuple((dict(SERVER_OPTIONS) | quick).items())


class _Calls:
    """The calls that run now. gRPC's own cut would tell clients less, and log a traceback."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.ending = False

    @contextmanager
    def running(self) -> Generator[None]:
        task = asyncio.current_task()
        assert task is not None, "gRPC runs each call as a task"
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def end(self, grace_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        self.ending = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)


class _Boundary:
    """Wraps the methods of one service: admission, early metadata, errors to statuses."""

    def __init__(self, calls: _Calls, admit: Callable[[], None] | None) -> None:
        self._calls = calls
        self._admit = admit

    def handler(self, rpc: Rpc, metadata: Metadata) -> Any:
        """The handler of `rpc`, whose answers begin with `metadata`."""
        make = _MAKERS[rpc.client_streams, rpc.server_streams]
        behaviour: Any
        if rpc.form is Form.ABSENT:
            behaviour = _unimplemented(rpc)
        elif rpc.form is Form.AT_ONCE:
            behaviour = self._guard(_at_once(rpc.implementation), rpc, metadata)
        elif rpc.form is Form.LISTENER:
            behaviour = self._guard(listened(rpc.implementation), rpc, metadata)
        else:
            behaviour = self._guard(rpc.implementation, rpc, metadata)
        return make(behaviour, request_deserializer=rpc.parse, response_serializer=rpc.serialize)

    def _admitted(self, implementation: Any, metadata: Metadata, *, is_early: bool) -> Any:
        async def admitted(request: Any, context: Context) -> Any:
            if metadata or is_early:
                await context.send_initial_metadata(metadata)
            if self._admit is not None:
                self._admit()
            with self._calls.running():
                return await implementation(request, context)

        return admitted

    def _guard(self, implementation: Any, rpc: Rpc, metadata: Metadata) -> Any:
        admitted = self._admitted(implementation, metadata, is_early=rpc.server_streams)

        async def guarded(request: Any, context: Context) -> Any:
            try:
                return await admitted(request, context)
            except OdonataError as error:
                await _abort(context, error)
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                if not self._calls.ending:
                    raise  # the client went
                await _abort(context, UnavailableError("this server shuts down"))
            except Exception as error:  # noqa: BLE001  # supervises every call: a bug must be seen
                _log.exception("call_crashed", rpc=f"{rpc.service}/{rpc.name}")
                name = type(error).__name__
                await _abort(context, InternalError(f"a bug here ({name}): its log says more"))

        return guarded


def _at_once(implementation: Callable[[Any, Context], Any]) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        return implementation(request, context)

    return answer


def _unimplemented(rpc: Rpc) -> Callable[[Any, Context], Awaitable[None]]:
    async def unimplemented(_request: Any, context: Context) -> None:
        rpc.implementation(context)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, rpc.missing)

    return unimplemented


async def _abort(context: Context, error: OdonataError) -> None:
    status, detail, trailers = status_of(error)
    await context.abort(status, detail, trailers)


# (client streams, server streams) -> maker of the handler.
_MAKERS: Final[dict[tuple[bool, bool], Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
