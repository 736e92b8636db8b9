"""Files in use load as they stand, mean what they meant, and name what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import settings_file
from support.settings_file import load_text

from manager.settings import ManagerSettings
from peer.settings import DaemonSettings
from scheduler.settings import SchedulerSettings

_NO_JAEGER = (
    "test.yaml:1: jaeger has no effect: spans go by OTLP, which Jaeger takes on port 4317: set "
    "tracing.protocol and .endpoint"
)


def keys_without_effect(warnings: tuple[str, ...]) -> list[str]:
    return [warning.split(" has no effect")[0].split(": ")[1] for warning in warnings]


def test_a_peer_of_the_walkthrough(tmp_path: Path) -> None:
    loaded = load_text(DaemonSettings, settings_file.PEER, tmp_path)
    settings = loaded.settings
    assert settings.log.format == "console"
    assert settings.scheduler.addrs == ("127.0.0.1:8002",)
    assert settings.manager.addr is None
    assert (settings.proxy.server.ip, settings.proxy.server.port) == ("0.0.0.0", 65001)
    assert [rule.regex for rule in settings.proxy.rules] == ["blobs/sha256.*"]
    assert settings.proxy.server.ca_cert == Path("ca.crt")
    assert settings.proxy.server.ca_key == Path("ca.key")
    assert [host.regex for host in settings.proxy.intercept_hosts] == ["your.private.registry"]
    assert settings.proxy.intercept_hosts[0].insecure
    assert not settings.seed_peer.enable
    assert loaded.warnings[0] == _NO_JAEGER
    assert keys_without_effect(loaded.warnings) == [
        "jaeger",
        "proxy.security",
    ]


@pytest.mark.parametrize(
    "text",
    [
        settings_file.SEED_PEER,
        settings_file.SEED_PEER_IN_ITEM,
        settings_file.SEED_PEER_AT_DASHES,
        settings_file.SEED_PEER_FLAT_LIST,
    ],
    ids=["as written", "in the item", "at the dashes", "flat list"],
)
def test_a_seed_peer_of_the_walkthrough_in_every_indentation(tmp_path: Path, text: str) -> None:
    settings = load_text(DaemonSettings, text, tmp_path).settings
    assert settings.manager.addr == "127.0.0.1:65003"
    assert settings.scheduler.addrs == ()
    assert settings.dynconfig.refresh_interval_s == 10.0
    assert settings.seed_peer.enable
    assert settings.seed_peer.type == "super"
    assert settings.host.scheduler_cluster_id == 1


def test_a_seed_peer_is_told_that_there_is_no_manager_yet(tmp_path: Path) -> None:
    warnings = load_text(DaemonSettings, settings_file.SEED_PEER, tmp_path).warnings
    assert keys_without_effect(warnings) == [
        "jaeger",
        "scheduler.manager.netAddrs",
    ]


def test_a_manager_that_is_not_enabled_is_no_manager(tmp_path: Path) -> None:
    text = settings_file.SEED_PEER.replace("enable: true\n    net", "enable: false\n    net")
    loaded = load_text(DaemonSettings, text, tmp_path)
    assert loaded.settings.manager.addr is None
    assert "scheduler.manager.netAddrs[].addr" in keys_without_effect(loaded.warnings)


def test_with_the_manager_and_schedulers_named_both_are_taken(tmp_path: Path) -> None:
    text = settings_file.SEED_PEER + '  netAddrs: [{type: tcp, addr: "10.0.0.1:8002"}]\n'
    settings = load_text(DaemonSettings, text, tmp_path).settings
    assert settings.manager.addr == "127.0.0.1:65003"
    assert settings.scheduler.addrs == ("10.0.0.1:8002",)


def test_a_scheduler_of_the_walkthrough(tmp_path: Path) -> None:
    loaded = load_text(SchedulerSettings, settings_file.SCHEDULER, tmp_path)
    settings = loaded.settings
    assert (settings.server.advertise_ip, settings.server.port) == ("127.0.0.1", 8002)
    assert (settings.manager.addr, settings.manager.scheduler_cluster_id) == ("127.0.0.1:65003", 1)
    redis = settings.database.redis
    assert redis.addrs == ("127.0.0.1:6379",)
    assert redis.password.get_secret_value() == "dragonfly"
    assert (redis.broker_db, redis.backend_db) == (1, 2)
    assert keys_without_effect(loaded.warnings) == [
        "jaeger",
        "manager.addr",
        "database.redis.brokerDB",
        "database.redis.backendDB",
    ]


def test_a_manager_of_the_walkthrough(tmp_path: Path) -> None:
    loaded = load_text(ManagerSettings, settings_file.MANAGER, tmp_path)
    settings = loaded.settings
    assert settings.server.grpc.advertise_ip == "127.0.0.1"
    assert (settings.server.grpc.port.start, settings.server.grpc.port.end) == (65003, 65003)
    assert settings.server.rest.addr == ":8888"
    mysql = settings.database.mysql
    assert settings.database.type == "mysql"
    assert (mysql.user, mysql.host, mysql.port, mysql.dbname) == (
        "dragonfly",
        "127.0.0.1",
        3306,
        "manager",
    )
    assert mysql.password.get_secret_value() == "dragonfly"
    assert mysql.migrate
    assert settings.database.redis.password.get_secret_value() == "dragonfly"
    assert settings.job.preheat.registry_timeout_s == 60.0
    assert settings.job.preheat.tls.ca_cert == Path(
        "/etc/docker/certs.d/your.private.registry/ca.crt"
    )
    assert keys_without_effect(loaded.warnings) == ["jaeger"]


def test_a_dfdaemon_of_dragonfly_2_5(tmp_path: Path) -> None:
    loaded = load_text(DaemonSettings, settings_file.DFDAEMON_2_5, tmp_path)
    settings = loaded.settings
    assert settings.host.model_dump() == {
        "idc": "ber1",
        "location": "eu|ber|rack7",
        "hostname": "node-7",
        "ip": "10.1.2.3",
        "scheduler_cluster_id": 2,
    }
    download = settings.download
    assert download.server.socket_path == Path("/run/x.sock")
    assert download.bandwidth_limit_bytes_per_s == 10 * 1024**3
    assert download.back_to_source_bandwidth_limit_bytes_per_s == 100_000_000
    assert (download.piece_timeout_s, download.concurrent_piece_count) == (90.0, 6)
    assert (settings.upload.server.ip, settings.upload.server.port) == ("10.1.2.3", 4100)
    assert settings.upload.bandwidth_limit_bytes_per_s == 125_000_000
    assert settings.upload.disable_shared
    scheduler = settings.scheduler
    assert (scheduler.announce_interval_s, scheduler.schedule_timeout_s) == (60.0, 30.0)
    assert scheduler.max_schedule_count == 3
    assert (settings.seed_peer.enable, settings.seed_peer.type) == (True, "weak")
    assert settings.dynconfig.refresh_interval_s == 120.0
    assert (settings.storage.dir, settings.storage.server.tcp_port) == (Path("/data/odonata"), 4105)
    assert not settings.storage.keep
    assert settings.backend.header() == {"Authorization": "Bearer abcdef123456"}
    policy = settings.gc.policy
    assert (settings.gc.interval_s, policy.task_ttl_s) == (300.0, 720 * 3600.0)
    assert policy.disk_threshold_bytes == 100 * 1024**3
    assert (policy.disk_high_threshold_percent, policy.disk_low_threshold_percent) == (90, 70)
    tracing = settings.tracing
    assert (tracing.protocol, tracing.endpoint) == ("grpc", "otel:4317")
    proxy = settings.proxy
    assert (proxy.server.ip, proxy.server.port) == ("127.0.0.1", 4001)
    (rule,) = proxy.rules
    assert (rule.use_tls, rule.redirect) == (True, "mirror.test")
    assert rule.filtered_query_params == ("Signature", "Expires")
    assert proxy.registry_mirror.addr == "https://registry.test"
    assert proxy.enable_task_id_based_blob_digest
    assert proxy.disable_back_to_source
    assert proxy.prefetch


def test_a_dfdaemon_of_dragonfly_2_5_is_told_what_has_no_effect(tmp_path: Path) -> None:
    warnings = load_text(DaemonSettings, settings_file.DFDAEMON_2_5, tmp_path).warnings
    keys = keys_without_effect(warnings)
    for key in (
        "server.pluginDir",
        "storage.server.quicPort",
        "metrics",
        "manager.addr",
    ):
        assert keys.count(key) == 1, key


@pytest.mark.parametrize("model", [DaemonSettings, SchedulerSettings, ManagerSettings])
def test_an_empty_file_means_defaults(
    tmp_path: Path, model: type[DaemonSettings | SchedulerSettings | ManagerSettings]
) -> None:
    for text in ("", "# nothing\n", "{}\n", "---\n"):
        loaded = load_text(model, text, tmp_path)
        assert loaded.settings == model()
        assert loaded.warnings == ()
