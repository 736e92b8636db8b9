"""Stubs of the services we call: the generated ones carry no types, so they are named here, once.

Their methods are named by the API; messages are typed. Knows nothing of what is said.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
import grpc.aio
from dragonfly_api import dfdaemon_pb2_grpc, scheduler_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

Channel: TypeAlias = grpc.aio.Channel | grpc.Channel


def upload_stub(channel: Channel) -> Any:
    """dfdaemon.v2.DfdaemonUpload: a peer, for schedulers and other peers."""
    return dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)  # type: ignore[no-untyped-call]  # generated


def download_stub(channel: Channel) -> Any:
    """dfdaemon.v2.DfdaemonDownload: a peer, for the users of its host."""
    return dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)  # type: ignore[no-untyped-call]  # generated


def scheduler_stub(channel: Channel) -> Any:
    """scheduler.v2.Scheduler."""
    return scheduler_pb2_grpc.SchedulerStub(channel)  # type: ignore[no-untyped-call]  # generated


def health_stub(channel: Channel) -> Any:
    """grpc.health.v1.Health."""
    return health_pb2_grpc.HealthStub(channel)
