"""A program's monotonic clock: it runs with the world, never back, and may jump ahead.

Clocks that count the time in which their machine was suspended do jump: all that was to happen in
that time is overdue at once. Times of a clock are seconds; those of different clocks don't compare.
"""

from __future__ import annotations

from collections.abc import Callable

from simulator.world import Timer, World


class Alarm:
    """Something that is to happen by a clock; `cancel` before, and it does not."""

    __slots__ = ("_action", "_clock", "at_s", "timer")

    def __init__(self, clock: Clock, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.timer: Timer | None = None
        self._clock = clock
        self._action = action

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self._clock.forget(self)

    def ring(self) -> None:
        """Its time has come."""
        self.timer = None
        self._clock.forget(self)
        self._action()


class Clock:
    """One clock and what is to happen by it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ahead_s = 0.0
        self._alarms: dict[Alarm, None] = {}

    @property
    def now(self) -> float:
        return self._world.now + self._ahead_s

    def at(self, at_s: float, action: Callable[[], None]) -> Alarm:
        """Do `action` when this clock shows `at_s`, or now if that has passed."""
        alarm = Alarm(self, at_s, action)
        alarm.timer = self._world.at(at_s - self._ahead_s, alarm.ring)
        self._alarms[alarm] = None
        return alarm

    def after(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        """Do `action` in `delay_s` seconds of this clock."""
        return self.at(self.now + delay_s, action)

    def jump(self, by_s: float) -> None:
        """The clock jumps ahead."""
        assert by_s >= 0, "a monotonic clock does not run back"
        self._ahead_s += by_s
        for alarm in self._alarms:
            if alarm.timer is not None:
                alarm.timer.cancel()
                alarm.timer = self._world.at(alarm.at_s - self._ahead_s, alarm.ring)

    def forget(self, alarm: Alarm) -> None:
        """An alarm rang, or was cancelled."""
        self._alarms.pop(alarm, None)
