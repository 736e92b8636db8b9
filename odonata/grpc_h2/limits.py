"""What one client may cost the server: every bound by name, with its reason. Data only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class H2Limits:
    """Bounds of one connection, and of the server where it says so. Bytes and seconds."""

    max_connections: int = 20_000
    """Of the server. A daemon keeps up to ten to its scheduler; each costs about 6 KiB idle."""
    max_streams: int = 65_536
    """Open at once. One for each download of a daemon, which may use one connection for all."""
    max_header_block_bytes: int = 64 * KIB
    """Of one header block as it is sent, all CONTINUATION frames together (CVE-2024-27316)."""
    max_header_list_bytes: int = 64 * KIB
    """Decoded, names and values and 32 bytes each, as SETTINGS_MAX_HEADER_LIST_SIZE counts. gRPC's
    own default is 8 KiB or 16 KiB; credentials and traces may need more."""
    max_continuations: int = 32
    """Frames of one header block: empty ones cost nothing to send and something to read."""
    max_message_bytes: int = 1024 * MIB
    """Dragonfly: none. A peer list of a million pieces has about 100 MiB."""
    max_inflated_bytes: int = 64 * MIB
    """Of a message that came compressed: zeros shrink by a thousand."""
    max_partial_bytes: int = 1024 * MIB
    """Of all messages that a connection has begun and not finished."""
    stream_window_bytes: int = MIB
    """Sent ahead on one stream: thousands of piece messages, and 80 Gbit/s at 0.1 ms."""
    connection_window_bytes: int = 16 * MIB
    """Sent ahead on one connection."""
    stream_backlog_bytes: int = MIB // 2
    """Messages of one stream that its handler has not taken. Beyond it no more are asked for."""
    connection_backlog_bytes: int = 64 * MIB
    """The same for all streams of a connection: a few slow handlers don't stop the others."""
    max_frame_bytes: int = 64 * KIB
    """Of DATA we send, where the client allows more than 16 KiB: one huge answer leaves room for
    others in between."""
    burst_bytes: int = 256 * KIB
    """Produced at once before the socket is asked whether it takes more."""
    control_burst: int = 10_000
    """Frames that cost us work and the client nothing (PING, SETTINGS, PRIORITY, empty DATA,
    unknown kinds), beyond those of `control_per_s`. grpc-go measures bandwidth by a ping for each
    round trip, so there may be thousands a second on loopback."""
    control_per_s: float = 5_000.0
    """At about 1 us each: half a percent of a core."""
    reset_burst: int = 10_000
    """Streams that the client opened and reset, beyond those of `reset_per_s` (CVE-2023-44487). A
    daemon that is told to stop may reset all its downloads at once."""
    reset_per_s: float = 500.0
    """At about 20 us each: one percent of a core."""
    remembered_header_blocks: int = 4096
    """Of the server: decoded header blocks, about 2 KiB each. Calls of a client differ in path,
    deadline and trace; when the table is full it is emptied."""
    keepalive_time_s: float = 60.0
    """Silence after which the server pings. A host that vanished without a word is noticed after
    this and `keepalive_timeout_s`, not after two hours."""
    keepalive_timeout_s: float = 20.0
    """For any sign of life after the ping."""
    call_keepalive_time_s: float = 60.0
    call_keepalive_timeout_s: float = 20.0
    """The same of a connection with a call at work. Idle ones may be left alone longer: a stock
    client keeps up to ten."""
    max_idle_s: float = 600.0
    """A connection without a call is closed. Dragonfly's server: 10 min."""
    max_age_s: float = 12 * 3600.0
    """A connection takes no more calls. Dragonfly's server: 12 h."""
    age_grace_s: float = 300.0
    """For its calls to end then. Dragonfly's server: 5 min."""
    handshake_timeout_s: float = 20.0
    """For preface and SETTINGS: who connects and says nothing goes."""

    def noticing(self, dead_after_s: float) -> H2Limits:
        """The same, but a client that vanishes in the middle of a call is noticed after so long."""
        half_s = dead_after_s / 2
        return replace(self, call_keepalive_time_s=half_s, call_keepalive_timeout_s=half_s)
