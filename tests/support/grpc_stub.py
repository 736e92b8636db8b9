"""What tests need of grpc beside the product's own stubs, which they use too."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

_aio: Any = grpc.aio
_reflection: Any = reflection_pb2_grpc

EOF: Any = _aio.EOF


def reflection_stub(channel: object) -> Any:
    """grpc.reflection.v1alpha.ServerReflection."""
    return _reflection.ServerReflectionStub(channel)
