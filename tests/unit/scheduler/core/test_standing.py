"""The table of a host's standing, terms, the suspicion and the reference."""

from math import inf, isnan

import pytest

from scheduler.core.lifecycle import IllegalTransitionError
from scheduler.core.standing import (
    ACCUSER_LIMIT,
    FIRST_TERM_S,
    FORGIVEN_AFTER_S,
    HOST_TRANSITIONS,
    LONGEST_TERM_S,
    REFERENCE_PIECES,
    SUSPICION_S,
    HostState,
    HostTrigger,
    Reference,
    Standing,
    Suspicion,
)

TABLE = {
    ("Good", "Evict"): "Evicted",
    ("Good", "Suspect"): "OnProbation",
    ("Evicted", "EndTerm"): "OnProbation",
    ("OnProbation", "Readmit"): "Good",
    ("OnProbation", "Evict"): "Evicted",
}
MB = 1_000_000


def test_the_table_says_what_the_prose_says() -> None:
    told = {(str(source), str(why)): str(end) for (source, why), end in HOST_TRANSITIONS.items()}
    assert told == TABLE


@pytest.mark.parametrize("state", list(HostState))
@pytest.mark.parametrize("trigger", list(HostTrigger))
def test_what_is_not_in_the_table_is_illegal(state: HostState, trigger: HostTrigger) -> None:
    standing = Standing(state=state)
    if (state, trigger) in HOST_TRANSITIONS:
        standing.move(trigger, 1.0)
        assert str(standing.state) == TABLE[state, trigger]
    else:
        with pytest.raises(IllegalTransitionError, match=f"state {state} can't take {trigger}"):
            standing.move(trigger, 1.0)


def test_terms_double_up_to_a_bound_and_are_forgiven() -> None:
    standing, now, terms = Standing(), 0.0, list[float]()
    for _ in range(7):
        standing.move(HostTrigger.EVICT, now)
        terms.append(standing.until_s - now)
        now = standing.until_s
        standing.move(HostTrigger.END_TERM, now)
        assert standing.until_s == inf
    assert terms == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert (terms[0], terms[-1]) == (FIRST_TERM_S, LONGEST_TERM_S)
    standing.move(HostTrigger.READMIT, now)
    standing.move(HostTrigger.EVICT, now + FORGIVEN_AFTER_S)
    assert standing.term_s == LONGEST_TERM_S
    standing.move(HostTrigger.END_TERM, now)
    standing.move(HostTrigger.READMIT, now)
    standing.move(HostTrigger.EVICT, now + FORGIVEN_AFTER_S + 1.0)
    assert standing.term_s == FIRST_TERM_S


# --- suspicion ---


def hear(suspicion: Suspicion, words: str) -> str:
    """`a`, `b`...: bad for that child; `.`: good. Returns what was heard up to the verdict."""
    for number, word in enumerate(words):
        if word == ".":
            suspicion.heard_good()
        elif suspicion.heard_bad(number * 0.1, word):
            return words[: number + 1]
    return ""


@pytest.mark.parametrize("words", ["aab", "abb", "abc", "aa.b", "a.bcd", ".....aab", "ab.c"])
def test_a_verdict(words: str) -> None:
    assert hear(Suspicion(), words) == words


@pytest.mark.parametrize(
    "words",
    [
        "ab",  # too few
        "aaaaaaaaaaaa",  # one child
        "a.b.c.d.e.f.",  # as many good ones
        "a.b.c",
        "aa..b",  # two against two
        "ab..c",
    ],
)
def test_no_verdict(words: str) -> None:
    assert not hear(Suspicion(), words)


def test_good_pieces_before_are_no_excuse() -> None:
    assert hear(Suspicion(), "." * 10_000 + "abc")


def test_a_child_counts_twice_a_minute_whatever_it_says() -> None:
    suspicion = Suspicion()
    assert not hear(suspicion, "aaaa....")
    assert not hear(suspicion, "aaaabb")  # nothing of a's counts any more
    assert suspicion.heard_bad(1.0, "c")  # the third of others


def test_old_suspicions_are_dropped() -> None:
    suspicion = Suspicion()
    assert not suspicion.heard_bad(0.0, "a")
    assert not suspicion.heard_bad(1.0, "b")
    assert not suspicion.heard_bad(2.0 + SUSPICION_S, "c")
    assert not suspicion.heard_bad(3.0 + SUSPICION_S, "a")
    assert suspicion.heard_bad(4.0 + SUSPICION_S, "b")


def test_accusers_are_bounded() -> None:
    suspicion = Suspicion()
    for number in range(10 * ACCUSER_LIMIT):
        suspicion.heard_bad(0.0, f"child {number}")
        suspicion.heard_good()
    assert len(suspicion.accusers) == ACCUSER_LIMIT


# --- reference ---


def settled(rate: float = 10.0 * MB) -> Reference:
    reference = Reference()
    for _ in range(REFERENCE_PIECES):
        reference.follow(1.0, rate, rate)
    return reference


def test_a_reference_takes_pieces_and_time() -> None:
    reference = Reference()
    for _ in range(REFERENCE_PIECES - 1):
        reference.follow(1.0, 1.0 * MB, 1.0 * MB)
        assert isnan(reference.bytes_per_s)
    reference.follow(1.0, 1.0 * MB, 1.0 * MB)
    assert reference.bytes_per_s == pytest.approx(MB)
    quick = Reference()
    for _ in range(1000):
        quick.follow(0.001, 1.0 * MB, 1.0 * MB)
    assert isnan(quick.bytes_per_s)


def test_a_drop_does_not_drag_the_reference_down() -> None:
    reference = settled()
    for _ in range(60):
        reference.follow(1.0, 9.0 * MB, 0.2 * MB)
    assert reference.bytes_per_s > 9.4 * MB


def test_a_lasting_change_is_followed() -> None:
    reference = settled()
    for _ in range(6 * 865):
        reference.follow(1.0, 5.0 * MB, 5.0 * MB)
    assert reference.bytes_per_s == pytest.approx(5 * MB, rel=0.02)
