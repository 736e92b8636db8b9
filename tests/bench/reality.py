"""How near is the simulator to a real swarm? The same world in both, one file, ranked by the rule.

    ./run bench reality [--rounds 5] [--size 64] [--json OUT]

Real: a scheduler, a seed and eight peers as processes, links by the daemons' own limits (peers
24 MB/s, two of them 2.4 MB/s though they say 24, seed 48 MB/s, origin 24 MB/s); all peers ask at
once for a new file of `--size` MiB, round after round. Simulated: the same rates, as many files in
one world, for as many worlds. Printed: p50 and p99 of both, and the ratio of the medians. Measure
with nothing else running: nine processes share the machine's cores with the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]  # runnable as it lies there

from rich.console import Console  # noqa: E402  # after the path

from odonata.swarm.demo.report import Outcome, percentile  # noqa: E402
from odonata.swarm.demo.show import Demo  # noqa: E402
from odonata.swarm.demo.tally import World  # noqa: E402
from simulator.policy import policy_named  # noqa: E402
from simulator.scenario import Scenario  # noqa: E402
from simulator.study import Order, run_world  # noqa: E402

MB, MIB = 1_000_000, 1 << 20
PEERS, SLOW = 8, 2
PEER, SLOW_PEER, SEED, ORIGIN = 24 * MB, 2.4 * MB, 48 * MB, 24 * MB
WORLDS = 5

out = Console()


def main() -> None:
    options = _options()
    real = asyncio.run(_real(options))
    simulated = _simulated(options)
    result = {
        "real": {"p50_s": percentile(real, 0.5), "p99_s": percentile(real, 0.99)},
        "simulated": {"p50_s": percentile(simulated, 0.5), "p99_s": percentile(simulated, 0.99)},
    }
    ratio = result["simulated"]["p50_s"] / result["real"]["p50_s"]
    for name, found in result.items():
        out.print(f"{name:>9}: p50 {found['p50_s']:.2f} s, p99 {found['p99_s']:.2f} s")
    out.print(f"simulated p50 over real p50: {ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps({**result, "p50_ratio": ratio}, indent=2) + "\n")


async def _real(options: Any) -> list[float]:
    world = World(
        peers=PEERS,
        origin_rate_bytes_per_s=ORIGIN,
        seed_rate_bytes_per_s=SEED,
        peer_rate_bytes_per_s=PEER,
        slow_peers=SLOW,
        slow_rate_bytes_per_s=SLOW_PEER,
    )
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(
            out,
            world,
            rounds=options.rounds,
            out=Path(folder) / "kept",
            image_name=None,
            random_seed=1,
            layers_bytes=(options.size * MIB,),
        )
        outcomes: list[Outcome] = await demo.spread_only()
    return [seconds for outcome in outcomes for seconds in outcome.seconds]


def _simulated(options: Any) -> list[float]:
    scenario = Scenario(
        size=options.size * MIB,
        files=options.rounds,
        peers=PEERS,
        peer_up=PEER,
        peer_down=1e9,
        seed_up=SEED,
        source_up=ORIGIN,
        hidden_slow_share=SLOW / PEERS,
        hidden_slow_factor=PEER / SLOW_PEER,
        delay_s=0.0005,
        pause_s=1.0,
    )
    times: list[float] = []
    for seed in range(1, WORLDS + 1):
        order = Order(
            name="demo",
            scenario=scenario,
            policy=policy_named("rule"),
            client="own",
            seed=seed,
            telemetry=None,
        )
        world = run_world(order)
        of_files = [[h.took_s for h in file.hosts if h.took_s is not None] for file in world.files]
        out.print(f"world {seed}: medians {', '.join(f'{median(one):.2f} s' for one in of_files)}")
        times += [took_s for one in of_files for took_s in one]
    return times


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="MiB")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
