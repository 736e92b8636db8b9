"""What is read from the scheduler's state for a ranker."""

from support.scheduler_world import World, download, host

from scheduler.core.facts import facts


def test_facts_are_read_from_the_state() -> None:
    world = World()
    world.announce(
        host("s1", seed=True, idc="A", location="eu|de", bandwidth=1000),
        host("h1"),
        host("hx", idc="a", location="eu|fr"),
    )
    world.origin_fetcher("sp", "s1")
    world.piece("sp", 0, cost_s=1.0)
    world.piece("sp", 1, cost_s=3.0)
    world.register("p1", "h1")
    world.started("p1")
    world.register("x", "hx", download(source=True))
    batch = facts(world.peer("x"), [world.peer("sp"), world.peer("p1")], 0.0)
    assert len(batch) == 2
    assert batch["max_tx_bits_per_s"].tolist() == [1000, 0]
    assert batch["booked_tx_bits_per_s"].tolist() == [4 * 1024 * 1024 * 8 * 8, 0]
    assert batch["upload_piece_count"].tolist() == [8, 0]
    assert batch["same_idc"].tolist() == [1, 0]
    assert batch["location_affinity"].tolist() == [0.2, 0]
    assert batch["is_seed"].tolist() == [True, False]
    assert batch["is_first_download"].tolist() == [False, True]
    assert batch["can_serve"].tolist() == [True, True]
    assert batch["cost_count"].tolist() == [2, 0]
    assert batch["cost_last_s"].tolist() == [3.0, 0]
    assert batch["cost_mean_s"].tolist() == [1.0, 0]
