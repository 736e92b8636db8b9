"""The scheduler: decides for every download who fetches from whom. Pure `core`, thin `runtime`."""
