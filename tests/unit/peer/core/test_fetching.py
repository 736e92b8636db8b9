"""Pieces from parents: how many at once, what failures lead to, what happens to late transfers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.download import PIECE, URL, Script, asked, kinds, messages, of, parent_of, piece_of

from odonata.wire.message import (
    Download,
    FarShare,
    NormalTask,
    Parent,
    PieceFailed,
    PieceFinished,
    Reschedule,
)
from peer.core.budget import Budget
from peer.core.effect import (
    AskProgress,
    CancelPiece,
    CancelReason,
    ConnectParent,
    DownloadEffect,
    DropParent,
    FetchPiece,
)
from peer.core.event import (
    FailureReason,
    ParentLoad,
    PieceNotFetched,
    PieceProgress,
    PieceStored,
    ReaderWaiting,
    Ticked,
)
from peer.core.limits import DownloadLimits

NAMES = tuple("abcdefgh")
ALL = tuple(range(40))


def busy_swarm(
    *names: str,
    limits: DownloadLimits | None = None,
    length: int = 40,
    download: Download | None = None,
    budget: Budget | None = None,
) -> Script:
    """Each of the named parents holds everything."""
    script = Script(length=length * PIECE, limits=limits, download=download, budget=budget)
    script.swarm(*names)
    for name in names:
        script.holds(name, *range(length))
    return script


# --- how much at once -----------------------------------------------------------------------------


def test_one_piece_from_each_of_four_parents() -> None:
    script = busy_swarm(*NAMES)
    fetches = asked(script.effects)
    assert len(fetches) == 4
    assert len({peer for peer, _ in fetches}) == 4
    assert len({number for _, number in fetches}) == 4


@pytest.mark.parametrize(("wish", "granted"), [(1, 1), (6, 6), (8, 8), (50, 8)])
def test_a_request_may_ask_for_more_at_once(wish: int, granted: int) -> None:
    download = Download(url=URL, concurrent_piece_count=wish)
    script = Script(length=40 * PIECE, download=download)
    names = tuple("abcdefghij")
    script.swarm(*names)
    for name in names:
        script.holds(name, *ALL)
    assert len(asked(script.effects)) == granted


def test_a_parent_bounded_by_delay_is_asked_for_several() -> None:
    script = busy_swarm("a")
    ((_, number),) = asked(script.effects)
    assert len(asked(script.stored("a", number, took_s=0.01))) == 4


def test_no_piece_is_asked_for_twice_or_when_held() -> None:
    script = busy_swarm(*NAMES)
    flying = asked(script.effects)
    seen = {number for _, number in flying}
    while flying:
        peer, number = flying.pop(0)
        for fetch in asked(script.stored(peer, number)):
            assert fetch[1] not in seen
            seen.add(fetch[1])
            flying.append(fetch)
    assert seen == set(ALL)


def test_parents_beyond_the_bound_are_not_connected() -> None:
    script = Script()
    script.begin()
    effects = script.name(*(f"p{i}" for i in range(40)))
    assert len(of(effects, ConnectParent)) == DownloadLimits().max_parents


def test_parents_that_have_nothing_more_make_room() -> None:
    script = Script(limits=DownloadLimits(max_parents=2))
    script.swarm("a", "b")
    script.ended("a")
    effects = script.name("b", "c")
    assert [e.parent.peer_id for e in of(effects, ConnectParent)] == ["c"]
    assert [e.peer_id for e in of(effects, DropParent)] == ["a"], "its streams end, too"


def test_a_parent_that_had_told_all_is_asked_again_when_named_again() -> None:
    script = Script()
    script.swarm("a", "b")
    script.ended("a")
    assert not of(script.name("a", "b"), ConnectParent), "repeated, with nothing asked for"
    script.ended("b", finished=False)
    script.ended("b", finished=False)
    assert [e.parent.peer_id for e in of(script.name("a"), ConnectParent)] == ["a"]


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [FailureReason.DIGEST, FailureReason.PROTOCOL])
def test_bad_bytes_are_blamed_and_fetched_elsewhere(reason: FailureReason) -> None:
    script = Script(length=PIECE)
    script.swarm("bad", "good")
    script.holds("bad", 0)
    script.holds("good", 0)
    effects = script.failed("bad", 0, reason)
    assert kinds(effects) == ["DropParent", "Send", "FetchPiece"]
    is_digest = reason is FailureReason.DIGEST
    failed = PieceFailed(parent_id="bad", number=0, temporary=True, wrong_digest=is_digest)
    assert messages(effects) == [failed]
    assert asked(effects) == [("good", 0)]
    assert script.name("bad") == []  # never again
    assert kinds(script.stored("good", 0))[-1] == "Complete"


def test_refused_leaves_the_parent_alone_for_a_moment_without_blame() -> None:
    script = Script(length=PIECE, limits=DownloadLimits(beside=False))
    script.swarm("a")
    script.holds("a", 0)
    pauses: list[float] = []
    for _ in range(8):
        before = script.now
        assert script.failed("a", 0, FailureReason.REFUSED) == []
        script.tick_until(FetchPiece)
        pauses.append(script.now - before)
    limits = DownloadLimits()
    assert pauses[0] <= limits.refused_avoid_s * 1.25
    assert pauses[-1] >= limits.refused_avoid_max_s * 0.75
    assert max(pauses) <= limits.refused_avoid_max_s * 1.25 + 0.02
    assert not of(script.effects, DropParent)


def test_refused_goes_elsewhere_at_once() -> None:
    script = Script(length=PIECE)
    script.swarm("a", "b")
    script.holds("a", 0)
    script.holds("b", 0)
    assert asked(script.failed("a", 0, FailureReason.REFUSED)) == [("b", 0)]


def test_not_found_forgets_that_it_holds_the_piece() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a", "b")
    ((_, number),) = asked(script.holds("a", 0, 1))
    other = 1 - number
    assert asked(script.failed("a", number, FailureReason.NOT_FOUND)) == [("a", other)]
    assert asked(script.holds("b", number)) == [("b", number)]


def test_whoever_offers_what_it_never_has_is_blamed_in_the_end() -> None:
    script = Script(length=PIECE)
    script.swarm("liar", "slow")
    for _ in range(DownloadLimits().max_not_found):
        assert asked(script.holds("liar", 0)) == [("liar", 0)]
        assert script.failed("liar", 0, FailureReason.NOT_FOUND) == []
    script.holds("liar", 0)
    effects = script.failed("liar", 0, FailureReason.NOT_FOUND)
    assert kinds(effects) == ["DropParent", "Send"]


@pytest.mark.parametrize("reason", [FailureReason.UNREACHABLE, FailureReason.TIMEOUT])
def test_two_strikes_in_a_row_drop_a_parent(reason: FailureReason) -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a", "b")
    ((_, number),) = asked(script.holds("a", 0, 1))
    assert script.failed("a", number, reason) == []
    again = script.tick_until(FetchPiece)
    effects = script.failed("a", again.number, reason)
    assert kinds(effects) == ["DropParent", "Send"]
    assert messages(effects) == [PieceFailed(parent_id="a", number=again.number, temporary=True)]


def test_a_piece_in_between_forgives_a_strike() -> None:
    script = Script(length=5 * PIECE)
    script.swarm("a", "b")
    ((_, number),) = asked(script.holds("a", 0, 1, 2))
    script.failed("a", number, FailureReason.TIMEOUT)
    fetch = script.tick_until(FetchPiece)
    ((_, number),) = asked(script.stored("a", fetch.number))
    script.failed("a", number, FailureReason.TIMEOUT)
    assert not of(script.effects, DropParent)


def in_flight(script: Script) -> int:
    """Pieces that were asked for and have not come."""
    asked_for = {(one.peer_id, one.number) for one in of(script.effects, FetchPiece)}
    return len(asked_for) - len([m for m in script.said if isinstance(m, PieceFinished)])


def many_parents(limits: DownloadLimits, length: int, wish: int | None = None) -> Script:
    """As many parents as may bring something at once, and all hold everything."""
    download = Download(url=URL, concurrent_piece_count=wish)
    script = Script(length=length, limits=limits, download=download)
    names = [f"p{number}" for number in range(12)]
    script.swarm(*names)
    for name in names:
        script.holds(name, *range(length // PIECE))
    return script


@pytest.mark.parametrize(("widen", "expected"), [(True, 8), (False, 4)])
def test_of_many_pieces_twice_as_many_are_on_their_way(widen: bool, expected: int) -> None:
    assert in_flight(many_parents(DownloadLimits(widen=widen), 256 * PIECE)) == expected
    assert in_flight(many_parents(DownloadLimits(widen=widen), 255 * PIECE)) == 4


def test_a_request_that_says_how_many_gets_so_many() -> None:
    assert in_flight(many_parents(DownloadLimits(), 256 * PIECE, wish=3)) == 3


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ((0.02, 0.03, 0.05, 0.02), 8),  # no first byte came sooner than a long round trip takes
        ((0.02, 0.03, 0.004, 0.02), 4),  # a short one behind queues
        ((0.02, 0.03, 0.05), 4),  # too few to say
    ],
)
def test_where_round_trips_are_long_twice_as_many_are_on_their_way(
    waits: tuple[float, ...], expected: int
) -> None:
    script = many_parents(DownloadLimits(), 100 * PIECE)
    for wait_s, fetch in zip(waits, of(script.effects, FetchPiece), strict=False):
        script.now += 0.2
        piece = piece_of(fetch.number, script.length)
        script(PieceStored(peer_id=fetch.peer_id, piece=piece, wait_s=wait_s))
    assert in_flight(script) == expected


def test_who_has_another_parent_would_rather_be_refused() -> None:
    alone, in_company = Script(), Script()
    waits = Script(limits=DownloadLimits(impatient=False))
    for script in (alone, in_company, waits):
        script.swarm("a", "b")
    for script in (in_company, waits):
        script.holds("b", 3)
    fetches = [of(s.holds("a", 0, 1), FetchPiece)[-1] for s in (alone, in_company, waits)]
    assert [fetch.is_patient for fetch in fetches] == [True, False, True]


def test_what_a_seed_gives_to_others_is_left_to_them_and_something_else_asked_for() -> None:
    script = Script(length=4 * PIECE)
    script.swarm("peer", seeds=("seed",))
    (first,) = of(script.holds("seed", 0, 1, 2, 3), FetchPiece)
    assert first.is_exclusive
    others = tuple(n for n in range(4) if n != first.number)
    given = PieceNotFetched(
        peer_id="seed",
        number=first.number,
        reason=FailureReason.GIVEN,
        given=(first.number, *others[:2], 77),
    )
    (second,) = of(script(given), FetchPiece)
    assert (second.peer_id, second.number) == ("seed", others[2])


def test_what_is_given_to_others_is_asked_for_again_after_a_moment() -> None:
    limits = DownloadLimits(beside=False)
    script = Script(length=PIECE, limits=limits)
    script.swarm("peer", seeds=("seed",))
    script.holds("seed", 0)
    since = script.now
    given = PieceNotFetched(peer_id="seed", number=0, reason=FailureReason.GIVEN, given=(0,))
    exclusive: list[bool] = []
    while script.now < since + limits.given_patience_s:
        assert asked(script(given)) == []
        before = script.now
        fetch = script.tick_until(FetchPiece)
        assert script.now - before == pytest.approx(limits.given_pause_s)
        exclusive.append(fetch.is_exclusive)
    assert exclusive == [True] * (len(exclusive) - 1) + [False]


def test_a_fetch_that_nobody_answers_counts_as_a_timeout() -> None:
    script = Script(length=2 * PIECE, limits=DownloadLimits(beside=False))
    script.swarm("a", "b")
    ((_, number),) = asked(script.holds("a", 0, 1))
    assert script.tick_until(CancelPiece) == CancelPiece(
        peer_id="a", number=number, reason=CancelReason.TIMEOUT
    )
    assert script.tick_until(FetchPiece).peer_id == "a"
    assert script.tick_until(DropParent).peer_id == "a"


def test_a_parent_leaves_once_however_many_of_its_fetches_are_overdue_at_a_moment() -> None:
    """A clock that jumps makes them all overdue at once."""
    script = Script(length=40 * PIECE)
    script.swarm("a", "b")
    ((_, number),) = asked(script.holds("a", *ALL))
    assert len(asked(script.stored("a", number, took_s=0.01))) == 4
    script.now += 3600.0
    effects = script(Ticked())
    assert [e.peer_id for e in of(effects, DropParent)] == ["a"]
    assert len([m for m in messages(effects) if isinstance(m, PieceFailed)]) == 1


def test_cancelled_by_the_driver_is_asked_again_later() -> None:
    script = Script(length=PIECE)
    script.swarm("a")
    script.holds("a", 0)
    assert script.failed("a", 0, FailureReason.CANCELLED) == []
    assert script.tick_until(FetchPiece).number == 0


def test_what_comes_of_a_stopped_fetch_after_all_ends_the_one_that_was_begun_instead() -> None:
    script = Script(length=PIECE, limits=DownloadLimits(beside=False))
    script.swarm("a")
    script.holds("a", 0)
    assert script.tick_until(CancelPiece).reason is CancelReason.TIMEOUT
    assert script.tick_until(FetchPiece).number == 0
    effects = script.stored("a", 0)
    assert of(effects, CancelPiece) == [
        CancelPiece(peer_id="a", number=0, reason=CancelReason.HEDGED)
    ]


def test_a_list_that_breaks_is_opened_once_more() -> None:
    script = Script()
    script.swarm("a", "b")
    script.ended("a", finished=False)
    assert script.tick_until(ConnectParent).parent.peer_id == "a"
    effects = script.ended("a", finished=False)
    assert kinds(effects) == ["DropParent", "Send"]


def test_losing_every_parent_reports_and_asks_for_others() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.holds("a", 0, 1)
    effects = script.failed("a", asked(script.effects)[0][1], FailureReason.DIGEST)
    assert kinds(messages(effects)) == ["PieceFailed", "Reschedule"]
    reschedule = messages(effects)[1]
    assert isinstance(reschedule, Reschedule)
    assert reschedule.parent_ids == ("a",)


def test_a_dropped_parent_may_be_named_again() -> None:
    script = Script(length=2 * PIECE)
    script.swarm("a")
    script.ended("a", finished=False)
    script.tick_until(ConnectParent)
    script.ended("a", finished=False)
    assert [e.parent.peer_id for e in of(script.name("a"), ConnectParent)] == ["a"]


def test_a_piece_from_a_dropped_parent_counts_all_the_same() -> None:
    script = Script(length=PIECE)
    script.swarm("a")
    script.holds("a", 0)
    script.failed("a", 0, FailureReason.PROTOCOL)
    assert kinds(script.stored("a", 0))[-1] == "Complete"


# --- several downloads of one daemon --------------------------------------------------------------


@pytest.mark.parametrize(("others", "expected"), [(0, 4), (1, 2), (2, 2), (3, 1), (7, 1), (50, 1)])
def test_downloads_that_go_on_at_once_share_what_is_in_flight(others: int, expected: int) -> None:
    budget = Budget()
    for _ in range(others):
        budget.begun()
    script = busy_swarm(*"abcdefgh", budget=budget)
    assert len(asked(script.effects)) == expected


def test_a_crowd_does_not_matter_where_pieces_are_quick() -> None:
    budget = Budget()
    for _ in range(7):
        budget.begun()
    script = busy_swarm(*"abcdefgh", budget=budget)
    ((who, number),) = asked(script.effects)
    assert len(asked(script.stored(who, number, took_s=0.0))) == 4


def test_sharing_can_be_switched_off() -> None:
    budget = Budget()
    for _ in range(7):
        budget.begun()
    script = busy_swarm(*"abcdefgh", limits=DownloadLimits(share_slots=False), budget=budget)
    assert len(asked(script.effects)) == 4


def test_a_request_that_says_how_many_gets_them_in_a_crowd() -> None:
    budget = Budget()
    for _ in range(7):
        budget.begun()
    download = Download(url=URL, concurrent_piece_count=3)
    script = busy_swarm(*"abcdefgh", budget=budget, download=download)
    assert len(asked(script.effects)) == 3


# --- late transfers -------------------------------------------------------------------------------


def slow_end(limits: DownloadLimits | None = None) -> tuple[Script, str, str]:
    """One piece is left, on its way from a parent that does not bring it; another is free."""
    script = Script(length=3 * PIECE, limits=limits)
    script.swarm("a", "b")
    script.holds("a", 0, 1, 2)
    script.holds("b", 0, 1, 2)
    flying = asked(script.effects)
    fast = flying[0][0]
    slow = flying[1][0]
    (follow_up,) = asked(script.stored(fast, flying[0][1]))
    script.stored(*follow_up)
    return script, slow, fast


def test_hedge_asks_a_second_holder_and_the_first_one_wins() -> None:
    script, slow, fast = slow_end()
    second = script.tick_until(FetchPiece)
    assert second.peer_id == fast
    effects = script.stored(fast, second.number)
    hedged = CancelPiece(peer_id=slow, number=second.number, reason=CancelReason.HEDGED)
    assert hedged in effects
    assert kinds(effects)[-1] == "Complete"


@pytest.mark.parametrize(("share", "is_hedged"), [(0.1, True), (0.9, False)])
def test_at_the_end_a_piece_that_needs_another_mean_is_asked_of_a_second_holder(
    share: float, is_hedged: bool
) -> None:
    """Pieces took 0.2 to 0.4 s; the last is looked at after `min_slow_s`."""
    script, slow, _ = slow_end()
    look = script.tick_until(AskProgress)
    began_s = 0.5
    number, received = look.number, round(share * PIECE)
    told = PieceProgress(peer_id=slow, number=number, began_s=began_s, received=received)
    assert bool(asked(script(told))) is is_hedged


def test_hedge_that_loses_is_cancelled() -> None:
    script, slow, fast = slow_end()
    second = script.tick_until(FetchPiece)
    effects = script.stored(slow, second.number)
    hedged = CancelPiece(peer_id=fast, number=second.number, reason=CancelReason.HEDGED)
    assert hedged in effects
    assert (
        script(PieceNotFetched(peer_id=fast, number=second.number, reason=FailureReason.CANCELLED))
        == []
    )


def test_hedge_can_be_switched_off() -> None:
    limits = DownloadLimits(hedge=False, replace_slow=False, beside=False)
    script, _, _ = slow_end(limits)
    assert isinstance(script.tick_until(CancelPiece), CancelPiece)  # only its timeout ends it
    assert script.now > 160


def test_late_transfer_is_replaced_when_all_slots_are_taken() -> None:
    limits = DownloadLimits(concurrent_piece_count=2)
    script = busy_swarm("a", "b", "c", limits=limits)
    flying = dict(asked(script.effects))
    slow, stuck = next(iter(flying.items()))
    fast, number = next((p, n) for p, n in flying.items() if p != slow)
    replaced: list[CancelPiece] = []
    for _ in range(20):
        script.now += 0.1
        effects = script.stored(fast, number)
        replaced += of(effects, CancelPiece)
        if replaced:
            break
        ((fast, number),) = asked(effects)
    assert replaced == [CancelPiece(peer_id=slow, number=stuck, reason=CancelReason.LATE)]
    assert stuck in {n for p, n in asked(script.effects) if p != slow}


@pytest.mark.parametrize("share", [0.95, 0.2])
def test_a_late_transfer_is_stopped_only_if_a_new_one_would_be_there_sooner(share: float) -> None:
    """It was asked how far it is, and says so."""
    limits = DownloadLimits(concurrent_piece_count=2)
    script = busy_swarm("a", "b", "c", limits=limits)
    flying = dict(asked(script.effects))
    slow, stuck = next(iter(flying.items()))
    fast, number = next((p, n) for p, n in flying.items() if p != slow)
    began_at, asked_for = script.now, list[AskProgress]()
    while not asked_for:
        script.now += 0.1
        effects = script.stored(fast, number)
        assert not of(effects, CancelPiece)
        ((fast, number),) = asked(effects)
        asked_for = [e for e in of(effects, AskProgress) if e.number == stuck]
        assert script.now < began_at + 5.0
    assert asked_for == [AskProgress(peer_id=slow, number=stuck)]
    took_s = script.now - began_at
    told = PieceProgress(peer_id=slow, number=stuck, began_s=took_s, received=round(share * PIECE))
    stopped = [e for e in of(script(told), CancelPiece) if e.number == stuck]
    assert bool(stopped) is (share < 0.5)
    left_s = took_s * (1 - share) / share
    assert share < 0.5 or not of(script.wait(left_s), CancelPiece)
    if share > 0.5:  # it said so, and did not keep its word
        assert isinstance(script.tick_until(AskProgress), AskProgress)


def test_a_late_transfer_is_stopped_unasked_if_none_is_to_be_spared() -> None:
    limits = DownloadLimits(concurrent_piece_count=2, spare_late=False)
    script = busy_swarm("a", "b", "c", limits=limits)
    flying = dict(asked(script.effects))
    slow = next(iter(flying))
    fast, number = next((p, n) for p, n in flying.items() if p != slow)
    stopped = list[CancelPiece]()
    while not stopped:
        effects = script.stored(fast, number)
        assert not of(effects, AskProgress)
        stopped = of(effects, CancelPiece)
        assert script.now < 110.0
        fast, number = next((p, n) for p, n in asked(effects) if p != slow)
    assert [one.peer_id for one in stopped] == [slow]


# --- readers --------------------------------------------------------------------------------------


def test_the_piece_a_reader_waits_for_goes_first_and_alone() -> None:
    script = Script(length=40 * PIECE)
    script.begin()
    script.name("a", "b", "c", "d")
    script.connect("a", "b", "c", "d")
    script(ReaderWaiting(number=17))
    first = asked(script.holds("a", *ALL))
    assert first == [("a", 17)]
    others = [n for p in "bcd" for _, n in asked(script.holds(p, *ALL))]
    assert others != [18, 19, 20]  # one piece is the reader's, the rest goes by rarity


def test_the_readers_next_piece_is_the_lowest_that_is_missing() -> None:
    script = Script(length=40 * PIECE)
    script.swarm("a")
    script(ReaderWaiting(number=3))
    assert asked(script.holds("a", *ALL)) == [("a", 3)]
    assert asked(script.stored("a", 3)) == [("a", 4)]
    script(ReaderWaiting(number=None))
    later = [asked(script.stored("a", 4))[0][1]]
    for _ in range(3):
        later.append(asked(script.stored("a", later[-1]))[0][1])
    assert later != [5, 6, 7, 8]


def test_a_seed_is_asked_out_of_turn_only_for_a_patient_reader() -> None:
    script = Script(length=40 * PIECE, limits=DownloadLimits(concurrent_piece_count=1))
    script.swarm("peer", seeds=("seed",))
    script(ReaderWaiting(number=0))
    ((who, number),) = asked(script.holds("seed", *ALL))
    assert (who, number) != ("seed", 0)
    script.now += DownloadLimits().reader_patience_s
    assert asked(script.stored("seed", number)) == [("seed", 0)]


def test_a_seed_alone_serves_a_reader_at_once() -> None:
    script = Script(length=40 * PIECE)
    script.swarm(seeds=("seed",))
    script(ReaderWaiting(number=0))
    assert asked(script.holds("seed", *ALL)) == [("seed", 0)]


def test_load_is_listened_to() -> None:
    script = Script(
        length=400 * PIECE, limits=DownloadLimits(concurrent_piece_count=1, widen=False)
    )
    script.swarm("idle", "full")
    for name, used in (("idle", 0.0), ("full", 1e9)):
        load = ParentLoad(peer_id=name, max_rate_bytes_per_s=1e9, used_rate_bytes_per_s=used)
        assert script(load) == []
    script.holds("full", *range(400))
    script.holds("idle", *range(400))
    counts = {"idle": 0, "full": 0}
    ((who, number),) = asked(script.effects)
    for _ in range(300):
        ((who, number),) = asked(script.stored(who, number))
        counts[who] += 1
    assert counts["idle"] > 2 * counts["full"] > 0


# --- parts of gateways ----------------------------------------------------------------------------

TOOK_S = 0.1


def gateway(**limits: object) -> Script:
    """The first of two gateways, whose one parent is far and holds all pieces."""
    script = Script(
        length=40 * PIECE,
        limits=DownloadLimits(**{"beside": False, **limits}),  # type: ignore[arg-type]  # the caller names fields
        idc="here",
    )
    script.begin()
    script.answer(NormalTask(parents=(far_parent("far"),)))
    script.answer(FarShare(index=0, count=2))
    script.connect("far")
    return script


def far_parent(name: str) -> Parent:
    parent = parent_of(name)
    return replace(parent, host=replace(parent.host, idc="there"))


def fetched(script: Script, effects: list[DownloadEffect], n_pieces: int) -> list[int]:
    """The pieces that come one after the other until so many have come or nothing is asked for."""
    numbers = [number for _, number in asked(effects)]
    for place in range(n_pieces):
        if place == len(numbers):
            break
        numbers += [number for _, number in asked(script.stored("far", numbers[place], TOOK_S))]
    return numbers[:n_pieces]


def test_a_gateway_fetches_its_part_and_waits_a_while_for_the_other_one() -> None:
    script = gateway()
    numbers = fetched(script, script.holds("far", *range(40)), 40)
    assert set(numbers) == set(range(0, 40, 2))
    waits_s = DownloadLimits().far_help_after * 20 * TOOK_S
    assert not asked(script.wait(waits_s - 0.1))
    assert len(asked(script.wait(0.2))) == 1


def helped(script: Script) -> list[int]:
    """It fetches its part, and as much of the other one as it may."""
    numbers = fetched(script, script.holds("far", *range(40)), 40)
    return numbers + fetched(
        script, script.wait(DownloadLimits().far_help_after * 20 * TOOK_S + 0.1), 40
    )


def test_a_gateway_that_helps_leaves_a_little_to_the_other_one() -> None:
    assert len(helped(gateway())) == 40 - DownloadLimits().help_above


def test_after_a_while_without_anything_the_other_gateway_is_given_up() -> None:
    script = gateway()
    numbers = helped(script)
    patience_s = DownloadLimits().far_patience_s
    assert not asked(script.wait(patience_s - 0.1))
    effects = script.wait(0.2)
    assert len(asked(effects)) >= 1
    rest = fetched(script, effects, 40)
    assert sorted(numbers + rest) == list(range(40))


def test_who_was_given_up_is_not_waited_for_again_until_it_is_told_anew() -> None:
    script = gateway()
    script.holds("far", 1, 3)
    assert set(fetched(script, script.wait(2.1), 2)) == {1, 3}
    assert asked(script.holds("far", 5))
    script.stored("far", 5)
    script.answer(FarShare(index=0, count=2))
    assert fetched(script, script.holds("far", 4, 5), 2) == [4]


def test_a_part_that_is_told_in_the_beginning_is_not_given_up_at_once() -> None:
    script = gateway()
    assert not asked(script.holds("far", 1, 3, 5))
    assert asked(script.holds("far", 8)) == [("far", 8)]


def test_nobody_is_given_up_as_long_as_there_is_nothing_to_fetch() -> None:
    """A source may take many seconds to open."""
    script = gateway()
    script.wait(10.0)
    assert not asked(script.holds("far", 1, 3))
    assert asked(script.wait(2.1))


def test_a_part_that_is_all_is_none() -> None:
    script = gateway()
    script.answer(FarShare(index=0, count=1))
    assert asked(script.holds("far", 1)) == [("far", 1)]


def test_parts_can_be_switched_off() -> None:
    script = gateway(far_shares=False)
    assert asked(script.holds("far", 1)) == [("far", 1)]
