"""Host <-> common.v2.Host, and the check of a host that announces itself.

A host says far more of itself (CPU, memory, disk, build) than a scheduler looks at. All of it is
kept, serialised, in `Host.announcement`, and repeated when the host is named to others; fields a
core does know are laid over it, so that an answer never contradicts the core.
"""

from __future__ import annotations

from dragonfly_api import common_pb2

from odonata.errors import CallerError
from odonata.wire.dragonfly.check import (
    require_id,
    require_ip_literal,
    require_port,
)
from odonata.wire.message import Host, HostType


def host_from_wire(message: common_pb2.Host) -> Host:
    """Read a host; any type but SUPER counts as a normal peer. Never fails: see `check_host`."""
    network = message.network
    return Host(
        id=message.id,
        type=HostType.SUPER if message.type == HostType.SUPER else HostType.NORMAL,
        hostname=message.hostname,
        ip=message.ip,
        port=message.port,
        download_port=message.download_port,
        idc=network.idc,
        location=network.location,
        max_tx_bandwidth_bits_per_s=network.max_tx_bandwidth,
        tx_bandwidth_bits_per_s=network.tx_bandwidth,
        disable_shared=message.disable_shared,
        scheduler_cluster_id=message.scheduler_cluster_id,
        announcement=message.SerializeToString(),
    )


def host_to_wire(host: Host) -> common_pb2.Host:
    """The host's own announcement with the fields of `host` laid over it."""
    message = common_pb2.Host()
    if host.announcement:
        message.ParseFromString(host.announcement)
    message.id = host.id
    if (message.type == HostType.SUPER) != host.is_seed:
        message.type = int(host.type)
    message.hostname = host.hostname
    message.ip = host.ip
    message.port = host.port
    message.download_port = host.download_port
    message.disable_shared = host.disable_shared
    message.scheduler_cluster_id = host.scheduler_cluster_id
    _lay_network(message, host)
    return message


def _lay_network(message: common_pb2.Host, host: Host) -> None:
    # Reading an unset submessage gives defaults and does not create it: a host that said nothing
    # of its network stays one that said nothing.
    network = message.network
    if network.idc != host.idc:
        message.network.idc = host.idc
    if network.location != host.location:
        message.network.location = host.location
    if network.max_tx_bandwidth != host.max_tx_bandwidth_bits_per_s:
        message.network.max_tx_bandwidth = host.max_tx_bandwidth_bits_per_s
    if network.tx_bandwidth != host.tx_bandwidth_bits_per_s:
        message.network.tx_bandwidth = host.tx_bandwidth_bits_per_s


def check_host(host: Host) -> Host:
    """Return `host` if others can reach it as it announced itself, else raise CallerError."""
    require_id("host.id", host.id)
    if not host.hostname:
        raise CallerError("host.hostname is empty: set host.hostname of that daemon")
    require_ip_literal("host.ip", host.ip)
    require_port("host.port", host.port)
    return host
