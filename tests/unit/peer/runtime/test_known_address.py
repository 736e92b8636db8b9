"""Where hosts serve their pieces: a bounded memory."""

from __future__ import annotations

from peer.runtime.known_address import KNOWN_MAX, KnownAddresses, ServedAt


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
