"""Settings files as they are in use: a published walkthrough's, and a dfdaemon's of today."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from odonata.errors import SettingsError
from odonata.settings import Loaded, Settings, load

SettingsT = TypeVar("SettingsT", bound=Settings)

PEER = """\
jaeger: "http://127.0.0.1:14268/api/traces"
console: true                    # log to the terminal
scheduler:
  netAddrs:
    - {type: tcp, addr: "127.0.0.1:8002"}
proxy:
  security: {insecure: true}
  tcpListen: {listen: 0.0.0.0, port: 65001}
  proxies:
    - regx: blobs/sha256.*
  hijackHTTPS:
    cert: ca.crt
    key: ca.key
    hosts:
      - {regx: your.private.registry, insecure: true}
"""

SEED_PEER = """\
jaeger: "http://127.0.0.1:14268/api/traces"
console: true
scheduler:
  manager:
    enable: true
    netAddrs:
      - {type: tcp, addr: "127.0.0.1:65003"}
    refreshInterval: 10s         # how often the list of schedulers is renewed
    seedPeer:
      enable: true
      type: super                # super, strong, weak
      clusterID: 1
"""

# The list stands directly under `scheduler`; what follows it is one level deeper. Read three ways.
SEED_PEER_IN_ITEM = """\
console: true
scheduler:
  manager:
    enable: true
  netAddrs:
    - type: tcp
      addr: "127.0.0.1:65003"
      refreshInterval: 10s
      seedPeer:
        enable: true
        type: super
        clusterID: 1
"""
SEED_PEER_AT_DASHES = """\
console: true
scheduler:
  manager:
    enable: true
  netAddrs:
    - type: tcp
      addr: "127.0.0.1:65003"
    refreshInterval: 10s
    seedPeer:
      enable: true
      type: super
      clusterID: 1
"""
SEED_PEER_FLAT_LIST = """\
console: true
scheduler:
  manager:
    enable: true
  netAddrs:
  - type: tcp
    addr: "127.0.0.1:65003"
    refreshInterval: 10s
    seedPeer:
      enable: true
      type: super
      clusterID: 1
"""

SCHEDULER = """\
jaeger: "http://127.0.0.1:14268/api/traces"
console: true
manager: {addr: "127.0.0.1:65003", schedulerClusterID: "1"}
database:                        # the same Redis as the manager's
  redis: {addrs: ["127.0.0.1:6379"], username: "", password: dragonfly, brokerDB: 1, backendDB: 2}
server: {advertiseIP: 127.0.0.1, port: 8002}
"""

MANAGER = """\
server:
  grpc: {advertiseIP: 127.0.0.1, port: {start: 65003, end: 65003}}
  rest: {addr: ":8888"}
database:
  type: mysql                    # mysql, mariadb, postgres
  mysql: {user: dragonfly, password: dragonfly, host: 127.0.0.1, port: 3306, dbname: manager, migrate: true}
  redis: {addrs: ["127.0.0.1:6379"], password: dragonfly, db: 0, brokerDB: 1, backendDB: 2}
job:
  preheat:
    registryTimeout: 1m
    tls: {caCert: /etc/docker/certs.d/your.private.registry/ca.crt}
jaeger: "http://127.0.0.1:14268/api/traces"
console: true
"""  # noqa: E501  # as it stands

DFDAEMON_2_5 = """\
host: {idc: ber1, location: eu|ber|rack7, hostname: node-7, ip: 10.1.2.3, schedulerClusterID: 2}
server: {pluginDir: /usr/local/lib/plugins, cacheDir: /var/cache/x}
download:
  server: {socketPath: /run/x.sock, requestRateLimit: 400}
  bandwidthLimit: 10GiB
  backToSourceBandwidthLimit: 100MB
  pieceTimeout: 1m30s
  concurrentPieceCount: 6
upload:
  server: {ip: 10.1.2.3, port: 4100}
  bandwidthLimit: 1Gbit/s
  disableShared: true
manager: {addr: "http://manager:65003"}
scheduler: {announceInterval: 1m, scheduleTimeout: 30s, maxScheduleCount: 3}
seedPeer: {enable: true, type: weak}
dynconfig: {refreshInterval: 2m}
storage:
  server: {ip: 10.1.2.3, tcpPort: 4105, quicPort: 4106}
  dir: /data/odonata
  keep: false
  writeBufferSize: 512KiB
backend:
  requestHeader: {Authorization: Bearer abcdef123456}
gc:
  interval: 5m
  policy:
    taskTTL: 720h
    diskThreshold: 100GiB
    distHighThresholdPercent: 90
    diskLowThresholdPercent: 70
proxy:
  server: {ip: 127.0.0.1, port: 4001}
  rules:
    - regex: blobs/sha256.*
      useTLS: true
      redirect: mirror.test
      filteredQueryParams: [Signature, Expires]
  registryMirror: {addr: "https://registry.test", enableTaskIDBasedBlobDigest: true}
  disableBackToSource: true
  prefetch: true
metrics: {server: {port: 4002}}
tracing: {protocol: grpc, endpoint: "otel:4317"}
"""


def load_text(
    model: type[SettingsT], text: str, folder: Path, **rest: Mapping[str, Any]
) -> Loaded[SettingsT]:
    """Load `text` as the file test.yaml in `folder`; `rest` is `load`'s overrides and environ."""
    file = folder / "test.yaml"
    file.write_text(text)
    return load(model, file=file, uid=0, **rest)


def refusal(model: type[Settings], text: str, folder: Path, **rest: Mapping[str, Any]) -> str:
    """What `load_text` says when it refuses."""
    with pytest.raises(SettingsError) as caught:
        load_text(model, text, folder, **rest)
    return caught.value.detail
