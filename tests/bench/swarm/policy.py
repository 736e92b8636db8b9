"""What is compared: how the scheduler of a swarm decides, and by whose rules its peers fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from odonata.errors import CallerError
from odonata.wire.message import Value


class Policy(Value, frozen=True, kw_only=True):
    """`algorithm` is the scheduler's; "": there is none, and everybody asks the origin.

    `is_stock`: the scheduler's numbers and the client's rules are Dragonfly's (`launch`).
    """

    name: str
    algorithm: str
    is_stock: bool = False
    is_rival: bool = False
    """BitTorrent clients instead of all that."""
    model: bool = False

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


def policy_named(name: str) -> Policy:
    """CallerError if there is none of that name."""
    if name not in POLICIES:
        raise CallerError(f"there is no policy {name!r}: choose one of {', '.join(POLICIES)}")
    return POLICIES[name]
