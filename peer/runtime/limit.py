"""Rate limits as the runtime waits for them: a token bucket with a fair queue in front.

The arithmetic is `peer.core.quota.TokenBucket`; here is only the waiting. Transfers acquire in
slices as they read or write, so that a limit paces the connection itself (TCP slows the sender
down) and several transfers under one limit take turns.
"""

from __future__ import annotations

import asyncio

from peer.core.quota import TokenBucket
from peer.runtime.port import RateLimit

LIMITED_SLICE_BYTES = 128 * 1024
"""Under a limit: at 4 MB/s a slice is 30 ms, at 1 GB/s the loop wakes 8,000 times a second."""

UNLIMITED_SLICE_BYTES = 4 * 1024 * 1024
"""Without one: few, large system calls win (64-KiB reads cost 1.5 times the CPU of 1-MiB ones)."""

BOUND_BYTES_PER_S = 10_000_000_000
"""A limit above this is none: no machine this runs on moves as much (80 Gbit/s), so waiting for the
bucket would only cost time. Dragonfly's own default for "no limit" is 50 GB/s."""


class Unlimited:
    """No limit at all."""

    async def acquire(self, n_bytes: int) -> None:
        """Return at once."""


class BucketLimit:
    """At most a bucket's rate, all users together; first come, first served."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        self._turn = asyncio.Lock()  # its waiters are served in order
        self._waking: asyncio.Future[None] | None = None  # of the one whose turn it is

    @property
    def rate_bytes_per_s(self) -> float | None:
        """What passes at most; None: no limit."""
        return self._bucket.rate_bytes_per_s

    def set_rate(self, rate_bytes_per_s: float) -> None:
        """Change it at once, for those who wait, too. CallerError unless above 0."""
        self._bucket.set_rate(rate_bytes_per_s, asyncio.get_running_loop().time())
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    async def acquire(self, n_bytes: int) -> None:
        """Wait until `n_bytes` may pass. Cancelled while waiting: the bytes are given back."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            delay_s = self._bucket.reserve(n_bytes, clock())
            try:
                while delay_s > 0:
                    # Woken early means that the rate has changed; else the time has come.
                    delay_s = self._bucket.owed_s(clock()) if await self._sleep(delay_s) else 0.0
            except asyncio.CancelledError:
                self._bucket.give_back(n_bytes, clock())
                raise

    async def _sleep(self, delay_s: float) -> bool:
        """Whether somebody woke us before the time."""
        self._waking = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(delay_s):
                await self._waking
        except TimeoutError:
            return False
        finally:
            self._waking = None
        return True


def rate_limit(rate_bytes_per_s: float | None) -> RateLimit:
    """The limit for a setting: None, or more than any link carries, means none."""
    if rate_bytes_per_s is None or rate_bytes_per_s > BOUND_BYTES_PER_S:
        return Unlimited()
    return BucketLimit(TokenBucket(rate_bytes_per_s))


def slice_bytes(limit: RateLimit) -> int:
    """How much to move between two `acquire`s."""
    return UNLIMITED_SLICE_BYTES if isinstance(limit, Unlimited) else LIMITED_SLICE_BYTES
