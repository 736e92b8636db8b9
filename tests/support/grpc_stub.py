"""Official stubs and modules that ship without types, in one place and by one name."""

from __future__ import annotations

from typing import Any

import grpc
from dragonfly_api import dfdaemon_pb2_grpc, scheduler_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

_aio: Any = grpc.aio
_dfdaemon: Any = dfdaemon_pb2_grpc
_health: Any = health_pb2_grpc
_reflection: Any = reflection_pb2_grpc
_scheduler: Any = scheduler_pb2_grpc

EOF: Any = _aio.EOF


def scheduler_stub(channel: object) -> Any:
    """scheduler.v2.Scheduler."""
    return _scheduler.SchedulerStub(channel)


def upload_stub(channel: object) -> Any:
    """dfdaemon.v2.DfdaemonUpload."""
    return _dfdaemon.DfdaemonUploadStub(channel)


def health_stub(channel: object) -> Any:
    """grpc.health.v1.Health."""
    return _health.HealthStub(channel)


def reflection_stub(channel: object) -> Any:
    """grpc.reflection.v1alpha.ServerReflection."""
    return _reflection.ServerReflectionStub(channel)
