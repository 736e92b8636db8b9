"""Who fetches what ahead of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduler_world import World

from odonata.errors import PreconditionError
from odonata.ids import task_id_of
from odonata.ring import SeedRing
from odonata.wire.message import Download, Host, HostType
from scheduler.core.preheat import (
    SEED_TRIES,
    HostChoice,
    Scope,
    choose_hosts,
    hosts_in_question,
    plan,
    seeds_in_turn,
)
from scheduler.core.standing import HostState


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
    for assignment in plan(URLS, HOSTS, HostChoice()):
        assert assignment.is_either
        assert len(assignment.hosts) == SEED_TRIES
        assert len(set(assignment.hosts)) == SEED_TRIES
        assert f"{assignment.hosts[0].ip}:4000" == ring.pick(assignment.task_id)
    assert len({assignment.hosts[0].id for assignment in plan(URLS, HOSTS, HostChoice())}) > 1


def test_contents_of_one_name_are_fetched_once_in_the_order_they_were_named() -> None:
    a, b = (Download(url=f"http://origin.test/{name}") for name in "ab")
    same = Download(url="http://origin.test/a?sig=1", filtered_query_params=("sig",))
    assignments = plan([b, a, same, b], HOSTS, HostChoice(scope=Scope.ALL_PEERS))
    assert [assignment.download for assignment in assignments] == [b, a]
    assert [assignment.task_id for assignment in assignments] == [task_id_of(b), task_id_of(a)]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (HostChoice(scope=Scope.ALL_SEED_PEERS), 5),
        (HostChoice(scope=Scope.ALL_PEERS), 15),
        (HostChoice(scope=Scope.ALL_PEERS, percentage=50), 7),
        (HostChoice(scope=Scope.ALL_SEED_PEERS, percentage=50), 2),
        (HostChoice(scope=Scope.ALL_SEED_PEERS, percentage=1), 1),
        (HostChoice(scope=Scope.ALL_PEERS, percentage=100), 15),
        (HostChoice(scope=Scope.ALL_PEERS, count=4, percentage=100), 4),
        (HostChoice(scope=Scope.ALL_PEERS, count=200), 15),
        (HostChoice(scope=Scope.ALL_PEERS, ips=("10.0.0.1", "10.0.1.1", "10.9.9.9"), count=1), 2),
        (HostChoice(scope=Scope.ALL_SEED_PEERS, ips=("10.0.0.1", "10.0.1.1")), 1),
    ],
)
def test_so_many_hosts_are_chosen(choice: HostChoice, expected: int) -> None:
    chosen = choose_hosts(HOSTS, choice, salt="s")
    assert len(chosen) == len(set(chosen)) == expected
    assert all(one.is_seed for one in chosen) or choice.scope is Scope.ALL_PEERS


def test_the_same_request_means_the_same_hosts_and_another_means_others() -> None:
    choice = HostChoice(scope=Scope.ALL_PEERS, count=3)
    chosen = {salt: choose_hosts(HOSTS, choice, salt=salt) for salt in "abcdefgh"}
    assert chosen["a"] == choose_hosts(list(reversed(HOSTS)), choice, salt="a")
    assert len({one.id for hosts in chosen.values() for one in hosts}) > 6


@pytest.mark.parametrize(
    ("hosts", "choice", "said"),
    [
        (PEERS, HostChoice(), "no seed peer to preheat: start one"),
        ([host(1, seed=True, shared=False)], HostChoice(), "no seed peer to preheat"),
        (PEERS, HostChoice(scope=Scope.ALL_SEED_PEERS), "all_seed_peers has no host"),
        ([], HostChoice(scope=Scope.ALL_PEERS), "all_peers has no host"),
        (HOSTS, HostChoice(scope=Scope.ALL_PEERS, ips=("10.9.9.9",)), "(first: 10.9.9.9)"),
    ],
)
def test_with_nobody_to_do_it_there_is_no_plan(
    hosts: list[Host], choice: HostChoice, said: str
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


def test_for_a_single_seed_only_those_come_into_question_that_pulls_are_led_to() -> None:
    world = World()
    for number in range(3):
        world.announce(host(number, seed=True), host(number))
    known = list(world.core.state.hosts.values())

    def asked(scope: Scope) -> set[str]:
        return {one.id for one in hosts_in_question(known, scope)}

    everybody = {one.id for one in known}
    assert asked(Scope.SINGLE_SEED_PEER) == {"seed-0", "seed-1", "seed-2"}
    world.seed_failed("seed-0", unreachable=True)
    world.core.state.hosts["seed-1"].standing.state = HostState.EVICTED
    assert asked(Scope.SINGLE_SEED_PEER) == {"seed-2"}
    assert asked(Scope.ALL_SEED_PEERS) == asked(Scope.ALL_PEERS) == everybody
    world.core.state.hosts["seed-2"].is_unreachable = True
    assert asked(Scope.SINGLE_SEED_PEER) == everybody
