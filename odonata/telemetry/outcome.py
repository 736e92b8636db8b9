"""What a conversion process tells whoever started it."""

from __future__ import annotations

from typing import Final

from odonata.wire.message import Value

EXIT_NO_PYARROW: Final = 3
"""Exit code: pyarrow is not installed, nothing was touched."""

MESSAGES_MAX: Final = 5
"""Of one outcome: it must fit into the pipe to whoever started this process."""


class Outcome(Value, frozen=True, kw_only=True):
    """What one conversion did."""

    segments: int = 0
    records: int = 0
    files: int = 0
    lost_bytes: int = 0
    """Torn frames at the ends of segments, and frames that no version of ours wrote."""
    unusable: int = 0
    """Records without a place in a table."""
    failures: int = 0
    """Segments that could not be converted."""
    messages: tuple[str, ...] = ()
    """Why, for the first few."""

    def plus(self, other: Outcome) -> Outcome:
        """Both together."""
        names = ("segments", "records", "files", "lost_bytes", "unusable", "failures")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Outcome(**sums, messages=(*self.messages, *other.messages)[:MESSAGES_MAX])
