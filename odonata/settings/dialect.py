"""What settings files may say besides the canonical keys: older spellings, and keys without effect.

The canonical keys are Dragonfly 2.5's (its Rust client, its Go scheduler and manager). Many sites
still run files written for Dragonfly 2.0 and 2.1, whose peer was a Go program with other words for
the same things. Both load as they stand. All of that knowledge is data in the tables below;
`odonata.settings.translation` applies it, and no other module knows an old word.

**Paths.** `a.b` is key `b` in mapping `a`; `a[].b` is key `b` of every item of the list `a`, and in
the target it is the item of the same number. A table is applied from top to bottom.

**Rename** moves a value. `convert` changes its form on the way. `inner` names keys inside the value
which the conversion understands, so that they don't count as unknown. `when` names a key that must
be true for the rule to apply; `unless` one that must be absent. An empty `new` means that the value
only steers other rules.

**Ignored** is a key that is known, in either spelling, and does nothing here: it earns a warning
with the reason. `a.*` stands for `a` and everything below it. If the settings model has the key
nevertheless, its value is kept.

**Where old and new differ in more than words:**

- The old peer listed schedulers under `scheduler.netAddrs`, or, with `scheduler.manager.enable`,
  managers under `scheduler.manager.netAddrs`. Today the manager is `manager.addr` and its
  companions are `dynconfig` and `seedPeer`.
- A published seed-peer file enables the manager, but puts its addresses under `scheduler.netAddrs`
  with `refreshInterval` and `seedPeer` inside the list's last item. With the manager enabled and no
  addresses of its own, the list can only mean the manager.
- A false or missing `scheduler.manager.enable` switched the manager off whatever else was said.
- `console` chose the terminal over log files. We always write to stderr, so it chooses the form
  meant for it.
- The old peer served pieces by HTTP on `upload.tcpListen`, and peers by gRPC on
  `download.peerGRPC.tcpListen`. The latter is today's `upload.server`; pieces have their own port,
  `storage.server.tcpPort`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from odonata.settings.document import as_mapping, as_sequence

Convert = Callable[[object], object]


class Rename(NamedTuple):
    """`old` is an older word for `new`."""

    old: str
    new: str
    convert: Convert | None = None
    inner: tuple[str, ...] = ()
    when: str = ""
    unless: str = ""


class Ignored(NamedTuple):
    """`key` is known and has no effect: `why` completes "has no effect: ..."."""

    key: str
    why: str


class Dialect(NamedTuple):
    """What one program's file may say besides its canonical keys."""

    renames: tuple[Rename, ...] = ()
    ignored: tuple[Ignored, ...] = ()


NO_DIALECT = Dialect()


def net_addrs(value: object) -> object:
    """`[{type: tcp, addr: "h:1"}]` -> `["h:1"]`."""
    return _net_addrs(value)


def _net_addrs(value: object) -> list[object]:
    items = as_sequence(value)
    if items is None:
        raise ValueError("must be a list of {type: tcp, addr: host:port}")
    return [_net_addr(item) for item in items]


def _net_addr(item: object) -> object:
    mapping = as_mapping(item)
    if mapping is None:
        return item
    kind, addr = mapping.get("type", "tcp"), mapping.get("addr")
    if kind != "tcp":
        raise ValueError(f"type {kind!r} is not supported: only tcp")
    if not addr:
        raise ValueError("an address needs addr: host:port")
    return addr


def first_net_addr(value: object) -> object:
    """`[{type: tcp, addr: "h:1"}]` -> `"h:1"`; there is one manager."""
    addresses = _net_addrs(value)
    if len(addresses) != 1:
        raise ValueError(f"names {len(addresses)} managers: name exactly one")
    return addresses[0]


def first_port(value: object) -> object:
    """`{start: 1, end: 9}` -> 1: the first port of a range, or the port itself."""
    mapping = as_mapping(value)
    return value if mapping is None else mapping.get("start", mapping.get("end"))


def console_format(value: object) -> object:
    """`console: true` -> `log.format: console`, false -> json."""
    return "console" if _flag(value) else "json"


def verbose_level(value: object) -> object:
    """`verbose: true` -> `log.level: debug`; false says nothing."""
    return "debug" if _flag(value) else None


def only_file(value: object) -> object:
    """`["a.crt"]` -> `"a.crt"`."""
    files = as_sequence(value)
    if files is None:
        return value
    if len(files) != 1:
        raise ValueError(f"names {len(files)} files: join them into one PEM file")
    return files[0]


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ValueError(f"{value!r} is not true or false")


_NET_ADDR = ("[].type", "[].addr")
_PORT_RANGE = (".start", ".end")

# Where `refreshInterval` and `seedPeer` of a manager have been seen in peers' files.
_MANAGER_COMPANIONS = (
    "scheduler.manager",
    "scheduler.manager.netAddrs[]",
    "scheduler.netAddrs[]",
    "scheduler",
)

_LOG_RENAMES = (
    Rename("console", "log.format", console_format),
    Rename("verbose", "log.level", verbose_level),
)
_TRACING_RENAMES = (Rename("tracing.service-name", "tracing.serviceName"),)


def _ignored(why: str, *keys: str) -> tuple[Ignored, ...]:
    return tuple(Ignored(key, why) for key in keys)


_NO_TRACES = "traces are not sent by this program in this release"
_NO_JAEGER = "spans go by OTLP, which Jaeger takes on port 4317: set tracing.protocol and .endpoint"
_LOGS = "logs go to stderr; whoever starts the program keeps and rotates them"
_NO_METRICS = "this program does not serve metrics in this release"
_PLAIN = "this connection is plain in this release"
_NO_MANAGER = "there is no manager in this release; name schedulers in scheduler.addrs"
_ALONE = "the scheduler stands alone in this release, without a manager and its jobs"
_OWN_TUNING = "Odonata chooses this by itself"
_NO_POLL = "a peer without parents waits and is woken, it is not tried again and again"
_NO_EXTRAS = "the manager of this release does not have it"
_NO_PLUGINS = "there are no plug-ins of this kind"
_NO_RATE_LIMIT = "requests are not counted in this release; see the bandwidth limits"
_FIXED_FOLDER = "everything lies below storage.dir"
_HEALTH = "health is answered by grpc.health.v1 on the gRPC ports"
_NO_IPV6 = "name an IPv6 address where you want one"

_COMMON_IGNORED = (
    *_ignored(_NO_JAEGER, "jaeger"),
    *_ignored("there is no profiling server", "pprofPort", "statsviewPort"),
    *_ignored(_NO_IPV6, "network.*"),
    *_ignored(_PLAIN, "security.*"),
    *_ignored(_LOGS, "server.logDir", "server.logLevel", "server.logMaxSize"),
    *_ignored(_LOGS, "server.logMaxAge", "server.logMaxBackups"),
    *_ignored(_NO_PLUGINS, "server.pluginDir"),
    *_ignored("nothing is cached outside the data folder", "server.cacheDir"),
)

DAEMON = Dialect(
    renames=(
        *_LOG_RENAMES,
        *_TRACING_RENAMES,
        # The manager and what it is told; the hoisting comes before the lists themselves.
        *(
            Rename(f"{parent}.{old}", new)
            for parent in _MANAGER_COMPANIONS
            for old, new in (
                ("refreshInterval", "dynconfig.refreshInterval"),
                ("seedPeer.enable", "seedPeer.enable"),
                ("seedPeer.type", "seedPeer.type"),
                ("seedPeer.clusterID", "host.schedulerClusterID"),
            )
        ),
        Rename(
            "scheduler.manager.netAddrs",
            "manager.addr",
            first_net_addr,
            _NET_ADDR,
            when="scheduler.manager.enable",
        ),
        Rename(
            "scheduler.netAddrs",
            "manager.addr",
            first_net_addr,
            _NET_ADDR,
            when="scheduler.manager.enable",
            unless="manager.addr",
        ),
        Rename("scheduler.manager.enable", ""),
        Rename("scheduler.netAddrs", "scheduler.addrs", net_addrs, _NET_ADDR),
        Rename("seedPeer.clusterID", "host.schedulerClusterID"),
        Rename("scheduler.disableAutoBackSource", "proxy.disableBackToSource"),
        Rename("announcer.schedulerInterval", "scheduler.announceInterval"),
        # The host and its folders.
        Rename("host.advertiseIP", "host.ip"),
        Rename("host.netTopology", "host.location"),
        Rename("dataDir", "storage.dir"),
        Rename("server.dataDir", "storage.dir"),
        Rename("keepStorage", "storage.keep"),
        Rename("gcInterval", "gc.interval"),
        Rename("storage.taskExpireTime", "gc.policy.taskTTL"),
        Rename("storage.diskGCThresholdPercent", "gc.policy.diskHighThresholdPercent"),
        # Dragonfly's client reads its own slip of the pen for ever.
        Rename("gc.policy.distHighThresholdPercent", "gc.policy.diskHighThresholdPercent"),
        Rename("gc.policy.distLowThresholdPercent", "gc.policy.diskLowThresholdPercent"),
        # Fetching and giving.
        Rename("download.totalRateLimit", "download.bandwidthLimit"),
        Rename("download.pieceDownloadTimeout", "download.pieceTimeout"),
        Rename("download.prefetch", "proxy.prefetch"),
        Rename("download.downloadGRPC.unixListen.socket", "download.server.socketPath"),
        Rename("download.peerGRPC.tcpListen.listen", "upload.server.ip"),
        Rename("download.peerGRPC.tcpListen.port", "upload.server.port", first_port, _PORT_RANGE),
        Rename("upload.rateLimit", "upload.bandwidthLimit"),
        # The proxy.
        Rename("proxy.tcpListen.listen", "proxy.server.ip"),
        Rename("proxy.tcpListen.port", "proxy.server.port", first_port, _PORT_RANGE),
        Rename("proxy.basicAuth.username", "proxy.server.basicAuth.username"),
        Rename("proxy.basicAuth.password", "proxy.server.basicAuth.password"),
        Rename("proxy.proxies[].regx", "proxy.rules[].regex"),
        Rename("proxy.proxies[].useHTTPS", "proxy.rules[].useTLS"),
        Rename("proxy.proxies[].redirect", "proxy.rules[].redirect"),
        Rename("proxy.proxies[].direct", "proxy.rules[].direct"),
        # Here one switch for mirror and forward proxy.
        Rename(
            "proxy.registryMirror.enableTaskIDBasedBlobDigest",
            "proxy.enableTaskIDBasedBlobDigest",
        ),
        Rename("proxy.registryMirror.url", "proxy.registryMirror.addr"),
        Rename("proxy.hijackHTTPS.cert", "proxy.server.caCert"),
        Rename("proxy.hijackHTTPS.key", "proxy.server.caKey"),
        Rename("proxy.hijackHTTPS.hosts[].regx", "proxy.interceptHosts[].regex"),
        Rename("proxy.hijackHTTPS.hosts[].insecure", "proxy.interceptHosts[].insecure"),
        Rename("proxy.hijackHTTPS.hosts[].certs", "proxy.interceptHosts[].cert", only_file),
    ),
    ignored=(
        *_COMMON_IGNORED,
        *_ignored(_NO_METRICS, "metrics.*"),
        # Dragonfly 2.5.
        *_ignored(_NO_MANAGER, "manager.addr"),
        *_ignored(_PLAIN, "manager.caCert", "manager.cert", "manager.key"),
        *_ignored(_PLAIN, "scheduler.caCert", "scheduler.cert", "scheduler.key"),
        *_ignored(_PLAIN, "upload.server.caCert", "upload.server.cert", "upload.server.key"),
        *_ignored(_PLAIN, "upload.client.*"),
        *_ignored(_NO_RATE_LIMIT, "server.adaptiveRateLimit.*", "proxy.server.requestRateLimit"),
        *_ignored(_NO_RATE_LIMIT, "download.server.requestRateLimit"),
        *_ignored(_NO_RATE_LIMIT, "download.server.requestBufferSize"),
        *_ignored(_NO_RATE_LIMIT, "upload.server.requestRateLimit"),
        *_ignored(_NO_RATE_LIMIT, "upload.server.requestBufferSize"),
        *_ignored("pieces move over TCP", "download.protocol", "storage.server.quicPort"),
        *_ignored(_OWN_TUNING, "download.collectedPieceTimeout", "storage.server.tcpFastopen"),
        *_ignored(_OWN_TUNING, "storage.writePieceTimeout", "storage.writeBufferSize"),
        *_ignored(_OWN_TUNING, "storage.readBufferSize", "storage.cacheCapacity"),
        *_ignored(_OWN_TUNING, "backend.maxRetries", "backend.enableCacheTemporaryRedirect"),
        *_ignored(_OWN_TUNING, "backend.cacheTemporaryRedirectTTL", "backend.enableHickoryDNS"),
        *_ignored(_OWN_TUNING, "proxy.readBufferSize", "gc.policy.pageCacheIdleTimeout"),
        *_ignored(_OWN_TUNING, "backend.putConcurrentChunkCount", "backend.putChunkSize"),
        *_ignored(_OWN_TUNING, "backend.putTimeout"),
        *_ignored("see backend.caCert", "proxy.registryMirror.cert"),
        *_ignored("prefetching obeys download.bandwidthLimit", "proxy.prefetchBandwidthLimit"),
        *_ignored(_HEALTH, "health.*"),
        *_ignored("there is no statistics server", "stats.*"),
        # Dragonfly 2.0 and 2.1.
        *_ignored(
            "scheduler.manager.enable is not true",
            "scheduler.manager.netAddrs[].type",
            "scheduler.manager.netAddrs[].addr",
        ),
        *(
            Ignored(f"{parent}.seedPeer.keepAlive.*", "a seed is known by what it announces")
            for parent in _MANAGER_COMPANIONS
        ),
        *_ignored("the proxy's own port is always plain", "proxy.security.*"),
        *_ignored("the daemon runs until it is stopped", "aliveTime"),
        *_ignored(_FIXED_FOLDER, "workHome", "workHomeMode", "cacheDir", "cacheDirMode"),
        *_ignored(_FIXED_FOLDER, "dataDirMode", "storage.dataPath", "storage.strategy"),
        *_ignored(_LOGS, "logDir", "logMaxSize", "logMaxAge", "logMaxBackups"),
        *_ignored(_NO_PLUGINS, "pluginDir"),
        *_ignored("restart the daemon to change settings", "reload.*"),
        *_ignored(_OWN_TUNING, "scheduler.scheduleLevel", "scheduler.maxCandidates"),
        *_ignored(_OWN_TUNING, "download.calculateDigest", "download.perPeerRateLimit"),
        *_ignored(_OWN_TUNING, "download.concurrent.*", "download.splitRunningTasks"),
        *_ignored(_OWN_TUNING, "download.watchdogTimeout", "download.getPiecesMaxRetry"),
        *_ignored(_OWN_TUNING, "download.recursiveConcurrent.*", "download.traceLogging"),
        *_ignored(_OWN_TUNING, "download.cacheRecursiveMetadata", "storage.multiplex"),
        *_ignored(_OWN_TUNING, "download.syncPieceViaHTTPS", "proxy.maxConcurrency"),
        *_ignored(_PLAIN, "download.downloadGRPC.security.*", "download.downloadGRPC.tlsVerify"),
        *_ignored(_PLAIN, "download.peerGRPC.security.*", "download.peerGRPC.tlsVerify"),
        *_ignored(_PLAIN, "upload.security.*"),
        *_ignored("ask by piece length on the command line", "download.defaultPattern"),
        *_ignored("pieces travel through storage.server.tcpPort", "upload.tcpListen.*"),
        *_ignored("run the daemon inside that network namespace", "proxy.tcpListen.namespace"),
        *_ignored("see gc.policy.diskThreshold", "storage.diskGCThreshold"),
        *_ignored("there is no object storage service", "objectStorage.*"),
        *_ignored("round trips are learned from pieces", "networkTopology.*"),
        *_ignored("see proxy.rules[].filteredQueryParams", "proxy.defaultFilter"),
        *_ignored("clients send X-Dragonfly-Tag", "proxy.defaultTag"),
        *_ignored("name the hosts in proxy.allowList, by patterns", "proxy.whiteList.*"),
        *_ignored("bodies are never logged", "proxy.dumpHTTPContent"),
        *_ignored(
            "clients name the registry by ns or X-Dragonfly-Registry",
            "proxy.extraRegistryMirrors.*",
        ),
        *_ignored("the request names the upstream", "proxy.registryMirror.dynamic"),
        *_ignored("proxy.rules decide for the mirror too", "proxy.registryMirror.useProxies"),
        *_ignored("proxy.rules decide for the mirror too", "proxy.registryMirror.direct"),
        *_ignored("see backend.insecureSkipVerify", "proxy.registryMirror.insecure"),
        *_ignored("see backend.caCert", "proxy.registryMirror.certs.*"),
        *_ignored("labels are host.idc and host.location", "host.securityDomain"),
        *_ignored("see upload.server.ip and storage.server.ip", "host.listenIP"),
    ),
)

_NOT_SAID = {
    "persistentTask": ("applications", "tags", "priorities"),
    "persistentCacheTask": ("urls", "priorities"),
}

DYNCONFIG = Dialect(
    ignored=tuple(
        Ignored(f"{section}.blockList.{kind}.{act}.{key}{item}", "their requests don't say any")
        for section in ("clientConfig", "seedClientConfig")
        for kind, keys in _NOT_SAID.items()
        for act in ("download", "upload")
        for key in keys
        for item in ("", "[]")  # an empty list, and one that is not
    )
)

_CLUSTER_SECTIONS = ("seedPeerClusterConfig", "schedulerClusterClientConfig")

# What a scheduler's dynconfig file says, in the words of the file and in those of the manager's
# answers, from which people copy.
CLUSTER = Dialect(
    renames=(
        Rename(
            "schedulerClusterConfig.candidate_parent_limit",
            "schedulerClusterConfig.candidateParentLimit",
        ),
        Rename(
            "schedulerClusterConfig.filter_parent_limit", "schedulerClusterConfig.filterParentLimit"
        ),
        *(Rename(f"{section}.load_limit", f"{section}.loadLimit") for section in _CLUSTER_SECTIONS),
        *(
            Rename(
                f"{section}.block_list.task.download.{key}",
                f"{section}.blockList.task.download.{key}",
                inner=("[]",),
            )
            for section in _CLUSTER_SECTIONS
            for key in ("applications", "urls", "tags", "priorities")
        ),
    ),
    ignored=(
        *_ignored("a name is all that is compared", "applications[].id", "applications[].url"),
        *_ignored("a name is all that is compared", "applications[].bio"),
        *_ignored("jobs are the manager's", "schedulerClusterConfig.jobRateLimit"),
        *_ignored("jobs are the manager's", "schedulerClusterConfig.job_rate_limit"),
        *(
            ignored
            for section in _CLUSTER_SECTIONS
            for key in ("blockList", "block_list")
            for ignored in _ignored(
                "it is for the daemons to hold to, by their own dynconfig",
                f"{section}.{key}.persistentTask.*",
                f"{section}.{key}.persistent_task.*",
                f"{section}.{key}.persistentCacheTask.*",
                f"{section}.{key}.persistent_cache_task.*",
            )
        ),
    ),
)

_REDIS_KEYS = (
    *("addrs", "masterName", "username", "password", "sentinelUsername", "sentinelPassword"),
    *("db", "brokerDB", "backendDB", "poolSize", "poolTimeout"),
)

_REDIS_IGNORED = (
    *_ignored(_ALONE, "database.redis.brokerDB", "database.redis.backendDB"),
    *_ignored(_ALONE, "database.redis.proxy.*"),
)

SCHEDULER = Dialect(
    renames=(
        *_LOG_RENAMES,
        *_TRACING_RENAMES,
        Rename("server.ip", "server.advertiseIP"),
        Rename("server.listen", "server.listenIP"),
        Rename("scheduler.backSourceCount", "scheduler.backToSourceCount"),
        Rename("dynconfig.refreshInterval", "dynConfig.refreshInterval"),
        Rename("dynconfig.file", "dynConfig.file"),
        Rename("host.netTopology", "host.location"),
        *(Rename(f"job.redis.{key}", f"database.redis.{key}") for key in _REDIS_KEYS),
    ),
    ignored=(
        *_COMMON_IGNORED,
        *_REDIS_IGNORED,
        *_ignored(_ALONE, "manager.addr", "manager.enable", "manager.tls.*", "manager.keepAlive.*"),
        *_ignored(_ALONE, "manager.seedPeer.*", "job.*"),
        *_ignored(_ALONE, "server.advertisePort", "server.host"),
        *_ignored(_ALONE, "host.idc", "host.location"),
        *_ignored(_NO_POLL, "scheduler.retryLimit", "scheduler.retryInterval"),
        *_ignored(_NO_POLL, "scheduler.retryBackToSourceLimit", "scheduler.retryBackSourceLimit"),
        *_ignored("every peer that can help is a candidate", "scheduler.filterParentLimit"),
        *_ignored(_PLAIN, "server.tls.*", "seedPeer.tls.*", "peer.tls.*"),
        *_ignored("the state is in memory", "server.workHome", "server.dataDir"),
        *_ignored("seeds are known by what they announce", "seedPeer.enable"),
        *_ignored("a task goes when its last peer goes", "scheduler.gc.taskTTL"),
        *_ignored("the ranker is learned offline", "scheduler.training.*", "trainer.*"),
        *_ignored("round trips are learned from pieces", "scheduler.networkTopology.*"),
        *_ignored("see telemetry, which keeps them as Parquet", "storage.*"),
    ),
)

MANAGER = Dialect(
    renames=(
        *_LOG_RENAMES,
        Rename("server.grpc.listen", "server.grpc.listenIP"),
    ),
    ignored=(
        *_COMMON_IGNORED,
        *_ignored(_NO_TRACES, "tracing.*"),
        *_ignored(_NO_METRICS, "metrics.*"),
        *_ignored(_PLAIN, "server.grpc.tls.*", "server.rest.tls.*"),
        *_ignored(_NO_EXTRAS, "cache.*", "objectStorage.*", "trainer.*", "job.syncPeers.*"),
        *_ignored(_NO_EXTRAS, "job.gc.*", "job.rateLimit.*", "database.redis.masterName"),
        *_ignored(_NO_EXTRAS, "database.redis.sentinelUsername"),
        *_ignored(_NO_EXTRAS, "database.redis.sentinelPassword", "database.redis.poolSize"),
        *_ignored(_NO_EXTRAS, "database.redis.poolTimeout", "database.redis.proxy.*"),
        *_ignored(_NO_EXTRAS, "database.mysql.tls.*", "database.mysql.tlsConfig"),
        *_ignored(_NO_EXTRAS, "database.postgres.sslMode", "database.postgres.timezone"),
        *_ignored(_NO_EXTRAS, "database.postgres.preferSimpleProtocol"),
    ),
)
