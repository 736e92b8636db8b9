"""The rpc by which one of our hosts keeps in contact with one of our schedulers, and its messages.

    package odonata.scheduler.v1;
    service Contact {
      rpc Hold(stream HoldRequest) returns (stream HoldResponse);
      rpc TellTime(TellTimeRequest) returns (TellTimeResponse);
    }

A host holds the stream open for as long as it lives: when the connection below it dies, so has the
host, or the way to it, and no message is needed to know it. The first request names the host; each
may bring tasks that the host holds whole, and is answered when the scheduler knows them.

TellTime says what the scheduler's clock shows, for whoever wants to compare clocks: nothing else on
the wire tells it without an announcement or a download.

The service is no part of Dragonfly's API: a scheduler that has it says so
(`feature.HOLDS_CONTACT`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from odonata.errors import CallerError
from odonata.wire.message import HeldTask

_PACKAGE: Final = "odonata.scheduler.v1"
_Field: Final = descriptor_pb2.FieldDescriptorProto

METHOD: Final = f"/{_PACKAGE}.Contact/Hold"
TELL_TIME_METHOD: Final = f"/{_PACKAGE}.Contact/TellTime"

HELD_PER_REQUEST: Final = 256
"""About 64 KiB, and 10 ms of a scheduler's time: others get their turn between two requests."""


def _make_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="odonata/scheduler/v1/contact.proto", package=_PACKAGE, syntax="proto3"
    )
    held = file.message_type.add(name="HeldTask")
    texts, lengths = ("task_id", "peer_id", "url"), ("content_length", "piece_length")
    for number, name in enumerate((*texts, *lengths), start=1):
        kind = _Field.TYPE_STRING if name in texts else _Field.TYPE_UINT64
        held.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
    request = file.message_type.add(name="HoldRequest")
    request.field.add(
        name="host_id", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL
    )
    request.field.add(
        name="held",
        number=2,
        type=_Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.HeldTask",
        label=_Field.LABEL_REPEATED,
    )
    file.message_type.add(name="HoldResponse")
    file.message_type.add(name="TellTimeRequest")
    time = file.message_type.add(name="TellTimeResponse")
    time.field.add(name="unix_s", number=1, type=_Field.TYPE_DOUBLE, label=_Field.LABEL_OPTIONAL)
    service = file.service.add(name="Contact")
    service.method.add(
        name="TellTime",
        input_type=f".{_PACKAGE}.TellTimeRequest",
        output_type=f".{_PACKAGE}.TellTimeResponse",
    )
    service.method.add(
        name="Hold",
        input_type=f".{_PACKAGE}.HoldRequest",
        output_type=f".{_PACKAGE}.HoldResponse",
        client_streaming=True,
        server_streaming=True,
    )
    return file


_pool: Any = descriptor_pool.Default()
_file: Any = _pool.AddSerializedFile(_make_file().SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


SERVICE: Final[ServiceDescriptor] = _pool.FindServiceByName(f"{_PACKAGE}.Contact")
HoldRequest: Final[Any] = _message("HoldRequest")
HoldResponse: Final[Any] = _message("HoldResponse")
TellTimeRequest: Final[Any] = _message("TellTimeRequest")
TellTimeResponse: Final[Any] = _message("TellTimeResponse")


def hold_stub(channel: Any) -> Any:  # grpc.aio.Channel, which ships without types
    """The rpc, to be called with a stream of requests."""
    return channel.stream_stream(
        METHOD,
        request_serializer=HoldRequest.SerializeToString,
        response_deserializer=HoldResponse.FromString,
    )


def tell_time_stub(channel: Any) -> Any:
    """The rpc, to be called with a request."""
    return channel.unary_unary(
        TELL_TIME_METHOD,
        request_serializer=TellTimeRequest.SerializeToString,
        response_deserializer=TellTimeResponse.FromString,
    )


def request_to_wire(host_id: str, held: Iterable[HeldTask] = ()) -> Any:
    """A HoldRequest."""
    return HoldRequest(
        host_id=host_id,
        held=[
            {
                "task_id": task.task_id,
                "peer_id": task.peer_id,
                "url": task.url,
                "content_length": task.content_length,
                "piece_length": task.piece_length,
            }
            for task in held
        ],
    )


def held_from_wire(request: Any) -> tuple[HeldTask, ...]:
    """What a HoldRequest says is held. Raises CallerError."""
    held = tuple(
        HeldTask(
            task_id=one.task_id,
            peer_id=one.peer_id,
            url=one.url,
            content_length=one.content_length,
            piece_length=one.piece_length,
        )
        for one in request.held
    )
    for task in held:
        if not task.task_id or not task.peer_id:
            raise CallerError("a held task needs a task_id and a peer_id: send both")
        if task.content_length and not task.piece_length:
            raise CallerError(f"piece_length of held task {task.task_id} is 0: say how long it is")
    return held
