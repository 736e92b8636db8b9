"""As many open files as the system lets this process have.

Many shells and service managers start programs with a soft limit of 1024, for the sake of old ones
that call select(2). A daemon with 256 downloads needs more: each may have its request to the source
and several pieces on their way, and children ask at the same time. No file is opened here.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

WANTED: Final = 65_536
"""Never more: some systems allow a thousand million, and tables grow with it."""


def allow_descriptors(wanted: int = WANTED) -> int:
    """Raise the soft limit to the hard one, at most to `wanted`; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    goal = wanted if hard == unlimited else min(hard, wanted)
    if soft == unlimited or soft >= goal:
        return soft if soft != unlimited else wanted
    with suppress(ValueError, OSError):  # then it stays as it is, and the pieces say what lacks
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
