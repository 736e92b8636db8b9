"""What the pieces of one task are, by strong digests, as those said who had them from the source.

Nobody's word is the truth, but some words weigh more than others (`Rank`): a seed's, then that of a
peer which this scheduler has sent to the source, then anybody's. For each piece

- the word of the higher rank stands, and whoever said otherwise is contradicted;
- when two of one rank differ neither is believed, until a third says what one of them said.

So a peer can't take the list away from the others by telling something else. Whoever turns out to
be a liar has told nothing (`withdraw`).

A piece takes 33 bytes and each change of what is known of it 4 more. Changes are numbered, so that
a child is told what it has not been told yet (`news`). What follows for hosts, `proof` says.
"""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import Final

from odonata.digest import STRONG_DIGEST_BYTES
from odonata.wire.digest_list import pack, pack_run

MAX_PIECES: Final = 65_536
"""Pieces that are remembered: 2.4 MiB for each task, and 256 GiB of content in pieces of 4 MiB."""
CHANGES_MAX: Final = 4 * MAX_PIECES
"""Of what is known of a task. It comes to that only if many tell this and that; then no more is
learned, and children go by what they have."""
TELLERS_MAX: Final = 64
"""Hosts that are believed in one task: those sent to the source are a handful, and seeds at most
sixteen."""
DISPUTES_MAX: Final = 1024
"""Pieces of which is remembered who said what; of more, nothing is believed any more."""
CLAIMS_MAX: Final = 8
"""Different digests of one piece that are told apart."""

_CHUNK: Final = 64
"""Pieces that get room together: a made-up number costs 2 KiB, not the list up to it."""
_UNKNOWN: Final = 0
_DISPUTED: Final = 255


class Rank(IntEnum):
    """How much a host's word weighs."""

    WITHDRAWN = 0
    VOLUNTEER = 1
    """A peer that went to the source of its own accord, or says so."""
    SENT = 2
    SEED = 3


class StrongDigests:
    """Digests by piece number, and who told them."""

    __slots__ = ("_chunks", "_codes", "_disputes", "_log", "_ranks")

    def __init__(self) -> None:
        self._chunks: dict[int, tuple[bytearray, bytearray]] = {}  # digests, codes of tellers
        self._codes: dict[str, int] = {}  # by host id, from 1
        self._ranks = [Rank.WITHDRAWN]  # by code
        self._disputes: dict[int, dict[bytes, set[int]]] = {}
        self._log = array("I")

    @property
    def change_count(self) -> int:
        """How often something has changed."""
        return len(self._log)

    def get(self, number: int) -> bytes:
        """The digest of a piece; empty if it is not known."""
        digests, codes = self._chunks.get(number // _CHUNK, _NOTHING)
        place = number % _CHUNK
        if codes[place] in (_UNKNOWN, _DISPUTED):
            return b""
        return bytes(digests[place * STRONG_DIGEST_BYTES : (place + 1) * STRONG_DIGEST_BYTES])

    def rank(self, number: int) -> Rank | None:
        """How much the word weighs that the digest rests on; None if it is not known."""
        code = self._chunks.get(number // _CHUNK, _NOTHING)[1][number % _CHUNK]
        return None if code in (_UNKNOWN, _DISPUTED) else self._ranks[code]

    def learn(self, number: int, digest: bytes, host_id: str, rank: Rank) -> list[str]:
        """A host had this piece from the source. Return the ids of those whom that contradicts."""
        if not 0 <= number < MAX_PIECES or len(self._log) >= CHANGES_MAX:
            return []
        teller = self._teller(host_id, rank)
        if teller == _UNKNOWN:
            return []
        if number // _CHUNK not in self._chunks:
            room = bytearray(_CHUNK * STRONG_DIGEST_BYTES), bytearray(_CHUNK)
            self._chunks[number // _CHUNK] = room
        code = self._chunks[number // _CHUNK][1][number % _CHUNK]
        if code == _UNKNOWN:
            self._set(number, digest, teller)
            return []
        if code == _DISPUTED:
            return self._settle(number, digest, teller)
        if self.get(number) != digest:
            return self._differ(number, digest, teller, code)
        if self._ranks[teller] > self._ranks[code]:
            self._chunks[number // _CHUNK][1][number % _CHUNK] = teller
        return []

    def withdraw(self, host_id: str) -> None:
        """What this host has told is not known from it any more, and it will not be believed."""
        code = self._codes.get(host_id)
        if code is None:
            return
        self._ranks[code] = Rank.WITHDRAWN
        for first, (_, codes) in self._chunks.items():
            for place in [place for place, its in enumerate(codes) if its == code]:
                self._set(first * _CHUNK + place, b"", _UNKNOWN)
        for claims in self._disputes.values():
            for tellers in claims.values():
                tellers.discard(code)

    def clear(self) -> None:
        """The source may have another content now."""
        known = [
            first * _CHUNK + place
            for first, (_, codes) in self._chunks.items()
            for place, code in enumerate(codes)
            if code != _UNKNOWN
        ]
        self._chunks.clear()
        self._disputes.clear()
        self._log.extend(known)

    def news(self, since: int, limit: int) -> tuple[bytes, int]:
        """What has changed after the first `since` changes, and how many changes that takes in.

        At most `limit` of them, packed (`odonata.wire.digest_list`).
        """
        end = min(len(self._log), since + limit)
        return pack({number: self.get(number) for number in self._log[since:end]}), end

    def everything(self, limit: int) -> list[bytes]:
        """All that is known, packed, in parts of at most `limit` pieces; `limit` at least 64."""
        parts: list[bytes] = []
        runs: list[bytes] = []
        count = 0
        for first in sorted(self._chunks):
            if count + _CHUNK > limit:
                parts.append(b"".join(runs))
                runs, count = [], 0
            digests, codes = self._chunks[first]
            for start, stop in _known(codes):
                slots = digests[start * STRONG_DIGEST_BYTES : stop * STRONG_DIGEST_BYTES]
                runs.append(pack_run(first * _CHUNK + start, slots))
                count += stop - start
        return [*parts, b"".join(runs)] if runs else parts

    # --- inside ---------------------------------------------------------------------------------

    def _teller(self, host_id: str, rank: Rank) -> int:
        code = self._codes.get(host_id)
        if code is None:
            if len(self._codes) >= TELLERS_MAX:
                return _UNKNOWN
            code = self._codes[host_id] = len(self._ranks)
            self._ranks.append(rank)
        elif self._ranks[code] is Rank.WITHDRAWN:
            return _UNKNOWN
        else:
            self._ranks[code] = max(self._ranks[code], rank)
        return code

    def _set(self, number: int, digest: bytes, code: int) -> None:
        digests, codes = self._chunks[number // _CHUNK]
        place = number % _CHUNK
        start = place * STRONG_DIGEST_BYTES
        digests[start : start + STRONG_DIGEST_BYTES] = digest or bytes(STRONG_DIGEST_BYTES)
        codes[place] = code
        self._log.append(number)

    def _differ(self, number: int, digest: bytes, teller: int, code: int) -> list[str]:
        known, rank = self._ranks[code], self._ranks[teller]
        if rank < known:
            return self._hosts({teller})
        if rank > known:
            self._set(number, digest, teller)
            return self._hosts({code})
        if len(self._disputes) < DISPUTES_MAX:
            self._disputes[number] = {self.get(number): {code}, digest: {teller}}
        self._set(number, b"", _DISPUTED)
        return []

    def _settle(self, number: int, digest: bytes, teller: int) -> list[str]:
        claims = self._disputes.get(number)
        if claims is None or (digest not in claims and len(claims) >= CLAIMS_MAX):
            return []
        claims.setdefault(digest, set()).add(teller)
        weights = {claim: self._weight(tellers) for claim, tellers in claims.items()}
        best = max(weights, key=weights.__getitem__)
        if sum(weight == weights[best] for weight in weights.values()) > 1:
            return []
        del self._disputes[number]
        right = claims.pop(best)
        self._set(number, best, max(right, key=self._ranks.__getitem__))
        return self._hosts(set[int]().union(*claims.values()) - right)

    def _weight(self, tellers: set[int]) -> tuple[int, int]:
        """The highest rank, and how many have it."""
        ranks = [self._ranks[code] for code in tellers]
        highest = max(ranks, default=Rank.WITHDRAWN)
        return highest, ranks.count(highest)

    def _hosts(self, codes: set[int]) -> list[str]:
        return [host_id for host_id, code in self._codes.items() if code in codes]


def _known(codes: bytearray) -> list[tuple[int, int]]:
    """Runs of places of which something is known."""
    if _UNKNOWN not in codes and _DISPUTED not in codes:
        return [(0, len(codes))]
    runs: list[tuple[int, int]] = []
    for place, code in enumerate(codes):
        if code in (_UNKNOWN, _DISPUTED):
            continue
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


_NOTHING: Final = bytearray(_CHUNK * STRONG_DIGEST_BYTES), bytearray(_CHUNK)
