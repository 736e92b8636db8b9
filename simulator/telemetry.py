"""What a simulated host writes of its downloads ends with the host."""

from __future__ import annotations

from odonata.telemetry.record import Record, Recorder


class LosableRecorder:
    """Hands records on, until they are lost."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._is_lost = False

    def lose(self) -> None:
        """The host died: nothing more is written."""
        self._is_lost = True

    def write(self, record: Record) -> None:
        """See Recorder."""
        if not self._is_lost:
            self._recorder.write(record)
