"""The data folder: may it be written, on what does it lie, and is there room. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from odonata.errors import OdonataError
from odonata.units import format_size
from odonata.wire.message import Value
from peer.doctor.finding import Finding, failure, ok, warning
from peer.runtime.storage.disk import file_system, storage_error
from peer.settings import GcPolicySettings

LEAST_FREE_BYTES: Final = 64 * 1024 * 1024
"""One piece of the longest kind. With less, no download of any length can begin."""
FEW_INODES_PERCENT: Final = 5.0
LEAST_INODES: Final = 64
"""A task takes one or two: with fewer left the next pull of an image can fail."""

_REMOTE: Final = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "lustre", "afs", "glusterfs")
_OVERLAY: Final = frozenset({"overlay", "aufs"})
_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class Volume(Value, frozen=True, kw_only=True):
    """Bytes and inodes of a volume, as `df` and `df -i` count them for an ordinary user."""

    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int


def volume_of(path: Path) -> Volume:
    """Raises OSError."""
    stat = os.statvfs(path)
    return Volume(
        total_bytes=stat.f_blocks * stat.f_frsize,
        free_bytes=stat.f_bavail * stat.f_frsize,
        total_inodes=stat.f_files,
        free_inodes=stat.f_favail,
    )


def check_storage(
    folder: Path,
    policy: GcPolicySettings,
    *,
    look: Callable[[Path], Volume] = volume_of,
    kind: Callable[[Path], str] = file_system,
) -> tuple[Finding, ...]:
    """Everything about the data folder. `look` and `kind` tell of the volume."""
    there = _nearest(folder)
    first = check_folder(folder, there)
    if first.fix is not None:
        return (first,)
    subject = str(folder)
    try:
        volume, system = look(there), kind(there)
    except OSError as error:
        problem = storage_error(error, there, "look at the volume of")
        return (first, _refused("storage.space", problem, subject))
    return (
        first,
        judge_file_system(system, subject),
        judge_space(volume, policy, subject),
        judge_inodes(volume, subject),
    )


def _refused(check: str, problem: OdonataError, subject: str) -> Finding:
    detail, _, fix = problem.detail.partition("; ")
    return failure(
        check, detail, f"{fix or 'choose another folder'} (storage.dir)", subject=subject
    )


def _nearest(folder: Path) -> Path:
    """The folder, or what of its path is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_folder(folder: Path, there: Path) -> Finding:
    """Whether a file can be made in it; of a folder that is not there yet, beside where it will be.

    Tried and not asked: permissions, read-only mounts and quotas have many authors.
    """
    check, subject = "storage.folder", str(folder)
    probe = there / f".odonata-doctor-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError as error:
        doing = "write into" if there == folder else f"make {folder} in"
        return _refused(check, storage_error(error, there, doing), subject)
    if there == folder:
        return ok(check, f"{folder} can be written", subject=subject)
    return ok(check, f"{folder} will be made at the first start", subject=subject)


def judge_file_system(kind: str, subject: str) -> Finding:
    """Whether the index's locks and the piece server's sendfile are at home there."""
    check = "storage.file_system"
    fix = "set storage.dir to a folder on a local disk (ext4, xfs, btrfs)"
    if kind.startswith(_REMOTE):
        detail = f"{kind}: file locks and crashes are not what the index counts on"
        return warning(check, detail, fix, subject=subject)
    if kind in _OVERLAY:
        detail = f"{kind}: a container's own layer is slow, and gone with the container"
        return warning(check, detail, f"mount a volume there, or {fix}", subject=subject)
    if kind in _MEMORY:
        detail = f"{kind}: content takes memory, and is gone with the next boot"
        return warning(check, detail, fix, subject=subject)
    return ok(check, kind or "of a kind that the kernel does not tell", subject=subject)


def judge_space(volume: Volume, policy: GcPolicySettings, subject: str) -> Finding:
    """Whether there is room, against the marks of garbage collection."""
    check = "storage.space"
    free = f"{format_size(volume.free_bytes)} of {format_size(volume.total_bytes)} are free"
    fix = "free some space on that volume, or set storage.dir to a larger one"
    if volume.free_bytes < LEAST_FREE_BYTES:
        return failure(check, f"{free}: too little for one piece", fix, subject=subject)
    own = policy.disk_threshold_bytes
    if own:
        if own > volume.free_bytes:
            detail = f"{free}, less than the {format_size(own)} that the daemon may fill"
            lower = "lower gc.policy.diskThreshold, or free some space"
            return warning(check, detail, lower, subject=subject)
        return ok(check, f"{free}; the daemon may fill {format_size(own)}", subject=subject)
    used_percent = 100.0 * (1 - volume.free_bytes / max(1, volume.total_bytes))
    high, low = policy.disk_high_threshold_percent, policy.disk_low_threshold_percent
    if used_percent >= high:
        detail = (
            f"{free}: {used_percent:.0f} % are used, and from {high:g} % on each collection drops "
            f"tasks until {low:g} %, whoever filled the volume"
        )
        limit = "free some space, or give the daemon bytes of its own (gc.policy.diskThreshold)"
        return warning(check, detail, limit, subject=subject)
    return ok(check, f"{free}; tasks are dropped from {high:g} % used on", subject=subject)


def judge_inodes(volume: Volume, subject: str) -> Finding:
    """Whether files can be made: a full table looks like a full disk, and `df` does not show it."""
    check = "storage.inodes"
    if volume.total_inodes == 0:
        return ok(check, "this file system makes them as needed", subject=subject)
    percent = 100.0 * volume.free_inodes / volume.total_inodes
    detail = f"{volume.free_inodes} inodes are free ({percent:.0f} %)"
    fix = "remove small files from that volume (df -i shows it), or set another storage.dir"
    if volume.free_inodes < LEAST_INODES:
        return failure(check, detail, fix, subject=subject)
    if percent < FEW_INODES_PERCENT:
        return warning(check, detail, fix, subject=subject)
    return ok(check, detail, subject=subject)
