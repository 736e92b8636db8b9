"""What is compared: how the scheduler of a swarm decides, and by whose rules its peers fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from odonata.errors import CallerError
from odonata.wire.message import Value


class Policy(Value, frozen=True, kw_only=True):
    """`algorithm` is the scheduler's; "": there is none, and everybody asks the origin.

    `is_stock`: the scheduler's numbers and the client's rules are Dragonfly's (`member`).
    """

    name: str
    algorithm: str
    is_stock: bool = False
    is_rival: bool = False
    """BitTorrent clients instead of all that."""
    model: bool = False
    client_rules: dict[str, Any] = {}
    """Fields of `DownloadLimits` that our client obeys instead of its own..."""
    scheduler_rules: dict[str, Any] = {}
    """...and fields of the scheduler's `Limits`."""
    peer_slots: int | None = None
    """Pieces that a peer (no seed) sends at once, if not as it comes."""

    @property
    def has_swarm(self) -> bool:
        return bool(self.algorithm)

    def scheduling(self, models: Path) -> dict[str, Any]:
        """Sections of the scheduler's settings file. Nothing explores: chance would blur it."""
        return {
            "scheduler": {"algorithm": self.algorithm, "exploration": 0.0},
            "model": {"enable": self.model, "dir": str(models)},
        }


POLICIES: Final = {
    policy.name: policy
    for policy in (
        Policy(name="rule", algorithm="rule"),
        Policy(name="dragonfly", algorithm="dragonfly", is_stock=True),
        Policy(name="dragonfly-own", algorithm="dragonfly"),
        Policy(name="random", algorithm="random"),
        Policy(name="learned", algorithm="learned", model=True),
        Policy(name="direct", algorithm=""),
        Policy(name="bittorrent", algorithm="", is_rival=True),
    )
}
"""`dragonfly-own` ranks as Dragonfly does among our clients: what the client is worth by itself."""


ABLATIONS: Final = {
    policy.name: policy
    for policy in (
        Policy(name="ascending", algorithm="rule", client_rules={"order": "ascending"}),
        Policy(name="piece-first", algorithm="rule", client_rules={"first": "piece"}),
        Policy(name="told-weights", algorithm="rule", client_rules={"weight": "told"}),
        Policy(name="four-from-one", algorithm="rule", client_rules={"pieces_per_parent": 4}),
        Policy(
            name="eight-at-once",
            algorithm="rule",
            client_rules={"concurrent_piece_count": 8, "widen": False},
        ),
        Policy(name="never-wide", algorithm="rule", client_rules={"widen": False}),
        Policy(name="no-seed-once", algorithm="rule", client_rules={"seed_once": False}),
        Policy(name="not-exclusive", algorithm="rule", client_rules={"exclusive": False}),
        Policy(name="no-passing", algorithm="rule", client_rules={"pass_on": False}),
        Policy(name="no-hedge", algorithm="rule", client_rules={"hedge": False}),
        Policy(name="late-hedge", algorithm="rule", client_rules={"end_factor": 4.0}),
        Policy(name="no-replacing", algorithm="rule", client_rules={"replace_slow": False}),
        Policy(name="no-sparing", algorithm="rule", client_rules={"spare_late": False}),
        Policy(name="no-sharing", algorithm="rule", client_rules={"share_slots": False}),
        Policy(name="patient", algorithm="rule", client_rules={"impatient": False}),
        Policy(name="all-at-first", algorithm="rule", client_rules={"few_first": False}),
        Policy(name="never-early", algorithm="rule", client_rules={"ask_early": False}),
        Policy(name="never-rests", algorithm="rule", client_rules={"rest": False}),
        Policy(name="never-ahead", algorithm="rule", client_rules={"ask_ahead": False}),
        Policy(name="no-beside", algorithm="rule", client_rules={"beside": False}),
        Policy(name="no-reader-order", algorithm="rule", client_rules={"reader_order": False}),
        Policy(name="no-far-once", algorithm="rule", client_rules={"far_once": False}),
        Policy(name="no-far-patience", algorithm="rule", client_rules={"far_patience_s": 0.0}),
        Policy(name="no-far-shares", algorithm="rule", client_rules={"far_shares": False}),
        Policy(name="far-when-late", algorithm="rule", client_rules={"far_in_earnest": False}),
        Policy(name="helps-at-once", algorithm="rule", client_rules={"far_help_after": 0.0}),
        Policy(name="eight-slots", algorithm="rule", peer_slots=8),
        Policy(name="dag", algorithm="rule", scheduler_rules={"graph": "dag"}),
        Policy(name="no-seed-cap", algorithm="rule", scheduler_rules={"seed_share": 0.0}),
        Policy(name="no-admission", algorithm="rule", scheduler_rules={"admission": False}),
        Policy(name="no-reviews", algorithm="rule", scheduler_rules={"review_interval_s": 3600.0}),
        Policy(name="three-parents", algorithm="rule", scheduler_rules={"mesh_parent_limit": 3}),
        Policy(name="five-parents", algorithm="rule", scheduler_rules={"mesh_parent_limit": 5}),
        Policy(name="four-parents", algorithm="rule", scheduler_rules={"mesh_parent_limit": 4}),
        Policy(name="any-gateway", algorithm="rule", scheduler_rules={"gateway_far_count": 0}),
        Policy(name="far-though-home", algorithm="rule", scheduler_rules={"home_suffices": False}),
        Policy(name="one-gateway", algorithm="rule", scheduler_rules={"gateway_count": 1}),
    )
}
"""`rule` with one of its own or its client's rules switched off, or set to what others do."""


def policy_named(name: str) -> Policy:
    """CallerError if there is none of that name."""
    known = POLICIES | ABLATIONS
    if name not in known:
        raise CallerError(f"there is no policy {name!r}: choose one of {', '.join(known)}")
    return known[name]
