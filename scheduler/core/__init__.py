"""The scheduler's brain: events in, effects out. No I/O, no clock, no randomness of its own."""
