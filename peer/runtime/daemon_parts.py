"""From settings to the options of each part. Pure; the daemon puts the parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from odonata.piece import PIECE_LENGTH_MIN
from odonata.wire.dragonfly.feature import (
    ANSWERS_AHEAD,
    CHECKS_PIECES,
    FEATURES_KEY,
    GIVES_ONCE,
    PASSES_ON,
    SHARES_FAR,
    SHARES_SOURCE,
    SPEAKS_TLS,
    TAKES_GREETINGS,
    TAKES_NEWS,
    WRITES_PIECES,
)
from peer.core.limits import DownloadLimits
from peer.core.proxy_auth import ProxyLogin
from peer.core.proxy_rule import AllowedHost, ProxyPolicy, ProxyRule
from peer.core.upload import SEED_SLOTS, SLOTS
from peer.runtime.buffer import POOL_BYTES
from peer.runtime.host_trust import HostTrust
from peer.runtime.outgoing_proxy import OutgoingProxy
from peer.runtime.proxy.option import ProxyOptions
from peer.runtime.source_http import HttpOptions
from peer.runtime.source_scheme import FsspecPlace
from peer.runtime.storage.collect import CollectPolicy
from peer.settings import BackendSettings, DaemonSettings, GcPolicySettings, ProxySettings

if TYPE_CHECKING:  # cryptography is 7 MB, for daemons that intercept
    from peer.runtime.proxy.authority import Certificates

_DEFAULT: Final = DownloadLimits()


def limits_of(settings: DaemonSettings) -> DownloadLimits:
    """The core's numbers that an operator may set; the others keep their reasons and defaults."""
    return DownloadLimits(
        concurrent_piece_count=settings.download.concurrent_piece_count,
        max_concurrent_piece_count=max(
            _DEFAULT.max_concurrent_piece_count, settings.download.concurrent_piece_count
        ),
        source_streams=settings.download.back_to_source_concurrent_piece_count,
        least_piece_length=settings.download.least_piece_length_bytes,
        piece_timeout_s=settings.download.piece_timeout_s,
        slowest_rate_bytes_per_s=_slowest_rate(settings.download.bandwidth_limit_bytes_per_s),
        # Dragonfly's 3 h is its stock clients' patience; ours goes to the source far sooner.
        schedule_timeout_s=min(_DEFAULT.schedule_timeout_s, settings.scheduler.schedule_timeout_s),
        max_schedule_count=settings.scheduler.max_schedule_count,
        verify_whole=settings.storage.verify_blob_digest,
    )


def _slowest_rate(limit_bytes_per_s: float) -> float:
    """Under a narrow limit of our own, no parent is to blame for its share of it."""
    pieces_at_once = POOL_BYTES / PIECE_LENGTH_MIN  # more of them have no buffer
    return min(_DEFAULT.slowest_rate_bytes_per_s, limit_bytes_per_s / pieces_at_once)


def collect_policy(settings: GcPolicySettings) -> CollectPolicy:
    """What garbage collection evicts."""
    return CollectPolicy(
        task_ttl_s=settings.task_ttl_s,
        persistent_task_ttl_s=settings.persistent_task_ttl_s,
        persistent_cache_task_ttl_s=settings.persistent_cache_task_ttl_s,
        threshold_bytes=settings.disk_threshold_bytes,
        high_percent=settings.disk_high_threshold_percent,
        low_percent=settings.disk_low_threshold_percent,
    )


def proxy_options(settings: DaemonSettings, ip: str) -> ProxyOptions:
    """Where the proxy listens and whom it trusts; `ip`: what clients are told served them."""
    server = settings.proxy.server
    return ProxyOptions(
        ip=server.ip,
        port=server.port,
        server_ip=ip,
        insecure=settings.backend.insecure_skip_verify,
        ca_file=settings.backend.ca_cert,
        trust=host_trust(settings.proxy),
        authorize=settings.proxy.authorize,
        finish_downloads=settings.proxy.finish_downloads,
        outgoing=outgoing_proxy(settings.backend),
    )


def proxy_certificates(settings: ProxySettings) -> Certificates | None:
    """What intercepted hosts are answered with; None: nothing is intercepted. SettingsError."""
    server = settings.server
    if server.ca_cert is None or server.ca_key is None:
        return None
    from peer.runtime.proxy.authority import Authority, Certificates  # noqa: PLC0415  # see above

    return Certificates(Authority.load(server.ca_cert, server.ca_key))


def host_trust(settings: ProxySettings) -> tuple[HostTrust, ...]:
    """Intercepted hosts whose certificates are checked in another way, also for the swarm."""
    return tuple(
        HostTrust(regex=host.regex, insecure=host.insecure, ca_file=host.cert)
        for host in settings.intercept_hosts
    )


def intercepted(settings: ProxySettings) -> tuple[str, ...]:
    """Patterns of hosts whose HTTPS is opened: with an authority and no list all, as Dragonfly."""
    if settings.server.ca_cert is None:
        return ()
    return tuple(host.regex for host in settings.intercept_hosts) or ("",)


def outgoing_proxy(settings: BackendSettings) -> OutgoingProxy:
    """Through whom origins are asked."""
    return OutgoingProxy(url=settings.proxy_url, exceptions=settings.no_proxy)


def http_options(settings: BackendSettings, trust: tuple[HostTrust, ...] = ()) -> HttpOptions:
    """How http and https origins are asked."""
    return HttpOptions(
        header=settings.header(),
        ca_file=settings.ca_cert,
        insecure=settings.insecure_skip_verify,
        trust=trust,
        proxy=outgoing_proxy(settings),
    )


def fsspec_place(settings: BackendSettings) -> FsspecPlace:
    """What origins of other schemes may touch on this host, and how they are asked."""
    return FsspecPlace(
        file_roots=settings.file_roots,
        credential_roots=settings.credential_roots,
        proxy=outgoing_proxy(settings),
        insecure=settings.insecure_skip_verify,
        ca_file=settings.ca_cert,
    )


def proxy_login(settings: ProxySettings) -> ProxyLogin | None:
    """Whom the proxy lets in; None: everybody who reaches it."""
    asked = settings.server.basic_auth
    if asked is None:
        return None
    return ProxyLogin(username=asked.username, password=asked.password.get_secret_value())


def proxy_policy(settings: ProxySettings) -> ProxyPolicy:
    """What the proxy has fetched through the swarm."""
    return ProxyPolicy(
        rules=tuple(
            ProxyRule(
                regex=rule.regex,
                use_tls=rule.use_tls,
                redirect=rule.redirect,
                filtered_query_params=rule.filtered_query_params,
                direct=rule.direct,
            )
            for rule in settings.rules
        ),
        registry_mirror=settings.registry_mirror.addr,
        enable_task_id_based_blob_digest=settings.enable_task_id_based_blob_digest,
        disable_back_to_source=settings.disable_back_to_source,
        prefetch=settings.prefetch,
        intercept_hosts=intercepted(settings),
        allowed=tuple(AllowedHost(regex=one.regex, ports=one.ports) for one in settings.allow_list),
    )


def peer_features(settings: DaemonSettings) -> tuple[str, ...]:
    """What its peers tell a scheduler that they can, beyond Dragonfly's API."""
    able = [TAKES_NEWS, CHECKS_PIECES, SHARES_FAR]
    if settings.telemetry.enable:
        able.append(WRITES_PIECES)
    if settings.seed_peer.enable:
        able.append(SHARES_SOURCE)
    return tuple(able)


def piece_features(speaks_tls: bool) -> tuple[tuple[str, str], ...]:
    """Metadata of the lists of pieces: what the piece port can beyond Vortex."""
    able = [TAKES_GREETINGS, GIVES_ONCE, PASSES_ON, ANSWERS_AHEAD]
    if speaks_tls:
        able.append(SPEAKS_TLS)
    return ((FEATURES_KEY, ",".join(able)),)


def upload_slots(settings: DaemonSettings) -> int:
    """Pieces sent at once: what the settings say, or the default for a seed or a peer."""
    default = SEED_SLOTS if settings.seed_peer.enable else SLOTS
    return settings.upload.slots or default
