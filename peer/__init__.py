"""The peer daemon: stores tasks, serves pieces, fetches pieces. Pure `core`, thin `runtime`."""
