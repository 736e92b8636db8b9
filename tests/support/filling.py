"""Max-min fair rates by progressive filling: the tightest link first. Exact, and slow."""

from __future__ import annotations

from simulator.network import Pipe, Transfer


def fair_rates(transfers: list[Transfer]) -> dict[Transfer, float]:
    """Rate of each transfer in bytes per second; `path` must be set."""
    room: dict[Pipe, float] = {}
    users: dict[Pipe, dict[Transfer, None]] = {}
    for transfer in transfers:
        for pipe in transfer.path:
            room.setdefault(pipe, pipe.capacity)
            users.setdefault(pipe, {})[transfer] = None
    rates: dict[Transfer, float] = {}
    while users:
        tightest = min(users, key=lambda pipe: room[pipe] / len(users[pipe]))
        share = room[tightest] / len(users[tightest])
        for transfer in list(users[tightest]):
            rates[transfer] = share
            for pipe in transfer.path:
                room[pipe] = max(0.0, room[pipe] - share)
                del users[pipe][transfer]
                if not users[pipe]:
                    del users[pipe]
    return rates
