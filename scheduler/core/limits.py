"""Every number the scheduler's core obeys, each with its reason. Nothing here reads a setting.

The runtime builds one `Limits` from its settings and hands it to `SchedulerCore`. Times are
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from odonata.piece import SHARE_PIECES_MIN
from scheduler.core.graph import GraphKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one scheduler. The defaults are Dragonfly's unless the line says otherwise."""

    # --- choosing parents ---
    graph: GraphKind = GraphKind.MESH
    """Whether two peers of ours may feed each other (see `graph`)."""
    candidate_parent_limit: int = 3
    """Parents in one answer to a stock peer, as in Dragonfly's code (its documents say 4). Its
    clients use them all at once, and each further one costs the seed another copy (swarm study:
    3.0 copies with 3 parents, and 4.15, 5.0, 8.9 times the bound with 3, 4, 8)."""
    mesh_parent_limit: int = 8
    """Parents of a peer of ours in a mesh (swarm study: 5 to 20 differ by 5 %; a DAG with more than
    4 is worse than with 3)."""
    spare_parents: int = 2
    """Of a content of few pieces so many more than it has pieces: a file of one needs one parent,
    and each that is named is 0.4 KB, an edge, and a review until all places are taken."""
    review_interval_s: float = 1.0
    """How often the parents of a peer of ours are looked at anew (swarm study: 0.5 to 1 s)."""
    hungry_interval_s: float = 0.25
    """How soon one that has fewer parents than it may have is looked at once others joined: in a
    burst the first come when there is nobody yet but a seed, and a few arrivals make one review."""
    reviews_per_tick: int = 64
    """Reviews at a time, then a pause (`review.PAUSE_S`): of more peers each is looked at less
    often. A review that finds something takes a decision, 64 of them 10 ms."""
    idle_edge_s: float = 3.0
    """A parent that gave nothing for so long may be replaced, if it should have given something
    (`review`). Three times the interval: chance must not look like sloth."""
    gateway_count: int = 2
    """Peers of one data centre that fetch a task from other ones; everybody else gets it from them.
    One would cross the link once, and be the bottleneck; two divide the pieces among them."""
    gateway_far_count: int = 3
    """Parents elsewhere of a gateway that has not got its part: it asks each for one piece at a
    time, and has four in flight. 0: as chance has it. (`idc` on real links: p99 of 1.21 times the
    bound instead of 1.30; with five 1.21 as well, but TCP sends more over the link again.)"""
    home_suffices: bool = True
    """Where somebody in its data centre has the content from the source, or what there is of it, a
    peer is given nobody elsewhere who holds no more. (`idc` on real links: eight pieces of 64 came
    back over the link otherwise.)"""
    candidate_batch_limit: int = 25
    """Candidates scored per decision; of more useful peers, the best at a glance and a few by lot
    (`shortlist`). Six for each of four places; each costs about 1 % of the decision."""
    blind_sample: bool = False
    """Score a uniform sample of the useful peers instead, as Dragonfly does: to compare with it."""
    seed_share: float = 1.0
    """A seed bears this many children for each time its uplink is wider than the other candidates'
    (see `seed_share`); 0: any number, as in Dragonfly."""
    seed_child_count: int = 16
    """What takes the place of that ratio where uplinks are not announced: a seed's upload slots."""
    seed_child_count_min: int = 8
    """A seed as thin as a peer bears so many all the same: its bytes are new to everybody. With 3
    a small swarm may hang on one fast child of the seed (simulated, 8 peers, 2 slow, five worlds:
    medians of 4.8 to 12.8 s with 3, of 6.4 to 8.1 s with 8)."""
    descendant_search_limit: int = 20_000
    """Peers visited when looking for cycles (about 5 ms). Beyond it only peers without parents of
    their own are offered: those can't close a cycle."""
    exploration: float = 0.02
    """Share of the decisions whose answer is drawn from all good candidates instead of the best
    ones (`pick`), where there is a choice and the child can bear it (`choice.may_explore`). Without
    any, only what the ranker likes is ever measured. The low end of the usual 2-5 %: 5 % cost up to
    15 % of p99 in a simulated swarm, and a draw of one decision in fifty still tells of hundreds of
    hosts within thousands of downloads. 0 switches it off."""
    default_concurrent_piece_count: int = 8
    """What a child books on its parent when it does not say how many pieces it fetches at once."""

    # --- waiting ---
    seed_start_timeout_s: float = 10.0
    """How long children wait for a triggered seed to reach the source. The same 10 s a client
    allows for the head of a response; a seed that needs longer would cost more than it saves."""
    source_start_timeout_s: float = 10.0
    """How long a peer that was sent to the source may take to say that it started."""
    start_timeout_s: float = 1.0
    """How long a child that was given parents may take to say that it started, before others stop
    counting on it. It says so at once: a round trip, and 1 s is a long one."""
    learning_s: float = 8.0
    """How long children of a task wait for holders of it to come, when the first that came had
    already begun with another scheduler, or with this one before its restart. Peers that lost their
    scheduler are back within 5 s, a crowd in 8; meanwhile they go on with the parents they have."""
    admission: bool = True
    """While a task has as many children on their way as parents to offer, the next newcomer waits
    for one of them to start (at most `start_timeout_s`). So a burst of N grows a graph that doubles
    with each round trip, instead of N children that all hang on the seed for good."""
    seed_failed_timeout_s: float = 1800.0
    """How long a seed that failed a task is not asked for it again (SeedPeerFailedTimeout)."""
    seed_flight_timeout_s: float = 36_000.0
    """A trigger that reported neither success nor failure for so long (10 h, the deadline of the
    call) is forgotten."""

    # --- the source ---
    seeds_per_task: int = 2
    """Seeds that fetch one task together, each its share, if so many can (`seed_team`)."""
    seed_share_pieces_min: int = SHARE_PIECES_MIN
    """Pieces that each of them must have to fetch, for it to be called."""
    back_to_source_limit: int = 200
    """Peers of one task that may be at the source at a time (backToSourceCount)."""

    # --- what is remembered ---
    records: bool = True
    """Whether decisions, and the pieces of peers that don't write them themselves, are recorded
    (`WriteRecord`). Off where nobody takes the records: they cost time and memory."""
    feature_record_interval: int = 128
    """Of decisions whose ranker looks at no features, one in so many records them all the same, so
    that it shows when training computes others from the facts than a scheduler does. They cost as
    much as the whole decision, so fewer than one in a hundred pays for them."""
    cost_window: int = 2000
    """Latest piece costs kept per peer, the window of IsBadParent."""
    piece_number_limit: int = 1 << 20
    """Pieces per task that are remembered: 4 TiB in pieces of 4 MiB. Higher numbers are ignored, so
    that a bad client can't fill the memory."""
    blocked_parent_limit: int = 1000
    """Parents one child may block; the oldest is forgotten first. A stock client leaves after five
    rounds, so it never comes near."""
    story_decision_limit: int = 2000
    """Latest decisions kept for `explain`: with 25 candidates 9 KiB each, 18 MiB in all; a ranker
    that looks at features adds 6 KiB to each."""
    story_candidate_limit: int = 32
    """Candidates told per decision, the chosen ones first."""

    # --- forgetting ---
    peer_gc_interval_s: float = 10.0
    host_gc_interval_s: float = 60.0
    """Dragonfly looks every 5 min, which turns "two announcements missed" into up to 15 min; a pass
    over 10,000 hosts costs milliseconds."""
    task_gc_interval_s: float = 1800.0
    piece_timeout_s: float = 1800.0
    """A downloading peer that finished no piece for so long is given up (pieceDownloadTimeout)."""
    peer_ttl_s: float = 86_400.0
    host_ttl_s: float = 3600.0
    """After so much silence of their host its peers are forgotten, and the host itself if it named
    no announce interval: Dragonfly's scheduler keeps such a host for ever."""
    missed_announcements: float = 2.0
    """A host that is silent for so many of its own announce intervals has crashed."""
    peer_count_limit_for_task: int = 300
    """Beyond so many peers of a task, finished ones that serve nobody are forgotten."""
