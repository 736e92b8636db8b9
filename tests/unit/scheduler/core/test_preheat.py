"""Who fetches what ahead of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odonata.errors import PreconditionError
from odonata.ids import task_id_of
from odonata.ring import SeedRing
from odonata.wire.message import Download, Host, HostType
from scheduler.core.preheat import SEED_TRIES, Choice, Scope, choose_hosts, plan, seeds_in_turn


def host(number: int, *, seed: bool = False, shared: bool = True) -> Host:
    return Host(
        id=f"{'seed' if seed else 'peer'}-{number}",
        type=HostType.SUPER if seed else HostType.NORMAL,
        hostname=f"n{number}",
        ip=f"10.0.{int(seed)}.{number}",
        port=4000,
        disable_shared=not shared,
    )


SEEDS = [host(number, seed=True) for number in range(5)]
PEERS = [host(number) for number in range(10)]
HOSTS = [*PEERS[:5], *SEEDS, *PEERS[5:]]
URLS = [Download(url=f"http://origin.test/{number}") for number in range(20)]


def test_a_single_seed_is_the_one_that_pulls_are_led_to_with_spares() -> None:
    ring = SeedRing(f"{one.ip}:{one.port}" for one in SEEDS)
    for errand in plan(URLS, HOSTS, Choice()):
        assert errand.is_either
        assert len(errand.hosts) == SEED_TRIES
        assert len(set(errand.hosts)) == SEED_TRIES
        assert f"{errand.hosts[0].ip}:4000" == ring.pick(errand.task_id)
    assert len({errand.hosts[0].id for errand in plan(URLS, HOSTS, Choice())}) > 1


def test_contents_of_one_name_are_fetched_once_in_the_order_they_were_named() -> None:
    a, b = (Download(url=f"http://origin.test/{name}") for name in "ab")
    same = Download(url="http://origin.test/a?sig=1", filtered_query_params=("sig",))
    errands = plan([b, a, same, b], HOSTS, Choice(scope=Scope.ALL_PEERS))
    assert [errand.download for errand in errands] == [b, a]
    assert [errand.task_id for errand in errands] == [task_id_of(b), task_id_of(a)]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(scope=Scope.ALL_SEED_PEERS), 5),
        (Choice(scope=Scope.ALL_PEERS), 15),
        (Choice(scope=Scope.ALL_PEERS, percentage=50), 7),
        (Choice(scope=Scope.ALL_SEED_PEERS, percentage=50), 2),
        (Choice(scope=Scope.ALL_SEED_PEERS, percentage=1), 1),
        (Choice(scope=Scope.ALL_PEERS, percentage=100), 15),
        (Choice(scope=Scope.ALL_PEERS, count=4, percentage=100), 4),
        (Choice(scope=Scope.ALL_PEERS, count=200), 15),
        (Choice(scope=Scope.ALL_PEERS, ips=("10.0.0.1", "10.0.1.1", "10.9.9.9"), count=1), 2),
        (Choice(scope=Scope.ALL_SEED_PEERS, ips=("10.0.0.1", "10.0.1.1")), 1),
    ],
)
def test_so_many_hosts_are_chosen(choice: Choice, expected: int) -> None:
    chosen = choose_hosts(HOSTS, choice, salt="s")
    assert len(chosen) == len(set(chosen)) == expected
    assert all(one.is_seed for one in chosen) or choice.scope is Scope.ALL_PEERS


def test_the_same_request_means_the_same_hosts_and_another_means_others() -> None:
    choice = Choice(scope=Scope.ALL_PEERS, count=3)
    chosen = {salt: choose_hosts(HOSTS, choice, salt=salt) for salt in "abcdefgh"}
    assert chosen["a"] == choose_hosts(list(reversed(HOSTS)), choice, salt="a")
    assert len({one.id for hosts in chosen.values() for one in hosts}) > 6


@pytest.mark.parametrize(
    ("hosts", "choice", "said"),
    [
        (PEERS, Choice(), "no seed peer to preheat: start one"),
        ([host(1, seed=True, shared=False)], Choice(), "no seed peer to preheat"),
        (PEERS, Choice(scope=Scope.ALL_SEED_PEERS), "all_seed_peers has no host"),
        ([], Choice(scope=Scope.ALL_PEERS), "all_peers has no host"),
        (HOSTS, Choice(scope=Scope.ALL_PEERS, ips=("10.9.9.9",)), "(first: 10.9.9.9)"),
    ],
)
def test_with_nobody_to_do_it_there_is_no_plan(
    hosts: list[Host], choice: Choice, said: str
) -> None:
    with pytest.raises(PreconditionError) as caught:
        plan(URLS, hosts, choice)
    assert said in caught.value.detail


@given(st.sets(st.integers(0, 9)), st.text(min_size=1), st.integers(1, 12))
def test_seeds_take_their_turn_in_the_order_of_the_ring(
    numbers: set[int], task_id: str, tries: int
) -> None:
    seeds = [host(number, seed=True) for number in sorted(numbers)]
    turn = seeds_in_turn(task_id, [*seeds, *PEERS], tries)
    assert len(turn) == len(set(turn)) == min(tries, len(seeds))
    # If the first is gone, the second is the ring's choice.
    if len(turn) > 1:
        left = [one for one in seeds if one != turn[0]]
        assert seeds_in_turn(task_id, left, 1) == [turn[1]]
