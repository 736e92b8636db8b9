"""Who belongs to a local swarm, where each listens, and the configuration file each is given.

Writes the files and picks the ports; starts nothing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from odonata.errors import CallerError, StorageError
from odonata.wire.message import Value

IP: Final = "127.0.0.1"
# The documented ports are taken if they are free, so that examples work as written.
SCHEDULER_PORT = 8002
STATUS_PORT = 8000
PROXY_PORT = 65001
SOCKET_PATH_BYTES_MAX = 107  # sun_path of Linux, less its final zero
PEERS_MAX = 64  # more processes than that say more about this machine than about a swarm


class Member(Value, frozen=True, kw_only=True):
    """One process of the swarm. Daemons have a socket and a proxy port, the scheduler neither.

    It has a page that tells its metrics and decisions (`status_port`).
    """

    name: str
    command: str
    config: Path
    port: int
    socket: Path | None = None
    proxy_port: int = 0
    status_port: int = 0
    seed: bool = False


class SwarmOptions(Value, frozen=True, kw_only=True):
    """What a user chooses. Rates in bytes per second, for each daemon; None: no limit.

    `seed_upload_rate_bytes_per_s` None: as the others. The peers named in `slow` upload at
    `slow_rate_bytes_per_s` but say of themselves what the others say. `exploration`: the
    scheduler's share of decisions made by lot; `parents`: how many it names to a peer; None: its
    defaults.
    """

    peers: int = 3
    seeds: int = 1
    upload_rate_bytes_per_s: int | None = None
    download_rate_bytes_per_s: int | None = None
    seed_upload_rate_bytes_per_s: int | None = None
    slow: tuple[str, ...] = ()
    slow_rate_bytes_per_s: int | None = None
    exploration: float | None = None
    parents: int | None = None


class SwarmPlan(Value, frozen=True, kw_only=True):
    """The scheduler, the seeds and the peers, in the order of their start.

    Everybody writes telemetry below `telemetry`; the scheduler takes its model from `models`.
    """

    scheduler: Member
    daemons: tuple[Member, ...]
    telemetry: Path
    models: Path

    @property
    def members(self) -> tuple[Member, ...]:
        return (self.scheduler, *self.daemons)

    @property
    def peers(self) -> tuple[Member, ...]:
        """The daemons that are no seeds."""
        return tuple(member for member in self.daemons if not member.seed)


def make_plan(options: SwarmOptions, data_dir: Path, learning_dir: Path | None = None) -> SwarmPlan:
    """Pick ports and write each member's configuration below `data_dir`.

    Telemetry and models go below `learning_dir`; None: below `data_dir`, too.

    Errors: CallerError (number of peers, path too long for a socket), StorageError (folder).
    """
    if not 1 <= options.peers <= PEERS_MAX:
        raise CallerError(f"--peers {options.peers}: choose a number from 1 to {PEERS_MAX}")
    names = [f"seed-{i + 1}" for i in range(options.seeds)]
    names += [f"peer-{i + 1}" for i in range(options.peers)]
    ports = _Ports()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        learning = learning_dir or data_dir
        places = _Places(data_dir, learning / "telemetry", learning / "models")
        scheduler = _scheduler(options, places, ports)
        daemons = tuple(_daemon(name, options, places, scheduler.port, ports) for name in names)
    except OSError as error:
        raise StorageError(
            f"--data-dir {data_dir}: {error.strerror}; choose a folder you may write to"
        ) from error
    finally:
        ports.release()
    return SwarmPlan(
        scheduler=scheduler, daemons=daemons, telemetry=places.telemetry, models=places.models
    )


def _scheduler(options: SwarmOptions, places: _Places, ports: _Ports) -> Member:
    port, status = ports.take(SCHEDULER_PORT), ports.take(STATUS_PORT)
    settings: dict[str, Any] = {
        "server": {"listenIP": IP, "port": port},
        "metrics": {"enable": True, "addr": f"{IP}:{status}"},
        "model": {"dir": str(places.models), "checkInterval": "500ms"},
        "telemetry": {"dir": str(places.telemetry)},
    }
    chosen = {"exploration": options.exploration, "meshParentLimit": options.parents}
    settings["scheduler"] = {name: value for name, value in chosen.items() if value is not None}
    config = _write(places.data / "scheduler.yaml", settings)
    return Member(
        name="scheduler", command="scheduler", config=config, port=port, status_port=status
    )


def _daemon(
    name: str, options: SwarmOptions, places: _Places, scheduler_port: int, ports: _Ports
) -> Member:
    data_dir, seed = places.data, name.startswith("seed")
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
        "telemetry": {"dir": str(places.telemetry)},
    }
    upload_rate = options.upload_rate_bytes_per_s
    if seed and options.seed_upload_rate_bytes_per_s is not None:
        upload_rate = options.seed_upload_rate_bytes_per_s
    if upload_rate is not None:
        settings["upload"]["bandwidthLimit"] = str(upload_rate)
    if name in options.slow:
        settings["upload"]["announcedBandwidth"] = str(upload_rate)
        settings["upload"]["bandwidthLimit"] = str(options.slow_rate_bytes_per_s)
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


class _Places(NamedTuple):
    data: Path
    telemetry: Path
    models: Path


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
