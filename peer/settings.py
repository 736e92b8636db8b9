"""The peer daemon's settings: every value with its unit, its default and the reason for it.

`odonata.settings.load(DaemonSettings, ...)` fills them from the command line, the environment, a
YAML file and the defaults below, in this order. The keys are those of Dragonfly's dfdaemon 2.5;
older spellings and keys without effect are listed in `odonata.settings.dialect`. "Dragonfly's
default" below means the code of its client 1.5.1.

Nothing is looked up here: no host name, no address, no file. What is None is for the daemon to find
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from odonata.piece import PIECE_LENGTH_MIN
from odonata.settings.block_list import HostBlockListSection
from odonata.settings.dialect import DAEMON, DYNCONFIG, Dialect
from odonata.settings.log import ProgramSettings
from odonata.settings.place import runtime_dir, state_dir
from odonata.settings.section import Section, Settings
from odonata.settings.value import (
    ByteCount,
    BytesPerS,
    Count,
    FilePath,
    HostPort,
    HostPorts,
    HttpUrl,
    Ip,
    Pattern,
    Percent,
    PieceLength,
    Port,
    PositiveCount,
    Seconds,
    SocketPath,
)
from odonata.telemetry.settings import TelemetrySettings, default_dir
from odonata.tracing.settings import TracingSettings

_ANY_IP = "0.0.0.0"  # other hosts' peers must reach it
_LOOPBACK_IP = "127.0.0.1"


class HostSettings(Section):
    """Who and where this host is. Empty labels mean: nobody said."""

    idc: str = ""
    """Data centre; the scheduler prefers parents of the same one."""
    location: str = ""
    """Path from coarse to fine, joined by "|", such as "eu|berlin|rack7"; the longer the common
    start, the nearer."""
    hostname: str | None = None
    """None: the system's name."""
    ip: Ip | None = None
    """What other hosts connect to. None: the daemon finds the address that faces the scheduler."""
    scheduler_cluster_id: Count = 0
    """The manager's number of the cluster this host wants to belong to; 0: whichever answers first
    (Dragonfly's default)."""


class DownloadServerSettings(Section):
    """The local service for `odonata get` and other tools of this host."""

    socket_path: SocketPath = Path("/run/odonata/daemon.sock")
    """The unix socket. Not root: below the user's runtime folder."""


class DownloadSettings(Section):
    """How this host fetches."""

    server: DownloadServerSettings = DownloadServerSettings()
    bandwidth_limit_bytes_per_s: BytesPerS = 50_000_000_000
    """From other peers, all tasks together. 50GB a second, Dragonfly's default: no limit in
    practice."""
    back_to_source_bandwidth_limit_bytes_per_s: BytesPerS = 50_000_000_000
    """From sources, all tasks together. Dragonfly's default."""
    piece_timeout_s: Seconds = 30.0
    """Delay that one piece from one parent may have besides its length at 128 KiB a second: 62 s
    for 4 MiB. Dragonfly gives every piece 360 s, whatever its length."""
    concurrent_piece_count: PositiveCount = 4
    """Pieces of one task in flight. Dragonfly's default is 8; with 4 each piece is there sooner and
    can be passed on sooner (13 % in the swarm study)."""
    back_to_source_concurrent_piece_count: PositiveCount = 4
    """Requests at once to a source for one content, on behalf of others (as a seed, or instead of
    one), where the source honours ranges and more than one request pays. Dragonfly's default is 8;
    four of limited connections fill the links of most seeds."""
    least_piece_length_bytes: PieceLength = PIECE_LENGTH_MIN
    """Of contents up to 500 times as long, if no other host has cut them. Dragonfly's 4 MiB make 16
    pieces of 64 MiB, which spread slower than many do. 256KiB or 1MiB for all daemons of a
    cluster that has no stock ones, which could not share such pieces. What is stored stays cut as
    it is."""


class UploadServerSettings(Section):
    """The gRPC service for schedulers and other peers."""

    ip: Ip = _ANY_IP
    port: Port = 4000
    """Dragonfly's default."""


class UploadSettings(Section):
    """What this host gives."""

    server: UploadServerSettings = UploadServerSettings()
    bandwidth_limit_bytes_per_s: BytesPerS = 50_000_000_000
    """To other peers, all tasks together. Dragonfly's default: no limit in practice."""
    announced_bandwidth_bytes_per_s: BytesPerS | None = None
    """What this host says its uplink is. None: the smaller of the limit above and the network
    interface's speed, which virtual machines often don't know or exaggerate."""
    slots: PositiveCount | None = None
    """Pieces sent at once; other children queue. None: 4, as many as a child of ours has in flight
    (with more, all finish late and nobody can pass anything on), and 16 for a seed, whose uplink is
    wider: simulated, 8 peers behind a seed of ten uplinks take 1.06 of the bound, not 1.46."""
    disable_shared: bool = False
    """True: this host only takes; the scheduler never names it as a parent."""


class SchedulerLinkSettings(Section):
    """The schedulers and how patient we are with them."""

    addrs: HostPorts = ()
    """host:port of each, or host:8002-8005 for several on one host. None: `dynconfig.file` names
    them, or every download goes to its source.
    """
    announce_interval_s: Seconds = 300.0
    """How often the host says that it lives. Dragonfly's default; a scheduler forgets a host after
    two of them."""
    schedule_timeout_s: Seconds = 60.0
    """Longest wait for one answer of the scheduler, then the source. Dragonfly waits 3 h; a slow
    registry takes a seed tens of seconds."""
    max_schedule_count: PositiveCount = 5
    """Answers taken for one download before it goes to the source. Dragonfly's default."""


class ManagerLinkSettings(Section):
    """The manager, which knows the schedulers of all clusters."""

    addr: str | None = None
    """host:port or URL. None: no manager."""


class DynconfigSettings(Section):
    """What can change while the daemon runs: the list of schedulers, and what is forbidden."""

    file: FilePath | None = None
    """YAML (see `Dynconfig`). None, or if it names no scheduler: `scheduler.addrs` stands."""
    refresh_interval_s: Seconds = 60.0
    """How often the file (or the manager) is read again. Dragonfly's default."""


class SeedPeerSettings(Section):
    """Whether this host is a seed: the first to go to the source on behalf of all."""

    enable: bool = False
    type: Literal["super", "strong", "weak"] = "super"
    """Dragonfly knows only "super" today; all three are announced as a seed."""


class PieceTlsSettings(Section):
    """TLS between peers of ours; others go on without it, on the same port."""

    ca_cert: FilePath
    """PEM file of the authority that signs the certificates of all peers, and of nobody else."""
    cert: FilePath
    """PEM file of this host's certificate."""
    key: FilePath
    """PEM file of its key."""
    required: bool = False
    """True: no piece goes to or comes from a peer without TLS, stock ones among them."""


class StorageServerSettings(Section):
    """The piece server (Vortex over TCP; for tools also HTTP)."""

    ip: Ip = _ANY_IP
    tcp_port: Port = 4005
    """Dragonfly's default."""
    tls: PieceTlsSettings | None = None
    """None: plain TCP, as Dragonfly's peers speak."""


class StorageSettings(Section):
    """Where tasks lie on disk."""

    dir: FilePath = Path("/var/lib/odonata")
    """One sparse file for each task below it. Not root: below the user's state folder."""
    server: StorageServerSettings = StorageServerSettings()
    keep: bool = True
    """Keep tasks over a restart. Dragonfly's default is to wipe; a restart should not cost the
    source a second copy."""
    verify_after_s: Seconds = 24 * 3600.0
    """How long a stored piece is believed after it was written or read and found right. Then, and
    after a start, it is read again before it goes to a user of this host. Costs about a tenth of a
    CPU second for each GB so checked."""
    verify_blob_digest: bool = True
    """Check a whole content against the digest that its URL or its user names, before it is called
    whole: 0.6 to 0.7 CPU seconds per GB for SHA-256. Container runtimes check blobs themselves."""


class GcPolicySettings(Section):
    """What is dropped, and when."""

    task_ttl_s: Seconds = 720 * 3600.0
    """Since the task was last written. Dragonfly's default: 30 days."""
    persistent_task_ttl_s: Seconds = 24 * 3600.0
    """Since the upload of a persistent task, if that did not say its own. Dragonfly's default."""
    persistent_cache_task_ttl_s: Seconds = 24 * 3600.0
    """Likewise of a persistent cache task."""
    disk_threshold_bytes: ByteCount = 0
    """What the percentages below refer to: this many bytes of our own; 0: the whole volume.
    Dragonfly's default."""
    disk_high_threshold_percent: Percent = 80
    """Start dropping the oldest at this usage. Dragonfly's default."""
    disk_low_threshold_percent: Percent = 60
    """Stop at this usage. Dragonfly's default."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        low, high = self.disk_low_threshold_percent, self.disk_high_threshold_percent
        if low >= high:
            raise ValueError(
                f"diskLowThresholdPercent ({low:g}) must be below "
                f"diskHighThresholdPercent ({high:g})"
            )
        return self


class GcSettings(Section):
    """Garbage collection of tasks on disk."""

    interval_s: Seconds = 900.0
    """Dragonfly's default."""
    policy: GcPolicySettings = GcPolicySettings()


class BackendSettings(Section):
    """How sources are asked."""

    request_header: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers added to each request to a source. Secret as a whole: they often hold tokens."""
    insecure_skip_verify: bool = False
    """Accept any certificate of a source. Dragonfly never verifies; we do unless told otherwise."""
    ca_cert: FilePath | None = None
    """PEM file of authorities to trust besides the system's."""
    proxy: SecretStr | None = None
    """http://[user:password@]host:port: ask origins through this proxy. None: directly. The
    environment's HTTP_PROXY does not count: on a host whose tools use this daemon's proxy it names
    that, and the daemon would ask itself."""
    no_proxy: tuple[str, ...] = ("localhost", "127.0.0.0/8", "::1")
    """Whom to ask past `proxy`: host names (with all below them), addresses, networks, or "*"."""
    file_roots: tuple[FilePath, ...] = ()
    """Folders whose files file:// URLs may name. None by default: whoever reaches this daemon would
    read what its user may read."""
    credential_roots: tuple[FilePath, ...] = ()
    """Folders with files of credentials that a request may name (credential_path). None by
    default."""

    @model_validator(mode="after")
    def _proxy_is_a_proxy(self) -> Self:
        parts = urlsplit(self.proxy_url)
        if self.proxy_url and (parts.scheme != "http" or not parts.hostname):
            raise ValueError("proxy is no URL of a proxy: write http://host:port")
        return self

    @property
    def proxy_url(self) -> str:
        """The proxy with its password, for the request itself, never for a log; "" if none."""
        return "" if self.proxy is None else self.proxy.get_secret_value()

    def header(self) -> dict[str, str]:
        """The extra headers in plain text, for the request itself; never for a log."""
        return {name: value.get_secret_value() for name, value in self.request_header.items()}


class BasicAuthSettings(Section):
    """User and password that the proxy asks for."""

    username: str
    password: SecretStr


class ProxyServerSettings(Section):
    """Where the HTTP proxy listens."""

    ip: Ip = _LOOPBACK_IP
    """This host only: a proxy that anyone can reach is a hole in the fence. Dragonfly listens
    everywhere."""
    port: Port = 65001
    """The port that the field knows from Dragonfly 2.1; 2.5's is 4001."""
    ca_cert: FilePath | None = None
    """PEM certificate of the authority that signs for intercepted hosts; with `ca_key`."""
    ca_key: FilePath | None = None
    basic_auth: BasicAuthSettings | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.ca_cert is None) != (self.ca_key is None):
            raise ValueError("caCert and caKey go together: set both or neither")
        return self


class ProxyRuleSettings(Section):
    """URLs that go through the swarm. The first rule that matches decides."""

    regex: Pattern
    """Searched in the URL without query and fragment, such as "blobs/sha256.*"."""
    use_tls: bool = False
    """Ask the source by https although the client said http."""
    redirect: str = ""
    """Ask this authority (host or host:port) instead of the URL's."""
    filtered_query_params: tuple[str, ...] = ()
    """Query parameters that do not make a task another task (signatures, expiry)."""
    direct: bool = False
    """Match means: not through the swarm."""


class InterceptHostSettings(Section):
    """A host whose HTTPS is opened on the way."""

    regex: Pattern
    insecure: bool = False
    """Accept any certificate of that host."""
    cert: FilePath | None = None
    """PEM file of authorities to trust for that host."""


class AllowedHostSettings(Section):
    """Hosts that clients may reach through the proxy."""

    regex: Pattern
    """Searched in the host, and in host:port; lower case, without a dot at its end."""
    ports: tuple[Port, ...] = ()
    """None: every port."""


class RegistryMirrorSettings(Section):
    """What the proxy answers for when asked as a plain server (origin-form)."""

    addr: HttpUrl = "https://index.docker.io"
    """Upstream when the request names none. Dragonfly's default."""


class ProxySettings(Section):
    """The HTTP proxy for container runtimes and other clients."""

    server: ProxyServerSettings = ProxyServerSettings()
    rules: tuple[ProxyRuleSettings, ...] = ()
    """None by default, as in Dragonfly: everything is passed through."""
    registry_mirror: RegistryMirrorSettings = RegistryMirrorSettings()
    intercept_hosts: tuple[InterceptHostSettings, ...] = ()
    """Hosts whose HTTPS is intercepted, all others pass as tunnels; with an authority and none here
    every host's is, as in Dragonfly."""
    allow_list: tuple[AllowedHostSettings, ...] = ()
    """Origins that clients may ask for, the mirror's upstream among them; none: all."""
    authorize: bool = True
    """Before a client gets a blob, or what it asks for with credentials, the origin is asked if it
    may (a HEAD, remembered for a minute). False: whoever reaches the proxy gets what is there."""
    finish_downloads: bool = True
    """A download goes on when its client has hung up: it will ask again, or another one. False: it
    stops with the last client that wants it."""
    disable_back_to_source: bool = False
    """True: fail rather than ask the source from this host."""
    prefetch: bool = False
    """True: a request for a range fetches the whole task in the background."""
    enable_task_id_based_blob_digest: bool = True
    """A blob is one task whichever registry or repository it is asked from. Dragonfly's default is
    false: among its peers, set both alike, or they don't find each other's blobs."""

    @model_validator(mode="after")
    def _authority_for_interception(self) -> Self:
        if self.intercept_hosts and self.server.ca_cert is None:
            raise ValueError(
                "interceptHosts needs an authority that signs: set server.caCert and server.caKey "
                "(`odonata ca create` makes them)"
            )
        return self


class DaemonSettings(ProgramSettings):
    """All settings of `odonata daemon`."""

    program: ClassVar[str] = "daemon"
    dialect: ClassVar[Dialect] = DAEMON

    host: HostSettings = HostSettings()
    download: DownloadSettings = DownloadSettings()
    upload: UploadSettings = UploadSettings()
    scheduler: SchedulerLinkSettings = SchedulerLinkSettings()
    manager: ManagerLinkSettings = ManagerLinkSettings()
    dynconfig: DynconfigSettings = DynconfigSettings()
    seed_peer: SeedPeerSettings = SeedPeerSettings()
    storage: StorageSettings = StorageSettings()
    gc: GcSettings = GcSettings()
    backend: BackendSettings = BackendSettings()
    proxy: ProxySettings = ProxySettings()
    tracing: TracingSettings = TracingSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def computed_defaults(cls, environ: Mapping[str, str], uid: int) -> Mapping[str, Any]:
        """Folders: the system's for root, else the user's."""
        return {
            "storage.dir": str(state_dir(environ, uid)),
            "telemetry.dir": str(default_dir(environ, uid)),
            "download.server.socketPath": str(runtime_dir(environ, uid) / "daemon.sock"),
        }


class DynconfigSchedulerSettings(Section):
    addr: HostPort | None = None
    """A name is resolved to all its addresses."""
    addrs: HostPorts = ()
    """Wins over `addr`."""


class DynconfigClientSettings(Section):
    """What a host may do."""

    block_list: HostBlockListSection = HostBlockListSection()


class Dynconfig(Settings):
    """The file of `dynconfig.file`: Dragonfly's local dynconfig."""

    program: ClassVar[str] = "dynconfig"
    dialect: ClassVar[Dialect] = DYNCONFIG

    scheduler: DynconfigSchedulerSettings = DynconfigSchedulerSettings()
    client_config: DynconfigClientSettings = DynconfigClientSettings()
    seed_client_config: DynconfigClientSettings = DynconfigClientSettings()
    """The same for seeds."""

    def addresses(self) -> tuple[str, ...]:
        """host:port of every scheduler, sorted, each once (Dragonfly's order)."""
        named = self.scheduler.addrs or ((self.scheduler.addr,) if self.scheduler.addr else ())
        return tuple(sorted(set(named)))
