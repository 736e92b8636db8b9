"""Telemetry's settings: the same in every program, on by default, in the folder of who runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.settings_file import load_text, refusal

from odonata.settings.loading import load
from odonata.settings.log import ProgramSettings
from odonata.telemetry.settings import TelemetrySettings
from peer.settings import DaemonSettings
from scheduler.settings import SchedulerSettings

PROGRAMS = [DaemonSettings, SchedulerSettings]


def telemetry_of(settings: ProgramSettings) -> TelemetrySettings:
    assert isinstance(settings, DaemonSettings | SchedulerSettings)
    return settings.telemetry


@pytest.mark.parametrize("model", PROGRAMS)
def test_it_lies_in_the_state_folder(model: type[ProgramSettings]) -> None:
    root = telemetry_of(load(model, uid=0).settings)
    assert (root.enable, root.dir) == (True, Path("/var/lib/odonata/telemetry"))
    user = telemetry_of(load(model, uid=1000, environ={"XDG_STATE_HOME": "/state"}).settings)
    assert user.dir == Path("/state/odonata/telemetry")


@pytest.mark.parametrize("model", PROGRAMS)
def test_each_number_can_be_written(model: type[ProgramSettings], tmp_path: Path) -> None:
    text = (
        "telemetry: {enable: false, dir: /t, maxSegment: 1MiB, maxSegmentAge: 1h, maxTotal: 5MiB}"
    )
    assert telemetry_of(load_text(model, text, tmp_path).settings) == TelemetrySettings(
        enable=False,
        dir=Path("/t"),
        max_segment_bytes=1 << 20,
        max_segment_age_s=3600.0,
        max_total_bytes=5 << 20,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{maxSegment: 1KiB}", "telemetry.maxSegment: '1KiB' is too small: at least 65536"),
        ("{maxSegmentAge: 10ms}", "telemetry.maxSegmentAge: '10ms' is too small: at least 1"),
        ("{maxTotal: 31MiB}", "telemetry: maxTotal (32505856 bytes) must be at least twice"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(SchedulerSettings, f"telemetry: {text}", tmp_path)
