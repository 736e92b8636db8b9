"""When a host stops giving because its uplink has given way. Times are seconds, sizes bytes."""

from __future__ import annotations

import pytest

from peer.core.uplink import CHOKED_SHARE, LOOK_S, LOOKS, MEMORY_LOOKS, REST_S, Uplink

USUAL = 600_000
"""A second's worth of an uplink of 5 Mbit/s."""
CHOKED = int(USUAL * CHOKED_SHARE) - 1


class Host:
    """Looks at its uplink once a second."""

    def __init__(self) -> None:
        self.uplink = Uplink()
        self.now = 100.0

    def looks(
        self, count: int, sent: int, *, children: int = 3, is_receiving: bool = True
    ) -> list[bool]:
        told: list[bool] = []
        for _ in range(count):
            self.now += LOOK_S
            told.append(self.uplink.look(sent, children, self.now, is_receiving=is_receiving))
        return told

    @property
    def is_resting(self) -> bool:
        return self.uplink.is_resting(self.now)


@pytest.fixture
def host() -> Host:
    """It has served several children for a while."""
    host = Host()
    assert not any(host.looks(2 * LOOKS, USUAL))
    return host


def test_an_uplink_that_gives_way_rests_after_so_many_looks(host: Host) -> None:
    assert host.looks(LOOKS, CHOKED) == [False] * (LOOKS - 1) + [True]
    assert host.is_resting
    host.now += REST_S
    assert not host.is_resting


def test_it_tries_again_after_that_and_rests_again_if_it_must(host: Host) -> None:
    host.looks(LOOKS, CHOKED)
    host.now += REST_S
    assert host.looks(LOOKS, CHOKED)[-1], "it remembers what it could do"


def test_it_ends_when_nothing_comes_any_more(host: Host) -> None:
    host.looks(LOOKS, CHOKED)
    host.looks(1, 0, children=0, is_receiving=False)
    assert not host.is_resting


@pytest.mark.parametrize(
    "looks",
    [
        {"sent": CHOKED + 2},
        {"sent": CHOKED, "children": 1},
        {"sent": CHOKED, "is_receiving": False},
        {"sent": 0, "children": 0},
    ],
    ids=["it still gives", "one child may be slow", "nothing is in its way", "nobody asks"],
)
def test_there_is_no_reason_otherwise(host: Host, looks: dict[str, int]) -> None:
    assert not any(host.looks(5 * LOOKS, **looks))  # type: ignore[arg-type]  # its own arguments


def test_a_stall_of_a_moment_is_none(host: Host) -> None:
    for _ in range(5):
        assert not any(host.looks(LOOKS - 1, 0))
        assert not any(host.looks(1, USUAL))


def test_who_has_always_been_slow_goes_on() -> None:
    assert not any(Host().looks(20 * LOOKS, CHOKED))


def test_what_it_could_do_long_ago_does_not_count(host: Host) -> None:
    host.looks(MEMORY_LOOKS + LOOKS, CHOKED, children=1)
    assert not any(host.looks(5 * LOOKS, CHOKED))


def test_a_pause_ends_the_row(host: Host) -> None:
    host.looks(LOOKS - 1, CHOKED)
    host.uplink.pause()
    assert not any(host.looks(LOOKS - 1, CHOKED))
    assert host.looks(1, CHOKED) == [True]
