"""Lists of addresses, in which one entry may stand for several ports."""

from __future__ import annotations

import pytest

from odonata.errors import SettingsError
from odonata.settings.loading import load
from peer.settings import DaemonSettings


def addrs(*given: str) -> tuple[str, ...]:
    return load(DaemonSettings, overrides={"scheduler.addrs": list(given)}).settings.scheduler.addrs


def test_a_range_of_ports_is_an_address_for_each() -> None:
    assert addrs("s:8002-8004", "[::1]:9000-9000", "t:1") == (
        "s:8002",
        "s:8003",
        "s:8004",
        "[::1]:9000",
        "t:1",
    )


@pytest.mark.parametrize("bad", ["s:9-8", "s:0-3", "s:1-100", "s:65535-65536"])
def test_a_range_that_is_none_names_the_form(bad: str) -> None:
    with pytest.raises(SettingsError, match="FIRST-LAST"):
        addrs(bad)
