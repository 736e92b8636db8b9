"""Limits and counters of the proxy: every bound with its reason, every count with its meaning.

Values only; where they come from (settings) and where they go (metrics) is the daemon's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odonata.wire.message import Value
from peer.runtime.host_trust import HostTrust
from peer.runtime.outgoing_proxy import NO_PROXY, OutgoingProxy


class ProxyOptions(Value, frozen=True, kw_only=True):
    """Where the proxy listens, whom it trusts, and how much it bears."""

    ip: str = "127.0.0.1"
    port: int = 65001
    server_ip: str | None = None
    """Told to clients as X-Dragonfly-Server-IP; None: nothing is told."""
    insecure: bool = False
    """Accept any certificate of an origin that is asked directly."""
    ca_file: Path | None = None
    """PEM file of authorities to trust besides the system's."""
    trust: tuple[HostTrust, ...] = ()
    """Origins whose certificates are checked in another way."""
    outgoing: OutgoingProxy = NO_PROXY
    """Through whom origins are asked directly; tunnels go straight to their host."""
    authorize: bool = True
    """Ask the origin, with a client's own credentials, before it gets what others fetched."""
    finish_downloads: bool = True
    """A download goes on when the last client that wants it has hung up."""
    max_connections: int = 4096
    """Beyond it 503. A pull opens 3 to 10; full buffers are 0.8 MiB each."""
    head_bytes: int = 64 * 1024
    """Of a request. Bearer tokens reach 16 KiB, presigned URLs 4 KiB."""
    head_timeout_s: float = 30.0
    """From the first to the last byte of a request's head."""
    idle_timeout_s: float = 90.0
    """Between requests. Go's client drops idle connections after 90 s."""
    body_timeout_s: float = 120.0
    """Longest silence of a client that sends a body."""
    write_stall_s: float = 600.0
    """Longest time a client takes nothing: unpacking a layer can hold up docker for minutes."""
    connect_timeout_s: float = 10.0
    """To reach an origin. SYN is repeated after 1, 3 and 7 s: this allows for three lost."""
    origin_timeout_s: float = 300.0
    """Longest silence of an origin: registries check a pushed layer before they answer."""
    linger_s: float = 2.0
    """How long a client has to read the last answer before its connection closes. As nginx's 5 s,
    but no client here is farther away than its own host or cluster."""
    tunnel_idle_s: float = 3600.0
    """A tunnel without a byte either way is forgotten."""
    stop_grace_s: float = 5.0
    """How long a stopping proxy lets answers come to their end."""


@dataclass(slots=True)
class ProxyCounters:
    """What happened since the start. Bytes are those of bodies and tunnels."""

    connections: int = 0
    connections_open: int = 0
    connections_refused: int = 0
    requests_p2p: int = 0
    requests_direct: int = 0
    requests_past_swarm: int = 0
    """Of those to the swarm: answered by their origin, since this host had no place for them."""
    requests_tunnel: int = 0
    requests_intercepted: int = 0
    """CONNECTs that were opened; the requests inside count by themselves."""
    requests_refused: int = 0
    permissions_asked: int = 0
    """How often an origin was asked whether a client may have what is shared..."""
    permissions_refused: int = 0
    """...and said no."""
    bytes_p2p: int = 0
    bytes_direct: int = 0
    bytes_tunnel: int = 0
    writes_paused: int = 0
    """How often an answer had to wait for its client."""
    max_buffered_bytes: int = 0
    """The most that ever waited in one connection's write buffer."""
