"""The scheduler's body: gRPC, timers, seed triggers, logs around `scheduler.core`."""
