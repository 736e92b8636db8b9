"""How many requests a download has at its source at once, and how many pieces each asks for.

Theory of operation
===================

Some origins give each connection only so much (object stores, CDNs, long links), others give so
much in all (a thin uplink, our own limit). At the first kind four *streams* bring four times as
much; at the second they bring nothing but delay, since four pieces come in the time of four instead
of one after the other, and can be passed on later. Which kind it is, is measured:

1. A download begins with one stream, and doubles them as long as that pays: if the rate of all
   together grows by at least `GAIN_SHARE` of what the new ones would bring were each bounded by
   itself. The rate is that of the latest piece of each stream, of those begun since all were there.
2. If it did not pay, half of them are let run out, and it is tried again after `VERDICT_S`.
3. If a request fails beside others, the origin may not want so many: no more than those that are
   left, for as long. Such a failure does not count as one of the source, which is at work.

What was found holds for the origin's other contents, too (`Origins`, one for each daemon), for
`MEMORY_S`. All downloads of a daemon together have `EXTRA_MAX` streams besides the first of each:
many contents at once are parallel by themselves.

Who takes part in this? Who goes to the source on behalf of others: a seed that was triggered, and
a peer that the scheduler sends there because there is no seed. Whoever goes for itself (there is no
scheduler, or it does not answer, or nobody brings anything) has one stream, like curl: all peers
may be in the same plight, and the origin is not to pay four times for it.

A stream asks for a *block* of pieces at a time, the lowest that nobody has asked for yet. So pieces
come nearly in order; nothing is asked for that is not wanted (a connection that is dropped has sent
more than was read); and a broken stream costs the piece it was at. A block is as long as the time
to an answer demands, `ANSWER_SHARE` of its own time; a stream that is alone asks for `ALONE_S` at a
time, and for the next before the last piece of it is there, so that nothing stands still between.
The first request, of which nobody knows yet how long the content is, is for `FIRST_BYTES`, or each
of several for its part of them: what is no longer comes in one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil, fsum, inf
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakSet

from odonata.piece import MIB

if TYPE_CHECKING:
    from odonata.wire.message import Piece
    from peer.core.limits import DownloadLimits

ONE_STREAM_SCHEMES: Final = frozenset({"file", "ftp"})
"""A disk reads one file no faster in four places; an FTP server logs each of them in, and often
lets a user in once or twice."""
FIRST_BYTES: Final = 16 * MIB
"""Four pieces of the smallest length, a second or so of a connection that is worth being doubled;
and a multiple of the piece length of all contents below 8 GB."""
GAIN_SHARE: Final = 0.3
"""Well above what chance does to a sum of rates, well below what a stream brings that is bounded
by itself."""
VERDICT_S: Final = 30.0
VERDICT_PIECES: Final = 32
"""So long it is left at that, or while so many pieces come, if that is longer. Trying costs an
origin of the second kind nothing, and us a piece or two that come late."""
MEMORY_S: Final = 600.0
HOSTS_MAX: Final = 256
"""Origins remembered; a node has a few registries."""
EXTRA_MAX: Final = 12
"""Four contents at once with four streams each. A stream costs a connection at the origin, and here
a piece of the pool of buffers and up to 8 MiB where a library reads in chunks."""
ANSWER_SHARE: Final = 0.05
BLOCK_PIECES_MAX: Final = 16
"""How far from each other streams are at most, whatever an answer takes."""
PAUSE_S: Final = 1.0
"""From the end of one request to the begin of the next it takes less."""
ALONE_S: Final = 30.0
"""One more request in so long costs nobody anything, and its end is a moment to try more streams
without having asked for what another one brings."""


@dataclass(slots=True, frozen=True)
class Verdict:
    """So many streams are right at an origin, as found at a moment; until then it is left at it."""

    count: int
    at: float
    until: float


class _Came(NamedTuple):
    """A piece: when it began to come, and how fast it did, in bytes per second."""

    begun_at: float
    rate: float


@dataclass(slots=True, frozen=True)
class _Measured:
    """So many streams of a download, so many of all at its origin, and what those brought."""

    count: int
    of_all: int
    rate: float

    def pays_beside(self, fewer: _Measured) -> bool:
        """There is a good part of what those that came would bring, each bounded by itself."""
        return self.rate >= fewer.rate * (1.0 + GAIN_SHARE * (self.of_all / fewer.of_all - 1.0))


class Origins:
    """What one daemon has found, by the host of an origin's URL."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._users: WeakSet[Streams] = WeakSet()

    def join(self, streams: Streams) -> None:
        """Count the streams of this download, as long as it lives."""
        self._users.add(streams)

    def beside(self, streams: Streams, now: float) -> list[Streams]:
        """The other downloads that are at its host now, in no order."""
        others = [one for one in self._users if one is not streams and one.host == streams.host]
        return [one for one in others if one.is_at_work(now)]

    @property
    def spare(self) -> int:
        """How many more streams there may be besides the first of each download."""
        return EXTRA_MAX - sum(max(0, one.going - 1) for one in self._users)

    def verdict(self, host: str, now: float) -> Verdict | None:
        """The latest, unless that is too long ago."""
        found = self._verdicts.get(host)
        return None if found is None or now - found.at >= MEMORY_S else found

    def settle(self, host: str, verdict: Verdict) -> None:
        """Remember it."""
        self._verdicts[host] = verdict
        self._verdicts.move_to_end(host)
        if len(self._verdicts) > HOSTS_MAX:
            self._verdicts.popitem(last=False)


class Streams:
    """Those of one download. A stream is known by the first piece of its present request."""

    def __init__(self, limits: DownloadLimits, url: str, origins: Origins | None = None) -> None:
        """`url`: of the content. `origins`: what its daemon has found; None: nothing yet."""
        parts = urlsplit(url)
        self.host = parts.netloc
        self._most = 1 if parts.scheme.lower() in ONE_STREAM_SCHEMES else limits.source_streams
        self._origins = origins or Origins()
        self._origins.join(self)
        self._is_for_others = False
        self._count = 1  # how many there may be now
        self._verdict: Verdict | None = None  # the latest that it goes by
        self._overlaps = True  # the next request of a stream that is alone may begin early
        self._slots: dict[int, int] = {}  # of the streams that go on
        self._since: float | None = None  # when there were as many as are tried
        self._beside: tuple[int, ...] = ()  # how many streams the others had then
        self._latest: dict[int, _Came] = {}  # by slot, the latest last
        self._before: _Measured | None = None  # with fewer of them
        self._rate = 0.0  # of one, smoothed
        self._piece_length = 0
        self._heard_at = -inf  # the latest begin of a request, or piece
        self._answer_s = 0.0  # until the origin begins to answer, smoothed
        self._block = 1

    # --- what happens ---------------------------------------------------------------------------

    def go_for_others(self, now: float) -> None:
        """The download goes to the source on behalf of others."""
        if self._is_for_others:
            return
        self._is_for_others = True
        self._adopt(now)

    def begin(self, first: int, now: float) -> None:
        """A request has begun, or goes on, that brings pieces from `first` on."""
        taken = set(self._slots.values())
        self._slots[first] = next(n for n in range(len(taken) + 1) if n not in taken)
        self._heard_at = now
        if self.going > self._count:  # one is running out: what the others bring says nothing
            self._since = None
        self._begin_to_measure(now)

    def end(self, first: int) -> None:
        """It is over, however that came."""
        self._slots.pop(first, None)

    def answered(self, took_s: float) -> None:
        """The origin began to answer a request `took_s` after it was made."""
        self._answer_s += (0.5 if self._answer_s else 1.0) * (took_s - self._answer_s)

    def stored(self, first: int, piece: Piece, now: float) -> None:
        """The request from `first` on has brought a piece, which took its `cost_s`."""
        slot = self._slots.get(first)
        if slot is None or piece.cost_s <= 0:
            return
        rate = piece.length / piece.cost_s
        self._piece_length = max(self._piece_length, piece.length)
        self._rate += (0.5 if self._rate else 1.0) * (rate - self._rate)
        self._latest.pop(slot, None)
        self._latest[slot] = _Came(now - piece.cost_s, rate)
        self._heard_at = now
        self._adopt(now)
        self._begin_to_measure(now)
        measured = self._measured(now)
        if measured is not None:
            self._judge(measured, now)

    def failed_beside(self, others: int, now: float) -> None:
        """A request failed, and `others` go on."""
        if self.is_parallel:
            self._overlaps = self._overlaps and others > 1
            self._settle(others, now)

    # --- questions ------------------------------------------------------------------------------

    @property
    def is_parallel(self) -> bool:
        """There may be more than one."""
        return self._is_for_others and self._most > 1

    @property
    def going(self) -> int:
        """Requests that go on."""
        return len(self._slots)

    def is_at_work(self, now: float) -> bool:
        """There are requests, or there were a moment ago."""
        return bool(self._slots) or now - self._heard_at < PAUSE_S

    def rate_since(self, begun_at: float, count: int) -> float | None:
        """What `count` streams bring together, bytes per second, by pieces begun since that moment.

        None: not all of them have brought one.
        """
        rates = [came.rate for came in self._latest.values() if came.begun_at >= begun_at]
        return fsum(rates[-count:]) if len(rates) >= count else None

    @property
    def at_once(self) -> int:
        """How many there may be."""
        return self._count if self.is_parallel else 1

    @property
    def reach(self) -> int:
        """Within how many missing pieces they are, from the first one on; 0: it is at the first."""
        return self.at_once * self._block if self.at_once > 1 else 0

    def may_begin(self, *, is_last_on_its_way: bool) -> bool:
        """Whether to make another request; the other flag: one is at the last of its pieces."""
        if not self._slots:
            return True
        if not self.is_parallel or self._origins.spare <= 0:
            return False
        is_alone = self._overlaps and self._count == self.going == 1
        return self.going < self._count or (is_alone and is_last_on_its_way)

    def first_bytes(self, piece_length: int | None) -> int | None:
        """Length of a request when nothing is known of the content; None: to the end.

        `piece_length`: if the user chose one.
        """
        if not self.is_parallel:
            return None
        if piece_length is None:
            return FIRST_BYTES // self._count
        return self._first_pieces(piece_length) * piece_length

    def block(self, left: int, piece_length: int) -> int | None:
        """Pieces that the next request asks for at most, of `left`; None: as many as there are."""
        if not self.is_parallel:
            return None
        if not self._rate or (self._count == 1 and self._since is not None):
            return self._first_pieces(piece_length)  # there may soon be more to ask for the rest
        piece_s = piece_length / self._rate
        if self._count == 1:
            return ceil(ALONE_S / piece_s)
        wanted = ceil(self._answer_s / (ANSWER_SHARE * piece_s))
        self._block = max(1, min(wanted, BLOCK_PIECES_MAX, ceil(left / self._count)))
        return self._block

    # --- inside ---------------------------------------------------------------------------------

    def _first_pieces(self, piece_length: int) -> int:
        return max(1, FIRST_BYTES // self._count // piece_length)

    def _adopt(self, now: float) -> None:
        """What this or another download has found since."""
        known = self._origins.verdict(self.host, now)
        if known is not None and known is not self._verdict and self._is_for_others:
            self._verdict = known
            self._begin_anew(min(known.count, self._most))

    def _begin_to_measure(self, now: float) -> None:
        is_settled = self._verdict is not None and now < self._verdict.until
        if is_settled or self.going != self._count:
            return
        beside = tuple(sorted(one.at_once for one in self._origins.beside(self, now)))
        if self._since is None or beside != self._beside:
            self._since, self._beside = now, beside

    def _measured(self, now: float) -> _Measured | None:
        """What all streams at the origin bring, if that is known."""
        since = self._since
        if since is None or not self.is_parallel:
            return None
        rates = [self.rate_since(since, self._count)]
        beside = self._origins.beside(self, now)
        rates += [one.rate_since(since, one.at_once) for one in beside]
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates):
            return None
        # Exact, for the others come in no order.
        return _Measured(self._count, self._count + sum(self._beside), fsum(known))

    def _judge(self, measured: _Measured, now: float) -> None:
        before = self._before
        if before is not None and measured.of_all <= before.of_all:
            self._begin_anew(before.count)
        elif before is not None and not measured.pays_beside(before):
            self._settle(before.count, now)
        elif self._count >= self._most:
            self._settle(self._most, now)
        else:
            self._begin_anew(min(2 * self._count, self._most))
            self._before = measured

    def _settle(self, count: int, now: float) -> None:
        piece_s = self._piece_length / self._rate if self._rate else 0.0
        until = now + max(VERDICT_S, VERDICT_PIECES * piece_s) if count < self._most else inf
        self._origins.settle(self.host, Verdict(count, now, until))
        self._adopt(now)

    def _begin_anew(self, count: int) -> None:
        self._count = count
        self._since = self._before = None
