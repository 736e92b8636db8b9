"""Runs a local swarm for `support.swarm`: python swarm_keeper.py FOLDER PEERS URL SETTINGS.

URL is the registry that the daemons' proxies mirror. SETTINGS (JSON) are two: what is added to the
settings of all daemons, section by section, and what to those of some, by name. FOLDER/ready.json
appears when all members are ready: name -> pid, proxy_port. The swarm ends on SIGTERM, or when
stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any, cast

from odonata.swarm.local import running
from odonata.swarm.plan import SwarmOptions, SwarmPlan, make_plan


def _amend(
    plan: SwarmPlan, registry_mirror: str, more: dict[str, Any], own: dict[str, Any]
) -> None:
    for member in plan.daemons:
        settings = json.loads(member.config.read_text())
        settings["proxy"]["registryMirror"] = {"addr": registry_mirror}
        member.config.write_text(
            json.dumps(_merged(_merged(settings, more), own.get(member.name, {})))
        )


def _merged(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(settings.get(key), dict)
        merged[key] = _merged(settings[key], cast("dict[str, Any]", value)) if both else value
    return merged


async def _keep(folder: Path, peers: int, registry_mirror: str, settings: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin, stop.set)
    plan = make_plan(SwarmOptions(peers=peers), folder)
    more, own = json.loads(settings)
    _amend(plan, registry_mirror, more, own)

    def on_line(name: str, line: str) -> None:
        with (folder / f"{name}.log").open("a") as file:
            file.write(f"{line}\n")

    async with running(plan, on_line) as processes:
        members = {
            member.name: {
                "pid": processes.child(member.name).process.pid,
                "proxy_port": member.proxy_port,
            }
            for member in plan.members
        }
        partial = folder / "ready.json.partial"
        partial.write_text(json.dumps(members))
        partial.rename(folder / "ready.json")
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_keep(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
