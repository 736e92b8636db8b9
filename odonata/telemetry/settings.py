"""Settings of telemetry: whether what happens is recorded, where, and how much of it is kept.

The same section stands in every program that records. It opens no folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from odonata.settings.place import state_dir
from odonata.settings.section import Section
from odonata.settings.value import ByteCount, FilePath, Seconds

FOLDER_NAME = "telemetry"

SegmentBytes = Annotated[ByteCount, Field(ge=64 * 1024)]
"""Smaller, and there would be more files than records."""
SegmentAge = Annotated[Seconds, Field(ge=1.0)]


def default_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Where telemetry lies if nobody says: `telemetry` in the state folder of who runs it."""
    return state_dir(environ, uid) / FOLDER_NAME


class TelemetrySettings(Section):
    """What is recorded of decisions, pieces and downloads, for training a ranker."""

    enable: bool = True
    """Ids and numbers only, no URLs; without it nothing can be learned."""
    dir: FilePath = Path("/var/lib/odonata") / FOLDER_NAME
    """Programs may share a folder. Not root: below the user's state folder."""
    max_segment_bytes: SegmentBytes = 16 * 1024 * 1024
    """A segment of this size is turned into Parquet: about 40,000 pieces, which take a process of
    low priority a second and 140 MiB of memory (measured)."""
    max_segment_age_s: SegmentAge = 600.0
    """So does one of this age, so that a quiet host's records are readable by other tools within
    ten minutes. Ours read segments, too."""
    max_total_bytes: ByteCount = 1024 * 1024 * 1024
    """The oldest files go beyond this. Measured: a piece takes 43 bytes as Parquet, a decision with
    50 candidates up to 19 KB; so 1 GiB holds 25 million pieces or 55,000 such decisions."""

    @model_validator(mode="after")
    def _a_segment_fits(self) -> Self:
        if self.max_total_bytes < 2 * self.max_segment_bytes:
            raise ValueError(
                f"maxTotal ({self.max_total_bytes} bytes) must be at least twice maxSegment "
                f"({self.max_segment_bytes} bytes): one is written while the other is converted"
            )
        return self
