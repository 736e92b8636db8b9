"""The parts of a world that are under test: the production cores, and the check of a digest.

A world takes them from here, so that a test can put a broken one in their place, to see whether
the verdict on the world notices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import eq
from typing import TYPE_CHECKING

from peer.core.download import DownloadCore
from scheduler.core.core import SchedulerCore

if TYPE_CHECKING:
    from random import Random

    from models.ranker import Ranker
    from odonata.wire.message import Download
    from peer.core.budget import Budget
    from peer.core.limits import DownloadLimits
    from scheduler.core.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What worlds are made of."""

    scheduler: Callable[[Limits, Ranker, Random], SchedulerCore] = SchedulerCore
    download: Callable[[DownloadLimits, Download, Random, str, Budget], DownloadCore] = DownloadCore
    accepts: Callable[[str, str], bool] = eq
    """Whether bytes pass: the digest that their giver states, and the one they have..."""
    is_listed: Callable[[bytes, bytes], bool] = eq
    """...and the strong one that the scheduler told, and the one they have."""
