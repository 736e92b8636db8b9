"""Every number that bounds or steers a download, each with its reason. No behaviour.

The daemon builds one from its settings; tests and the simulator take the defaults. Times are
seconds, lengths bytes, rates bytes per second.
"""

from __future__ import annotations

from typing import Literal

from odonata.piece import MIB, PIECE_LENGTH_MIN
from odonata.wire.message import Value


class DownloadLimits(Value, frozen=True, kw_only=True):
    """Bounds of one download."""

    least_piece_length: int = PIECE_LENGTH_MIN
    """Of a content whose pieces nobody has cut yet. Few large ones spread slowly where they must be
    whole before they go on; but stock peers cut by Dragonfly's rule."""

    # --- how much at once ---------------------------------------------------------------------
    concurrent_piece_count: int = 4
    """Pieces in flight from parents. Four fill a link of a few ms delay; more only make each piece
    finish later, so that it can be passed on later (swarm study: 8 -> 4 is worth 13 %)."""
    max_concurrent_piece_count: int = 8
    """What a request may raise it to: what Dragonfly's client uses, enough for 50 ms of delay."""
    impatient: bool = True
    """Would rather be refused than wait for a slot, while another parent has missing pieces (ADR
    24: p99 in five of six worlds, by up to a quarter). Parents that are not ours let it wait."""
    widen: bool = True
    """Have twice as many in flight, up to that, where round trips are long or pieces are many,
    unless the request says how many (swarm study, 5 ms of delay, 256 pieces: 1.19 -> 1.10 times the
    bound; 50 ms: 1.71 -> 1.17)."""
    wide_round_trip_s: float = 0.01
    """Long: so much from the question to the first byte, at best..."""
    wide_after_pieces: int = 4
    """...of so many pieces at least."""
    wide_piece_count: int = 256
    """Many."""
    share_slots: bool = True
    """All downloads of a daemon together have as many in flight as one of them, and each at least
    one, unless pieces are quick (below) or the request says how many. They share one link, and a
    short content beside three long ones would get an eighth of it, or less. (300 files of 1 KiB to
    4 MiB, four at a time: the median file 0.97 -> 0.57 s.)"""
    ask_early: bool = True
    """Who has all of a content of one piece, as the scheduler says, is asked for it together with
    its facts and its list: a file that is short costs two round trips instead of three, and on full
    links each of them stands in two queues."""
    ask_ahead: bool = True
    """A seed that was met before is asked for a short content at once, and not only when the
    scheduler has named it: then the two questions wait in the same full links at the same time."""
    pieces_per_parent: int = 1
    """In flight from one parent. Two from one uplink finish no earlier than one after the other."""
    quick_piece_s: float = 0.1
    """A parent whose pieces take less than this is bounded by delay, not by rate..."""
    quick_pieces_per_parent: int = 4
    """...so several may be in flight from it. 0.1 s is ten round trips of a wide-area network."""
    pass_on: bool = True
    """Where a seed is scarce, ask a parent for what it is being sent itself and nobody near has: it
    need not be whole before it goes on (`passing`). (16 peers and a seed as thin, 64 pieces: 1.22
    -> 1.12 times the bound; 16 pieces: 1.90 -> 1.23.)"""
    passed_on_per_parent: int = 2
    """In flight of such pieces from one parent..."""
    max_passed_on: int = 8
    """...and in all, beside those that parents have: they come no faster than they are sent to the
    parent, so they leave room on any link."""
    pass_pause_s: float = 0.5
    """A parent that passes on as many as it can is not asked for more such pieces for so long; it
    doubles with each refusal in a row, as other refusals do."""
    passed_on_patience: float = 4.0
    """Times as long as else may such a piece take: its parent shares an uplink with others, too."""
    rest: bool = True
    """A host whose uplink gives way while it downloads gives nothing for a while (`uplink`)."""
    max_parents: int = 16
    """Connected at once. The scheduler names up to 8; the rest is room for its top-ups."""

    few_first: bool = True
    """Connect no more parents than the content has pieces, until something goes wrong: a file of
    one piece needs one of eight, and each of them costs three calls."""
    reserve_patience_s: float = 0.5
    """Something has gone wrong when so long after the first were named something is not there..."""
    reserve_patience_max_s: float = 4.0
    """...nor on its way. If all is on its way, after this: full links, with a queue in front of
    each of them, and a turn in a parent's queue take a second or two."""

    # --- parents that do not do as they should ------------------------------------------------
    refused_avoid_s: float = 0.25
    """First pause after a refusal (no free slot): about the time of a piece on a fast link."""
    refused_avoid_max_s: float = 4.0
    """It doubles with each refusal in a row, up to this."""
    strike_avoid_s: float = 1.0
    """Pause after a connection that failed: a restart of the other side's network stack."""
    max_strikes: int = 2
    """Failures in a row (unreachable, timed out) before a parent is dropped and reported."""
    max_not_found: int = 8
    """Pieces a parent may offer and then not have before its word counts for nothing."""
    reconnect_s: float = 1.0
    """Pause before the streams to a parent are opened once more after they broke."""
    max_parent_memory: int = 1024
    """Blamed parents that are remembered; a task has rarely more peers on our path than that."""
    max_piece_count: int = 262_144
    """Highest number a parent may offer while the length is unknown: 1 TiB in pieces of 4 MiB."""
    piece_timeout_s: float = 30.0
    """One piece from one parent: this long for its delays..."""
    slowest_rate_bytes_per_s: float = 128 * 1024.0
    """...plus its length at this rate. Slower than a modem is as good as not at all: 4 MiB get 62 s
    and 64 MiB 542 s, on either side of Dragonfly's flat 360 s."""
    guard_s: float = 5.0
    """How much later the core itself gives up on an answer that the driver owes it."""
    meta_interval_s: float = 0.5
    """At most this often is a parent asked again for the length."""

    # --- proof --------------------------------------------------------------------------------
    ask_pieces: int = 8
    """After so many pieces of which no digest is known, the scheduler is asked for them: one
    question for eight reports of pieces, which it gets anyway..."""
    ask_interval_s: float = 0.5
    """...or after so long, if there are fewer. What has come unproved meanwhile is read again."""
    digest_patience_s: float = 1.0
    """Longest wait for a last answer at the end. The scheduler answers in a round trip; if it does
    not, the content is as good as it is without the list."""
    check_patience_s: float = 60.0
    """Longest wait for the driver to read what is held again: this long for its delays..."""
    slowest_disk_bytes_per_s: float = 4 * MIB
    """...plus the length at this rate. What is slower is broken, and the download ends."""
    verify_whole: bool = True
    """Check a whole content against the digest that its URL or its user names, before the end."""

    # --- choice -------------------------------------------------------------------------------
    order: Literal["rarest", "ascending"] = "rarest"
    """Which piece first. Ascending is what Dragonfly's client does, for comparison: every peer asks
    the seed for the same (swarm study: 1.3 -> 5.8 times the bound)."""
    first: Literal["parent", "piece"] = "parent"
    """What is chosen first: a parent and then a piece it holds, or a piece and then a holder of it
    (Dragonfly's client)."""
    weight: Literal["measured", "told"] = "measured"
    """How parents are weighted: by what they gave and what they say, or by what they say alone
    (Dragonfly's client)."""
    goodput_memory: float = 0.3
    """Weight of the newest piece in a parent's measured goodput: the last five or so count."""
    seed_once: bool = True
    """Ask a scarce seed only for what no other parent holds, while something else is in flight."""
    exclusive: bool = True
    """And rather hear that it is being given to somebody else than get a second copy of it."""
    given_pause_s: float = 0.5
    """What is given to somebody else is not asked for again for so long: about what the news of a
    piece takes from child to child. (Simulated behind a thin seed: 0.2, 0.5 and 1 s are the same.)
    """
    given_patience_s: float = 10.0
    """Who has nothing on its way asks for a piece whoever else gets it, so long after it heard at
    first that somebody does. Half of what counts as a stall; no parent can starve a child longer.
    """
    far_once: bool = True
    """Ask a parent in another data centre only for what no near one holds, and for the rest as the
    patience below says; False: like a near one."""
    far_patience_s: float = 2.0
    """A parent in another data centre is asked for what near ones hold only after nothing has been
    on its way for so long: longer than near ones refuse or avoid somebody for a moment."""
    far_in_earnest: bool = True
    """What is late from a near parent, a far one is asked for only once it has taken `slow_factor`
    times the mean: at the end, where one mean is late, gateways are late more often than not."""
    far_shares: bool = True
    """As one of several gateways, fetch from other data centres the part that the scheduler tells
    (simulated, two data centres of eight peers, 128 pieces: 1.12 -> 1.02 copies cross the link, and
    1.33 -> 1.22 where uplinks are uneven, with the same p99)."""
    help_above: int = 16
    """Another gateway is helped with its part, when one's own is done, only while more of it than
    this is held by nobody near: fewer are on their way to it anyway. (Never to help: 1.00 copies,
    but the p99 rises from 1.08 to 1.13 times the bound, uneven from 1.20 to 1.30.)"""
    far_help_after: float = 0.5
    """And not before so much of the time that one's own part took has passed since (`far_part`)."""
    reader_order: bool = True
    """A piece that a reader waits for goes out of turn: ascending, as he reads."""
    reader_patience_s: float = 1.0
    """A reader's next piece is asked from a seed out of turn only after it waited this long, if
    there are other parents: if all peers ask a thin seed for the same piece, the swarm runs at its
    pace (swarm study: 1.3 -> 3.2 times the bound)."""
    reader_given_patience_s: float = 3.0
    """And whoever else gets it only after so long. What others were given is there in one or two
    seconds; from one who is slow it comes late, and a reader has nothing else to wait for."""
    hedge: bool = True
    """Ask a second holder for a piece that is late, when nothing else is left to ask for."""
    replace_slow: bool = True
    """Stop a transfer that is late when another parent could bring the piece."""
    slow_factor: float = 4.0
    """Late: this many times this download's own mean. A transfer that has taken four means may be
    expected to take as long again, which is what the swarm study's rule asks for."""
    spare_late: bool = True
    """But not if it will be there sooner than from another, by how far it is: what has come of it
    would be lost. (`staggered` on real links: three pieces of 64 for some hosts.)"""
    end_factor: float = 1.0
    """At the end, when nothing else is left to ask for, it is enough to take one mean, and to need
    another one by how far it is: one piece from a busy parent holds up a whole content."""
    slow_avoid_s: float = 2.0
    """A parent that was replaced is left alone for so long (swarm study)."""
    min_slow_s: float = 0.5
    """Below this nothing is late: on fast links a mean is milliseconds, and a hiccup no reason."""
    hopeless_factor: float = 10.0
    """A parent is past hope when it has brought nothing for this many times as long as a piece
    takes, from it or in this download, whichever is longer..."""
    hopeless_s: float = 3.0
    """...and for at least so long..."""
    begun_factor: float = 2.0
    """...and has been sending the piece for this many times as long as a whole one takes: it is not
    its queue that takes so long..."""
    begun_s: float = 0.25
    """...and for at least so long. Half of what makes a piece late, for then it may be stopped."""
    crawl_factor: float = 10.0
    """Or it is when for `hopeless_s` it has sent at less than this part of what it used to give,
    and is the only one that does."""
    look_s: float = 1.0
    """Of a transfer older than this the driver is asked how far it is, and again every so often."""
    hopeless_after_pieces: int = 4
    """Pieces that came from parents before anybody is found past hope: the mean of fewer says
    little. Besides, at least one must have come from the parent itself."""
    busy_share: float = 0.5
    """A parent that says it sends this much of what it used to give us is busy with others..."""
    busy_word_s: float = 3.0
    """...if it said so no longer ago than this: parents tell their load every second."""
    hopeless_avoid_s: float = 10.0
    """How long it is left alone, and the scheduler not told of it again."""
    max_replacements: int = 2
    """Of one piece; then its transfer runs to its end or its timeout, so that it comes at all."""

    # --- the scheduler ------------------------------------------------------------------------
    schedule_timeout_s: float = 60.0
    """Longest wait for an answer, then the source. A scheduler that has no parent to name waits
    until a seed has opened the source, which takes a slow registry tens of seconds."""
    max_schedule_count: int = 5
    """Answers in a row that brought not one piece; then the source (Dragonfly's number)."""
    stall_timeout_s: float = 20.0
    """Nothing in flight and nothing to ask for: how long to hope that a parent gets more."""
    report_timeout_s: float = 10.0
    """Longest wait for the answer when a whole task is reported: nobody waits for it but us."""
    small_content_bytes: int = 4 * MIB
    """Under a scheduler that is not ours: what is no longer than this is not worth asking it, and
    its other clients do not either (Dragonfly's rule)."""

    scheduler_patience_s: float = 16.0
    """Longest wait for a scheduler that was lost, while no parent brings anything; then the source.
    Each download draws between half of it and all. A restart takes 2 to 5 s, and finding the new
    one as long again on a busy machine; and the first that goes to the source serves the others
    before their own patience ends."""
    search_pause_s: float = 0.5
    """Before another scheduler is looked for, at most: peers of one burst come one after the other.
    It doubles with each loss in a row..."""
    search_pause_max_s: float = 4.0
    """...up to this."""
    max_registrations: int = 16
    """Schedulers lost in one download before no more is looked for: something else is wrong."""
    max_held_report: int = 4096
    """Pieces that a download in its middle tells a scheduler it holds: a content of 16 GiB, and
    half of what may wait to be sent. More would only tell it what it can guess."""

    # --- the source ---------------------------------------------------------------------------
    source_streams: int = 4
    """Requests at once to the source at most, where more than one pay (`source_streams`). Four
    connections of those that are limited one by one fill the links of most seeds."""
    source_attempts: int = 4
    """Failures in a row, without one piece in between, before the source is given up."""
    source_backoff_s: float = 0.5
    """Pause after the first failure; doubles. Four attempts take about 4 s: a restart of a proxy in
    front of a registry, not an outage."""
    source_backoff_max_s: float = 8.0
    source_silence_s: float = 600.0
    """The driver has its own, shorter timeouts; this one only makes sure that a download ends. It
    must outlast one 64 MiB piece at 128 KiB/s."""

    beside: bool = True
    """Ask the source beside the swarm if nothing comes from peers within the budget (`beside`)."""
    beside_unanswered_s: float = 10.0
    """But leave it at least so long to a scheduler that has named nobody yet: it may be waiting for
    a seed to open the source, which takes a registry a second as a rule, or be holding a burst back
    until the first of it have begun; or it has just been started, and is being told who holds what.
    Between so long and twice that, drawn. (With 3 s, of 52 downloads over a scheduler's restart on
    two busy cores some went to the source for nothing.)"""
    beside_alive_s: float = 20.0
    """And so long to parents that are at work, for others: behind a seed as thin as a peer, the
    last of 200 has its first byte after 20 s (simulated). Between so long and twice that, drawn."""
    beside_ahead: int = 2
    """Pieces that the source claims: the one it brings, and one more, so that it need not stop when
    that is there. All others the parents may bring."""

    fellow_patience_s: float = 5.0
    """How long another seed, that fetches a part of the same content, may be silent before its part
    is taken over. A source is opened in less; and what was taken over for nothing is fetched twice.
    """
    fellow_call_s: float = 2.0
    """How long the first seed, when its own part is done, leaves the others' to them although none
    was named yet. They have the same source to open as it had, and a call and a registration."""
    fellow_patience_pieces: float = 4.0
    """And at least as long as so many pieces take from the source: it may have to wait there."""

    # --- the clock ----------------------------------------------------------------------------
    min_wake_s: float = 0.01
    """No timer is nearer than this: a bound on the work of a wrong deadline."""
