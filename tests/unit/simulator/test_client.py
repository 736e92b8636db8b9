"""Two clients, one core."""

from __future__ import annotations

import pytest
from support.tiny_world import TINY

from odonata.errors import CallerError
from peer.core.limits import DownloadLimits
from simulator.client import OWN, STOCK, client_named


def test_ours_is_what_a_daemon_does_by_default() -> None:
    assert OWN.limits == DownloadLimits()
    assert OWN.on(TINY).is_ours


def test_stock_follows_the_rules_of_dragonflys_client() -> None:
    scenario = STOCK.on(TINY)
    limits = scenario.limits
    assert (limits.order, limits.first, limits.weight) == ("ascending", "piece", "told")
    assert limits.concurrent_piece_count == limits.pieces_per_parent == 8
    assert [limits.hedge, limits.replace_slow, limits.seed_once] == [False] * 3
    assert scenario.peer_slots == scenario.seed_slots > 1000
    assert not scenario.is_ours


def test_clients_by_name() -> None:
    assert client_named("stock") is STOCK
    with pytest.raises(CallerError, match="own, stock"):
        client_named("curl")
