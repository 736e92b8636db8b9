"""The processes of a measured swarm: the command line and the settings file of each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from bench.swarm.ground import Ground
from bench.swarm.policy import Policy
from bench.swarm.rule_change import words_of
from bench.swarm.world import SCHEDULER, HostPlan, WorldPlan

from simulator.policy import find_model

SCHEDULER_PORT: Final = 8002
STATUS_PORT: Final = 8000
LAUNCH_SCHEDULER: Final = Path(__file__).with_name("launch_scheduler.py")
LAUNCH_DAEMON: Final = Path(__file__).with_name("launch_daemon.py")
STOCK_SLOTS: Final = 1_000_000
"""Dragonfly's server refuses nobody and makes nobody wait."""
STOCK_BANDWIDTH: Final = str(10 * 1000**3 // 8)
"""What every daemon of Dragonfly's says of its uplink unless its operator limits it: 10 Gbit/s."""
ANNOUNCE_INTERVAL: Final = "30s"


def socket_path(folder: Path, host: HostPlan) -> Path:
    """Where the host's daemon is asked for a file."""
    return folder / f"{host.name}.sock"


def origin_words(content: Path, ip: str, rate_bytes_per_s: float) -> list[str]:
    """An origin that says its port on its first line."""
    words = ["-m", "odonata.swarm.demo.origin", str(content), str(rate_bytes_per_s), ip]
    return [sys.executable, *words]


def member_words(
    host: HostPlan, world: WorldPlan, policy: Policy, ground: Ground, folder: Path
) -> list[str]:
    """The scheduler or a daemon; writes its settings below `folder`."""
    is_scheduler = host.name == SCHEDULER
    settings = (
        _scheduler(host, policy, ground, folder)
        if is_scheduler
        else _daemon(host, world, policy, ground, folder)
    )
    config = folder / f"{host.name}.yaml"
    config.write_text(json.dumps(settings, indent=2) + "\n")  # JSON is YAML
    launch = LAUNCH_SCHEDULER if is_scheduler else LAUNCH_DAEMON
    client = "stock" if policy.is_stock else "own"
    words = [sys.executable, str(launch), str(config), str(world.piece_length), client]
    rules = policy.scheduler_rules if is_scheduler else policy.client_rules
    return [*words, *words_of(rules)]


def _scheduler(host: HostPlan, policy: Policy, ground: Ground, folder: Path) -> dict[str, Any]:
    ip, models = ground.ip(host), folder / "models"
    if policy.model:
        models.mkdir(exist_ok=True)
        (models / "current").symlink_to(find_model(os.environ, os.getuid()).resolve())
    return {
        "server": {"listenIP": ip, "port": SCHEDULER_PORT},
        "metrics": {"enable": True, "addr": f"{ip}:{STATUS_PORT}", "explainRemotely": True},
        "telemetry": {"enable": False},
        **policy.scheduling(models),
    }


def _daemon(
    host: HostPlan, world: WorldPlan, policy: Policy, ground: Ground, folder: Path
) -> dict[str, Any]:
    ip = ground.ip(host)
    scheduler = f"{ground.ip(world.host(SCHEDULER))}:{SCHEDULER_PORT}"
    settings: dict[str, Any] = {
        "host": {"ip": ip, "hostname": host.name, "idc": host.idc},
        "scheduler": {
            "addrs": [scheduler] if policy.has_swarm else [],
            "announceInterval": ANNOUNCE_INTERVAL,
        },
        "upload": {"server": {"ip": ip}},
        "download": {"server": {"socketPath": str(socket_path(folder, host))}},
        "storage": {"dir": str(folder / host.name), "server": {"ip": ip}},
        "proxy": {"server": {"ip": ip}},
        "seedPeer": {"enable": host.is_seed},
        "telemetry": {"enable": False},
    }
    if policy.is_stock:
        settings["upload"] |= {"slots": STOCK_SLOTS, "announcedBandwidth": STOCK_BANDWIDTH}
    elif policy.peer_slots is not None and not host.is_seed:
        settings["upload"]["slots"] = policy.peer_slots
    if host.told_up is not None and not policy.is_stock:
        settings["upload"]["announcedBandwidth"] = str(int(host.told_up))
    if not ground.is_shaped:
        if host.link.up is not None:
            settings["upload"]["bandwidthLimit"] = str(int(host.link.up))
        if host.link.down is not None:
            settings["download"]["bandwidthLimit"] = str(int(host.link.down))
    return settings
