"""What a scheduler wants done. Imperative; the driver carries them out in order."""

from __future__ import annotations

from odonata.errors import OdonataError
from odonata.telemetry.record import Record
from odonata.wire.message import Download, Host, SchedulerAnswer, Value


class Answer(Value, frozen=True, kw_only=True, tag=True):
    """Send `answer` on the AnnouncePeer stream of `peer_id`."""

    peer_id: str
    answer: SchedulerAnswer


class CloseStream(Value, frozen=True, kw_only=True, tag=True):
    """End the stream of `peer_id` after everything answered so far: OK, or with `error`."""

    peer_id: str
    error: OdonataError | None = None


class Refuse(Value, frozen=True, kw_only=True, tag=True):
    """The event that was just handled can't be granted: its caller gets `error`."""

    error: OdonataError


class TriggerSeed(Value, frozen=True, kw_only=True, tag=True):
    """Ask seed `host` to fetch `download` from the source; SeedFinished or SeedFailed follows."""

    task_id: str
    host: Host
    download: Download


class ProbeHost(Value, frozen=True, kw_only=True, tag=True):
    """Try to connect to `host`; HostUnreachable follows if nobody answers, else nothing."""

    host: Host


class WakeAt(Value, frozen=True, kw_only=True, tag=True):
    """Hand in `Ticked` at `at_s` (same clock as `now`). A later WakeAt replaces an earlier one."""

    at_s: float


class WriteRecord(Value, frozen=True, kw_only=True, tag=True):
    """Hand `record` to the telemetry."""

    record: Record


SchedulerEffect = Answer | CloseStream | Refuse | TriggerSeed | ProbeHost | WakeAt | WriteRecord
