"""Which seed is asked, when, and for what."""

from support.scheduler_world import (
    World,
    closes,
    download,
    host,
    parents,
    sent_to_source,
    triggers,
)

from odonata.ring import SeedRing
from odonata.wire.message import ByteRange, Download, Host, TaskType
from scheduler.core.limits import Limits
from scheduler.core.seed import seed_download


def seeds(count: int) -> list[Host]:
    return [host(f"s{number}", seed=True) for number in range(count)]


def ring_order(hosts: list[Host], task_id: str) -> list[str]:
    """The seeds of a task in the order in which they are asked."""
    by_address = {f"{one.ip}:{one.port}": one.id for one in hosts}
    order: list[str] = []
    while by_address:
        address = SeedRing(by_address).pick(task_id)
        assert address is not None
        order.append(by_address.pop(address))
    return order


def test_the_seed_fetches_all_of_it_from_the_source() -> None:
    wanted = Download(
        url="http://o/x",
        range=ByteRange(start=1, length=2),
        request_header={"RANGE": "bytes=1-2", "Authorization": "Bearer t"},
        output_path="/somewhere",
        disable_back_to_source=True,
        need_piece_content=True,
        force_hard_link=True,
        tag="v1",
    )
    asked = seed_download(wanted)
    assert asked.need_back_to_source
    assert not asked.disable_back_to_source
    assert asked.range is None
    assert asked.output_path is None
    assert not asked.need_piece_content
    assert not asked.force_hard_link
    assert asked.request_header == {"Authorization": "Bearer t"}
    assert asked.tag == "v1"


def test_seeds_are_asked_in_the_order_of_the_ring_and_once_each() -> None:
    world = World()
    world.announce(host("h1"), *seeds(3))
    order = ring_order(seeds(3), "t")
    asked = [one.host.id for one in triggers(world.register("p1", "h1"))]
    for _ in range(2):
        effects = world.seed_failed(asked[-1], unreachable=True)
        asked += [one.host.id for one in triggers(effects)]
    assert asked == order
    assert sent_to_source(world.seed_failed(asked[-1], unreachable=True)) == ["p1"]


def test_a_dead_seed_is_back_when_it_announces_itself() -> None:
    world = World()
    (seed,) = seeds(1)
    world.announce(host("h1"), seed)
    world.register("p1", "h1")
    world.seed_failed(seed.id, unreachable=True)
    assert not triggers(world.register("q1", "h1", task_id="u"))
    world.announce(seed)
    assert triggers(world.register("r1", "h1", task_id="v"))


def test_a_seed_that_failed_a_task_is_asked_again_after_half_an_hour() -> None:
    world = World(Limits(host_ttl_s=10_000))
    (seed,) = seeds(1)
    world.announce(host("h1"), seed, interval_s=0)
    world.register("p1", "h1")
    world.seed_failed(seed.id)
    world.failed_from_source("p1")
    assert not triggers(world.register("p2", "h1"))
    world.failed_from_source("p2")
    world.advance(1801.0)
    assert triggers(world.register("p3", "h1"))


def test_one_trigger_at_a_time() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), *seeds(2))
    assert len(triggers(world.register("p1", "h1"))) == 1
    assert not triggers(world.register("p2", "h2"))


def test_children_wait_ten_seconds_for_a_seed() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), *seeds(2))
    world.register("p1", "h1")
    world.register("p2", "h2")
    assert not sent_to_source(world.advance(9.9))
    effects = world.advance(10.0)
    assert sent_to_source(effects) == ["p1"]
    assert not triggers(effects)  # the first trigger still runs
    assert world.core.stat_peer("p2").is_waiting


def test_a_seed_that_finished_and_shows_no_peer_is_not_asked_again() -> None:
    world = World()
    (seed,) = seeds(1)
    world.announce(host("h1"), seed)
    world.register("p1", "h1")
    assert sent_to_source(world.seed_finished(seed.id)) == ["p1"]


def test_a_seed_that_serves_already_is_not_asked_again() -> None:
    world = World()
    (seed,) = seeds(1)
    world.announce(host("h1"), seed)
    world.register("p1", "h1")
    world.origin_fetcher("sp", seed.id)
    world.finished_from_source("sp")
    world.seed_finished(seed.id)
    world.started("p1")
    effects = world.reschedule("p1", "sp")
    assert not triggers(effects)
    assert sent_to_source(effects) == ["p1"]


def test_a_seed_that_lost_the_task_is_asked_again() -> None:
    world = World()
    (seed,) = seeds(1)
    world.announce(host("h1"), host("h2"), seed)
    world.register("p1", "h1")
    world.origin_fetcher("sp", seed.id)
    world.finished_from_source("sp")
    world.seed_finished(seed.id)
    world.closed("p1")
    world.delete_task(seed.id)
    assert triggers(world.register("p2", "h2"))


def test_a_seed_peer_that_crashes_hands_over_to_the_next() -> None:
    world = World()
    world.announce(host("h1"), *seeds(2))
    first, second = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    world.register("sp", first, download(source=True))
    effects = world.closed("sp")
    assert [one.host.id for one in triggers(effects)] == [second]


def test_a_seed_host_that_leaves_hands_over_to_the_next() -> None:
    world = World()
    world.announce(host("h1"), *seeds(2))
    first, second = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    assert [one.host.id for one in triggers(world.leave(first))] == [second]


def test_private_seeds_are_not_asked() -> None:
    world = World()
    world.announce(host("h1"), host("s0", seed=True, shared=False))
    assert sent_to_source(world.register("p1", "h1")) == ["p1"]


def test_a_late_answer_of_a_trigger_that_was_replaced_changes_nothing() -> None:
    world = World()
    world.announce(host("h1"), *seeds(2))
    first, second = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    world.seed_failed(first, unreachable=True)
    assert not world.seed_finished(first)
    (flight,) = world.task().seed_flights.values()
    assert flight.host_id == second
    world.register("sp", second, download(source=True))
    assert parents(world.at_source("sp")) == {"p1": ["sp"]}


def test_events_about_unknown_tasks_and_seeds_are_harmless() -> None:
    world = World()
    assert not triggers(world.seed_failed("nobody", "nothing"))
    assert not triggers(world.seed_finished("nobody", "nothing"))


def test_a_seed_that_failed_by_itself_hands_over_to_the_next_and_then_to_one_child() -> None:
    """A full disk is no answer of the source: it does not send everybody there."""
    world = World()
    world.announce(host("h1"), host("h2"), *seeds(2))
    first, second = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    world.register("p2", "h2")
    effects = world.seed_failed(first)
    assert [one.host.id for one in triggers(effects)] == [second]
    assert not sent_to_source(effects)
    assert sent_to_source(world.seed_failed(second)) == ["p1"]
    assert world.core.stat_peer("p2").is_waiting


def test_what_the_source_told_a_seed_everybody_hears_from_the_source() -> None:
    world = World()
    world.announce(host("h1"), host("h2"), *seeds(2))
    first, _ = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    world.register("p2", "h2")
    effects = world.seed_failed(first, status_code=404)
    assert not triggers(effects)
    assert sent_to_source(effects) == ["p1", "p2"]


def test_a_seed_that_said_goodbye_may_be_asked_as_soon_as_it_is_back() -> None:
    """Its trigger breaks off after its goodbye: that says nothing of the seed that comes back."""
    world = World()
    (seed,) = seeds(1)
    world.announce(host("h1"), seed)
    world.register("p1", "h1")
    world.leave(seed.id)
    world.seed_failed(seed.id, unreachable=True)
    world.closed("p1")
    world.announce(seed)
    assert triggers(world.register("p2", "h1"))


def test_a_seed_peer_that_breaks_the_conversation_hands_over_to_the_next() -> None:
    world = World()
    world.announce(host("h1"), *seeds(2))
    first, second = ring_order(seeds(2), "t")
    world.register("p1", "h1")
    world.register("sp", first, download(source=True))
    effects = world.register("sp", first, download(kind=TaskType.PERSISTENT))
    assert closes(effects) == {"sp": "failed_precondition"}
    assert [one.host.id for one in triggers(effects)] == [second]
