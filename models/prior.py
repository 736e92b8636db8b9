"""What is thought of a host before anything is known of it, and how soon that gives way.

Shared by the features and the hand-written rule, so that both think the same of a stranger.
"""

from __future__ import annotations

PRIOR_PIECES = 4.0
"""A host's own history counts half when it has served so many pieces; before, the swarm's does."""
PRIOR_PAIR_PIECES = 32.0
"""A pair of data centres counts half when so many pieces went between them: several hosts' worth,
for it shall not stand for the one host that was met there first."""
PRIOR_FAILURES = 0.1
PRIOR_SUCCESSES = 1.9
"""Of an unknown host one piece in twenty is thought to fail; two pieces' worth of belief."""
