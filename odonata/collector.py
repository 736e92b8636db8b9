"""Python's garbage collector, told what a server's memory looks like.

Nearly all that a server throws away is freed at once, by counting references. The collector looks
for circles among the rest: by default after every 700 new objects, which is several times for each
decision of a scheduler, and now and then through everything, which takes a second where a million
objects live. So what is there when serving begins is not looked at again, and the rest seldom.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""New objects before the youngest are looked at: about 1 ms of work, some 50 decisions."""
MIDDLE_ROUNDS, OLD_ROUNDS = 20, 50
"""Of these before the next generation is looked at, and of those before all are."""


def look_seldom() -> None:
    """Set the collector so, for the rest of the process; call it once all is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, OLD_ROUNDS)
