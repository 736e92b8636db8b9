"""Where hosts serve their pieces: a bounded memory."""

from __future__ import annotations

from odonata.wire.dragonfly.feature import ANSWERS_AHEAD
from odonata.wire.message import Host, HostType
from peer.runtime.known_address import KNOWN_MAX, KnownAddresses, MetSeed, ServedAt

ABLE = ServedAt("127.0.0.1", 7, frozenset({ANSWERS_AHEAD}))


def at(port: int) -> ServedAt:
    return ServedAt("127.0.0.1", port, frozenset({"x"}))


def test_the_latest_word_counts_until_nobody_was_there() -> None:
    known = KnownAddresses()
    assert known.of("a:1") is None
    known.learn("a:1", at(1))
    known.learn("a:1", at(2))
    assert known.of("a:1") == at(2)
    known.forget("a:1")
    known.forget("never met:1")
    assert known.of("a:1") is None


def test_who_was_not_heard_of_for_longest_is_forgotten_first() -> None:
    known = KnownAddresses()
    for port in range(KNOWN_MAX):
        known.learn(f"a:{port}", at(port))
    known.learn("a:0", at(0))
    known.learn("b:0", at(0))
    assert known.of("a:1") is None
    assert known.of("a:0") == known.of("b:0") == at(0)


def host(host_id: str, kind: HostType = HostType.SUPER) -> Host:
    return Host(id=host_id, type=kind, hostname=host_id, ip="127.0.0.1", port=1)


def test_the_seed_heard_of_last_is_the_one_to_ask_ahead() -> None:
    known = KnownAddresses()
    assert known.seed is None
    known.learn("a:1", ABLE, host("a"))
    known.learn("b:1", ABLE, host("b"))
    known.learn("c:1", at(1), host("c"))  # it can't
    known.learn("d:1", ABLE, host("d", HostType.NORMAL))
    known.learn("e:1", ABLE)
    assert known.seed == MetSeed("b", "b:1", ABLE)


def test_a_seed_that_was_not_there_is_asked_no_more() -> None:
    known = KnownAddresses()
    known.learn("a:1", ABLE, host("a"))
    known.forget("z:1")
    assert known.seed is not None
    known.forget("a:1")
    assert known.seed is None
