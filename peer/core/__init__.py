"""The peer's brain: one download's decisions as events in, effects out. No I/O, no clock."""
