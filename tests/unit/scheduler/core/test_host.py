"""A host's counters."""

from support.scheduler_world import World, download, host

from scheduler.core.graph import Booking
from scheduler.core.host import KnownHost


def test_release_takes_back_what_was_booked() -> None:
    known = KnownHost(
        announced=host("h1"),
        announce_interval_s=0,
        created_at_s=0,
        updated_at_s=0,
        announced_at_s=0,
    )
    booking = Booking(tx_bits_per_s=7, piece_count=8, content_length=9)
    known.book(booking)
    known.book(booking)
    assert known.concurrent_upload_count == 2
    assert known.concurrent_upload_piece_count == 16
    assert known.upload_content_length == 18
    assert known.booked_tx_bits_per_s == 14
    known.release(booking)
    known.release(booking)
    assert known.concurrent_upload_count == 0
    assert known.booked_tx_bits_per_s == 0
    assert known.upload_count == 2


def test_an_edge_books_bandwidth_pieces_and_content() -> None:
    world = World()
    world.announce(host("h1"), host("h2"))
    world.holder("p1", "h1")  # three pieces of 4 MiB
    world.register("p2", "h2", download())
    known = world.core.state.hosts["h1"]
    assert known.booked_tx_bits_per_s == 4 * 1024 * 1024 * 8 * 8
    assert known.concurrent_upload_piece_count == 8
    assert known.upload_content_length == 12 * 1024 * 1024
    world.started("p2")
    world.finished("p2")
    assert known.concurrent_upload_count == 0
    assert known.upload_count == 1
