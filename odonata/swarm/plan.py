"""Who belongs to a local swarm, where each listens, and the configuration file each is given.

Writes the files and picks the ports; starts nothing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from odonata.errors import CallerError, StorageError
from odonata.wire.message import Value

IP: Final = "127.0.0.1"
# The documented ports are taken if they are free, so that examples work as written.
SCHEDULER_PORT = 8002
PROXY_PORT = 65001
SOCKET_PATH_BYTES_MAX = 107  # sun_path of Linux, less its final zero
PEERS_MAX = 64  # more processes than that say more about this machine than about a swarm


class Member(Value, frozen=True, kw_only=True):
    """One process of the swarm. Daemons have a socket and a proxy port, the scheduler none."""

    name: str
    command: str
    config: Path
    port: int
    socket: Path | None = None
    proxy_port: int = 0
    seed: bool = False


class SwarmOptions(Value, frozen=True, kw_only=True):
    """What a user chooses. Rates in bytes per second, for each daemon; None: no limit."""

    peers: int = 3
    seeds: int = 1
    upload_rate_bytes_per_s: int | None = None
    download_rate_bytes_per_s: int | None = None


class SwarmPlan(Value, frozen=True, kw_only=True):
    """The scheduler, the seeds and the peers, in the order of their start."""

    scheduler: Member
    daemons: tuple[Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return (self.scheduler, *self.daemons)

    @property
    def peers(self) -> tuple[Member, ...]:
        """The daemons that are no seeds."""
        return tuple(member for member in self.daemons if not member.seed)


def make_plan(options: SwarmOptions, data_dir: Path) -> SwarmPlan:
    """Pick ports and write each member's configuration below `data_dir`.

    Errors: CallerError (number of peers, path too long for a socket), StorageError (folder).
    """
    if not 1 <= options.peers <= PEERS_MAX:
        raise CallerError(f"--peers {options.peers}: choose a number from 1 to {PEERS_MAX}")
    names = [f"seed-{i + 1}" for i in range(options.seeds)]
    names += [f"peer-{i + 1}" for i in range(options.peers)]
    ports = _Ports()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        scheduler = _scheduler(data_dir, ports)
        daemons = tuple(_daemon(name, options, data_dir, scheduler.port, ports) for name in names)
    except OSError as error:
        raise StorageError(
            f"--data-dir {data_dir}: {error.strerror}; choose a folder you may write to"
        ) from error
    finally:
        ports.release()
    return SwarmPlan(scheduler=scheduler, daemons=daemons)


def _scheduler(data_dir: Path, ports: _Ports) -> Member:
    port = ports.take(SCHEDULER_PORT)
    config = _write(
        data_dir / "scheduler.yaml",
        {
            "server": {"listenIP": IP, "port": port},
            "telemetry": {"dir": str(data_dir / "telemetry")},
        },
    )
    return Member(name="scheduler", command="scheduler", config=config, port=port)


def _daemon(
    name: str, options: SwarmOptions, data_dir: Path, scheduler_port: int, ports: _Ports
) -> Member:
    seed = name.startswith("seed")
    path = data_dir / f"{name}.sock"
    if len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
        raise CallerError(
            f"--data-dir {data_dir}: too long for a unix socket; choose a shorter path"
        )
    upload, piece, proxy = ports.take(), ports.take(), ports.take(0 if seed else PROXY_PORT)
    settings: dict[str, Any] = {
        "host": {"ip": IP, "hostname": name},
        "scheduler": {"addrs": [f"{IP}:{scheduler_port}"], "announceInterval": "30s"},
        "upload": {"server": {"ip": IP, "port": upload}},
        "download": {"server": {"socketPath": str(path)}},
        "storage": {"dir": str(data_dir / name), "server": {"ip": IP, "tcpPort": piece}},
        "proxy": {"server": {"ip": IP, "port": proxy}, "rules": [{"regex": "blobs/sha256.*"}]},
        "seedPeer": {"enable": seed},
        "telemetry": {"dir": str(data_dir / "telemetry")},
    }
    if options.upload_rate_bytes_per_s is not None:
        settings["upload"]["bandwidthLimit"] = str(options.upload_rate_bytes_per_s)
    if options.download_rate_bytes_per_s is not None:
        settings["download"]["bandwidthLimit"] = str(options.download_rate_bytes_per_s)
    config = _write(data_dir / f"{name}.yaml", settings)
    return Member(
        name=name,
        command="daemon",
        config=config,
        port=upload,
        socket=path,
        proxy_port=proxy,
        seed=seed,
    )


def _write(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(settings, indent=2) + "\n")  # JSON is YAML
    return path


class _Ports:
    """Free ports of this host: held open until all are picked, so that none is picked twice."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, preferred: int = 0) -> int:
        """`preferred` or the next free one after it; 0: any."""
        for port in [*range(preferred, min(preferred + PEERS_MAX, 65536)), 0] if preferred else [0]:
            held = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind((IP, port))
                held.listen(1)  # two bound sockets may share an address, two listeners may not
            except OSError:
                held.close()
                continue
            self._held.append(held)
            return int(held.getsockname()[1])
        raise CallerError("no free TCP port on this host: stop something that listens")

    def release(self) -> None:
        for held in self._held:
            held.close()
