"""How one download ended: facts, compared with the truth of the content. No judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from odonata.piece import piece_at, piece_count
from odonata.wire.message import Value
from simulator.node import right_digest, strong_digest

if TYPE_CHECKING:
    from simulator.download import SimulatedDownload
    from simulator.scenario import Scenario


class Ending(Value, frozen=True, kw_only=True):
    """Times are seconds. `error` is its code, "" if there was none, with `detail` in words.

    `wrong` and `missing` are the pieces that the host did not hold as they are at the source;
    `forged` those that nothing but the strong digest tells from the right ones, `detected` those
    of them of which it was told that digest.
    """

    host: str
    peer_id: str
    is_seed: bool
    started_at_s: float
    ended_at_s: float | None
    crashed: bool
    error: str
    detail: str
    status_code: int | None
    wrong: tuple[int, ...]
    missing: tuple[int, ...]
    forged: tuple[int, ...] = ()
    detected: tuple[int, ...] = ()
    state: str
    story: tuple[str, ...]

    @property
    def how(self) -> str:
        """In a word or two: "whole", "died", "stuck", or the code of its error."""
        if self.crashed:
            return "died"
        if self.is_stuck:
            return "stuck"
        if self.status_code is not None:
            return f"{self.error} {self.status_code}"
        return self.error or "whole"

    @property
    def is_stuck(self) -> bool:
        """It neither ended nor died."""
        return self.ended_at_s is None and not self.crashed


def ending_of(run: SimulatedDownload, scenario: Scenario) -> Ending:
    """Look at a download that is over, or never will be."""
    wrong, missing = _compare(run, scenario)
    error, node = run.error, run.node
    forged = [
        number
        for number, content in node.content.items()
        if content != strong_digest(number) and number not in wrong
    ]
    return Ending(
        host=run.node.name,
        peer_id=run.peer_id,
        is_seed=run.node.host.is_seed,
        started_at_s=run.started_at_s,
        ended_at_s=run.ended_at_s,
        crashed=run.crashed,
        error="" if error is None else error.code,
        detail="" if error is None else error.detail,
        status_code=getattr(error, "status_code", None),
        wrong=wrong,
        missing=missing,
        forged=tuple(sorted(forged)),
        detected=tuple(sorted(filter(node.is_listed_wrong, forged))),
        state=run.state,
        story=run.story(),
    )


def _compare(run: SimulatedDownload, scenario: Scenario) -> tuple[tuple[int, ...], tuple[int, ...]]:
    length = scenario.piece_length
    assert length is not None, "worlds with faults choose their pieces"
    held, size = run.node.held, scenario.size
    count = piece_count(size, length)
    wrong = [number for number in held if number >= count]
    missing: list[int] = []
    for number in range(count):
        piece = held.get(number)
        if piece is None:
            missing.append(number)
            continue
        is_right = piece.digest == right_digest(number)
        if not is_right or (piece.offset, piece.length) != piece_at(number, size, length):
            wrong.append(number)
    return tuple(sorted(wrong)), tuple(missing)
