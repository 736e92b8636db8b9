"""From settings to options: what an operator writes is what the parts obey."""

from __future__ import annotations

import pytest

from odonata.piece import MIB, PIECE_LENGTH_MIN
from odonata.settings.loading import load
from peer.core.limits import DownloadLimits
from peer.core.proxy_auth import ProxyLogin
from peer.core.proxy_rule import AllowedHost
from peer.runtime.buffer import POOL_BYTES
from peer.runtime.daemon_parts import (
    limits_of,
    peer_features,
    proxy_login,
    proxy_policy,
    upload_slots,
)
from peer.settings import DaemonSettings


def settings(**overrides: object) -> DaemonSettings:
    return load(DaemonSettings, overrides=overrides).settings


def test_defaults_are_those_of_the_core() -> None:
    found, core = limits_of(settings()), DownloadLimits()
    assert found == core


def test_what_an_operator_says_reaches_the_core() -> None:
    said: dict[str, object] = {
        "download.pieceTimeout": "7s",
        "download.concurrentPieceCount": 12,
        "download.backToSourceConcurrentPieceCount": 2,
        "download.leastPieceLength": "256KiB",
        "scheduler.maxScheduleCount": 2,
        "scheduler.scheduleTimeout": "11s",
    }
    limits = limits_of(settings(**said))
    assert limits.piece_timeout_s == 7.0
    assert limits.concurrent_piece_count == 12
    assert limits.max_concurrent_piece_count == 12
    assert limits.source_streams == 2
    assert limits.least_piece_length == 256 * 1024
    assert limits.max_schedule_count == 2
    assert limits.schedule_timeout_s == 11.0


def test_the_proxy_asks_for_the_login_that_the_settings_name() -> None:
    assert proxy_login(settings().proxy) is None
    said = settings(
        **{"proxy.server.basicAuth.username": "ann", "proxy.server.basicAuth.password": "pw"}
    )
    assert proxy_login(said.proxy) == ProxyLogin(username="ann", password="pw")


def test_the_proxy_lets_clients_ask_those_hosts_that_the_settings_name() -> None:
    assert proxy_policy(settings().proxy).allowed == ()
    said = settings(**{"proxy.allowList": [{"regex": "^a$"}, {"regex": "^b$", "ports": [443]}]})
    assert proxy_policy(said.proxy).allowed == (
        AllowedHost(regex="^a$"),
        AllowedHost(regex="^b$", ports=(443,)),
    )


@pytest.mark.parametrize(
    ("said", "slots"),
    [
        ({}, 4),
        ({"seedPeer.enable": True}, 16),
        ({"upload.slots": 7}, 7),
        ({"seedPeer.enable": True, "upload.slots": 2}, 2),
    ],
)
def test_a_seed_has_more_slots_unless_told_otherwise(said: dict[str, object], slots: int) -> None:
    assert upload_slots(settings(**said)) == slots


def test_peers_say_that_they_write_pieces_only_if_they_do() -> None:
    always = ("takes-news", "checks-pieces", "shares-far")
    assert peer_features(settings()) == (*always, "writes-pieces")
    assert peer_features(settings(**{"telemetry.enable": False})) == always


def test_a_narrow_limit_of_our_own_does_not_blame_parents_for_being_slow() -> None:
    limits = limits_of(settings(**{"download.bandwidthLimit": "2MiB"}))
    at_once = POOL_BYTES // PIECE_LENGTH_MIN
    assert limits.slowest_rate_bytes_per_s * at_once <= 2 * MIB
    assert limits_of(settings(**{"download.bandwidthLimit": "1GiB"})) == DownloadLimits()
