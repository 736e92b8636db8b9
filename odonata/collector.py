"""Python's garbage collector, told what a server's memory looks like.

Nearly all that a server throws away is freed at once, by counting references. The collector looks
for circles among the rest: by default after every 700 objects that stay, and now and then through
everything, while everybody waits (measured: 52 ms where 134,000 objects live). So what is there
when serving begins is not looked at again, and the rest seldom.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""Objects that stay before the youngest are looked at. Of a decision some six stay (measured: eight
looks in 1,000 decisions at 700)."""
MIDDLE_ROUNDS, OLD_ROUNDS = 20, 50
"""Of these before the next generation is looked at, and of those before all are."""


def look_seldom() -> None:
    """Set the collector so, for the rest of the process; call it once all is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, OLD_ROUNDS)
