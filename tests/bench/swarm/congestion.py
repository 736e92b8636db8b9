"""Which congestion control the hosts of the bench have.

The kernel lets a namespace choose only among those that its machine allows to everybody; where
ours is not among them it is added while the bench runs, and taken away again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from odonata.errors import UnavailableError

CONTROL: Final = "cubic"
"""Linux's default, whatever this machine has: BBR takes packets that wait in a short queue for a
wider link, and sends 4 to 6 % of all bytes again."""
ALLOWED: Final = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
"""Names, separated by spaces, of what anybody on this machine may choose."""


@contextmanager
def allowed(control: str = CONTROL, setting: Path = ALLOWED) -> Generator[None]:
    """`control` may be chosen meanwhile. UnavailableError if the kernel does not have it."""
    before = setting.read_text().split()
    if control in before:
        yield
        return
    try:
        setting.write_text(" ".join([*before, control]))
    except OSError as error:
        raise UnavailableError(
            f"the hosts of the bench use {control}, which {setting} does not allow and the kernel "
            f"refuses to add ({error.strerror}): modprobe tcp_{control}"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # it may stay allowed
            setting.write_text(" ".join(before))
