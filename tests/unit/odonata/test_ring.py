"""The rings against Dragonfly's vectors, the SipHash paper's and a naive model."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import CallerError
from odonata.ring import SEED_REPLICAS, Address, SchedulerRing, SeedRing, siphash24

THREE = [Address(ip=f"10.0.0.{last}", port=8002) for last in (1, 2, 3)]
SEEDS = st.sets(st.integers(1, 254).map(lambda last: f"10.1.0.{last}:4000"), max_size=6)
TASK_IDS = st.text(alphabet="0123456789abcdef", min_size=64, max_size=64)


# What Rust feeds its hasher, and the hash, as observed in dfdaemon 1.5.1.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(8) + bytes((10, 0, 0, 1)) + b"\x42\x1f", 0x9948A09AF7EC8DEE),
        (bytes(8) + bytes((10, 0, 0, 2)) + b"\x42\x1f", 0x3C5A35DAA4177512),
        (bytes(8) + bytes((10, 0, 0, 3)) + b"\x42\x1f", 0x3FB2E2C7EE4F0057),
        (bytes(8) + bytes((127, 0, 0, 1)) + b"\x42\x1f", 0x2C30CE45AAAF7546),
        (b"\1" + bytes(7) + bytes(15) + b"\1" + b"\x42\x1f" + bytes(8), 0x3F52C1D091552B23),
        (b"3c3f2\xff", 0x0AB2CF5A340B992B),
        (b"06408\xff", 0xD6B27F30679D0B91),
        (b"5844f\xff", 0xEFEC496E8810C73A),
        (b"00000\xff", 0x32266D2BBC957C60),
        (b"fffff\xff", 0xFE327FF26D77028C),
        (b"f1e2d\xff", 0x5F347F6087C23176),
        (b"abcde\xff", 0xF4CDB0A996A23A5E),
    ],
)
def test_siphash_of_addresses_and_keys(data: bytes, expected: int) -> None:
    assert siphash24(data) == expected


@pytest.mark.parametrize(
    ("key", "last"),
    [("12345", 1), ("f1e2d", 1), ("3c3f2", 2), ("00000", 2), ("abcde", 2), ("fffff", 2)],
)
def test_owners_are_those_that_dfdaemon_picks(key: str, last: int) -> None:
    # Observed in dfdaemon 1.5.1 with schedulers 10.0.0.1 to 10.0.0.3, port 8002.
    owner = SchedulerRing(THREE).owner(key + "0" * 59)
    assert owner == Address(ip=f"10.0.0.{last}", port=8002)


@given(st.permutations(THREE), TASK_IDS)
def test_the_owner_does_not_depend_on_the_order(order: list[Address], task_id: str) -> None:
    assert SchedulerRing([*order, order[0]]).owner(task_id) == SchedulerRing(THREE).owner(task_id)


@given(TASK_IDS, st.sampled_from(THREE))
def test_when_a_scheduler_goes_only_its_tasks_move(task_id: str, gone: Address) -> None:
    before = SchedulerRing(THREE).owner(task_id)
    after = SchedulerRing([one for one in THREE if one != gone]).owner(task_id)
    assert before in {after, gone}


def test_only_the_first_five_characters_of_a_task_count() -> None:
    ring = SchedulerRing(THREE)
    assert ring.owner("12345" + "a" * 59) == ring.owner("12345" + "b" * 59)


def test_an_ipv6_scheduler_has_a_place_and_a_text() -> None:
    only = Address(ip="::1", port=8002)
    assert SchedulerRing([only]).owner("0" * 64) == only
    assert str(only) == "[::1]:8002"
    assert str(THREE[0]) == "10.0.0.1:8002"


def test_an_empty_ring_owns_nothing() -> None:
    assert SchedulerRing([]).owner("0" * 64) is None
    assert SeedRing([]).pick("0" * 64) is None


@pytest.mark.parametrize(
    ("ip", "port", "said"),
    [("scheduler.test", 8002, "no IP address"), ("10.0.0.1", 65536, "65536")],
)
def test_bad_addresses_are_refused(ip: str, port: int, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        SchedulerRing([Address(ip=ip, port=port)])


def naive_seed(seeds: set[str], task_id: str) -> str | None:
    """stathat's rule, written the slow way: the least point above the key's, else the least."""
    key = zlib.crc32(task_id.encode())
    points = sorted(
        (zlib.crc32(f"{replica}{seed}".encode()), seed)
        for seed in seeds
        for replica in range(SEED_REPLICAS)
    )
    above = [seed for point, seed in points if point > key]
    return next(iter([*above, *(seed for _, seed in points)]), None)


@given(SEEDS, TASK_IDS)
def test_seeds_are_picked_by_stathats_rule(seeds: set[str], task_id: str) -> None:
    assert SeedRing(seeds).pick(task_id) == naive_seed(seeds, task_id)


@given(SEEDS, TASK_IDS)
def test_an_excluded_seeds_tasks_go_where_they_went_without_it(
    seeds: set[str], task_id: str
) -> None:
    ring = SeedRing(seeds)
    first = ring.pick(task_id)
    rest = seeds - {first}
    assert ring.pick(task_id, exclude={first or ""}) == SeedRing(rest).pick(task_id)
    assert ring.pick(task_id, exclude=seeds) is None
    assert len(ring) == len(seeds)


def test_tasks_spread_over_seeds() -> None:
    seeds = {f"10.1.0.{last}:4000" for last in range(1, 5)}
    ring = SeedRing(seeds)
    picked = [ring.pick(f"{number:064x}") for number in range(2000)]
    # 20 points each: shares of 25 % vary, but nobody starves and nobody takes most.
    assert all(100 < picked.count(seed) < 1200 for seed in seeds)
